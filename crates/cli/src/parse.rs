//! Words of the command line that several verbs read.

use std::time::Duration;

/// `500ms`, `10s`, `2m`; a number alone is seconds.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let wrong = || format!("{text:?} is not a time such as 500ms, 10s or 2m");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "" | "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(wrong()),
    }
}

/// `deploy/NAME` or `deployment/NAME`.
pub(crate) fn deployment(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some(("deploy" | "deployment" | "deployments", name)) if !name.is_empty() => {
            Ok(name.into())
        }
        _ => Err(format!("{text:?} is not deploy/NAME")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(span("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(span("10"), Ok(Duration::from_secs(10)));
        assert_eq!(span("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "ms", "-1s", "1h", "1.5s"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn deployments_are_named_with_their_kind() {
        assert_eq!(deployment("deploy/sleep").as_deref(), Ok("sleep"));
        assert!(deployment("sleep").is_err());
        assert!(deployment("pod/sleep").is_err());
    }
}
