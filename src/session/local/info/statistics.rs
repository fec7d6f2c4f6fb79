//! `# Commandstats` and `# Errorstats`, out of those of all shards.
//!
//! What a shard carries out it counts itself, the commands that scripts call among them, and tells with the time it took: those are
//! added up. What never reaches a shard as it is (MULTI, BLPOP, PING) or reaches several (FLUSHALL) weft counts; the RPOP that it tries in
//! place of a BRPOP it takes off. A shard also counts what weft asks of it on its own account, so a few commands (EXISTS above all) count more calls than clients made. Errors
//! weft counts as it answers them, by the codes that it knows; the others, which scripts make up, it has from the shards.

use std::collections::BTreeMap;

/// The statistics of all shards' primaries, added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    commands: BTreeMap<String, Command>,
    errors: BTreeMap<String, u64>,
}

/// What is told of one command.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Command {
    calls: u64,
    usec: u64,
    rejected: u64,
    failed: u64,
}

impl Statistics {
    /// Adds up the replies of shards to INFO with these sections. Lines of another form are left out.
    pub fn of_shards<S: AsRef<str>>(sections: &[S]) -> Self {
        let mut sum = Self::default();
        for (name, fields) in
            sections.iter().flat_map(|section| section.as_ref().lines()).filter_map(|line| line.trim_end().split_once(':'))
        {
            let field = |wanted: &str| {
                let values = fields.split(',').filter_map(|field| field.split_once('='));
                values.into_iter().find_map(|(name, value)| (name == wanted).then(|| value.parse().ok()).flatten()).unwrap_or(0)
            };
            if let Some(command) = name.strip_prefix("cmdstat_") {
                let command = sum.commands.entry(command.to_owned()).or_default();
                command.calls += field("calls");
                command.usec += field("usec");
                command.rejected += field("rejected_calls");
                command.failed += field("failed_calls");
            } else if let Some(code) = name.strip_prefix("errorstat_") {
                *sum.errors.entry(code.to_owned()).or_default() += field("count");
            }
        }
        sum
    }

    /// With the calls that weft has counted of the commands that `counted` says it counts, in place of the shards' own count.
    #[must_use]
    pub fn with_own(mut self, calls: &BTreeMap<&'static str, u64>, counted: impl Fn(&str) -> bool) -> Self {
        self.commands.retain(|name, _| !counted(name) || calls.contains_key(&name[..]));
        for (name, calls) in calls {
            self.commands.entry((*name).to_owned()).or_default().calls = *calls;
        }
        self
    }

    /// Without the calls that weft has made itself, to carry out others.
    #[must_use]
    pub fn without(mut self, tries: &BTreeMap<&'static str, u64>) -> Self {
        for (name, tries) in tries {
            if let Some(command) = self.commands.get_mut(*name) {
                command.calls = command.calls.saturating_sub(*tries);
            }
        }
        self.commands.retain(|_, command| command.calls + command.rejected + command.failed > 0);
        self
    }

    /// With the errors that weft has answered in place of the shards' own count: those that `known` says it tells apart.
    #[must_use]
    pub fn with_errors<'a>(mut self, errors: impl Iterator<Item = (&'a str, u64)>, known: impl Fn(&str) -> bool) -> Self {
        self.errors.retain(|code, _| !known(code));
        self.errors.extend(errors.filter(|(code, _)| known(code)).map(|(code, count)| (code.to_owned(), count)));
        self
    }

    /// How many errors there were.
    pub fn errors(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The fields of `# Commandstats` and their values.
    pub fn command_fields(&self) -> impl Iterator<Item = (String, String)> {
        self.commands.iter().map(|(name, Command { calls, usec, rejected, failed })| {
            let each = *usec as f64 / (*calls).max(1) as f64;
            let value = format!("calls={calls},usec={usec},usec_per_call={each:.2},rejected_calls={rejected},failed_calls={failed}");
            (format!("cmdstat_{name}"), value)
        })
    }

    /// The fields of `# Errorstats` and their values.
    pub fn error_fields(&self) -> impl Iterator<Item = (String, String)> {
        self.errors.iter().map(|(code, count)| (format!("errorstat_{code}"), format!("count={count}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "# Commandstats\r\ncmdstat_set:calls=2,usec=9,usec_per_call=4.50,rejected_calls=1,failed_calls=0\r\n\
                       cmdstat_multi:calls=7,usec=1,usec_per_call=0.14,rejected_calls=0,failed_calls=0\r\n\
                       # Errorstats\r\nerrorstat_ERR:count=3\r\n";
    const OTHER: &str = "cmdstat_set:calls=1,usec=3,usec_per_call=3.00,rejected_calls=0,failed_calls=1\r\nerrorstat_ERR:count=1\r\nerrorstat_MINE:count=1\r\nnonsense\r\n";

    #[test]
    fn shards_are_added_up_and_what_weft_counts_replaces_their_count() {
        let sum = Statistics::of_shards(&[ONE, OTHER]).with_own(&BTreeMap::from([("blpop", 4)]), |name| name == "multi");
        let sum = sum.without(&BTreeMap::from([("set", 1), ("rpop", 9)]));
        let sum = sum.with_errors([("ERR", 3), ("LOCKWAIT", 2), ("OTHER", 1)].into_iter(), |code| !["MINE", "OTHER"].contains(&code));
        let fields: Vec<String> = sum.command_fields().chain(sum.error_fields()).map(|(name, value)| format!("{name}:{value}")).collect();
        assert_eq!(
            fields,
            [
                "cmdstat_blpop:calls=4,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0",
                "cmdstat_set:calls=2,usec=12,usec_per_call=6.00,rejected_calls=1,failed_calls=1",
                "errorstat_ERR:count=3",
                "errorstat_LOCKWAIT:count=2",
                "errorstat_MINE:count=1"
            ]
        );
        assert_eq!(sum.errors(), 6);
    }
}
