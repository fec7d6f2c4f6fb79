//! `# Memory`: what all shards use together, because that is where the data is. What weft itself uses stands in `# Weft`.

use std::collections::BTreeMap;

/// What the shards' primaries say of their memory, added up; without figures if one has not said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    sums: BTreeMap<&'static str, u64>,
    /// Their `maxmemory` together; 0 if one of them has no limit.
    limit: Option<u64>,
    allocator: String,
}

impl Memory {
    /// Adds up the replies of all shards to INFO with the section `memory`.
    pub fn of_shards<S: AsRef<str>>(sections: &[S]) -> Self {
        let mut memory = Self::default();
        let mut limits = Vec::new();
        let fields = sections.iter().flat_map(|section| section.as_ref().lines()).filter_map(|line| line.trim_end().split_once(':'));
        for (name, value) in fields {
            let bytes = || value.parse::<u64>().unwrap_or(0);
            if let Some(name) = SUMMED.iter().find(|summed| **summed == name) {
                *memory.sums.entry(name).or_default() += bytes();
            } else if name == "maxmemory" {
                limits.push(bytes());
            } else if name == "mem_allocator" {
                value.clone_into(&mut memory.allocator);
            }
        }
        memory.limit = (!limits.is_empty()).then(|| if limits.contains(&0) { 0 } else { limits.iter().sum() });
        memory
    }

    /// The figures, in Redis's order.
    pub(super) fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        SUMMED.iter().filter_map(|name| Some((*name, *self.sums.get(name)?)))
    }

    /// What they may use together, if they have said; 0 is no limit.
    pub(super) fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// The shards' allocator, if they have said.
    pub(super) fn allocator(&self) -> Option<&str> {
        (!self.allocator.is_empty()).then_some(&self.allocator)
    }
}

/// The fields that mean something when they are added up.
const SUMMED: [&str; 9] = [
    "used_memory",
    "used_memory_rss",
    "used_memory_peak",
    "used_memory_overhead",
    "used_memory_startup",
    "used_memory_dataset",
    "used_memory_scripts",
    "mem_not_counted_for_evict",
    "lazyfree_pending_objects",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_added_up_is_added_up() {
        let one = "# Memory\r\nused_memory:10\r\nused_memory_human:10B\r\nmaxmemory:100\r\nmem_allocator:jemalloc-5.3.0\r\n";
        let other = "used_memory:5\r\nmaxmemory:100\r\nlazyfree_pending_objects:2\r\nmem_fragmentation_ratio:13.68\r\n";
        let memory = Memory::of_shards(&[one, other]);
        assert_eq!(memory.figures().collect::<Vec<_>>(), [("used_memory", 15), ("lazyfree_pending_objects", 2)]);
        assert_eq!((memory.limit(), memory.allocator()), (Some(200), Some("jemalloc-5.3.0")));
        assert_eq!(Memory::of_shards(&[one, "maxmemory:0\r\n"]).limit(), Some(0));
        assert_eq!(Memory::of_shards::<&str>(&[]), Memory::default());
    }
}
