//! INFO's sections as clients read them.

use super::*;
use crate::metrics::{Counter, Metrics, Snapshot};

fn info(names: &[&str], metrics: &Snapshot) -> String {
    let bulk = replied(Proto::Resp2, names, metrics);
    let (head, text) = bulk.split_once("\r\n").unwrap_or_default();
    assert_eq!(head, format!("${}", text.len() - 2));
    text[..text.len() - 2].to_owned()
}

fn replied(proto: Proto, names: &[&str], metrics: &Snapshot) -> String {
    let started = Instant::now();
    let server = ServerIdentity {
        run_id: "f0403f8eaea2b236f3195775672a9192981db917".to_owned(),
        os: "Linux 6.1 x86_64".to_owned(),
        process_id: 42,
        tcp_port: 6380,
        config_file: "/etc/weft/proxy.yaml".to_owned(),
        started,
        clients_max: 10_000,
        workers: 2,
        isolation: Isolation::Strict,
    };
    let shards =
        ShardsFacts { redis_version: "7.0.15".to_owned(), maxmemory_policy: "noeviction".to_owned(), count: 3, topology: "static" };
    let facts = Facts {
        server: &server,
        shards: &shards,
        connected_clients: 5,
        blocked_clients: 0,
        tracking: Default::default(),
        cached_scripts: 0,
        metrics,
        usage: ProcessUsage { resident: 1_511_552, resident_peak: 1 << 31, cpu_user: 0.25, cpu_system: 1.5 },
        memory: &Memory::of_shards(&["used_memory:1511552\r\nused_memory_peak:2147483648\r\nmaxmemory:0\r\n"]),
        persistence: &Persistence::of_shards(&["loading:0\r\n"]),
        keyspace: "db0:keys=2,expires=1,avg_ttl=0\r\n",
        statistics: &Statistics::of_shards(&["errorstat_ERR:count=1\r\nerrorstat_WRONGPASS:count=1\r\n"]),
        now: started + Duration::from_secs(100_000),
        unix_time: Duration::from_micros(1_795_264_245_151_639),
    };
    let mut out = BytesMut::new();
    reply(&mut out, proto, Sections::named(names.iter().map(|name| name.as_bytes())), &facts);
    String::from_utf8_lossy(&out).into_owned()
}

fn nothing_counted() -> Snapshot {
    Metrics::default().snapshot()
}

#[test]
fn sections_come_in_redis_order_whatever_the_order_asked_for() {
    assert_eq!(info(&["keyspace"], &nothing_counted()), "# Keyspace\r\ndb0:keys=2,expires=1,avg_ttl=0\r\n");
    let both = "# Cluster\r\ncluster_enabled:0\r\n\r\n# Keyspace\r\ndb0:keys=2,expires=1,avg_ttl=0\r\n";
    assert_eq!(info(&["KEYSPACE", "cluster", "keyspace"], &nothing_counted()), both);
    assert_eq!(info(&["modules"], &nothing_counted()), "# Modules\r\n");
}

#[test]
fn a_section_that_does_not_exist_is_empty() {
    assert_eq!(info(&["nonsense"], &nothing_counted()), "");
}

#[test]
fn all_sections_but_the_long_one_are_told_without_a_name() {
    let all = info(&[], &nothing_counted());
    let titles: Vec<_> = all.lines().filter_map(|line| line.strip_prefix("# ")).collect();
    let redis =
        ["Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Modules", "Errorstats", "Cluster", "Keyspace"];
    assert_eq!(titles, [&redis[..], &["Weft"]].concat());
    assert_eq!(info(&["Default"], &nothing_counted()), all);
    for name in ["all", "Everything"] {
        let more = info(&[name], &nothing_counted());
        assert_eq!(more.lines().filter(|line| line.starts_with("# ")).count(), titles.len() + 1);
        assert!(more.contains("# Commandstats\r\n"));
    }
}

#[test]
fn fields_that_clients_look_for_are_there() {
    let all = info(&[], &nothing_counted());
    for field in [
        "redis_version:7.0.15",
        "redis_mode:standalone",
        "uptime_in_seconds:100000",
        "uptime_in_days:1",
        "connected_clients:5",
        "maxclients:10000",
        "used_memory:1511552",
        "used_memory_human:1.44M",
        "used_memory_peak_human:2.00G",
        "maxmemory_human:0B",
        "maxmemory_policy:noeviction",
        "loading:0",
        "role:master",
        "connected_slaves:0",
        "used_cpu_sys:1.500000",
        "process_memory_human:1.44M",
        "isolation:strict",
        "shards:3",
    ] {
        assert!(all.contains(&format!("\r\n{field}\r\n")), "{field} in {all}");
    }
}

#[test]
fn counters_are_shown() {
    let metrics = Metrics::default();
    let worker = metrics.worker();
    worker.add(Counter::Commands, 93);
    worker.count(Counter::RejectedByLimit);
    worker.count(Counter::TwoPhaseWatch);
    worker.count(Counter::TwoPhaseLocked);
    let metrics = metrics.snapshot();
    assert_eq!(info(&["errorstats"], &metrics), "# Errorstats\r\nerrorstat_ERR:count=1\r\nerrorstat_WRONGPASS:count=1\r\n");
    let stats = info(&["stats", "weft"], &metrics);
    for field in ["total_commands_processed:93", "rejected_connections:1", "total_error_replies:2", "txn_two_phase_aborted:2"] {
        assert!(stats.contains(&format!("\r\n{field}\r\n")), "{field} in {stats}");
    }
}

#[test]
fn info_is_a_verbatim_string_in_resp3() {
    assert_eq!(replied(Proto::Resp3, &["modules"], &nothing_counted()), "=15\r\ntxt:# Modules\r\n\r\n");
}
