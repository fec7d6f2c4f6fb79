//! One life of a server: from its start to its end, at its address.

use std::rc::Rc;

use bytes::Bytes;

use crate::node_addr::NodeAddr;
use crate::resp::Value;
use crate::topology::{Shard, SlotMap};

/// Whom a connection leads to. What a server told in one life need not hold in the next, nor with the replica that takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run(Rc<Life>);

#[derive(Debug, PartialEq, Eq)]
struct Life {
    address: NodeAddr,
    id: String,
}

impl Run {
    /// The life that the server at `address` tells of in its reply to `INFO server`; `None` if it does not tell.
    pub(super) fn read(address: &NodeAddr, info: &Bytes) -> Option<Self> {
        let info = Value::parse(info).ok()?;
        let text = String::from_utf8_lossy(info.text()?);
        let id = text.lines().find_map(|line| line.strip_prefix("run_id:")).filter(|id| !id.is_empty())?;
        Some(Self(Rc::new(Life { address: address.clone(), id: id.to_owned() })))
    }

    /// Whether `later`, which has what this one had, has it by a restart or a failover: it took the place of this one, whose replica it
    /// was by the `map` of before. Otherwise this one may live on, and has moved it there.
    pub fn gave_way_to(&self, later: &Self, map: &SlotMap) -> bool {
        let (before, after) = (&self.0, &later.0);
        let succeeded = |shard: &Shard| shard.address == before.address && shard.replicas.contains(&after.address);
        before.id != after.id && (before.address == after.address || map.shards().iter().any(succeeded))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::topology::Mode;

    fn run(address: &str, id: &str) -> Run {
        let info = format!("# Server\r\nredis_version:7.0.15\r\nrun_id:{id}\r\n");
        Run::read(&address.parse().unwrap(), &format!("${}\r\n{info}\r\n", info.len()).into()).unwrap()
    }

    #[test]
    fn a_restart_and_a_failover_are_told_from_a_move() {
        let replicas = vec!["b:1".parse().unwrap()];
        let shard = Shard { name: "a".to_owned(), address: "a:1".parse().unwrap(), replicas };
        let map = SlotMap::new(Mode::Cluster, vec![(shard, vec![])]);
        let before = run("a:1", "x");
        assert!(!before.gave_way_to(&run("a:1", "x"), &map));
        assert!(before.gave_way_to(&run("a:1", "y"), &map));
        assert!(before.gave_way_to(&run("b:1", "y"), &map));
        assert!(!before.gave_way_to(&run("c:1", "y"), &map));
        assert_eq!(Run::read(&"a:1".parse().unwrap(), &Bytes::from_static(b"-NOPERM no\r\n")), None);
    }
}
