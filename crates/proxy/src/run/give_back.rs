//! Gives memory back to the system that is not in use any more: what taking a configuration needed, or many callers at once.
//!
//! Mimalloc returns what has been free for a second, but looks for it only when much is freed or a thread ends. A proxy that
//! nobody calls does neither, and would keep what reading 5,000 clusters took for as long as it is idle.

use std::convert::Infallible;
use std::time::Duration;

/// Longer than mimalloc's `purge_delay`. Starting a thread takes some 50 us, so this is nothing that could be seen.
const EVERY: Duration = Duration::from_millis(1_500);

/// Does so again and again.
pub(crate) async fn give_back() -> Infallible {
    loop {
        tokio::time::sleep(EVERY).await;
        // A thread that used the heap and ends; one that cannot be started is no loss.
        let _ = std::thread::Builder::new()
            .name("give-back".into())
            .spawn(|| drop(std::hint::black_box(Box::new(0_u64))));
    }
}
