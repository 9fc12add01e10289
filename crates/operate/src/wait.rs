//! Waiting for a condition, with a bound, and with a reason when it does not come.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::OperateError;

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Looks at `condition` until it holds; its error says what is missing. After `patience` the last missing thing is the error.
pub(crate) async fn until<T, F>(
    what: &str,
    patience: Duration,
    look: &str,
    mut condition: impl FnMut() -> F,
) -> Result<T, OperateError>
where
    F: Future<Output = Result<T, String>>,
{
    let start = Instant::now();
    let (mut unmet, mut unmet_since) = (String::new(), start);
    loop {
        match condition().await {
            Ok(value) => return Ok(value),
            Err(missing) if missing != unmet => {
                unmet = missing;
                unmet_since = Instant::now();
            }
            Err(_) => {}
        }
        if start.elapsed() >= patience {
            return Err(OperateError::Timeout {
                what: what.into(),
                waited: patience,
                unmet,
                held: unmet_since.elapsed(),
                look: look.into(),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_missing_thing_is_named() {
        let mut n = 0;
        let waited = until("the mesh", Duration::from_millis(1), "look there", || {
            n += 1;
            let missing = format!("proxy {}", n.min(2));
            async move { Err::<(), _>(missing) }
        });
        let error = waited.await.unwrap_err();
        assert!(error.to_string().contains("proxy"), "{error}");
        assert_eq!(error.fix().as_deref(), Some("look there"));
    }
}
