//! SORT by patterns, whose keys lie anywhere: the same replies as from one server, at one moment, and nothing stored that was never so.

use crate::support::{Flavor, Mode, PATIENCE, Reply, Shards, Stage, Weft, eventually, on_each};

#[test]
fn elements_are_sorted_by_keys_and_fields_of_any_shard() {
    on_each(|stage| {
        agree(
            stage,
            "RPUSH X a b c d b; MSET Pw_a 3 Pw_b 1e0 Pw_c 1 Pd_a A Pd_b B; HSET Ph_a w 2 n first; HSET Ph_c w 1 n third; SET Ph_d no; \
             SORT X BY Pw_*; SORT X BY Pw_* DESC; SORT X BY Pw_* LIMIT 1 2; SORT X BY Pw_* LIMIT -1 -1; SORT X BY Pw_* LIMIT 9 9; \
             SORT X BY Pw_* LIMIT 1 0; SORT X BY Ph_*->w; SORT X BY Ph_*->w DESC GET # GET Pd_* GET Ph_*->n GET Pw_a GET Ph_*->; \
             SORT X BY Pw_* GET Pd_* GET # LIMIT 2 2; SORT X BY nosort GET Pd_*; SORT X BY nosort DESC LIMIT 1 3 GET # GET Pw_*; \
             SORT X BY Pw_* BY x GET #; SORT X BY x BY Pw_* GET #; SORT X ALPHA GET Pd_*; SORT X ALPHA DESC GET # LIMIT 0 2; SORT X GET #; \
             SORT X GET Pd_*; SORT_RO X BY Pw_* GET Pd_*; SORT_RO X BY nosort GET #; SORT missing-list BY Pw_*; SORT missing-list GET Pw_*; \
             SET Z text; SORT Z BY Pw_*; SORT Z GET #; SORT Z GET Pw_* STORE Y; EXISTS Y; SET Pw_d x; SORT X BY Pw_*; SORT X BY Pw_* STORE Y; \
             SORT X BY Pw_* LIMIT 0 0; SORT X BY Pw_* ALPHA; SORT X BY Pw_* FOO; SORT X BY Pw_* LIMIT 1; SORT X BY Pw_* LIMIT a 1; \
             SORT X GET Pw_* STORE; SORT_RO X BY Pw_* STORE Y; SORT X BY; SORT X GET",
        );
    });
}

#[test]
fn weights_are_numbers_if_redis_takes_them_for_such() {
    on_each(|stage| {
        // Valkey has a reader of its own. What is out of range is left out: Redis may take the numbers after it for such too.
        if stage.flavor() == Flavor::Redis {
            for weight in ["0x10", "+4", "0x.8p3", "-Infinity", "nan", "5.", ".", "1e", "1_0", "--1", "0x", "0x1p", "00012"] {
                agree(
                    stage,
                    &format!("RPUSH X a b c; MSET Pw_a 5 Pw_b {weight} Pw_c 9; SORT X BY Pw_*; SORT X BY Pw_* DESC STORE Y; LRANGE Y 0 -1"),
                );
            }
        }
    });
}

#[test]
fn what_was_sorted_is_stored_on_any_shard() {
    on_each(|stage| {
        agree(
            stage,
            "SADD X 3 1 2; MSET Pw_1 c Pw_2 b Pw_3 a; SORT X BY Pw_* ALPHA STORE Y; LRANGE Y 0 -1; SORT X BY Pw_* ALPHA GET # GET Pw_* GET no STORE Y; \
             LRANGE Y 0 -1; TYPE Y; EXPIRE Y 100; SORT X GET Pw_* STORE Y; LRANGE Y 0 -1; TTL Y; SORT X BY nosort GET # STORE X; LRANGE X 0 -1; \
             SORT X BY nosort DESC GET # LIMIT 0 2 STORE Z; LRANGE Z 0 -1; SORT X BY Pw_* ALPHA STORE Pw_1; TYPE Pw_1; \
             SORT missing-list BY Pw_* STORE Y; EXISTS Y; SORT X BY Pw_2* ALPHA LIMIT 5 5 STORE Z; EXISTS Z; DEL Pw_1 X; \
             SADD X m z b k; SORT X BY x GET # STORE Y; LRANGE Y 0 -1; SORT X BY x GET # DESC LIMIT 1 2 STORE Y; LRANGE Y 0 -1; DEL X; \
             ZADD X 3 a 1 b 2 c; SORT X BY x GET # STORE Y; LRANGE Y 0 -1; SORT X BY x DESC LIMIT 0 2 GET # STORE Y; LRANGE Y 0 -1; \
             SORT X BY x DESC LIMIT 0 2 GET # GET Pw_*; SORT X GET # STORE Z; SORT X ALPHA GET # STORE Z; LRANGE Z 0 -1",
        );
    });
}

#[test]
fn in_a_transaction_it_sees_and_stores_what_a_server_does() {
    on_each(|stage| {
        agree(
            stage,
            "MULTI; RPUSH X a b c d; MSET Pw_a 3 Pw_b 1 Pw_c 2 Pd_a A Pd_b B; SORT X BY Pw_*; SET Pw_a 0; \
             SORT X BY Pw_* DESC GET # GET Pd_*; SORT X BY Pw_* LIMIT 1 2 STORE Y; LRANGE Y 0 -1; SORT X BY nosort GET Pw_* STORE Z; \
             SORT Z DESC; SORT X GET Pd_* ALPHA STORE X; LRANGE X 0 -1; SORT Y BY Pw_* ALPHA STORE Y; EXEC; LRANGE X 0 -1; \
             LRANGE Y 0 -1; LRANGE Z 0 -1; MULTI; SORT Y BY Pw_* FOO; SORT Y BY; SORT_RO Y BY Pw_*; SORT_RO Y BY Pw_* STORE Z; \
             SORT missing BY Pw_* STORE Z; EXISTS Z; SET Z text; SORT Z BY Pw_*; SORT Z BY Pw_* STORE X; LLEN X; SET Pw_b many; \
             SORT Y BY Pw_*; SORT Y BY Pw_* STORE X; LLEN X; EXEC; DEL Y; SADD Y 3 1 2; EXPIRE X 100; WATCH Y; MULTI; \
             SORT Y BY Pd_* GET # STORE X; TTL X; LRANGE X 0 -1; EXEC; WATCH Y; SADD Y 4; MULTI; SORT Y BY Pd_* GET # STORE X; EXEC; \
             MULTI; SORT_RO Y DESC BY nosort GET Pd_*; SCARD Y; EXEC; MULTI; SORT X GET #; SORT X GET # DESC STORE Z; RENAME Z Y; \
             SORT Y BY Pd_* DESC LIMIT 0 1; EXEC",
        );
    });
}

#[test]
fn any_form_of_it_is_answered_as_by_one_server() {
    for seed in 0..8 {
        let lines = random_lines(&mut fastrand::Rng::with_seed(seed));
        let inside = lines.replacen("; SORT", "; MULTI; SORT", 1) + "; EXEC";
        on_each(|stage| {
            agree(stage, &lines);
            if seed < 2 {
                agree(stage, &inside);
            }
        });
    }
}

/// Data, then forms of SORT over it. What a server leaves open is left out: the order of sets that are not sorted, and of equal texts.
fn random_lines(random: &mut fastrand::Rng) -> String {
    const ELEMENTS: [&str; 12] = ["1", "2", "3", "10", "-7", "0.5", "1e2", "31", "4", "a", "b->c", "d*"];
    const WEIGHTS: [&str; 8] = ["1", "1.0", "-3", "2e1", "inf", "-0", "007", ".5"];
    let mut lines = vec!["DEL X Y Z".to_owned()];
    let numbers_only = random.bool();
    let elements = if numbers_only { &ELEMENTS[..9] } else { &ELEMENTS[..] };
    let kind = random.choice(["RPUSH X", "SADD X", "ZADD X"]).unwrap_or_default();
    for at in 0..random.usize(0..12) {
        let element = random.choice(elements).copied().unwrap_or_default();
        lines.push(if kind == "ZADD X" { format!("{kind} {at} {element}") } else { format!("{kind} {element}") });
    }
    for (at, element) in ELEMENTS.iter().enumerate() {
        let weight = random.choice(WEIGHTS).unwrap_or_default();
        lines.push(format!("DEL Pw_{element} Ph_{element}"));
        match random.u8(0..5) {
            0 => {}
            1 => lines.push(format!("HSET Pw_{element} f 1")),
            _ => lines.push(format!("SET Pw_{element} {weight}")),
        }
        match random.u8(0..4) {
            0 => {}
            1 => lines.push(format!("SET Ph_{element} 1")),
            _ => lines.push(format!("HSET Ph_{element} f {weight} g {}", random.alphanumeric())),
        }
        lines.push(format!("SET Pu_{element} {}{at:02}", random.lowercase()));
    }
    for _ in 0..12 {
        let store = random.choice(["", "", " STORE Y"]).unwrap_or_default();
        let sorted = ["", " ALPHA", " BY Pw_*", " BY Ph_*->f", " BY Pu_* ALPHA", " BY Pu_*", " ALPHA BY x", " BY Pw_*f BY Pw_*"];
        let mut form = "SORT X".to_owned();
        form += random.choice(sorted).filter(|by| !by.contains("BY x") || kind != "SADD X" || !store.is_empty()).unwrap_or_default();
        form += random.choice(["", " DESC", " ASC"]).unwrap_or_default();
        if random.bool() {
            form += &format!(" LIMIT {} {}", random.i8(-2..6), random.i8(-2..6));
        }
        for _ in 0..random.u8(0..3) {
            form += random.choice([" GET #", " GET x", " GET Pw_*", " GET Ph_*->g", " GET Ph_*->", " GET P*"]).unwrap_or_default();
        }
        lines.push(form + store);
        if !store.is_empty() {
            lines.extend(["TYPE Y", "LRANGE Y 0 -1"].map(str::to_owned));
        }
    }
    lines.join("; ")
}

#[test]
fn thousands_of_elements_are_sorted_and_where_they_may_be_stored() {
    const ELEMENTS: usize = 3000;
    on_each(|stage| {
        let [x, y, z] = stage.keys();
        let p = format!("{x}:");
        let mut client = stage.client();
        let all: Vec<String> = (0..ELEMENTS).map(|n| n.to_string()).collect();
        client.must_int(&format!("RPUSH {x} {}", all.join(" ")), ELEMENTS as i64);
        let pairs: Vec<String> = (0..ELEMENTS).map(|n| format!("{p}w_{n} {}", ELEMENTS - n)).collect();
        pairs.chunks(500).for_each(|pairs| client.must_ok(&format!("MSET {}", pairs.join(" "))));
        let backwards: Vec<&String> = all.iter().rev().collect();
        client.must_reply(&format!("SORT {x} BY {p}w_*"), Reply::array(backwards.iter().map(|n| n.as_str())));
        client.must_reply(&format!("SORT {x} BY {p}w_* LIMIT 1 2 GET {p}w_*"), Reply::array(["2", "3"]));
        match stage.is_static() {
            true => {
                client.must_int(&format!("SORT {x} BY {p}w_* STORE {y}"), ELEMENTS as i64);
                client.must_reply(&format!("LRANGE {y} 0 -1"), Reply::array(backwards.iter().map(|n| n.as_str())));
                let more: Vec<String> = (0..30_000).map(|n| n.to_string()).collect();
                client.must_int(&format!("SADD {z} {}", more.join(" ")), 30_000);
                client.must_err(&format!("SORT {z} BY {p}w_* STORE {y}"), "ERR the command reads more than 8192 keys of one shard");
                client.must_int(&format!("LLEN {y}"), ELEMENTS as i64);
            }
            // Each slot would have to be watched on a connection of its own.
            false => drop(client.must_err(&format!("SORT {x} BY {p}w_* STORE {y}"), "ERR the keys lie on more than 32 slots")),
        }
    });
}

#[test]
fn a_sort_sees_one_moment_and_stores_one() {
    const ELEMENTS: usize = 6;
    for mode in Mode::ALL {
        let shards = Shards::start(mode, Flavor::Redis, 3);
        let wefts = [Weft::start(&shards), Weft::start(&shards)];
        let weights: Vec<String> = (0..ELEMENTS).map(|n| format!("w_{n}")).collect();
        let mut client = wefts[0].client();
        let elements: Vec<String> = (0..ELEMENTS).map(|n| n.to_string()).collect();
        client.must_int(&format!("RPUSH source {}", elements.join(" ")), ELEMENTS as i64);
        // Every weight of a generation begins with its number.
        let written = |generation: usize| {
            let weight = |n| if generation.is_multiple_of(2) { generation * 10 + n } else { generation * 10 + ELEMENTS - n };
            weights.iter().enumerate().map(|(n, key)| format!("{key} {}", weight(n))).collect::<Vec<_>>().join(" ")
        };
        client.must_ok(&format!("MSET {}", written(0)));
        let of_one_generation = |values: &[Reply]| {
            let numbers: Vec<usize> = values.iter().map(|value| value.text().unwrap().parse().unwrap()).collect();
            assert_eq!(numbers.len(), ELEMENTS);
            assert!(numbers.is_sorted() && numbers[0] / 10 == numbers[ELEMENTS - 1] / 10, "{numbers:?}");
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut writer = wefts[1].client();
                (1..60).for_each(|generation| writer.must_ok(&format!("MSET {}", written(generation))));
            });
            for (destination, weft) in wefts.iter().enumerate() {
                let of_one_generation = &of_one_generation;
                scope.spawn(move || {
                    let mut client = weft.client();
                    for turn in 0..20 {
                        let (sort, stores, multi) = ("SORT source BY w_* GET w_*", turn % 2 == 1, turn % 4 > 1);
                        let command = if stores { format!("{sort} STORE stored:{destination}") } else { sort.to_owned() };
                        if multi {
                            client.must_ok("MULTI");
                        }
                        let reply = match client.call(&command) {
                            Reply::Simple(_) => match client.call("EXEC") {
                                Reply::Array(replies) => replies[0].clone(),
                                other => other,
                            },
                            other => other,
                        };
                        match reply {
                            Reply::Array(values) => of_one_generation(&values),
                            Reply::Integer(count) => {
                                assert_eq!(count, ELEMENTS as i64);
                                of_one_generation(client.call(&format!("LRANGE stored:{destination} 0 -1")).items().unwrap());
                            }
                            Reply::Error(error) => assert!(error.starts_with("LOCKWAIT"), "{error}"),
                            other => panic!("{other:?}"),
                        }
                    }
                });
            }
        });
        let left: Vec<_> = shards.internal_keys().into_iter().filter(|(_, name)| name.contains("x:") || name.contains("s:")).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_shard_that_is_known_to_have_all_keys_sorts_by_itself_unless_something_is_locked() {
    for count in [1, 3] {
        let shards = Shards::fixed(Flavor::Redis, count);
        let weft = Weft::setup(&shards).set("transactions.lock_wait_timeout_ms", 300).set("transactions.lease_ms", 60_000).start();
        let mut client = weft.client();
        client.must_int("RPUSH {t}list a b", 2);
        client.must_ok("MSET {t}w_a 2 {t}w_b 1");
        let sorted = Reply::array(["b", "a"]);
        let mut shard = shards.servers()[shards.shard_of("{t}")].client();
        let mut calls = move || {
            let stats = shard.call("INFO commandstats").text().unwrap();
            let count = |line: &str| line.strip_prefix("cmdstat_sort:calls=")?.split(',').next()?.parse::<u32>().ok();
            stats.lines().find_map(count).unwrap_or(0)
        };
        // The connection for that is made ready while the first commands go the longer way.
        eventually(PATIENCE, "the shard sorts by itself", || {
            client.must_reply("SORT {t}list BY {t}w_*", sorted.clone());
            calls() > 0
        });
        let before = calls();
        client.must_int("SORT {t}list BY {t}w_* STORE {t}stored", 2);
        assert_eq!(calls(), before + 1);
        client.must_reply("LRANGE {t}stored 0 -1", sorted.clone());
        shards.lock("{t}w_a", "1-1-1-1", 9_999_999_999_999);
        client.must_err("SORT {t}list BY {t}w_*", "LOCKWAIT");
        client.must_err("SORT {t}list BY {t}w_* STORE {t}stored", "LOCKWAIT");
        client.must_reply("SORT {t}list BY {t}v_* ALPHA", Reply::array(["a", "b"]));
        shards.unlock("{t}w_a", "1-1-1-1");
        client.must_reply("SORT {t}list BY {t}w_*", sorted.clone());
    }
}

#[test]
fn it_is_refused_where_it_cannot_be_carried_out() {
    on_each(|stage| {
        let [x, y, p] = stage.keys();
        let mut client = stage.client();
        client.must_int(&format!("RPUSH {x} a __weft:x:b"), 2);
        client.must_ok(&format!("SET {p}a {}", "1".repeat(1200)));
        client.must_err(&format!("SORT {x} GET {p}* STORE __weft:a"), "ERR keys that begin with '__weft:'");
        client.must_err(&format!("SORT __weft:a GET {p}*"), "ERR keys that begin with '__weft:'");
        client.must_reply(&format!("SORT {x} BY nosort GET *"), Reply::Array(vec![Reply::Nil, Reply::Nil]));
        let small = Weft::setup(stage.shards()).set("transactions.compute_bytes_max", 1024).start();
        let too_many = "ERR the keys lie on several shards and hold too many bytes";
        small.client().must_err(&format!("SORT {x} BY nosort GET {p}*"), too_many);
        small.client().must_err(&format!("SORT {x} BY nosort GET {p}* STORE {y}"), too_many);
        let reject = Weft::setup(stage.shards()).set("transactions.multi_key", "reject").start();
        reject.client().must_err(&format!("SORT {x} BY {p}*"), "CROSSSLOT");
        for (weft, destination, error) in [(stage.weft(), "__weft:a", "ERR keys that begin with '__weft:'"), (&reject, &y, "CROSSSLOT")] {
            let mut client = weft.client();
            client.must_ok("MULTI");
            client.must_err(&format!("SORT {x} BY {p}* STORE {destination}"), error);
            client.must_err("EXEC", "EXECABORT");
        }
        let mut client = small.client();
        client.must_ok("MULTI");
        client.must_reply(&format!("SORT {x} BY nosort GET {p}*"), Reply::Simple("QUEUED".into()));
        client.must_err("EXEC", too_many);
    });
}

/// weft answers `lines` as the server alone does; `P` at the beginning of a word stands for a prefix that no other test uses.
#[track_caller]
fn agree(stage: &Stage<'_>, lines: &str) {
    let prefix = stage.keys().concat();
    let word = |word: &str| word.strip_prefix('P').map_or(word.to_owned(), |rest| format!("{prefix}{rest}")).into_bytes();
    let commands: Vec<Vec<Vec<u8>>> = lines.split(';').map(|line| line.split_whitespace().map(word).collect()).collect();
    stage.must_agree_on(&commands);
}
