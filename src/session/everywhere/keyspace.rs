//! DBSIZE, KEYS, RANDOMKEY and SCAN: all keys of all shards, but for weft's own.
//!
//! KEYS and SCAN leave weft's keys out of what the shards answer; a page of SCAN may therefore be shorter than COUNT, or empty, which
//! clients know from Redis. SCAN keeps Redis's promise: a key that is there from the start of the scan to its end is returned, since
//! each shard keeps it and the scan visits every shard.
//!
//! DBSIZE is exact while a shard has up to [`COUNTED_KEYS_MAX`] keys: it then subtracts weft's own, counted in the same step. Looking
//! through more of them would stop the shard for longer than anybody expects of DBSIZE; the sum then includes weft's keys, which are
//! there for each transaction over several shards while it runs and some seconds after it.
//!
//! RANDOMKEY picks a shard by its size, then a key there, again and again while that is one of weft's own.

use bytes::{Bytes, BytesMut};

use super::cursor::Cursor;
use super::error;
use crate::command::Survey;
use crate::resp::{ReplyWriter, Request, Value, elements, error_reply};
use crate::route;
use crate::session::Session;
use crate::topology::ShardId;
use crate::txn::ExecError;

impl Session {
    /// The reply to a command about all keys.
    pub(super) async fn survey(&self, survey: Survey, request: &Request) -> Result<Bytes, ExecError> {
        match survey {
            Survey::Size => self.db_size().await,
            Survey::Names => self.names(request).await,
            Survey::Random => self.random_key().await,
            Survey::Scan => self.scan(request).await,
        }
    }

    async fn db_size(&self) -> Result<Bytes, ExecError> {
        let sizes = self.context.engine.every_shard(&size(), self.client.profile.db, self.client.proto()).await?;
        if let Some(error) = sizes.iter().find(|reply| route::is_error(reply)) {
            return Ok(error.clone());
        }
        Ok(self.write(|writer| writer.integer(sizes.iter().map(integer).sum())))
    }

    async fn names(&self, request: &Request) -> Result<Bytes, ExecError> {
        let replies = self.context.engine.every_shard(request, self.client.profile.db, self.client.proto()).await?;
        if let Some(error) = replies.iter().find(|reply| route::is_error(reply)) {
            return Ok(error.clone());
        }
        let mut names: Vec<Bytes> = Vec::new();
        replies.iter().for_each(|reply| names.extend(users_own(reply)));
        Ok(self.write_names(BytesMut::new(), &names))
    }

    async fn random_key(&self) -> Result<Bytes, ExecError> {
        let (engine, db, proto) = (&self.context.engine, self.client.profile.db, self.client.proto());
        for _ in 0..RANDOM_ATTEMPTS_MAX {
            let sizes: Vec<i64> = engine.every_shard(&size(), db, proto).await?.iter().map(integer).collect();
            let total: i64 = sizes.iter().sum();
            if total <= 0 {
                break;
            }
            let Some(shard) = pick(&sizes, fastrand::i64(0..total)) else { break };
            let name = engine.one_shard(shard, &Request::new(&["EVAL", RANDOM, "0"]), db, proto).await?;
            if !matches!(Value::parse(&name), Ok(Value::Null)) {
                return Ok(name);
            }
        }
        Ok(self.write(|writer| writer.null()))
    }

    async fn scan(&self, request: &Request) -> Result<Bytes, ExecError> {
        let Some(cursor) = Cursor::parse(request.arg(1)) else { return error(error_reply::INVALID_CURSOR) };
        let shards: Vec<ShardId> = self.context.upstreams.map().ids().collect();
        let Some(&shard) = shards.get(cursor.shard) else { return Ok(self.page(Cursor::default(), &[])) };
        let position = cursor.position.to_string();
        let mut words: Vec<&[u8]> = vec![b"SCAN", position.as_bytes()];
        words.extend(request.args_from(2));
        let reply = self.context.engine.one_shard(shard, &Request::new(&words), self.client.profile.db, self.client.proto()).await?;
        if route::is_error(&reply) {
            return Ok(reply);
        }
        let parts = elements(&reply).ok().flatten().unwrap_or_default();
        let [next, names] = &parts[..] else { return Err(ExecError::Unreachable) };
        let next = Value::parse(next).ok().and_then(|next| std::str::from_utf8(next.text()?).ok()?.parse().ok());
        let next = cursor.advance(next.ok_or(ExecError::Unreachable)?, shards.len());
        let names: Vec<Bytes> = users_own(names).collect();
        if next.number().is_none() { error(error_reply::CURSOR_TOO_WIDE) } else { Ok(self.page(next, &names)) }
    }

    /// SCAN's reply.
    fn page(&self, next: Cursor, names: &[Bytes]) -> Bytes {
        let mut out = BytesMut::new();
        let mut writer = ReplyWriter::new(&mut out, self.client.proto());
        writer.array(2);
        writer.bulk(next.number().unwrap_or(0).to_string().as_bytes());
        self.write_names(out, names)
    }

    fn write_names(&self, mut out: BytesMut, names: &[Bytes]) -> Bytes {
        ReplyWriter::new(&mut out, self.client.proto()).array(names.len());
        names.iter().for_each(|name| out.extend_from_slice(name));
        out.freeze()
    }

    fn write(&self, write: impl FnOnce(&mut ReplyWriter<'_>)) -> Bytes {
        let mut out = BytesMut::new();
        write(&mut ReplyWriter::new(&mut out, self.client.proto()));
        out.freeze()
    }
}

/// Asks a shard how many keys it has. EVAL, not EVALSHA: it is asked rarely, and then in one round trip even of a shard that has
/// just been started.
fn size() -> Request {
    let max = COUNTED_KEYS_MAX.to_string();
    Request::new(&["EVAL", SIZE, "0", &max])
}

const SIZE: &str = "#!lua flags=no-writes\n\
    local keys = redis.call('DBSIZE')\n\
    if keys > tonumber(ARGV[1]) then return keys end\n\
    return keys - #redis.call('KEYS', '__weft:*')";

/// A server looks through so many names in a few milliseconds.
const COUNTED_KEYS_MAX: u32 = 20_000;

const RANDOM: &str = "#!lua flags=no-writes\n\
    for _ = 1, 100 do\n\
        local name = redis.call('RANDOMKEY')\n\
        if not name or string.sub(name, 1, 7) ~= '__weft:' then return name end\n\
    end\n\
    return false";

/// How many shards are picked before RANDOMKEY answers that there is no key: in vain only if the last key has just gone, or if nearly
/// all keys are weft's.
const RANDOM_ATTEMPTS_MAX: usize = 8;

/// The shard in which the key numbered `number` is, if the keys were numbered from shard to shard.
fn pick(sizes: &[i64], mut number: i64) -> Option<ShardId> {
    for (index, size) in (0..).zip(sizes) {
        if number < *size {
            return Some(ShardId::new(index));
        }
        number -= size;
    }
    None
}

/// The frames of the names in `reply` that are not weft's.
fn users_own(reply: &Bytes) -> impl Iterator<Item = Bytes> {
    elements(reply).ok().flatten().unwrap_or_default().into_iter().filter(|name| !is_internal(name))
}

/// Whether the bulk string in `frame` is one of weft's keys.
fn is_internal(frame: &[u8]) -> bool {
    memchr::memchr(b'\n', frame).is_some_and(|end| route::is_internal(&frame[end + 1..]))
}

fn integer(reply: &Bytes) -> i64 {
    Value::parse(reply).ok().and_then(|value| value.integer()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_picked_as_often_as_it_has_keys() {
        let shards: Vec<_> = (0..5).map(|number| pick(&[2, 0, 3], number).map(ShardId::index)).collect();
        assert_eq!(shards, [Some(0), Some(0), Some(2), Some(2), Some(2)]);
        assert_eq!(pick(&[2, 0, 3], 5), None);
    }

    #[test]
    fn weft_keeps_its_own_names_to_itself() {
        let reply = Bytes::from_static(b"*4\r\n$1\r\na\r\n$9\r\n__weft:xy\r\n$6\r\n__weft\r\n$10\r\na__weft:xy\r\n");
        let names: Vec<Bytes> = users_own(&reply).collect();
        assert_eq!(names, [&b"$1\r\na\r\n"[..], b"$6\r\n__weft\r\n", b"$10\r\na__weft:xy\r\n"]);
    }
}
