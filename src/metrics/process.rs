//! What the process uses, in the kernel's words.

use std::fs;

/// Memory and processor time of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessUsage {
    /// Bytes of memory in use now.
    pub resident: u64,
    /// The most there ever were.
    pub resident_peak: u64,
    /// Seconds spent in the program.
    pub cpu_user: f64,
    /// Seconds spent in the kernel for it.
    pub cpu_system: f64,
}

impl ProcessUsage {
    /// Asks the kernel. Where there is no `/proc`, everything is zero.
    pub fn read() -> Self {
        let file = |path| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&file("/proc/self/status"), &file("/proc/self/stat"))
    }

    /// Takes the texts of `/proc/self/status` and `/proc/self/stat` apart.
    fn parse(status: &str, stat: &str) -> Self {
        let bytes = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok()).map_or(0, |kib: u64| kib * 1024)
        };
        // The second field is the program's name, in parentheses, and may hold anything; the third comes after the last one.
        let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(UTIME - 3);
        let mut seconds = || fields.next().and_then(|ticks| ticks.parse().ok()).map_or(0.0, |ticks: u64| ticks as f64 / TICKS_PER_SECOND);
        let (cpu_user, cpu_system) = (seconds(), seconds());
        Self { resident: bytes("VmRSS"), resident_peak: bytes("VmHWM"), cpu_user, cpu_system }
    }
}

/// The number of the field `utime` in `/proc/self/stat`, counted from 1 as in proc(5); `stime` follows.
const UTIME: usize = 14;
/// Linux tells programs times in this unit on every architecture, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_the_kernels_text() {
        let status = "Name:\tweft\nVmHWM:\t    5000 kB\nVmRSS:\t    4096 kB\nThreads:\t3\n";
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 75 0 0 20 0 3 0 100 1000 1024";
        let usage = ProcessUsage::parse(status, stat);
        assert_eq!(usage, ProcessUsage { resident: 4096 * 1024, resident_peak: 5000 * 1024, cpu_user: 2.5, cpu_system: 0.75 });
        assert_eq!(ProcessUsage::parse("", ""), ProcessUsage::default());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_uses_memory() {
        assert!(ProcessUsage::read().resident > 0);
    }
}
