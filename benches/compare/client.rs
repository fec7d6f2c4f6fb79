//! A blocking connection for what is not measured: filling, asking, probing. Raw on purpose: a client library's greeting (HELLO, CLIENT
//! SETINFO) is refused by some of the targets.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use redis::{FromRedisValue, Value};

/// No answer that is waited for here takes longer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection, one request at a time or a pipeline of them.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    parser: redis::Parser,
}

impl Client {
    /// Connects; nothing is sent.
    pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Self { stream: BufReader::new(stream), parser: redis::Parser::new() })
    }

    /// Sends bytes that are requests already.
    pub(crate) fn send(&mut self, requests: &[u8]) -> anyhow::Result<()> {
        self.stream.get_mut().write_all(requests).context("closes the connection")
    }

    /// The next reply; an error reply is an error with its text.
    pub(crate) fn receive(&mut self) -> anyhow::Result<Value> {
        let value = self.parser.parse_value(&mut self.stream);
        match value {
            Ok(Value::ServerError(error)) => bail!("{} {}", error.code(), error.details().unwrap_or_default()),
            Ok(value) => Ok(value),
            Err(error) if error.is_io_error() => bail!(if error.is_timeout() { "does not answer" } else { "closes the connection" }),
            Err(error) => bail!(error.to_string()),
        }
    }

    /// One request and its reply.
    pub(crate) fn call(&mut self, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut command = redis::Cmd::new();
        command.arg(arguments);
        self.send(&command.get_packed_command())?;
        self.receive()
    }

    /// One request and its reply as a `T`.
    pub(crate) fn call_as<T: FromRedisValue>(&mut self, arguments: &[&str]) -> anyhow::Result<T> {
        redis::from_redis_value(self.call(arguments)?).map_err(|error| anyhow::anyhow!("{error}"))
    }
}
