//! Expected bytes are what redis-server 7.0.15 answered to the same requests (Valkey 9 where 7.0 lacks the command).

#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use super::*;
use crate::command;
use crate::resp::error_reply;
use crate::session::client::{Peer, Queued, ReplyMode, Subscriptions};
use crate::session::registry::Registration;

/// A server and one connection to it.
struct Connection {
    clients: Arc<ClientRegistry>,
    settings: LocalSettings,
    client: ClientState,
    _registration: Registration,
    now: Instant,
}

impl Connection {
    fn open() -> Self {
        Self::with(LocalSettings { password: None, databases: Databases::Count(16) })
    }

    fn with_password() -> Self {
        Self::with(LocalSettings { password: Some(Secret::new("sesame")), databases: Databases::Count(16) })
    }

    fn with(settings: LocalSettings) -> Self {
        Self::on(Arc::new(ClientRegistry::new(10)), settings)
    }

    fn on(clients: Arc<ClientRegistry>, settings: LocalSettings) -> Self {
        let now = Instant::now();
        let peer = Peer { addr: "127.0.0.1:50136".parse().unwrap(), laddr: "127.0.0.1:6380".parse().unwrap(), fd: 7 };
        let (client, registration) = clients.admit(peer, settings.admits_anyone(), now).unwrap();
        Self { clients, settings, client, _registration: registration, now }
    }

    /// Runs a command as a session does, up to the decision what becomes of it.
    fn run(&mut self, args: &[&[u8]]) -> (LocalOutcome, String) {
        let request = Request::new(args);
        let mut out = BytesMut::new();
        let spec = command::lookup(&request).unwrap();
        if needs_auth(&self.client, spec) {
            ReplyWriter::new(&mut out, self.client.proto()).error(error_reply::NOAUTH);
            return (LocalOutcome::Replied, String::from_utf8(out.to_vec()).unwrap());
        }
        let context = LocalContext {
            now: self.now,
            unix_time: Duration::from_micros(1_795_264_243_007_564),
            settings: &self.settings,
            redis_version: "7.0.15",
            clients: &self.clients,
            waiting: &WaitingRoom::default(),
        };
        self.client.begin(spec.name, self.now);
        let outcome = answer(spec.name, Call { request: &request, client: &mut self.client, context: &context, out: &mut out });
        (outcome, String::from_utf8(out.to_vec()).unwrap())
    }

    /// The reply to a command written with spaces.
    fn ask(&mut self, command: &str) -> String {
        let args: Vec<_> = command.split(' ').map(str::as_bytes).collect();
        let (outcome, reply) = self.run(&args);
        assert_eq!(outcome, LocalOutcome::Replied, "{command}");
        reply
    }

    fn must_answer(&mut self, exchanges: &[(&str, &str)]) {
        for (command, reply) in exchanges {
            assert_eq!(self.ask(command), *reply, "{command}");
        }
    }
}

const HELLO_2: &str = "*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n\
                       $10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n";
const HELLO_3: &str = "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n\
                       $10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n";
const WRONGPASS: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
const NOAUTH: &str = "-NOAUTH Authentication required.\r\n";
const BAD_NAME: &str = "-ERR Client names cannot contain spaces, newlines or special characters.\r\n";

#[test]
fn ping_and_echo_answer_what_they_were_told() {
    let mut connection = Connection::open();
    connection.must_answer(&[
        ("PING", "+PONG\r\n"),
        ("PING hi", "$2\r\nhi\r\n"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command\r\n"),
        ("ECHO hi", "$2\r\nhi\r\n"),
        ("PING ", "$0\r\n\r\n"),
    ]);
}

#[test]
fn a_subscriber_is_ponged_in_the_form_of_a_message_over_resp2_only() {
    let mut connection = Connection::open();
    connection.client.profile.subscriptions = Subscriptions { patterns: 1, ..Subscriptions::default() };
    connection.must_answer(&[("PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n"), ("PING x", "*2\r\n$4\r\npong\r\n$1\r\nx\r\n")]);
    connection.client.profile.proto = crate::resp::Proto::Resp3;
    connection.must_answer(&[("PING", "+PONG\r\n"), ("PING x", "$1\r\nx\r\n")]);
}

#[test]
fn select_takes_the_databases_there_are() {
    let mut connection = Connection::open();
    connection.must_answer(&[
        ("SELECT x", "-ERR value is not an integer or out of range\r\n"),
        ("SELECT +1", "-ERR value is not an integer or out of range\r\n"),
        ("SELECT 01", "-ERR value is not an integer or out of range\r\n"),
        ("SELECT 16", "-ERR DB index is out of range\r\n"),
        ("SELECT -1", "-ERR DB index is out of range\r\n"),
        ("SELECT 99999999999999999999", "-ERR value is not an integer or out of range\r\n"),
        ("SELECT 4294967296", "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n"),
    ]);
    assert_eq!(connection.client.profile.db, 0);
    connection.must_answer(&[("SELECT 15", "+OK\r\n")]);
    assert_eq!(connection.client.profile.db, 15);
}

#[test]
fn a_cluster_has_one_database() {
    let mut connection = Connection::with(LocalSettings { password: None, databases: Databases::Cluster });
    let refusal = "-ERR SELECT is not allowed in cluster mode\r\n";
    connection.must_answer(&[("SELECT 0", "+OK\r\n"), ("SELECT 1", refusal), ("SELECT -1", refusal)]);
}

#[test]
fn time_is_seconds_and_microseconds() {
    Connection::open().must_answer(&[("TIME", "*2\r\n$10\r\n1795264243\r\n$4\r\n7564\r\n")]);
}

#[test]
fn quit_says_ok_and_closes() {
    let (outcome, reply) = Connection::with_password().run(&[b"QUIT"]);
    assert_eq!((outcome, reply.as_str()), (LocalOutcome::Close, "+OK\r\n"));
}

#[test]
fn auth_without_a_password_in_the_configuration_is_explained() {
    Connection::open().must_answer(&[
        (
            "AUTH x",
            "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?\r\n",
        ),
        ("AUTH default x", "+OK\r\n"),
        ("AUTH bob x", WRONGPASS),
        ("AUTH a b c", "-ERR syntax error\r\n"),
    ]);
}

#[test]
fn nothing_but_a_few_commands_runs_before_auth() {
    let mut connection = Connection::with_password();
    let hello = "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be \
                 used to authenticate the client and select the RESP protocol version at the same time\r\n";
    connection.must_answer(&[
        ("PING", NOAUTH),
        ("CLIENT ID", NOAUTH),
        ("HELLO", hello),
        ("HELLO 3", hello),
        ("HELLO 3 SETNAME x", hello),
        ("HELLO 9", "-NOPROTO unsupported protocol version\r\n"),
        ("HELLO 3 AUTH default no", WRONGPASS),
        ("AUTH no", WRONGPASS),
        ("AUTH sesam", WRONGPASS),
        ("AUTH bob sesame", WRONGPASS),
        ("PING", NOAUTH),
        ("AUTH sesame", "+OK\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
        ("AUTH bad", WRONGPASS),
        ("PING", "+PONG\r\n"),
    ]);
    assert_eq!(connection.run(&[b"RESET"]), (LocalOutcome::Reset, "+RESET\r\n".to_owned()));
    connection.must_answer(&[("PING", NOAUTH), ("HELLO 3 AUTH default sesame", HELLO_3), ("PING", "+PONG\r\n")]);
}

#[test]
fn hello_switches_the_protocol_and_names_the_connection() {
    Connection::open().must_answer(&[
        ("HELLO", HELLO_2),
        ("HELLO 3", HELLO_3),
        ("HELLO", HELLO_3),
        ("CLIENT GETNAME", "_\r\n"),
        ("hello 3 auth default x setname fine", HELLO_3),
        ("CLIENT GETNAME", "$4\r\nfine\r\n"),
        ("HELLO 2", HELLO_2),
        ("CLIENT GETNAME", "$4\r\nfine\r\n"),
    ]);
}

#[test]
fn a_hello_that_is_refused_changes_nothing() {
    let mut connection = Connection::open();
    connection.must_answer(&[
        ("HELLO x", "-ERR Protocol version is not an integer or out of range\r\n"),
        ("HELLO -99999999999999999999", "-ERR Protocol version is not an integer or out of range\r\n"),
        ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        ("HELLO 1", "-NOPROTO unsupported protocol version\r\n"),
        ("HELLO 3 FOO", "-ERR Syntax error in HELLO option 'FOO'\r\n"),
        ("HELLO 3 AUTH a", "-ERR Syntax error in HELLO option 'AUTH'\r\n"),
        ("HELLO 3 AUTH bob b", WRONGPASS),
        ("HELLO 3 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'\r\n"),
        ("HELLO 3 SETNAME ab FOO", "-ERR Syntax error in HELLO option 'FOO'\r\n"),
    ]);
    assert_eq!(connection.run(&[b"HELLO", b"3", b"SETNAME", b"a b"]).1, BAD_NAME);
    connection.must_answer(&[("CLIENT GETNAME", "$-1\r\n")]);
}

#[test]
fn client_names_and_library_names_are_words() {
    let mut connection = Connection::open();
    connection.must_answer(&[
        ("CLIENT ID", ":1\r\n"),
        ("CLIENT SETNAME me", "+OK\r\n"),
        ("CLIENT GETNAME", "$2\r\nme\r\n"),
        ("CLIENT SETNAME ", "+OK\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
        ("CLIENT SETINFO lib-name redis-py", "+OK\r\n"),
        ("CLIENT SETINFO LIB-VER 1.0", "+OK\r\n"),
        ("CLIENT SETINFO foo 1.0", "-ERR Unrecognized option 'foo'\r\n"),
    ]);
    for name in ["a\nb", "a b", "\u{e9}", "\u{7f}"] {
        assert_eq!(connection.run(&[b"CLIENT", b"SETNAME", name.as_bytes()]).1, BAD_NAME, "{name:?}");
    }
    let refused = |attribute: &str| format!("-ERR {attribute} cannot contain spaces, newlines or special characters.\r\n");
    assert_eq!(connection.run(&[b"CLIENT", b"SETINFO", b"LIB-NAME", b"a b"]).1, refused("lib-name"));
    assert_eq!(connection.run(&[b"CLIENT", b"SETINFO", b"lib-ver", b"a\n"]).1, refused("lib-ver"));
    assert_eq!((&connection.client.labels().lib_name[..], &connection.client.labels().lib_ver[..]), (&b"redis-py"[..], &b"1.0"[..]));
}

#[test]
fn client_info_is_a_line_as_redis_writes_it() {
    let mut connection = Connection::open();
    let line = "id=1 addr=127.0.0.1:50136 laddr=127.0.0.1:6380 fd=7 name= age=0 idle=0 flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf=0 \
                qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=client|info user=default \
                redir=-1 resp=2 lib-name= lib-ver=\n";
    assert_eq!(connection.ask("CLIENT INFO"), format!("${}\r\n{line}\r\n", line.len()));
    connection.must_answer(&[("CLIENT SETNAME me", "+OK\r\n"), ("CLIENT NO-EVICT on", "+OK\r\n"), ("CLIENT NO-TOUCH ON", "+OK\r\n")]);
    connection.client.profile.queued = Some(Queued { commands: 2, bytes: 52 });
    connection.client.profile.buffered_output = 4;
    connection.ask("HELLO 3");
    connection.ask("SELECT 3");
    connection.now += Duration::from_secs(5);
    let line = "id=1 addr=127.0.0.1:50136 laddr=127.0.0.1:6380 fd=7 name=me age=5 idle=0 flags=xeT db=3 sub=0 psub=0 ssub=0 multi=2 qbuf=0 \
                qbuf-free=0 argv-mem=0 multi-mem=52 rbs=0 rbp=0 obl=4 oll=0 omem=0 tot-mem=56 events=r cmd=client|info user=default \
                redir=-1 resp=3 lib-name= lib-ver=\n";
    assert_eq!(connection.ask("CLIENT INFO"), format!("={}\r\ntxt:{line}\r\n", line.len() + 4));
}

#[test]
fn client_list_shows_all_clients_in_the_order_of_arrival() {
    let mut one = Connection::open();
    let mut two = Connection::on(Arc::clone(&one.clients), one.settings.clone());
    let ids = |reply: &str| -> Vec<String> {
        let of_line = |line: &str| line.strip_prefix("id=").and_then(|line| Some(line.split_once(' ')?.0.to_owned()));
        reply.lines().filter_map(of_line).collect()
    };
    two.client.profile.subscriptions.channels = 1;
    two.client.publish();
    one.must_answer(&[
        ("CLIENT LIST TYPE master", "$0\r\n\r\n"),
        ("CLIENT LIST TYPE replica", "$0\r\n\r\n"),
        ("CLIENT LIST ID 0 -1", "$0\r\n\r\n"),
    ]);
    assert_eq!(ids(&one.ask("CLIENT LIST")), ["1", "2"]);
    assert_eq!(ids(&one.ask("client list type NORMAL")), ["1"]);
    assert_eq!(ids(&one.ask("CLIENT LIST TYPE pubsub")), ["2"]);
    assert_eq!(ids(&one.ask("CLIENT LIST ID 2 7 1")), ["2", "1"]);
    assert!(two.ask("CLIENT LIST ID 2").contains("cmd=client|list "));
    drop(two);
    assert_eq!(ids(&one.ask("CLIENT LIST")), ["1"]);
}

#[test]
fn client_list_refuses_what_it_does_not_know() {
    Connection::open().must_answer(&[
        ("CLIENT LIST TYPE foo", "-ERR Unknown client type 'foo'\r\n"),
        ("CLIENT LIST ID x", "-ERR Invalid client ID\r\n"),
        ("CLIENT LIST ID", "-ERR syntax error\r\n"),
        ("CLIENT LIST TYPE", "-ERR syntax error\r\n"),
        ("CLIENT LIST TYPE normal x", "-ERR syntax error\r\n"),
        ("CLIENT LIST FOO", "-ERR syntax error\r\n"),
        ("CLIENT NO-EVICT x", "-ERR syntax error\r\n"),
        ("CLIENT NO-TOUCH x", "-ERR syntax error\r\n"),
        ("CLIENT REPLY x", "-ERR syntax error\r\n"),
    ]);
}

#[test]
fn client_kill_and_pause_refuse_what_they_do_not_know() {
    let mut connection = Connection::open();
    connection.must_answer(&[
        ("CLIENT KILL 000.123.321.567:0000", "-ERR No such client\r\n"),
        ("CLIENT KILL 127.0.0.1:", "-ERR No such client\r\n"),
        ("CLIENT KILL ID 1 x", "-ERR syntax error\r\n"),
        ("CLIENT KILL FOO x", "-ERR syntax error\r\n"),
        ("CLIENT KILL ID x", "-ERR client-id should be greater than 0\r\n"),
        ("CLIENT KILL ID 0", "-ERR client-id should be greater than 0\r\n"),
        ("CLIENT KILL TYPE wrong_type", "-ERR Unknown client type 'wrong_type'\r\n"),
        ("CLIENT KILL USER wrong_user", "-ERR No such user 'wrong_user'\r\n"),
        ("CLIENT KILL SKIPME yes_or_no", "-ERR syntax error\r\n"),
        ("CLIENT KILL ID 10000000", ":0\r\n"),
        ("CLIENT KILL ADDR 127.0.0.1:50136", ":0\r\n"),
        ("CLIENT KILL TYPE pubsub", ":0\r\n"),
        ("CLIENT KILL TYPE normal LADDR 127.0.0.1:6379 SKIPME no", ":0\r\n"),
        ("CLIENT PAUSE x", "-ERR timeout is not an integer or out of range\r\n"),
        ("CLIENT PAUSE -1", "-ERR timeout is negative\r\n"),
        ("CLIENT PAUSE 1 READ", "-ERR CLIENT PAUSE mode must be WRITE or ALL\r\n"),
        ("CLIENT UNPAUSE", "+OK\r\n"),
    ]);
    for (command, reply) in [("CLIENT KILL 127.0.0.1:50136", "+OK\r\n"), ("CLIENT KILL ID 1 SKIPME NO", ":1\r\n")] {
        let args: Vec<_> = command.split(' ').map(str::as_bytes).collect();
        assert_eq!(connection.run(&args), (LocalOutcome::Close, reply.to_owned()));
    }
}

#[test]
fn client_reply_mutes_what_redis_mutes() {
    let mut connection = Connection::open();
    // Each command, and whether the client hears its reply.
    let script = [
        ("CLIENT REPLY SKIP", false),
        ("PING", false),
        ("PING", true),
        ("CLIENT REPLY OFF", false),
        ("PING", false),
        ("CLIENT REPLY SKIP", false),
        ("CLIENT REPLY x", false),
        ("CLIENT REPLY ON", true),
        ("PING", true),
        ("CLIENT REPLY SKIP", false),
        ("CLIENT REPLY ON", true),
        ("PING", true),
    ];
    for (command, heard) in script {
        let reply = connection.ask(command);
        let mode = &mut connection.client.reply_mode;
        assert_eq!(!mode.mutes() && !reply.is_empty(), heard, "{command}");
        *mode = mode.next();
    }
    connection.ask("CLIENT REPLY OFF");
    assert_eq!(connection.run(&[b"RESET"]).1, "+RESET\r\n");
    assert_eq!(connection.client.reply_mode, ReplyMode::On);
}

#[test]
fn reset_leaves_a_connection_as_if_it_were_new() {
    let mut connection = Connection::open();
    for command in ["HELLO 3 SETNAME me", "SELECT 3", "CLIENT NO-EVICT on", "CLIENT SETINFO lib-name l"] {
        connection.ask(command);
    }
    connection.client.profile.watching = 2;
    assert_eq!(connection.run(&[b"RESET"]), (LocalOutcome::Reset, "+RESET\r\n".to_owned()));
    let line = connection.ask("CLIENT INFO");
    for field in [" name= ", " db=0 ", " flags=N ", " resp=2 ", " lib-name=l "] {
        assert!(line.contains(field), "{field} in {line}");
    }
    assert_eq!(connection.client.profile.watching, 0);
}

#[test]
fn what_needs_more_than_the_connection_is_handed_back() {
    let mut connection = Connection::open();
    let mut outcome = |args: &[&[u8]]| {
        let (outcome, reply) = connection.run(args);
        assert_eq!(reply, "");
        outcome
    };
    assert_eq!(outcome(&[b"INFO", b"keyspace", b"nonsense"]), LocalOutcome::Info(Sections::KEYSPACE));
    assert_eq!(outcome(&[b"CONFIG", b"GET", b"save"]), LocalOutcome::Config);
    assert_eq!(outcome(&[b"COMMAND"]), LocalOutcome::NotLocal);
    assert_eq!(outcome(&[b"GET", b"k"]), LocalOutcome::NotLocal);
}

#[test]
fn every_command_that_the_table_calls_local_is_answered_here() {
    let containers = ["client", "weft"];
    for spec in command::all().filter(|spec| spec.handling == command::Handling::Local && !containers.contains(&spec.name)) {
        let mut args: Vec<&[u8]> = spec.name.split('|').map(str::as_bytes).collect();
        args.resize(args.len().max(spec.arity.unsigned_abs().into()), b"x");
        let (outcome, _) = Connection::open().run(&args);
        assert_ne!(outcome, LocalOutcome::NotLocal, "{}", spec.name);
    }
}
