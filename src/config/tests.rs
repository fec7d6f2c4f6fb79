//! The sample cannot lie, and an error is a sentence that can be acted on.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

const SAMPLE: &str = include_str!("../../proxy.yaml");
const SHARDS: &str = "topology: {static: {shards: [{name: a, address: h:1}]}}\n";

fn error_of(text: &str) -> String {
    Config::parse(text, "proxy.yaml").unwrap_err().to_string()
}

/// The error of `text` after a line that names the shards, so that it stands on line 2.
fn error_beside_shards(text: &str) -> String {
    error_of(&format!("{SHARDS}{text}\n"))
}

#[test]
fn the_sample_is_the_defaults_with_three_static_shards() {
    let shard = |name: &str, port| StaticShard { name: name.into(), address: NodeAddr::new("127.0.0.1", port).unwrap(), slots: vec![] };
    let shards = vec![shard("a", 7001), shard("b", 7002), shard("c", 7003)];
    let topology = TopologyConfig::Static(StaticConfig { databases: StaticConfig::DATABASES, shards, affinity: vec![] });
    assert_eq!(Config::parse(SAMPLE, "proxy.yaml"), Ok(Config::with_topology(topology)));
}

#[test]
fn the_sample_shows_every_key_and_no_other() {
    // Serde names the known keys when it meets an unknown one; ask it in each section.
    for section in ["{?: 1}", "topology: {?: 1}", "topology: {cluster: {?: 1}}", "topology: {static: {?: 1}}", "upstream: {?: 1}"]
        .into_iter()
        .chain(["topology: {static: {shards: [{?: 1}]}}", "transactions: {?: 1}", "sweep: {?: 1}", "limits: {?: 1}", "log: {?: 1}"])
    {
        let message = error_of(&section.replace('?', "no_such_key_in_any_section"));
        let (_, known) = message.split_once("known here: ").unwrap();
        for key in known.split(", ") {
            assert!(SAMPLE.contains(&format!("{key}:")), "proxy.yaml does not show `{key}` of {section}");
        }
    }
}

#[test]
fn the_commented_keys_of_the_sample_are_valid_too() {
    let uncommented = SAMPLE.replace("# cluster:", "cluster:").replace("#   seeds", "  seeds").replace("#   refresh", "  refresh");
    assert!(error_of(&uncommented).contains("both `cluster` and `static` are given"), "{}", error_of(&uncommented));
    let passwords = "password: \"a long one\"\nupstream: {username: weft, password: \"another one\"}";
    let config = Config::parse(&format!("{SHARDS}{passwords}"), "proxy.yaml").unwrap();
    assert!(config.listen.password.unwrap().matches(b"a long one"));
    assert_eq!(config.upstream.username.unwrap(), "weft");
}

#[test]
fn a_cluster_needs_only_seeds() {
    let config = Config::parse("topology: {cluster: {seeds: ['a:1', '[::1]:2']}}", "proxy.yaml").unwrap();
    let seeds = vec!["a:1".parse().unwrap(), "[::1]:2".parse().unwrap()];
    assert_eq!(config.topology, TopologyConfig::Cluster(ClusterConfig { seeds, refresh_interval: ClusterConfig::REFRESH_INTERVAL }));
}

#[test]
fn commands_over_several_shards_are_treated_alike_or_by_class() {
    let classes = |text: &str| {
        Config::parse(&format!("{SHARDS}transactions: {{multi_key: {text}}}"), "proxy.yaml").map(|config| config.transactions.multi_key)
    };
    let atomic = MultiKeys::all(MultiKey::Atomic);
    assert_eq!(classes("atomic"), Ok(atomic));
    assert_eq!(classes("split"), Ok(MultiKeys { reads: MultiKey::Split, writes: MultiKey::Split, deletes: MultiKey::Split, ..atomic }));
    assert_eq!(classes("reject").unwrap().scripts, MultiKey::Reject);
    let some = classes("{reads: split, scripts: reject}");
    assert_eq!(some, Ok(MultiKeys { reads: MultiKey::Split, scripts: MultiKey::Reject, ..atomic }));
    for (text, error) in [
        ("{computed: split}", "proxy.yaml:2: transactions.multi_key.computed: cannot be `split`: values go from one shard to another"),
        ("{deltes: split}", "proxy.yaml:2: transactions.multi_key.deltes: unknown key; did you mean `deletes`?"),
        ("{reads: never}", "proxy.yaml:2: transactions.multi_key.reads: `never` is not one of"),
        ("never", "proxy.yaml:2: transactions.multi_key: `never` is not one of"),
        ("7", "proxy.yaml:2: transactions.multi_key: invalid type"),
    ] {
        let shown = classes(text).unwrap_err().to_string();
        assert!(shown.starts_with(error), "{shown}");
    }
    for text in ["atomic", "split", "reject", "{reads: reject, deletes: split}"] {
        let config = Config::parse(&format!("{SHARDS}transactions: {{multi_key: {text}}}"), "proxy.yaml").unwrap();
        assert_eq!(Config::parse(&config.to_string(), "shown").unwrap().transactions, config.transactions, "{config}");
    }
}

#[test]
fn affinity_is_rules_and_presets_of_static_shards() {
    let rules = |text: &str| match Config::parse(&format!("{SHARDS}affinity: {text}"), "proxy.yaml").unwrap().topology {
        TopologyConfig::Static(fixed) => fixed.affinity.iter().map(ToString::to_string).collect::<Vec<_>>(),
        TopologyConfig::Cluster(_) => unreachable!(),
    };
    assert_eq!(rules("['app:{user}:*', dramatiq, bullmq]"), ["app:{user}:*", "dramatiq", "dramatiq:*", "bull:{queue}:*"]);
    assert_eq!(
        error_beside_shards("affinity: ['app:{user}:*', sidekiq]"),
        "proxy.yaml:2: affinity[1]: `sidekiq` is no preset; name one of bullmq, dramatiq, channels_redis, or write a rule such as \"app:{user}:*\""
    );
    assert_eq!(
        error_beside_shards("affinity: ['{a}:{b}']"),
        "proxy.yaml:2: affinity[0]: `{a}:{b}` is not a rule: a rule has one capture at most, written {name}; \
         write literal text and one capture, as \"app:{user}:*\""
    );
    assert_eq!(
        error_of("topology: {cluster: {seeds: ['a:1']}}\naffinity: [bullmq]"),
        "proxy.yaml:2: affinity: a Redis Cluster says itself where keys live; remove the rules, and use hash tags in the keys"
    );
}

#[test]
fn sections_left_empty_mean_their_defaults() {
    let empty = Config::parse(&format!("{SHARDS}transactions:\nsweep:\nlimits:\nlog:\nupstream:\n"), "proxy.yaml").unwrap();
    assert_eq!(empty, Config::parse(SHARDS, "proxy.yaml").unwrap());
}

#[test]
fn a_value_out_of_bounds_is_told_with_its_line_and_default() {
    let text = format!("{SHARDS}\nisolation: strict\n\n# waits\ntransactions:\n  lease_ms: 0\n");
    assert_eq!(error_of(&text), "proxy.yaml:7: transactions.lease_ms: 0 is not between 100 and 60000; remove the line to use 2000");
    assert_eq!(
        error_beside_shards("limits: {clients_max: 99999999}"),
        "proxy.yaml:2: limits.clients_max: 99999999 is not between 1 and 1048576; remove the line to use 10000"
    );
}

#[test]
fn errors_of_shape_name_file_line_key_and_remedy() {
    for (text, expected) in [
        ("transactions:\n  leese_ms: 1", "3: transactions.leese_ms: unknown key; did you mean `lease_ms`?"),
        ("isolaton: strict", "2: isolaton: unknown key; did you mean `isolation`?"),
        ("log: {colour: red}", "2: log.colour: unknown key; known here: level, format"),
        ("isolation: strickt", "2: isolation: `strickt` is not one of strict, relaxed; did you mean `strict`?"),
        ("log:\n  format: xml", "3: log.format: `xml` is not one of text, json; known here: text, json"),
        ("workers: many", "2: workers: invalid type: string \"many\", expected u64; see the documented sample `proxy.yaml`"),
        ("workers: 1\nworkers: 2", "2: workers: given twice; keep one of the two"),
        ("upstream: {password: [secret]}", "2: upstream.password: not a text; put the password in quotes"),
    ] {
        assert_eq!(error_beside_shards(text), format!("proxy.yaml:{expected}"));
    }
    let broken = error_beside_shards("log: {level: info");
    assert!(broken.starts_with("proxy.yaml:3: did not find expected"), "{broken}");
}

#[test]
fn waiting_for_replicas_ends_before_the_connection_is_given_up() {
    let beside = |text: &str| Config::parse(&format!("{SHARDS}{text}\n"), "proxy.yaml").map(|config| config.transactions.wait);
    let wait = WaitConfig { replicas: 2, fsync: WaitFsync::All, timeout: Duration::from_millis(100) };
    assert_eq!(beside("transactions: {wait_replicas: 2, wait_fsync: all, wait_timeout_ms: 100}"), Ok(wait));
    assert!(WaitConfig::default().is_off() && beside("upstream: {reply_timeout_ms: 100}").unwrap().is_off());
    assert_eq!(
        error_beside_shards("upstream: {reply_timeout_ms: 1000}\ntransactions:\n  wait_replicas: 1\n  wait_timeout_ms: 1000"),
        "proxy.yaml:5: transactions.wait_timeout_ms: 1000 is not below upstream.reply_timeout_ms, 1000, when the connection is given up; \
         lower it, or raise the other"
    );
}

#[test]
fn errors_of_access_name_the_remedy() {
    for (text, expected) in [
        (
            "listen: 0.0.0.0:6380",
            "2: listen: 0.0.0.0:6380 is open to other machines and there is no password; set `password`, or listen on 127.0.0.1:6380",
        ),
        ("listen: localhost", "2: listen: `localhost` is not an IP address with a port; write it as 127.0.0.1:6380"),
        ("password: ''", "2: password: the password is empty; remove the line to have none"),
        ("password: a\npassword_file: b", "3: password_file: `password` is given too; keep one of the two"),
        ("upstream: {username: u}", "2: upstream.username: a user without a password; set `upstream.password`"),
        (
            "password_file: /no/such/file",
            "2: password_file: /no/such/file cannot be read: No such file or directory (os error 2); \
             name a file that holds the password and nothing else",
        ),
    ] {
        assert_eq!(error_beside_shards(text), format!("proxy.yaml:{expected}"));
    }
    assert!(Config::parse(&format!("{SHARDS}listen: 0.0.0.0:6380\npassword: x\n"), "proxy.yaml").is_ok());
}

#[test]
fn errors_of_the_topology_name_the_shard() {
    let shards = |list: &str| format!("topology:\n  static:\n    shards:\n{list}\n");
    let a = "      - {name: a, address: 'h:1', slots: [0-99, 100]}\n";
    for (text, expected) in [
        (
            String::new(),
            ":1: topology: no shards are named; name a Redis Cluster under `topology.cluster`, or single servers under `topology.static`",
        ),
        ("topology: {cluster: {seeds: []}}".into(), ":1: topology.cluster.seeds: no node is named; name at least one, as [127.0.0.1:7001]"),
        (
            "topology: {cluster: {seeds: [\n'a:1',\nb]}}".into(),
            ":3: topology.cluster.seeds[1]: `b` is not an address; write it as host:port, for instance 127.0.0.1:7001",
        ),
        (
            shards("      - {name: a}"),
            ":4: topology.static.shards[0]: a shard without an address; write it as {name: a, address: 127.0.0.1:7001}",
        ),
        (
            shards("      - name: a b\n        address: h:1"),
            ":4: topology.static.shards[0].name: `a b` is not a name; use 1 to 64 letters, digits, `_`, `.` or `-`",
        ),
        (
            shards("      - {name: a, address: 'h:1'}\n      - {name: a, address: 'h:2'}"),
            ":5: topology.static.shards[1].name: `a` is another shard's name; give each shard its own name",
        ),
        (
            shards("      - {name: a, address: 'h:1'}\n      - {name: b, address: 'h:1'}"),
            ":5: topology.static.shards[1].address: `h:1` is another shard's address; give each shard its own address",
        ),
        (
            shards(&format!("{a}      - {{name: b, address: 'h:2'}}")),
            ":5: topology.static.shards[1]: this shard names no slots, others do; name the slots of every shard, or of none",
        ),
        (
            shards(&format!("{a}      - {{name: b, address: 'h:2', slots: [100-16383]}}")),
            ":5: topology.static.shards[1].slots: slot 100 is another shard's too; give each slot to one shard",
        ),
        (
            shards(&format!("{a}      - {{name: b, address: 'h:2', slots: [102-16383]}}")),
            ":3: topology.static.shards: no shard has the slots 101-101; give each slot from 0 to 16383 to one shard, or remove every `slots`",
        ),
        (
            shards("      - {name: a, address: 'h:1', slots: [0-16384]}"),
            ":4: topology.static.shards[0].slots[0]: `0-16384` is not a slot or a range of slots; \
             write numbers from 0 to 16383, as 7 or \"0-5460\"",
        ),
    ] {
        assert_eq!(error_of(&text), format!("proxy.yaml{expected}"));
    }
}

#[test]
fn a_password_file_is_read_from_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "tr0ub4dor\n").unwrap();
    let path = folder.path().join("proxy.yaml");
    std::fs::write(&path, format!("{SHARDS}password_file: secret\n")).unwrap();
    let config = Config::load(&path).unwrap();
    assert!(config.listen.password.as_ref().unwrap().matches(b"tr0ub4dor"));
    assert!(!format!("{config:?}").contains("tr0ub4dor"));
}

#[test]
fn a_file_that_is_not_there_is_told_by_name() {
    let error = Config::load(Path::new("/no/such/proxy.yaml")).unwrap_err().to_string();
    let expected = "/no/such/proxy.yaml: cannot be read: No such file or directory (os error 2); \
                    name a readable file with --config, or copy the documented sample `proxy.yaml`";
    assert_eq!(error, expected);
}

#[test]
fn what_check_prints_is_the_same_configuration() {
    let text = "topology: {static: {shards: [{name: a, address: 'h:1', slots: [0-9, 10-16383]}]}}\nworkers: 3\nisolation: relaxed\n";
    for text in [text, "topology: {cluster: {seeds: ['h:1', '[::1]:2']}}\nworkers: 3\nlog: {level: warn, format: json}\n"] {
        let config = Config::parse(text, "proxy.yaml").unwrap();
        assert_eq!(Config::parse(&config.to_string(), "printed").unwrap(), config);
    }
    let secret = Config::parse(&format!("{SHARDS}password: tr0ub4dor\n"), "proxy.yaml").unwrap().to_string();
    assert!(secret.contains("password: \"***\"") && !secret.contains("tr0ub4dor"));
}
