//! Clients that move between the workers of a weft: `WEFT_ROVING` has each of them move on about ten times a second, in the middle of
//! whatever it does, and nobody may be able to tell.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::{Client, Flavor, Mode, PATIENCE, Reply, Shards, Weft, encode, eventually};

fn roving(shards: &Shards) -> Weft {
    Weft::setup(shards).env("WEFT_ROVING", "1").start()
}

/// How often clients have moved.
fn moves(client: &mut Client) -> u64 {
    let info = client.call("INFO weft").text().expect("a text");
    info.lines().find_map(|line| line.strip_prefix("clients_moved:")).expect("the counter").parse().unwrap()
}

/// Goes on with `step` until clients have moved `count` times.
fn until_moved(weft: &Weft, count: u64, mut step: impl FnMut(usize)) {
    let mut teller = weft.client();
    let goal = moves(&mut teller) + count;
    let mut steps = 0..;
    eventually(3 * PATIENCE, "clients move", || {
        (0..20).for_each(|_| step(steps.next().unwrap()));
        moves(&mut teller) >= goal
    });
}

#[test]
fn a_client_that_moves_is_answered_in_order_and_keeps_all_that_it_has_said_of_itself() {
    let shards = Shards::start(Mode::Static, Flavor::Redis, 3);
    let weft = roving(&shards);
    let mut client = weft.client_resp3();
    client.must_ok("SELECT 3");
    client.must_ok("CLIENT SETNAME rover");
    let id = client.call("CLIENT ID");
    let mut sum = 0;
    until_moved(&weft, 30, |step| {
        // The last request of each write is cut in two, so that some moves find a part of it.
        let mut bytes: Vec<u8> = ["n:1", "n:2", "n:3"].iter().flat_map(|key| encode(&["INCR", key])).collect();
        bytes.extend(encode("CLIENT GETNAME"));
        let (head, tail) = bytes.split_at(bytes.len() - 1 - step % 20);
        client.send_raw(head);
        sum += 1;
        (0..3).for_each(|_| assert_eq!(client.receive(), Reply::Integer(sum)));
        client.send_raw(tail);
        assert_eq!(client.receive(), Reply::from("rover"));
    });
    assert_eq!(client.call("CLIENT ID"), id);
    let line = client.call("CLIENT INFO").text().unwrap();
    assert!(line.contains(" name=rover ") && line.contains(" db=3 ") && line.contains(" resp=3 "), "{line}");
    let listed = weft.client().call("CLIENT LIST TYPE normal").text().unwrap();
    assert_eq!(listed.matches(" name=rover ").count(), 1, "{listed}");
}

#[test]
fn clients_that_always_have_something_in_flight_move_too() {
    let shards = Shards::start(Mode::Static, Flavor::Redis, 3);
    let weft = roving(&shards);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pipelines: Vec<_> = (0..4)
            .map(|number| {
                let (weft, stop) = (&weft, &stop);
                scope.spawn(move || {
                    let key = format!("count:{number}");
                    let mut client = weft.client();
                    (0..64).for_each(|_| client.send(&["INCR", &key]));
                    let mut count = 0;
                    while !stop.load(Ordering::Relaxed) {
                        count += 1;
                        assert_eq!(client.receive(), Reply::Integer(count));
                        client.send(&["INCR", &key]);
                    }
                    (1..=64).for_each(|more| assert_eq!(client.receive(), Reply::Integer(count + more)));
                })
            })
            .collect();
        let mut teller = weft.client();
        eventually(3 * PATIENCE, "clients move", || {
            // Four move ten times for each one of this client's.
            moves(&mut teller) >= 100 || pipelines.iter().any(|pipeline| pipeline.is_finished())
        });
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn who_watches_or_queues_stays_until_exec_and_transactions_are_whole() {
    let shards = Shards::start(Mode::Static, Flavor::Redis, 3);
    let weft = roving(&shards);
    let [from, to] = [0, 1].map(|index| shards.key_on(index, "account"));
    let mut client = weft.client();
    client.must_ok(&["MSET", &from, "1000000", &to, "0"]);
    let mut moved = 0;
    until_moved(&weft, 30, |_| {
        client.must_ok(&["WATCH", &from]);
        client.must_bulk(&["GET", &from], &(1_000_000 - moved).to_string());
        client.must_ok("MULTI");
        client.must_queue(&["DECR", &from]);
        client.must_queue(&["INCR", &to]);
        moved += 1;
        assert_eq!(client.call("EXEC"), Reply::Array(vec![Reply::Integer(1_000_000 - moved), Reply::Integer(moved)]));
    });
    // Somebody else's write is seen by whoever watches, wherever that one is by now.
    client.must_ok(&["WATCH", &to]);
    weft.client().must_ok(&["SET", &to, "changed"]);
    client.must_ok("MULTI");
    client.must_queue(&["SET", &to, "lost"]);
    client.must_reply("EXEC", Reply::NilArray);
}

#[test]
fn news_for_another_client_find_it_wherever_it_has_moved_to() {
    let shards = Shards::start(Mode::Static, Flavor::Redis, 3);
    let weft = roving(&shards);
    let (mut told, mut keeper, mut writer) = (weft.client_resp3(), weft.client(), weft.client());
    let Reply::Integer(id) = told.call("CLIENT ID") else { panic!("an id") };
    keeper.must_ok(&format!("CLIENT TRACKING ON REDIRECT {id}"));
    until_moved(&weft, 60, |step| {
        let (key, value) = (format!("kept:{}", step % 7), step.to_string());
        writer.must_ok(&["SET", &key, &value]);
        keeper.must_bulk(&["GET", &key], &value);
        writer.must_ok(&["SET", &key, "changed"]);
        // It moves only when it has something to do; the news come before or after that.
        told.send("PING");
        let mut heard = [told.receive(), told.receive()];
        heard.sort_by_key(|reply| matches!(reply, Reply::Push(_)));
        let news = Reply::Push(vec!["invalidate".into(), Reply::array([key.as_str()])]);
        assert_eq!(heard, [Reply::Simple("PONG".into()), news]);
    });
}

#[test]
fn few_clients_are_with_one_worker() {
    let shards = Shards::start(Mode::Static, Flavor::Redis, 1);
    let weft = Weft::setup(&shards).set("spread", "packed").start();
    let mut clients: Vec<Client> = (0..16).map(|_| weft.client()).collect();
    clients.iter_mut().for_each(|client| client.must_nil("GET k"));
    // Each worker that has something to ask a shard has a connection of its own.
    let connections = shards.servers()[0].client().call("CLIENT LIST").text().unwrap();
    assert_eq!(connections.lines().filter(|line| line.contains(" cmd=get ")).count(), 1, "{connections}");
}
