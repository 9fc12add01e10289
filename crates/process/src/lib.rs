//! How one of our programs lives: start, be ready, expose metrics, log, drain, stop. It knows nothing of meshes.
//!
//! Read [`Process`] first.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use catamaran_process::{Config, End, Process};
//! let process = Process::start(Config::quiet("example"));
//! let listening = process.gate("listening");
//! assert_eq!(process.waiting_for(), ["listening"]);
//! listening.open();
//! assert!(process.is_ready());
//!
//! let stopping = process.stopping();
//! process.run("worker", async move {
//!     stopping.wait().await;
//!     Ok::<(), std::io::Error>(())
//! });
//! process.stop("the example is over");
//! assert_eq!(process.until_stopped().await, End::Asked("the example is over".into()));
//! # });
//! ```

pub mod http;
mod life;
mod log;
mod metrics;

pub use life::{Config, End, Gate, Process, Stopping};
pub use log::{LogConfig, LogFormat};
pub use metrics::Metrics;

/// The clock of a program, for the rooms that are handed `now`.
pub fn now_millis() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
