//! Figures per second, as Redis has them: the mean of the last sixteen samples, about one and a half seconds.

use std::time::{Duration, Instant};

use super::{Counter, Snapshot};

/// How much happens in a second, seen over the last samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Throughput {
    /// Commands answered.
    pub commands: u64,
    /// Kibibytes read from clients.
    pub input_kib: f64,
    /// Kibibytes written to clients.
    pub output_kib: f64,
}

/// The last samples.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    last: Option<(Instant, Totals)>,
    rates: [Totals; SAMPLES],
    next: usize,
}

/// Commands, bytes in, bytes out: as totals, or per second.
type Totals = [u64; 3];

impl Gauge {
    /// Takes one more sample.
    pub(super) fn sample(&mut self, now: Instant, snapshot: &Snapshot) {
        let totals = [Counter::Commands, Counter::BytesRead, Counter::BytesWritten].map(|counter| snapshot[counter]);
        if let Some((then, before)) = self.last {
            let elapsed = now.saturating_duration_since(then);
            let mut rates = totals;
            for (rate, before) in rates.iter_mut().zip(before) {
                *rate = per_second(rate.saturating_sub(before), elapsed);
            }
            self.rates[self.next] = rates;
            self.next = (self.next + 1) % SAMPLES;
        }
        self.last = Some((now, totals));
    }

    pub(super) fn throughput(&self) -> Throughput {
        let mean = |column: usize| self.rates.iter().map(|rates| rates[column]).sum::<u64>() / SAMPLES as u64;
        Throughput { commands: mean(0), input_kib: mean(1) as f64 / 1024.0, output_kib: mean(2) as f64 / 1024.0 }
    }
}

/// Samples closer than a millisecond count as one apart.
fn per_second(amount: u64, elapsed: Duration) -> u64 {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    amount.saturating_mul(1000) / millis
}

/// Redis's STATS_METRIC_SAMPLES.
const SAMPLES: usize = 16;

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn throughput_is_the_mean_of_the_last_sixteen_samples() {
        let metrics = Metrics::default();
        let worker = metrics.worker();
        let mut now = Instant::now();
        metrics.sample(now);
        for _ in 0..SAMPLES {
            worker.add(Counter::Commands, 5);
            worker.add(Counter::BytesRead, 1024);
            now += Duration::from_millis(100);
            metrics.sample(now);
        }
        let busy = metrics.snapshot().throughput;
        assert_eq!((busy.commands, busy.input_kib, busy.output_kib), (50, 10.0, 0.0));
        for _ in 0..SAMPLES / 2 {
            now += Duration::from_millis(100);
            metrics.sample(now);
        }
        assert_eq!(metrics.snapshot().throughput.commands, 25);
    }
}
