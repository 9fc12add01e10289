//! Times as figures.

use std::time::Duration;

/// Of times in order, in milliseconds.
pub fn percentile(times: &[Duration], percent: usize) -> Option<f64> {
    let at = (times.len() * percent).div_ceil(100).max(1) - 1;
    times.get(at).map(|time| millis(*time))
}

/// In milliseconds.
pub fn millis(time: Duration) -> f64 {
    round(time.as_secs_f64() * 1000.0)
}

/// To two digits behind the point.
pub fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
