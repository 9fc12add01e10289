//! Metrics, in the OpenMetrics text format.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

type Extra = Box<dyn Fn(&mut String) + Send + Sync>;

/// The metrics of one process. Clones share them.
#[derive(Clone, Default)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    extra: Arc<Mutex<Vec<Extra>>>,
}

impl Metrics {
    /// Registers a metric of `prometheus_client`; the name of a counter is given without `_total`.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register(name, help, metric.clone());
        metric
    }

    /// A counter without labels.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.register(name, help, Counter::default())
    }

    /// A gauge without labels.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.register(name, help, Gauge::default())
    }

    /// Adds a source that writes whole metric families itself (counters kept outside, for a hot path).
    pub fn add_source(&self, write: impl Fn(&mut String) + Send + Sync + 'static) {
        let mut extra = self.extra.lock().unwrap_or_else(PoisonError::into_inner);
        extra.push(Box::new(write));
    }

    /// All metrics as text, ending with `# EOF`.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for write in &*self.extra.lock().unwrap_or_else(PoisonError::into_inner) {
            write(&mut text);
        }
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)
            .expect("writing to a string does not fail");
        text
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
