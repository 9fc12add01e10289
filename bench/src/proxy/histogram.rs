//! How long answers took: counts in buckets that are each under 1 % wide.

use std::time::Duration;

/// Buckets of equal width up to here, in nanoseconds, then this many for each doubling.
const FINE: u64 = 128;

/// Counts of durations.
#[derive(Debug, Clone)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            buckets: vec![0; (58 * FINE) as usize],
            count: 0,
        }
    }
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)] += 1;
        self.count += 1;
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What so many percent stay at or under; nothing when nothing was counted.
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let wanted = (self.count as f64 * percent / 100.0).ceil().max(1.0) as u64;
        let mut seen = 0;
        let at = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(Duration::from_nanos(lower_end(at)))
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < FINE {
        return nanos as usize;
    }
    let shift = u64::from(nanos.ilog2()) - u64::from(FINE.ilog2());
    ((shift + 1) * FINE + (nanos >> shift) - FINE) as usize
}

fn lower_end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < FINE {
        return bucket;
    }
    (FINE + bucket % FINE) << (bucket / FINE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_within_a_hundredth() {
        let mut histogram = Histogram::default();
        for micros in 1..=10_000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (percent, micros) in [(50.0, 5_000.0), (99.0, 9_900.0), (100.0, 10_000.0)] {
            let found = histogram.percentile(percent).unwrap().as_secs_f64() * 1e6;
            assert!((found / micros - 1.0).abs() < 0.01, "{percent}: {found}");
        }
        assert_eq!(Histogram::default().percentile(50.0), None);
    }

    #[test]
    fn every_duration_has_a_bucket() {
        for nanos in [0, 1, 127, 128, 255, 256, 1 << 40, u64::MAX] {
            let at = bucket(nanos);
            assert!(at < Histogram::default().buckets.len(), "{nanos}");
            let low = lower_end(at);
            assert!(
                low <= nanos && nanos - low <= nanos / FINE,
                "{nanos}: {low}"
            );
        }
    }
}
