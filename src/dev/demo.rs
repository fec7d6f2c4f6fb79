//! What the proxy is for, on real shards: tellers move money between accounts on different shards, each transfer a WATCH, two GETs and a
//! MULTI of two writes. The accounts are then read from the shards themselves, past weft.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use redis::aio::MultiplexedConnection;
use tokio::time::{Instant, sleep};

use super::shards::Shards;
use crate::node_addr::NodeAddr;
use crate::slot::Slot;
use crate::topology::share;

/// An account and the shard that its key belongs to.
#[derive(Clone, Debug)]
pub(super) struct Account {
    key: String,
    shard: NodeAddr,
}

/// One account for each shard.
pub(super) fn accounts(shards: &Shards) -> Vec<Account> {
    let count = shards.addresses().len();
    let on = |index: usize| {
        let slots = share(index, count)?;
        (1..).map(|number| format!("account:{number}")).find(|key| slots.contains(&(Slot::of(key.as_bytes()).index() as u16)))
    };
    shards.addresses().enumerate().filter_map(|(index, shard)| Some(Account { key: on(index)?, shard })).collect()
}

/// Waits until weft serves on `listen`, runs the demonstration if there are `accounts`, and tells how to connect.
pub(super) async fn accompany(listen: SocketAddr, accounts: Option<Vec<Account>>) -> anyhow::Result<()> {
    must_serve(listen).await?;
    let outcome = match accounts {
        Some(accounts) => demonstrate(listen, &accounts).await,
        None => Ok(()),
    };
    if let Err(error) = &outcome {
        eprintln!("the demonstration failed: {error:#}");
    }
    let host = if listen.ip().to_string() == "127.0.0.1" { String::new() } else { format!("-h {} ", listen.ip()) };
    println!("weft is serving: redis-cli {host}-p {}", listen.port());
    outcome
}

async fn demonstrate(listen: SocketAddr, accounts: &[Account]) -> anyhow::Result<()> {
    ensure!(accounts.len() >= 2, "money moves between two shards at least; start more with --shards");
    let mut weft = connect(&listen.to_string()).await?;
    for account in accounts {
        let () = redis::cmd("SET").arg(&account.key).arg(OPENING_BALANCE).query_async(&mut weft).await?;
    }
    println!("\n{TELLERS} clients make {TRANSFERS} transfers each: WATCH from to, GET, GET, MULTI, SET from, SET to, EXEC");
    let before = show("before", accounts).await?;
    let started = Instant::now();
    let tellers = (0..TELLERS).map(|teller| tell(listen, accounts, teller));
    let retries: u64 = futures::future::try_join_all(tellers).await?.into_iter().sum();
    let millis = started.elapsed().as_millis();
    let after = show("after", accounts).await?;
    ensure!(before == after, "the total was {before} and is {after}");
    println!("total {before} before, {after} after: unchanged by {} transfers in {millis} ms,", TELLERS * TRANSFERS);
    println!("{retries} of them tried again because a watched account had changed\n");
    Ok(())
}

/// One client's transfers; returns how often it had to try again.
async fn tell(listen: SocketAddr, accounts: &[Account], teller: usize) -> anyhow::Result<u64> {
    // WATCH belongs to a connection, so each teller has its own.
    let mut weft = connect(&listen.to_string()).await?;
    let mut retries = 0;
    for transfer in 0..TRANSFERS {
        // Every pair in both directions, each teller at another one; there are at least two accounts.
        let (turn, count) = (teller + transfer, accounts.len());
        let apart = 1 + turn / count % (count - 1);
        let (from, to) = (&accounts[turn % count].key, &accounts[(turn + apart) % count].key);
        let amount = i64::try_from(turn % 7 + 1)?;
        let deadline = Instant::now() + PATIENCE;
        while !transfer_once(&mut weft, from, to, amount).await? {
            ensure!(Instant::now() < deadline, "a transfer does not succeed within {PATIENCE:?}");
            retries += 1;
        }
    }
    Ok(retries)
}

/// Whether EXEC was done; not if a watched account changed meanwhile.
async fn transfer_once(weft: &mut MultiplexedConnection, from: &str, to: &str, amount: i64) -> anyhow::Result<bool> {
    let () = redis::cmd("WATCH").arg(from).arg(to).query_async(weft).await?;
    let from_balance: i64 = redis::cmd("GET").arg(from).query_async(weft).await?;
    let to_balance: i64 = redis::cmd("GET").arg(to).query_async(weft).await?;
    let mut exec = redis::pipe();
    exec.atomic().cmd("SET").arg(from).arg(from_balance - amount).cmd("SET").arg(to).arg(to_balance + amount);
    let done: Option<(String, String)> = exec.query_async(weft).await?;
    Ok(done.is_some())
}

/// Prints every account as its shard has it and returns the total.
async fn show(when: &str, accounts: &[Account]) -> anyhow::Result<i64> {
    println!("{when}, asked from the shards themselves:");
    let mut total = 0;
    for account in accounts {
        let mut shard = connect(&account.shard.to_string()).await?;
        let balance: i64 = redis::cmd("GET").arg(&account.key).query_async(&mut shard).await?;
        println!("  {}  {:<12} {balance:>5}", account.shard, account.key);
        total += balance;
    }
    Ok(total)
}

async fn must_serve(listen: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = match connect(&listen.to_string()).await {
            Ok(mut weft) => match redis::cmd("PING").query_async::<String>(&mut weft).await {
                Ok(_) => return Ok(()),
                Err(error) => anyhow::Error::from(error),
            },
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            bail!("weft does not serve on {listen}: {error:#}");
        }
        sleep(POLL).await;
    }
}

async fn connect(address: &str) -> anyhow::Result<MultiplexedConnection> {
    let client = redis::Client::open(format!("redis://{address}"))?;
    client.get_multiplexed_async_connection().await.with_context(|| format!("no connection to {address}"))
}

const TELLERS: usize = 4;
const TRANSFERS: usize = 50;
const OPENING_BALANCE: i64 = 100;
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::dev::ShardOptions;
    use crate::topology::Mode;

    #[tokio::test]
    async fn each_shard_has_an_account_of_its_own() {
        let shards = Shards::start(&ShardOptions::new(2, Mode::Static)).await.unwrap();
        let accounts = accounts(&shards);
        let slots: Vec<bool> = accounts.iter().map(|account| Slot::of(account.key.as_bytes()).index() < 8192).collect();
        assert_eq!(slots, [true, false]);
        assert_eq!(accounts[1].shard, shards.addresses().nth(1).unwrap());
    }

    #[tokio::test]
    async fn the_demonstration_holds_before_a_real_server() {
        let shards = Shards::start(&ShardOptions::new(1, Mode::Static)).await.unwrap();
        let shard = shards.addresses().next().unwrap();
        let account = |key: &str| Account { key: key.into(), shard: shard.clone() };
        let listen = shard.to_string().parse().unwrap();
        accompany(listen, Some(vec![account("a"), account("b"), account("c")])).await.unwrap();
        assert!(accompany(listen, Some(vec![account("a")])).await.is_err());
    }
}
