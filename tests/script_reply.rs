//! Replies that the command table calls exact survive Lua: each command of a corpus runs natively and from a script, in every state of
//! the keyspace below, over RESP2 and RESP3, and the replies are compared.

use weft::command::{ScriptReply, lookup};
use weft::resp::{Proto, Request};

use crate::support::{Client, Flavor, Server};

#[test]
fn exact_replies_survive_lua_on_redis() {
    exact_replies_survive_lua(Flavor::Redis);
}

#[test]
fn exact_replies_survive_lua_on_valkey() {
    exact_replies_survive_lua(Flavor::Valkey);
}

fn exact_replies_survive_lua(flavor: Flavor) {
    let server = Server::start(flavor, &[]);
    for (proto, mut client) in [(Proto::Resp2, server.client()), (Proto::Resp3, Client::connect_resp3(server.address()))] {
        let mut compared = 0;
        for line in CORPUS.lines().filter(|line| is_exact(line, proto)) {
            for (state, setup) in STATES {
                let native = run(&mut client, setup, line);
                let scripted = run(&mut client, setup, scripted(line, proto).as_slice());
                assert_eq!(scripted, native, "{flavor:?}, {proto:?}, {state}: {line}");
                compared += 1;
            }
        }
        assert!(compared > 2000, "only {compared} replies were compared");
    }
}

/// Whether the table says that the reply survives. Integers of the corpus that may be wide are not.
fn is_exact(line: &str, proto: Proto) -> bool {
    let request = Request::new(&line.split(' ').collect::<Vec<_>>());
    let spec = lookup(&request).unwrap_or_else(|error| panic!("{line}: {error:?}"));
    matches!(spec.script_reply.of(&request, proto), ScriptReply::Exact | ScriptReply::WideInteger(_))
}

fn scripted(line: &str, proto: Proto) -> Vec<String> {
    let version = if proto == Proto::Resp3 { "3" } else { "2" };
    let script = "redis.setresp(tonumber(table.remove(ARGV, 1))); return redis.pcall(unpack(ARGV))";
    ["EVAL", script, "0", version].into_iter().chain(line.split(' ')).map(str::to_owned).collect()
}

fn run<A: crate::support::Args + ?Sized>(client: &mut Client, setup: &[&str], command: &A) -> crate::support::Reply {
    client.must_ok("FLUSHALL");
    for line in setup {
        client.call(*line);
    }
    client.call(command)
}

/// What the keys k and j hold.
const STATES: &[(&str, &[&str])] = &[
    ("none", &[]),
    ("str", &["SET k 10", "SET j abc"]),
    ("txt", &["SET k hello_world", "SET j abc"]),
    ("strttl", &["SET k 10 EX 1000", "SET j abc EX 10"]),
    ("list", &["RPUSH k a b c", "RPUSH j x"]),
    ("hash", &["HSET k f 1 g 2.5 h x", "HSET j f 1"]),
    ("set", &["SADD k a b c d e f zz 1 2", "SADD j a x"]),
    ("intset", &["SADD k 1 2 3", "SADD j 2"]),
    ("zset", &["ZADD k 1 a 2.5 b 3 c", "ZADD j 1 a"]),
    ("geo", &["GEOADD k 13.361389 38.115556 P 15.087269 37.502669 C", "GEOADD j 1 1 q"]),
    ("stream", &["XADD k 1-1 f v", "XADD k 1-2 f w", "XGROUP CREATE k g 0", "XREADGROUP GROUP g c COUNT 1 STREAMS k >", "XADD j 1-1 a b"]),
    ("hll", &["PFADD k a b", "PFADD j c"]),
    ("jonly", &["SET j v"]),
    ("badval", &["HSET k f notanum", "SET j notanum"]),
    ("badstr", &["SET k notanum", "SET j 1"]),
];

/// One request a line. Those whose reply depends on chance or on the clock name the key d, which never exists.
const CORPUS: &str = "\
append k x
bitcount k
bitcount k 0 -1
bitcount k 0 -1 BIT
bitcount k x y
bitfield k GET u8 0
bitfield k SET u8 0 255
bitfield k OVERFLOW FAIL INCRBY u2 0 3 INCRBY u2 0 3
bitfield k INCRBY i64 0 9223372036854775807
bitfield_ro k GET u8 0
bitfield_ro k GET i64 0
bitop AND d k j
bitop NOT d k
bitop XOR d k j
bitop DIFF d k j
bitpos k 1
bitpos k 0 0 -1
bitpos k 2
copy k d
copy k j REPLACE
copy k j
decr k
decrby k 3
decrby k x
del k
del k j
dump j
exists k
exists k j k
expire k 100
expire k 100 NX
expire k 100 GT
expire k -1
expire k x
expireat k 99999999999
expiretime k
geoadd k 1 1 m
geoadd k CH 1 1 m
geoadd k 999 1 m
geodist k P C
geodist k P Z
geodist k P C km
geohash k P Z
geohash k P C
geopos k P
geopos k P Z
geopos k
georadius k 15 37 200 km
georadius k 15 37 200 km WITHDIST
georadius k 15 37 200 km WITHCOORD WITHDIST WITHHASH
georadius k 15 37 200 km STORE d
georadius_ro k 15 37 200 km
georadius_ro k 15 37 200 km WITHCOORD WITHDIST WITHHASH
georadiusbymember k P 200 km
georadiusbymember k P 200 km STORE d
georadiusbymember k P 200 km WITHDIST
georadiusbymember_ro k P 200 km WITHDIST
georadiusbymember_ro k P 200 km
geosearch k FROMLONLAT 15 37 BYRADIUS 200 km ASC
geosearch k FROMLONLAT 15 37 BYRADIUS 200 km ASC WITHDIST
geosearch k FROMMEMBER P BYBOX 400 400 km ASC WITHCOORD
geosearch k FROMMEMBER P BYBOX 400 400 km ASC WITHHASH
geosearchstore d k FROMLONLAT 15 37 BYRADIUS 200 km ASC
geosearchstore d k FROMLONLAT 15 37 BYRADIUS 200 km STOREDIST
get k
getbit k 1
getbit k x
getdel k
getex k
getex k EX 100
getex k PERSIST
getrange k 0 2
getset k v
hdel k f
hdel k f z
hexists k f
hexists k z
hget k f
hget k z
hgetall k
hincrby k f 2
hincrby k h 2
hincrby k z 1
hincrbyfloat k f 1.5
hincrbyfloat k z 1.5
hincrbyfloat k h 1
hkeys k
hlen k
hmget k f z
hmget k f g
hmset k a b
hmset k a b c
hrandfield k 2
hrandfield k -2
hrandfield k 1 WITHVALUES
hrandfield k 3 WITHVALUES
hscan k 0
hset k a b
hset k f b c d
hset k a b c
hsetnx k f v
hsetnx k a v
hstrlen k f
hstrlen k z
hvals k
incr k
incrby k 5
incrbyfloat k 1.5
incrbyfloat k x
lcs k j
lcs k j LEN
lcs k j IDX
lcs k j IDX WITHMATCHLEN
lindex k 0
lindex k 99
linsert k BEFORE b x
linsert k BEFORE zz x
linsert k WRONG zz x
llen k
lmove k j LEFT RIGHT
lmove k j LEFT WRONG
lmpop 2 k j LEFT
lmpop 1 d LEFT
lmpop 1 k LEFT COUNT 2
lpop k
lpop k 2
lpop k 0
lpop k -1
lpos k a
lpos k zz
lpos k a COUNT 0
lpos k zz COUNT 0
lpush k v
lpush k v w
lpushx k v
lrange k 0 -1
lrem k 0 a
lset k 0 v
lset k 99 v
ltrim k 0 0
mget k
mget k j
mget k nope j
mset k 1 j 2
mset k 1 j
msetnx k 1 j 2
msetnx d 1 e 2
object encoding k
object freq k
object refcount k
persist k
pexpire k 100000
pexpire k 100000 XX
pexpireat k 99999999999999
pexpireat k 9223372036854775807
pfadd k a
pfadd k zz yy
pfcount k
pfcount k j
pfmerge d k j
pfmerge k j
psetex k 10000 v
psetex k -1 v
pttl d
rename k d
rename k j
rename k k
renamenx k d
renamenx k j
restore d 0 garbage
restore k 0 garbage
rpop k
rpop k 2
rpop k 0
rpoplpush k j
rpush k v
rpushx k v
sadd k a q
sadd k 5 6
scard k
sdiff k j
sdiffstore d k j
set k v
set k v NX
set k v XX
set k v GET
set k v EX 100 GET
set k v NX GET
set k v KEEPTTL
set k v WRONG
set k v EX 0
setbit k 7 1
setbit k x 1
setex k 100 v
setex k 0 v
setnx k v
setrange k 3 xyz
setrange k 536870912 x
sinter k j
sintercard 2 k j
sintercard 2 k j LIMIT 1
sintercard 0 k
sinterstore d k j
sismember k a
sismember k zz
smembers k
smismember k a zz
smove k j b
smove k j nope
smove k d b
sort k
sort k ALPHA
sort k LIMIT 0 1 ALPHA
sort k ALPHA STORE d
sort k BY nosort
sort k ALPHA GET # GET nope
sort k ALPHA GET #
sort_ro k ALPHA
spop d
spop d 2
spop k 0
spop k 100
srandmember d
srandmember d 2
srandmember k 100
srandmember k -1
srem k a zz
srem k zz
sscan k 0
strlen k
substr k 0 1
sunion k j
sunionstore d k j
touch k j
ttl k
type k
type nope
unlink k j
xack k g 1-1
xack k nog 1-1
xack k g bad
xadd k 5-1 a b
xadd k 1-1 a b
xadd k NOMKSTREAM 5-* a b
xadd k MAXLEN 1 5-1 a b
xadd k 0-0 a b
xautoclaim k g c2 0 0
xautoclaim k g c2 0 0 JUSTID
xclaim k g c2 0 1-1
xclaim k g c2 0 1-1 JUSTID
xclaim k g c2 0 9-1
xclaim k nog c2 0 1-1
xdel k 1-1
xdel k 9-9
xgroup CREATE k g2 $
xgroup CREATE k g $
xgroup CREATE k g2 $ MKSTREAM
xgroup CREATECONSUMER k g c9
xgroup DELCONSUMER k g c
xgroup DELCONSUMER k g zz
xgroup DESTROY k g
xgroup DESTROY k nog
xgroup SETID k g 0
xgroup SETID k nog 0
xinfo STREAM k
xinfo STREAM k FULL
xinfo GROUPS k
xinfo CONSUMERS k nog
xlen k
xpending k g
xpending k g - + 10
xpending k nog
xrange k - +
xrange k 9 +
xrevrange k + -
xread STREAMS k 0
xread STREAMS k j 0 0
xread STREAMS k 9
xreadgroup GROUP g c STREAMS k >
xreadgroup GROUP g c STREAMS k 0
xreadgroup GROUP nog c STREAMS k >
xsetid k 9-9
xsetid k 0-1
xtrim k MAXLEN 1
xtrim k MINID 1-2
zadd k 5 z
zadd k 5 a
zadd k CH 5 a 6 z
zadd k INCR 5 a
zadd k NX INCR 5 a
zadd k XX 5 nope
zadd k nan a
zadd k NX GT 5 a
zcard k
zcount k -inf +inf
zcount k a b
zdiff 2 k j
zdiff 2 k j WITHSCORES
zdiffstore d 2 k j
zincrby k 1 a
zincrby k 1.5 z
zincrby k x z
zinter 2 k j
zinter 2 k j WITHSCORES
zintercard 2 k j
zinterstore d 2 k j
zlexcount k - +
zmpop 2 k j MIN
zmpop 1 nope MIN
zmscore k a nope
zmscore k a b
zpopmax k
zpopmax k 2
zpopmin k
zpopmin k 2
zpopmin k 0
zrandmember d
zrandmember k 100
zrandmember k 100 WITHSCORES
zrandmember d -3
zrange k 0 -1
zrange k 0 -1 WITHSCORES
zrange k -inf +inf BYSCORE
zrange k -inf +inf BYSCORE LIMIT 0 1
zrangebylex k - +
zrangebyscore k -inf +inf
zrangebyscore k -inf +inf WITHSCORES
zrangestore d k 0 -1
zrank k a
zrank k nope
zrevrank k a
zrevrank k nope
zrem k a nope
zremrangebylex k - +
zremrangebyrank k 0 0
zremrangebyscore k 1 2
zrevrange k 0 -1
zrevrange k 0 -1 WITHSCORES
zrevrangebylex k + -
zrevrangebyscore k +inf -inf
zrevrangebyscore k +inf -inf WITHSCORES
zscan k 0
zscore k a
zscore k nope
zunion 2 k j
zunion 2 k j WITHSCORES
zunionstore d 2 k j
zunionstore d 2 k j WEIGHTS 1 x
memory usage d";
