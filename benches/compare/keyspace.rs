//! The keys: what they are called, which shard holds which, and how an operation draws its two.

use anyhow::bail;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::load::random::Random;
use crate::operation::Draw;

/// The length of every key: a prefix and twelve digits, as redis-benchmark names them.
pub(crate) const KEY_BYTES: usize = PREFIX.len() + DIGITS;
const PREFIX: &[u8] = b"key:";
const DIGITS: usize = 12;

/// How many SETs of the first fill are in flight.
const FILL_CHUNK: usize = 500;

/// The key numbered `id`.
pub(crate) fn key(id: u32) -> [u8; KEY_BYTES] {
    let mut key = [b'0'; KEY_BYTES];
    key[..PREFIX.len()].copy_from_slice(PREFIX);
    let mut rest = id;
    for digit in key[PREFIX.len()..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    key
}

/// Which shard holds which keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Placement {
    shards: Vec<Vec<u32>>,
}

impl Placement {
    /// All of `keys` keys on one shard.
    pub(crate) fn on_one_server(keys: u32) -> Self {
        Self { shards: vec![(0..keys).collect()] }
    }

    /// Asks every shard which keys it holds. Whatever hash a proxy uses, this is what it did.
    pub(crate) fn learn(shards: &mut [Client], keys: u32) -> anyhow::Result<Self> {
        let mut placement = Self { shards: Vec::with_capacity(shards.len()) };
        for shard in shards {
            let names: Vec<String> = shard.call_as(&["KEYS", "key:*"])?;
            placement.shards.push(names.iter().filter_map(|name| name.strip_prefix("key:")?.parse().ok()).collect());
        }
        let found: usize = placement.shards.iter().map(Vec::len).sum();
        if found != keys as usize || placement.shards.iter().any(|shard| shard.len() < 2) {
            bail!("of {keys} keys the shards hold {:?}", placement.shards.iter().map(Vec::len).collect::<Vec<_>>());
        }
        Ok(placement)
    }

    /// Whether keys of two shards can be drawn.
    pub(crate) fn allows(&self, draw: Draw) -> bool {
        let needed = match draw {
            Draw::OneServer | Draw::SameShard => 1,
            Draw::TwoShards | Draw::HotKey | Draw::HotPair => 2,
            Draw::Apart(shards) => shards,
        };
        self.shards.len() >= needed
    }

    /// Fills `ids` with the keys of operations of the connection `client`, of so many.
    pub(crate) fn draw(&self, draw: Draw, (client, clients): (usize, usize), random: &mut Random, ids: &mut [u32]) {
        if let Draw::Apart(shards) = draw {
            return self.deal(shards, (client, clients), random, ids);
        }
        for pair in ids.chunks_exact_mut(2) {
            pair.copy_from_slice(&self.pair(draw, random));
        }
    }

    /// Two different keys, both on one shard or on two.
    fn pair(&self, draw: Draw, random: &mut Random) -> [u32; 2] {
        if draw == Draw::HotPair {
            return [self.shards[0][0], self.shards[1][0]];
        }
        if draw == Draw::HotKey {
            let cold = &self.shards[1];
            return [self.shards[0][0], cold[random.below(cold.len())]];
        }
        let first = random.below(self.shards.len());
        let second = match draw {
            Draw::TwoShards => (first + 1 + random.below(self.shards.len() - 1)) % self.shards.len(),
            Draw::OneServer | Draw::SameShard | Draw::HotKey | Draw::HotPair | Draw::Apart(_) => first,
        };
        let (ours, theirs) = (&self.shards[first], &self.shards[second]);
        let place = random.below(ours.len());
        // Within one shard, a step of at least one leads to another key.
        let step = 1 + random.below(theirs.len() - 1);
        [ours[place], theirs[(place + step) % theirs.len()]]
    }

    /// Keys in a row from anywhere in this connection's part of each of `shards` shards, to each shard in turn.
    fn deal(&self, shards: usize, (client, clients): (usize, usize), random: &mut Random, ids: &mut [u32]) {
        let start = random.below(u16::MAX.into());
        for (index, id) in ids.iter_mut().enumerate() {
            let shard = &self.shards[(client + index % shards) % self.shards.len()];
            let part = &shard[shard.len() * client / clients..shard.len() * (client + 1) / clients];
            let part = if part.is_empty() { shard } else { part };
            *id = part[(start + index / shards) % part.len()];
        }
    }
}

/// Sets every key to a value of `value_bytes` bytes.
pub(crate) fn fill(client: &mut Client, keys: u32, value_bytes: usize) -> anyhow::Result<()> {
    let value = vec![b'x'; value_bytes];
    let ids: Vec<u32> = (0..keys).collect();
    for chunk in ids.chunks(FILL_CHUNK) {
        let mut requests = Vec::with_capacity(chunk.len() * (value_bytes + 64));
        for &id in chunk {
            requests.extend(redis::cmd("SET").arg(&key(id)[..]).arg(&value[..]).get_packed_command());
        }
        client.send(&requests)?;
        for _ in chunk {
            client.receive()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_numbered_in_twelve_digits() {
        assert_eq!(&key(0), b"key:000000000000");
        assert_eq!(&key(99_907), b"key:000000099907");
        assert_eq!(&key(u32::MAX), b"key:004294967295");
    }

    #[test]
    fn keys_are_drawn_from_the_shards_asked_for() {
        let placement = Placement { shards: vec![(0..10).collect(), (10..13).collect(), (13..15).collect()] };
        let shard_of = |id| placement.shards.iter().position(|shard| shard.contains(&id));
        let mut random = Random::new(1);
        let mut drawn = |draw| {
            let mut ids = [0; 2];
            placement.draw(draw, (0, 1), &mut random, &mut ids);
            ids
        };
        for _ in 0..1000 {
            let [a, b] = drawn(Draw::SameShard);
            assert!(a != b && shard_of(a) == shard_of(b), "{a} {b}");
            let [a, b] = drawn(Draw::TwoShards);
            assert!(shard_of(a) != shard_of(b), "{a} {b}");
            let [a, b] = drawn(Draw::HotKey);
            assert!(a == 0 && shard_of(b) == Some(1), "{a} {b}");
            assert_eq!(drawn(Draw::HotPair), [0, 10]);
        }
    }

    #[test]
    fn connections_with_parts_of_their_own_never_meet() {
        let placement = Placement { shards: vec![(0..40).collect(), (40..80).collect(), (80..120).collect()] };
        let mut random = Random::new(1);
        let mut owner = [None; 120];
        for round in 0..400 {
            let (client, mut ids) = (round % 4, [0; 6]);
            placement.draw(Draw::Apart(2), (client, 4), &mut random, &mut ids);
            let shards: Vec<u32> = ids.iter().map(|id| id / 40).collect();
            assert!(shards[0] != shards[1] && shards[..2] == shards[2..4] && shards[..2] == shards[4..], "{shards:?}");
            for id in ids {
                assert_eq!(*owner[id as usize].get_or_insert(client), client);
            }
            assert!(ids[0] != ids[2] && ids[2] != ids[4], "{ids:?}");
        }
    }

    #[test]
    fn one_server_has_no_two_shards() {
        assert!(!Placement::on_one_server(10).allows(Draw::HotPair));
        assert!(!Placement::on_one_server(10).allows(Draw::TwoShards));
        assert!(Placement::on_one_server(10).allows(Draw::SameShard));
    }
}
