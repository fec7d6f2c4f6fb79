//! `# Persistence`: what all shards together have on disk. weft itself keeps nothing there.

use std::collections::BTreeMap;

/// What the shards' primaries say of their files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Persistence(BTreeMap<&'static str, String>);

impl Persistence {
    /// Puts together the replies of all shards to INFO with the section `persistence`.
    pub fn of_shards<S: AsRef<str>>(sections: &[S]) -> Self {
        let mut fields: BTreeMap<&'static str, String> = BTreeMap::new();
        let told = sections.iter().flat_map(|section| section.as_ref().lines()).filter_map(|line| line.trim_end().split_once(':'));
        for (name, value) in told {
            let Some((name, join)) = FIELDS.iter().find(|(known, _)| *known == name) else { continue };
            let joined = match fields.get(name) {
                Some(other) => join.of(other, value),
                None => value.to_owned(),
            };
            fields.insert(name, joined);
        }
        Self(fields)
    }

    /// The fields in Redis's order, and their values.
    pub(super) fn fields(&self) -> impl Iterator<Item = (String, String)> {
        FIELDS.iter().filter_map(|(name, _)| Some(((*name).to_owned(), self.0.get(name)?.clone())))
    }
}

/// What becomes of the values of two shards.
#[derive(Clone, Copy)]
enum Join {
    Sum,
    Least,
    Greatest,
    /// `ok` if all say so.
    Status,
}

impl Join {
    fn of(self, one: &str, other: &str) -> String {
        let number = |text: &str| text.parse::<i64>().unwrap_or(0);
        match self {
            Self::Sum => (number(one) + number(other)).to_string(),
            Self::Least => number(one).min(number(other)).to_string(),
            Self::Greatest => number(one).max(number(other)).to_string(),
            Self::Status => if one == "ok" { other } else { one }.to_owned(),
        }
    }
}

const FIELDS: [(&str, Join); 12] = [
    ("loading", Join::Greatest),
    ("async_loading", Join::Greatest),
    ("rdb_changes_since_last_save", Join::Sum),
    ("rdb_bgsave_in_progress", Join::Greatest),
    ("rdb_last_save_time", Join::Least),
    ("rdb_last_bgsave_status", Join::Status),
    ("rdb_saves", Join::Least),
    ("aof_enabled", Join::Least),
    ("aof_rewrite_in_progress", Join::Greatest),
    ("aof_rewrite_scheduled", Join::Greatest),
    ("aof_last_bgrewrite_status", Join::Status),
    ("aof_last_write_status", Join::Status),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_holds_for_all() {
        let one = "# Persistence\r\nloading:0\r\nrdb_changes_since_last_save:5\r\nrdb_bgsave_in_progress:1\r\nrdb_last_save_time:90\r\n\
                   rdb_last_bgsave_status:ok\r\naof_enabled:1\r\nmodule_fork_in_progress:0\r\n";
        let other = "rdb_changes_since_last_save:6\r\nrdb_bgsave_in_progress:0\r\nrdb_last_save_time:80\r\nrdb_last_bgsave_status:err\r\n\
                     aof_enabled:0\r\n";
        let fields: Vec<String> = Persistence::of_shards(&[one, other]).fields().map(|(name, value)| format!("{name}:{value}")).collect();
        assert_eq!(
            fields,
            [
                "loading:0",
                "rdb_changes_since_last_save:11",
                "rdb_bgsave_in_progress:1",
                "rdb_last_save_time:80",
                "rdb_last_bgsave_status:err",
                "aof_enabled:0"
            ]
        );
    }
}
