//! One `# Keyspace` section out of those of all shards.

use std::collections::BTreeMap;

/// Adds up the keyspace sections of the shards' primaries: `dbN:keys=…,expires=…,avg_ttl=…` lines, with or without other lines around them.
///
/// Counts are added; `avg_ttl` is the mean over the keys that expire; a count that only newer servers have is kept where any has it.
/// Lines that do not have this form are left out.
pub fn aggregate<S: AsRef<str>>(sections: &[S]) -> String {
    let mut databases: BTreeMap<u32, Database> = BTreeMap::new();
    for line in sections.iter().flat_map(|section| section.as_ref().lines()) {
        if let Some((index, fields)) = database(line) {
            databases.entry(index).or_default().add(&fields);
        }
    }
    databases.iter().map(|(index, database)| database.line(*index)).collect()
}

/// What one database holds, on all shards.
#[derive(Default)]
struct Database {
    /// In the order in which servers tell them. `avg_ttl` keeps its place here and its value below.
    counts: Vec<(String, u64)>,
    /// Milliseconds, summed over the keys that expire.
    ttl_sum: u128,
}

impl Database {
    fn add(&mut self, fields: &[(&str, u64)]) {
        let field = |wanted: &str| fields.iter().find(|(name, _)| *name == wanted).map_or(0, |&(_, value)| value);
        self.ttl_sum += u128::from(field("expires")) * u128::from(field(AVG_TTL));
        for &(name, value) in fields {
            match self.counts.iter_mut().find(|(known, _)| known == name) {
                Some((_, count)) => *count = count.saturating_add(value),
                None => self.counts.push((name.to_owned(), value)),
            }
        }
    }

    fn line(&self, index: u32) -> String {
        let expires = self.counts.iter().find(|(name, _)| name == "expires").map_or(0, |&(_, count)| u128::from(count));
        let value =
            |name: &str, count: u64| if name == AVG_TTL { self.ttl_sum.checked_div(expires).unwrap_or(0) } else { u128::from(count) };
        let fields: Vec<_> = self.counts.iter().map(|(name, count)| format!("{name}={}", value(name, *count))).collect();
        format!("db{index}:{}\r\n", fields.join(","))
    }
}

/// The number and the fields of a line.
fn database(line: &str) -> Option<(u32, Vec<(&str, u64)>)> {
    let (index, fields) = line.trim_end().strip_prefix("db")?.split_once(':')?;
    let fields: Option<_> =
        fields.split(',').map(|field| field.split_once('=').and_then(|(name, value)| Some((name, value.parse().ok()?)))).collect();
    Some((index.parse().ok()?, fields?))
}

const AVG_TTL: &str = "avg_ttl";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_added_and_ttls_weighted_by_the_keys_that_expire() {
        let shards = [
            "# Keyspace\r\ndb0:keys=10,expires=1,avg_ttl=1000\r\ndb3:keys=1,expires=0,avg_ttl=0\r\n",
            "# Keyspace\r\ndb0:keys=5,expires=3,avg_ttl=2000\r\n",
            "# Keyspace\r\n",
        ];
        assert_eq!(aggregate(&shards), "db0:keys=15,expires=4,avg_ttl=1750\r\ndb3:keys=1,expires=0,avg_ttl=0\r\n");
    }

    #[test]
    fn fields_of_newer_servers_are_added_too() {
        let shards =
            ["db0:keys=1,expires=0,avg_ttl=0,keys_with_volatile_items=2\r\n", "db0:keys=1,expires=0,avg_ttl=0,keys_with_volatile_items=1"];
        assert_eq!(aggregate(&shards), "db0:keys=2,expires=0,avg_ttl=0,keys_with_volatile_items=3\r\n");
    }

    #[test]
    fn databases_come_in_order_and_other_lines_are_ignored() {
        let shards = [
            "db10:keys=1,expires=0,avg_ttl=0\r\ndb9:keys=1,expires=0,avg_ttl=0\r\n",
            "db:x\r\ndbx:keys=1\r\ndb1:keys=many\r\nrole:master\r\n",
        ];
        assert_eq!(aggregate(&shards), "db9:keys=1,expires=0,avg_ttl=0\r\ndb10:keys=1,expires=0,avg_ttl=0\r\n");
        assert_eq!(aggregate::<&str>(&[]), "");
    }
}
