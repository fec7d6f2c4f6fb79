//! How long a process has been on a CPU, from `/proc`.
//!
//! `task/*/schedstat` counts nanoseconds for each thread and is exact at every switch; `stat` counts hundredths of a second for the whole
//! process and serves where the kernel was built without the former. A thread that ends takes its `schedstat` with it: the processes
//! measured here keep their threads while they are under load. Both count the kernel's work on the process's behalf, which for a
//! proxy is most of it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// `USER_HZ`, which is 100 on every Linux that runs these programs.
const TICK: Duration = Duration::from_millis(10);

/// On-CPU time of all threads of all `processes` so far.
pub(crate) fn cpu_time(processes: &[u32]) -> io::Result<Duration> {
    processes.iter().map(|process| of_process(&Path::new("/proc").join(process.to_string()))).sum()
}

fn of_process(directory: &Path) -> io::Result<Duration> {
    match of_threads(&directory.join("task")) {
        Ok(Some(time)) => Ok(time),
        Ok(None) | Err(_) => {
            let stat = fs::read_to_string(directory.join("stat"))?;
            parse_stat(&stat).ok_or_else(|| io::Error::other(format!("not a stat line: {stat}")))
        }
    }
}

/// The sum over threads; `None` where the kernel keeps no such count.
fn of_threads(tasks: &Path) -> io::Result<Option<Duration>> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(tasks)? {
        match fs::read_to_string(task?.path().join("schedstat")).ok().as_deref().and_then(parse_schedstat) {
            Some(time) => total += time,
            None => return Ok(None),
        }
    }
    Ok((!total.is_zero()).then_some(total))
}

/// `schedstat`: nanoseconds on a CPU, nanoseconds waiting for one, time slices.
fn parse_schedstat(line: &str) -> Option<Duration> {
    line.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// `stat`: after the command's name in parentheses (which may hold spaces and parentheses), utime and stime are the 12th and 13th.
fn parse_stat(line: &str) -> Option<Duration> {
    let (_, fields) = line.rsplit_once(')')?;
    let mut ticks = fields.split_ascii_whitespace().skip(11).map(|field| field.parse::<u32>().ok());
    Some(TICK * (ticks.next()?? + ticks.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_begins_with_nanoseconds_on_cpu() {
        assert_eq!(parse_schedstat("41620371 17794980 83\n"), Some(Duration::from_nanos(41_620_371)));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn stat_is_read_behind_a_hostile_command_name() {
        let line = "7712 (a) b) (c) S 7692 7712 7712 0 -1 4194560 2733 62393 0 27 30 12 59 34 20 0 1 0 101285 5124096 950";
        assert_eq!(parse_stat(line), Some(Duration::from_millis(420)));
        assert_eq!(parse_stat("7712 (short) S 1"), None);
    }

    #[test]
    fn own_cpu_time_grows_with_work() -> io::Result<()> {
        let own = [std::process::id()];
        let before = cpu_time(&own)?;
        while cpu_time(&own)? < before + Duration::from_millis(5) {
            std::hint::black_box((0..100_000).fold(0_u64, |sum, i| sum ^ i));
        }
        Ok(())
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(cpu_time(&[u32::MAX]).is_err());
    }
}
