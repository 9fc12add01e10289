//! Gives memory back to the system that only taking a configuration needed.
//!
//! Mimalloc returns what has been free for a second, but looks for it only when much is freed or a thread ends. A proxy that
//! nobody calls does neither, and would keep what reading 5,000 clusters took for as long as it is idle.

use std::sync::Arc;
use std::time::Duration;

use catamaran_decide::Table;
use tokio::sync::watch;

/// Longer than mimalloc's `purge_delay`, and long enough for workers to let go of the last table.
const FREE_FOR: Duration = Duration::from_millis(1_500);

/// Does so each time that a configuration has been in force for a while, until there is none to come.
pub(crate) async fn give_back(mut tables: watch::Receiver<Arc<Table>>) {
    loop {
        tokio::time::sleep(FREE_FOR).await;
        // A thread that used the heap and ends; one that cannot be started is no loss.
        let _ = std::thread::Builder::new()
            .name("give-back".into())
            .spawn(|| drop(std::hint::black_box(Box::new(0_u64))));
        if tables.changed().await.is_err() {
            return;
        }
    }
}
