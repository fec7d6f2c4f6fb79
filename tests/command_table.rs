//! The command table against real servers: every command is in it, and its keys are where the servers find them.

use weft::command::{Access, CommandSpec, Flags, KeyError, Keys, all, keys, lookup};
use weft::resp::Request;

use crate::support::{Client, Flavor, Reply, Server};

#[test]
fn the_table_is_what_the_servers_say_of_their_commands() {
    let mut told = Told::default();
    for flavor in Flavor::ALL {
        let server = Server::start(flavor, &[]);
        told.hear(flavor, &server.client().call("COMMAND"));
    }
    for spec in all().filter(|spec| spec.name.split('|').next() != Some("weft")) {
        let (flags, categories) = told.of(spec.name).unwrap_or_else(|| panic!("no server knows {}", spec.name));
        assert_eq!(names(spec.flags.iter_names()), flags, "flags of {}", spec.name);
        let ours = names(spec.categories().iter_names());
        assert!(categories.iter().all(|category| ours.contains(category)), "categories of {}: {ours:?}, {categories:?}", spec.name);
    }
}

#[test]
fn keys_are_where_redis_finds_them() {
    keys_are_where_the_server_finds_them(Flavor::Redis);
}

#[test]
fn keys_are_where_valkey_finds_them() {
    keys_are_where_the_server_finds_them(Flavor::Valkey);
}

fn keys_are_where_the_server_finds_them(flavor: Flavor) {
    let server = Server::start(flavor, &[]);
    let mut client = server.client();
    let mut compared = 0;
    for line in CORPUS.lines() {
        let Some(theirs) = keys_by_server(&mut client, line) else { continue };
        let ours = keys_by_table(line);
        assert_eq!(ours, theirs, "{flavor:?}, keys of: {line}");
        compared += 1;
    }
    assert!(compared >= 150, "only {compared} lines were compared");
}

/// The keys of a line with their access, `Err` when they cannot be told.
type Found = Result<Vec<(String, Access)>, ()>;

fn keys_by_table(line: &str) -> Found {
    let request = Request::new(&line.split(' ').collect::<Vec<_>>());
    let spec = lookup(&request).unwrap_or_else(|error| panic!("{line}: {error:?}"));
    let mut found = Keys::new();
    match keys(spec, &request, &mut found) {
        Ok(()) | Err(KeyError::Pattern | KeyError::Get | KeyError::OtherDatabase) => {}
        // A server asked for the keys of a script that is called wrongly says "none"; only running it shows the error.
        Err(_) if spec.flags.contains(Flags::NO_MANDATORY_KEYS) => {}
        Err(KeyError::NotAnInteger | KeyError::OutOfRange | KeyError::Syntax) => return Err(()),
    }
    Ok(found.iter().map(|key| (String::from_utf8_lossy(request.arg(key.index as usize)).into_owned(), key.access)).collect())
}

/// What COMMAND GETKEYSANDFLAGS says; `None` when this server does not know the command, or not in this form.
fn keys_by_server(client: &mut Client, line: &str) -> Option<Found> {
    match client.call(&format!("COMMAND GETKEYSANDFLAGS {line}")) {
        Reply::Array(keys) => Some(Ok(keys.iter().map(|key| key_and_access(line, key)).collect())),
        Reply::Error(text) if text.contains("has no key arguments") => Some(Ok(Vec::new())),
        Reply::Error(text) if text.contains("Invalid arguments") => Some(Err(())),
        Reply::Error(text) if text.contains("Invalid command") || text.contains("number of arguments") => None,
        other => panic!("{line}: {other:?}"),
    }
}

fn key_and_access(line: &str, reply: &Reply) -> (String, Access) {
    let pair = reply.items().unwrap();
    let flags = texts(&pair[1]);
    // XREADGROUP changes the group; the servers do not count that as a change of the key.
    let writes = flags.iter().any(|flag| ["RW", "OW", "RM"].contains(&flag.as_str())) || line.starts_with("xreadgroup");
    (pair[0].text().unwrap(), if writes { Access::Write } else { Access::Read })
}

/// What all servers together say.
#[derive(Default)]
struct Told(std::collections::BTreeMap<String, (Vec<String>, Vec<String>)>);

impl Told {
    fn hear(&mut self, flavor: Flavor, rows: &Reply) {
        for row in rows.items().unwrap() {
            let row = row.items().unwrap();
            let name = row[0].text().unwrap();
            let spec = all().find(|spec| spec.name == name).unwrap_or_else(|| panic!("{flavor:?} knows {name}"));
            let Reply::Integer(arity) = row[1] else { panic!("{name}: {:?}", row[1]) };
            must_admit(spec, arity);
            let (flags, categories) = self.0.entry(name).or_default();
            flags.extend(texts(&row[2]).into_iter().map(|flag| flag.replace("commandlog", "slowlog")));
            *categories = texts(&row[6]).into_iter().map(|category| category.replace('@', "")).collect();
            self.hear(flavor, &row[9]);
        }
    }

    fn of(&self, name: &str) -> Option<(Vec<String>, &Vec<String>)> {
        self.0.get(name).map(|(flags, categories)| (sorted(flags.clone()), categories))
    }
}

/// The table admits whatever the server does.
fn must_admit(spec: &CommandSpec, arity: i64) {
    let ours = i64::from(spec.arity);
    assert!(ours == arity || (ours < 0 && ours.abs() <= arity.abs()), "arity of {}: {ours} here, {arity} there", spec.name);
}

fn texts(reply: &Reply) -> Vec<String> {
    reply.items().unwrap().iter().map(|item| item.text().unwrap()).collect()
}

fn names<T>(names: impl Iterator<Item = (&'static str, T)>) -> Vec<String> {
    sorted(names.map(|(name, _)| name.to_ascii_lowercase()).collect())
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}

/// One request a line, of every family that names keys, well formed and not.
const CORPUS: &str = "\
get k
set k v
set k v get
set k v nx get ex 10
setex k 1 v
getex k
getdel k
append k v
incr k
incrbyfloat k 1
strlen k
setrange k 0 v
lcs a b
mget a
mget a b c
mset a 1
mset a 1 b 2
msetnx a 1 b 2
msetex 1 a 1
msetex 2 a 1 b 2 nx ex 10
msetex 0 a 1
msetex x a 1
del a
del a b
unlink a b
exists a b a
touch a b
rename a b
renamenx a b
copy a b
copy a b replace
dump k
restore k 0 v
move k 1
type k
expire k 1
ttl k
persist k
object encoding k
object freq k
object idletime k
object refcount k
object help
memory usage k
memory usage k samples 5
sort k
sort k store d
sort k alpha desc limit 0 10 store d
sort k store a store b
sort k by nosort get # store d
sort k by nosort
sort_ro k
sort_ro k limit 0 1
lpush k v
lpop k
lpop k 2
lmove a b left right
rpoplpush a b
lmpop 1 a left
lmpop 2 a b left count 3
lmpop 0 a left
lmpop 3 a left
lmpop x a left
blpop a 0
blpop a b 0
brpop a b c 0
blmove a b left right 0
brpoplpush a b 0
blmpop 0 1 a left
blmpop 0 2 a b left count 1
blmpop 0 4 a left
bzpopmin a 0
bzpopmax a b 0
bzmpop 0 1 a min
bzmpop 0 2 a b min
sadd k m
smove a b m
sinter a
sinter a b
sinterstore d a b
sintercard 1 a
sintercard 2 a b limit 1
sintercard 0 a
sintercard -1 a
sintercard 5 a b
sunion a b
sunionstore d a
sdiff a b
sdiffstore d a b
sscan k 0
spop k
hset k f v
hgetall k
hscan k 0
hexpire k 10 fields 1 f
hgetdel k fields 1 f
hsetex k fields 1 f v
hgetex k fields 1 f
zadd k 1 m
zadd k incr 1 m
zrangestore d s 0 -1
zunion 1 a
zunion 2 a b
zunion 2 a b weights 1 2 aggregate max withscores
zunion 0 a
zunion 3 a b
zunion nan a
zunionstore d 1 a
zunionstore d 2 a b weights 1 2
zunionstore d 0 a
zunionstore d 3 a b
zinter 2 a b
zinterstore d 2 a b aggregate sum
zintercard 2 a b limit 3
zdiff 2 a b
zdiffstore d 2 a b
zmpop 1 a min
zmpop 2 a b max count 2
zmpop 9 a min
zpopmin k
zscore k m
zrandmember k 1
geoadd k 1 1 m
georadius k 0 0 1 m
georadius k 0 0 1 m store d
georadius k 0 0 1 m storedist d
georadius k 0 0 1 m count 5 asc store d
georadius_ro k 0 0 1 m
georadiusbymember k m 1 m
georadiusbymember k m 1 m store d
georadiusbymember k m 1 m count 1 storedist d
georadiusbymember_ro k m 1 m
geosearch k fromlonlat 0 0 byradius 1 m
geosearchstore d k fromlonlat 0 0 byradius 1 m
pfadd k a
pfcount a
pfcount a b
pfmerge d
pfmerge d a b
bitcount k
bitfield k get u8 0
bitfield k get u8 0 get u8 8
bitfield k set u8 0 1
bitfield k get u8 0 incrby u8 0 1
bitfield k overflow sat incrby u8 0 1
bitfield_ro k get u8 0
bitop not d a
bitop and d a b c
bitpos k 1
setbit k 1 1
xadd k * f v
xlen k
xrange k - +
xread streams a 0
xread streams a b 0 0
xread count 1 streams a b c 0 0 0
xread count 1 block 5 streams a 0
xread count 1 streams
xread count 1 foo bar
xreadgroup group g c streams a >
xreadgroup group g c count 1 noack streams a b > >
xreadgroup group g c block 1 streams a b 0 0
xack k g 1-1
xclaim k g c 0 1-1
xautoclaim k g c 0 0
xgroup create k g $
xgroup destroy k g
xgroup help
xinfo stream k
xinfo groups k
xinfo help
xpending k g
xsetid k 1-1
xtrim k maxlen 0
watch a
watch a b
eval s 0
eval s 0 a
eval s 1 a
eval s 2 a b c
eval s 3 a b
eval s -1 a
eval s x a
evalsha s 1 a b
eval_ro s 1 a
evalsha_ro s 2 a b
fcall f 1 a b
fcall f 0 b
fcall_ro f 1 a
publish c m
spublish c m
ssubscribe c
subscribe c
ping
time
info
select 1
dbsize
keys *
scan 0
flushall
multi
config get x
client id
cluster info
command count
script load x
function list
wait 0 0
migrate h 1 k 0 10
restore-asking k 0 v
pfdebug getreg k
delifeq k v
hpexpire k 10 fields 1 f
httl k fields 1 f";
