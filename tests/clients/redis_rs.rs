//! redis-rs before weft, in RESP2 and RESP3; with threads, and with tokio.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt as _;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, AsyncTypedCommands, Connection, ConnectionLike, Direction, ErrorKind, RedisResult, Script, TypedCommands, Value,
};

use crate::support::{Stage, on_each};

/// The entries of a stream, with its name.
type OfStream = (String, Vec<(String, HashMap<String, String>)>);
/// What a stream's reader gets.
type Entries = Vec<OfStream>;

/// Longer than any test waits.
const LONG: Duration = Duration::from_secs(30);
const INCREMENT: &str = "return redis.call('INCRBY', KEYS[1], ARGV[1])";

/// Runs `check` with a client of each protocol version on every kind of shards.
fn before_weft(check: impl Fn(&redis::Client, [&str; 3])) {
    on_each(|stage| {
        for version in 2..=3 {
            check(&client(stage, version), stage.keys().each_ref().map(String::as_str));
        }
    });
}

fn client(stage: &Stage<'_>, version: u8) -> redis::Client {
    redis::Client::open(format!("redis://{}/?protocol=resp{version}", stage.weft().address())).unwrap()
}

fn connected(client: &redis::Client) -> Connection {
    let connection = client.get_connection().unwrap();
    connection.set_read_timeout(Some(LONG)).unwrap();
    connection
}

#[test]
fn redis_rs_shakes_hands() {
    for version in 2..=3 {
        on_each(|stage| {
            let mut r = connected(&client(stage, version));
            assert!(r.check_connection());
            redis::cmd("CLIENT").arg(&["SETNAME", "matrix"]).exec(&mut r).unwrap();
            let info: String = redis::cmd("CLIENT").arg("INFO").query(&mut r).unwrap();
            for field in ["name=matrix".to_owned(), "lib-name=redis-rs".to_owned(), format!("resp={version}")] {
                assert!(info.split_whitespace().any(|word| word == field), "{info}");
            }
            let info: String = redis::cmd("INFO").arg("server").query(&mut r).unwrap();
            assert!(info.contains("redis_version:"), "{info}");
        });
    }
}

#[test]
fn redis_rs_has_every_type() {
    before_weft(|client, [x, y, z]| {
        let mut r = connected(client);
        strings_hashes_and_lists(&mut r, [x, y, z]).unwrap();
        sets_streams_and_the_rest(&mut r, [x, y, z]).unwrap();
    });
}

fn strings_hashes_and_lists(r: &mut Connection, [x, y, z]: [&str; 3]) -> RedisResult<()> {
    r.set_ex(x, "value", 100)?;
    assert!(r.ttl(x)?.raw() > 90);
    r.set(y, b"\0\r\n\xff")?;
    assert_eq!(redis::cmd("GET").arg(y).query::<Vec<u8>>(r)?, b"\0\r\n\xff");
    r.mset(&[(x, 1), (y, 2)])?;
    assert_eq!(r.mget(&[x, y, z])?, [Some("1".to_owned()), Some("2".to_owned()), None]);
    assert_eq!(redis::cmd("INCRBYFLOAT").arg(x).arg(0.5).query::<f64>(r)?, 1.5);
    assert_eq!(r.del(&[x, y, z])?, 2);

    r.hset_multiple(x, &[("a", 1), ("b", 2)])?;
    assert_eq!(r.hgetall(x)?, [("a", "1"), ("b", "2")].map(|(field, value)| (field.to_owned(), value.to_owned())).into());
    assert_eq!(r.hincr(x, "a", 5)?, 6.0);
    assert_eq!(r.rpush(y, &["a", "b", "c"])?, 3);
    assert_eq!(r.lmove(y, z, Direction::Left, Direction::Right)?, "a");
    assert_eq!([r.lrange(y, 0, -1)?, r.lrange(z, 0, -1)?], [vec!["b", "c"], vec!["a"]]);
    assert_eq!(r.del(&[x, y, z])?, 3);
    Ok(())
}

fn sets_streams_and_the_rest(r: &mut Connection, [x, y, z]: [&str; 3]) -> RedisResult<()> {
    assert_eq!(r.sadd(x, &["a", "b"])? + r.sadd(y, &["b", "c"])?, 4);
    assert_eq!(r.sinter(&[x, y])?, HashSet::from(["b".to_owned()]));
    assert_eq!(r.sunionstore(z, &[x, y])?, 3);
    assert!(r.sismember(z, "c")?);
    assert_eq!(r.del(&[x, y, z])?, 3);

    assert_eq!(r.zadd(x, "a", 1)? + r.zadd(x, "b", 2.5)?, 2);
    assert_eq!(r.zrange_withscores(x, 0, -1)?, [("a".to_owned(), 1.0), ("b".to_owned(), 2.5)]);
    redis::cmd("XADD").arg(&[y, "1-1", "field", "value"]).exec(r)?;
    redis::cmd("XADD").arg(&[z, "2-1", "other", "shard"]).exec(r)?;
    let read: Entries = redis::cmd("XREAD").arg(&["STREAMS", y, z, "0", "0"]).query(r)?;
    assert_eq!(read, [entry(y, "1-1", ["field", "value"]), entry(z, "2-1", ["other", "shard"])]);
    redis::cmd("XGROUP").arg(&["CREATE", y, "group", "0"]).exec(r)?;
    let read: Entries = redis::cmd("XREADGROUP").arg(&["GROUP", "group", "me", "STREAMS", y, ">"]).query(r)?;
    assert_eq!(read, [entry(y, "1-1", ["field", "value"])]);
    assert_eq!(redis::cmd("XACK").arg(&[y, "group", "1-1"]).query::<usize>(r)?, 1);
    assert_eq!(r.del(&[x, y, z])?, 3);

    assert!(!r.setbit(x, 7, true)?);
    assert_eq!(r.bitcount(x)?, 1);
    assert!(r.pfadd(y, &["a", "b"])? && r.pfadd(z, &["b", "c"])?);
    assert_eq!(r.pfcount(&[y, z])?, 3);
    let found: HashSet<String> = r.scan_match(format!("{x}*"))?.collect::<RedisResult<_>>()?;
    assert!(found.contains(x));
    assert_eq!(r.del(&[x, y, z])?, 3);
    assert_eq!(redis::cmd("GEOADD").arg(&[x, "13.361", "38.115", "Palermo"]).query::<usize>(r)?, 1);
    let near: Vec<String> = redis::cmd("GEOSEARCH").arg(&[x, "FROMLONLAT", "13", "38", "BYRADIUS", "100", "km"]).query(r)?;
    assert_eq!(near, ["Palermo"]);
    Ok(())
}

fn entry(stream: &str, id: &str, field: [&str; 2]) -> OfStream {
    let [name, value] = field.map(str::to_owned);
    (stream.to_owned(), vec![(id.to_owned(), [(name, value)].into())])
}

#[test]
fn redis_rs_pipelines_and_transactions_span_shards() {
    before_weft(|client, [x, y, z]| {
        let mut r = connected(client);
        let replies: (String, i64, i64, HashMap<String, String>, [i64; 2]) =
            redis::pipe().atomic().set(x, 1).incr(y, 1).hset(z, "a", 1).hgetall(z).mget(&[x, y]).query(&mut r).unwrap();
        assert_eq!(replies, ("OK".to_owned(), 1, 1, [("a".to_owned(), "1".to_owned())].into(), [1, 1]));
        // An error of one command is the result, and the others are applied all the same.
        let error = redis::pipe().atomic().incr(x, 1).lpush(x, "a").incr(y, 1).query::<Value>(&mut r).unwrap_err();
        assert!(error.to_string().contains("WRONGTYPE"), "{error}");
        // What cannot be queued aborts everything.
        let error = redis::pipe().atomic().incr(x, 1).cmd("GET").incr(y, 1).query::<Value>(&mut r).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Server(redis::ServerErrorKind::ExecAbort), "{error}");
        assert_eq!(r.mget(&[x, y]).unwrap(), [Some("2".to_owned()), Some("2".to_owned())]);

        let (mut other, mut attempts) = (connected(client), 0);
        let moved: (i64, i64) = redis::transaction(&mut r, &[x, y], |r, transaction| {
            let values = TypedCommands::mget(r, &[x, y])?;
            attempts += 1;
            if attempts == 1 {
                other.set(y, 7)?;
            }
            let next = |value: &Option<String>| value.as_deref().unwrap().parse::<i64>().unwrap() + 1;
            transaction.set(x, next(&values[0])).ignore().set(y, next(&values[1])).ignore().get(x).get(y).query(r)
        })
        .unwrap();
        assert_eq!((moved, attempts), ((3, 8), 2));

        let mut pipeline = redis::pipe();
        r.del(&[x, y, z]).unwrap();
        (0..300).for_each(|n| _ = pipeline.incr([x, y, z][n % 3], 1));
        let counts: Vec<usize> = pipeline.query(&mut r).unwrap();
        assert_eq!(counts, (0..300).map(|n| n / 3 + 1).collect::<Vec<_>>());
    });
}

#[test]
fn redis_rs_publishes_and_subscribes() {
    before_weft(|client, [x, y, z]| {
        let (mut r, mut listening) = (connected(client), connected(client));
        let mut subscriber = listening.as_pubsub();
        subscriber.subscribe(x).unwrap();
        subscriber.psubscribe(format!("{y}:*")).unwrap();
        assert_eq!(r.publish(x, "one").unwrap(), 1);
        assert_eq!(r.publish(format!("{y}:a"), "two").unwrap(), 1);
        let replies: [usize; 2] = redis::pipe().atomic().publish(x, "three").incr(z, 1).query(&mut r).unwrap();
        assert_eq!(replies, [1, 1]);
        let mut heard = [(); 3].map(|()| {
            let message = subscriber.get_message().unwrap();
            (message.get_channel_name().to_owned(), message.get_payload::<String>().unwrap())
        });
        heard.sort();
        let mut said =
            [(x.to_owned(), "one"), (x.to_owned(), "three"), (format!("{y}:a"), "two")].map(|(name, text)| (name, text.to_owned()));
        said.sort();
        assert_eq!(heard, said);
        subscriber.unsubscribe(x).unwrap();
        drop(subscriber);
        assert!(listening.check_connection(), "it is an ordinary connection again");
    });
}

#[test]
fn redis_rs_waits_for_keys_of_several_shards() {
    before_weft(|client, [x, y, z]| {
        let (mut r, mut waiter) = (connected(client), connected(client));
        std::thread::scope(|scope| {
            let popped = scope.spawn(|| waiter.blpop(&[x, y, z], 20.0).unwrap());
            r.rpush(z, &["a", "b"]).unwrap();
            assert_eq!(popped.join().unwrap(), Some([z.to_owned(), "a".to_owned()]));
        });
        assert_eq!(waiter.blmove(z, x, Direction::Left, Direction::Left, 20.0).unwrap(), Some("b".to_owned()));
        assert_eq!(waiter.blpop(&[y, z], 0.05).unwrap(), None);
        std::thread::scope(|scope| {
            let popped = scope.spawn(|| waiter.bzpopmin(&[y, z], 20.0).unwrap());
            r.zadd(y, "m", 1.5).unwrap();
            assert_eq!(popped.join().unwrap(), Some((y.to_owned(), "m".to_owned(), 1.5)));
        });
        std::thread::scope(|scope| {
            let read =
                scope.spawn(|| redis::cmd("XREAD").arg(&["BLOCK", "20000", "STREAMS", y, z, "$", "0"]).query::<Entries>(&mut waiter));
            redis::cmd("XADD").arg(&[z, "1-1", "a", "b"]).exec(&mut r).unwrap();
            assert_eq!(read.join().unwrap().unwrap(), [entry(z, "1-1", ["a", "b"])]);
        });
    });
}

#[test]
fn redis_rs_runs_scripts() {
    before_weft(|client, [x, y, z]| {
        let (mut r, script) = (connected(client), Script::new(INCREMENT));
        let error = redis::cmd("EVALSHA").arg(&["0".repeat(40).as_str(), "1", x]).exec(&mut r).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Server(redis::ServerErrorKind::NoScript), "{error}");
        assert_eq!(script.key(x).arg(5).invoke::<i64>(&mut r).unwrap(), 5);
        let sums: [i64; 3] = redis::pipe()
            .atomic()
            .invoke_script(script.key(x).arg(1))
            .invoke_script(script.key(y).arg(2))
            .incr(z, 1)
            .query(&mut r)
            .unwrap();
        assert_eq!(sums, [6, 2, 1]);
    });
}

#[test]
fn redis_rs_with_tokio_shares_a_connection() {
    before_weft(|client, keys| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(with_tokio(client, keys)).unwrap();
    });
}

async fn with_tokio(client: &redis::Client, [x, y, z]: [&str; 3]) -> RedisResult<()> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(LONG));
    let r = client.get_multiplexed_async_connection_with_config(&config).await?;
    // Tasks that share the connection, whose transactions are written as one piece.
    let increments = (0..50).map(|_| {
        let mut shared = r.clone();
        async move { redis::pipe().atomic().incr(x, 1).incr(y, 1).query_async::<[i64; 2]>(&mut shared).await }
    });
    let mut counts = futures::future::try_join_all(increments).await?;
    counts.sort_unstable();
    assert_eq!(counts, (1..=50).map(|n| [n, n]).collect::<Vec<_>>());

    let mut other = client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut attempts = 0;
    let next = redis::aio::transaction_async(r.clone(), &[x, y], |mut r: MultiplexedConnection, mut transaction| {
        attempts += 1;
        let (mut other, first) = (other.clone(), attempts == 1);
        async move {
            let value: i64 = redis::cmd("GET").arg(x).query_async(&mut r).await?;
            if first {
                other.set(y, "theirs").await?;
            }
            transaction.set(x, value + 1).ignore().set(y, value + 1).ignore().get(y).query_async::<Option<(i64,)>>(&mut r).await
        }
    })
    .await?;
    assert_eq!((next, attempts), ((51,), 2));

    let (mut sink, mut messages) = client.get_async_pubsub().await?.split();
    sink.subscribe(x).await?;
    assert_eq!(other.publish(x, "text").await?, 1);
    assert_eq!(messages.next().await.map(|message| message.get_payload::<String>()), Some(Ok("text".to_owned())));

    let (mut waiter, keys) = (other, [y, z]);
    let mut pushing = r;
    pushing.del(&keys).await?;
    let (popped, pushed) = futures::join!(waiter.blpop(&keys, 20.0), pushing.rpush(z, "a"));
    assert_eq!((popped?, pushed?), (Some([z.to_owned(), "a".to_owned()]), 1));
    assert_eq!(Script::new(INCREMENT).key(z).arg(5).invoke_async::<i64>(&mut pushing).await?, 5);
    Ok(())
}
