//! `verify`: calls from a pod, as its program would make them, added up.

use std::process::Stdio;
use std::time::Duration;

use http::Uri;
use tokio::process::Command;

use crate::exec::{Place, exec_command};
use crate::load::Load;
use crate::tally::{Call, Tally, tally};
use crate::{Fleet, OperateError};

/// The most calls of one `verify`.
pub(crate) const MAX_CALLS: u32 = 10_000;
/// How long one call may take, in seconds.
pub(crate) const CALL_SECONDS: u32 = 10;

/// How `verify` calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// One after the other, with curl.
    Count(u32),
    /// At a constant rate, whatever becomes of those before.
    Rate {
        /// Calls a second.
        rate: u32,
        /// How long.
        time: Duration,
    },
}

/// Calls `url` from the pod at `from`. An error means that calls could not be made at all; failed calls are in the tally.
pub async fn verify(
    fleet: &Fleet,
    from: &Place,
    url: &Uri,
    manner: Manner,
) -> Result<Tally, OperateError> {
    match manner {
        Manner::Count(count) => Ok(tally(&curl(fleet, from, url, count).await?)),
        Manner::Rate { rate, time } => {
            let mut load = Load::start(fleet, from, url, rate, Some(time))?;
            let expected = (u128::from(rate) * time.as_millis() / 1000) as usize;
            let patience = time + Duration::from_secs(u64::from(CALL_SECONDS));
            load.wait_for(0, patience, |calls| calls.len() >= expected)
                .await;
            Ok(load.stop().await.0)
        }
    }
}

/// Plain curl in the pod: captured there, or led by the pod's `http_proxy`.
async fn curl(
    fleet: &Fleet,
    from: &Place,
    url: &Uri,
    count: u32,
) -> Result<Vec<Call>, OperateError> {
    let count = count.clamp(1, MAX_CALLS);
    let argv = script(url, count);
    let output = Command::from(exec_command(fleet, from, &argv)?)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(OperateError::file(&fleet.program))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let code = output.status.code();
        return Err(no_calls(
            &from.to_string(),
            code,
            &format!("{}: {said}", output.status),
        ));
    }
    Ok(read(&String::from_utf8_lossy(&output.stdout)))
}

/// The command that makes the calls, one after the other.
pub(crate) fn script(url: &Uri, count: u32) -> Vec<String> {
    let script = format!(
        "command -v curl >/dev/null || exit 127\n\
         i=0\nwhile [ $i -lt {count} ]; do\n\
         curl -sS -m {CALL_SECONDS} -w '\\n{MARK} %{{http_code}} %{{time_total}} %{{exitcode}} %{{errormsg}}\\n' \"$0\" 2>/dev/null\n\
         i=$((i+1))\ndone; exit 0"
    );
    ["sh".into(), "-c".into(), script, url.to_string()].to_vec()
}

/// The calls were not made at all.
pub(crate) fn no_calls(from: &str, code: Option<i32>, said: &str) -> OperateError {
    OperateError::NotHeld {
        what: format!("no calls could be made from {from}"),
        cause: match code {
            Some(127) => "there is no curl in the pod".into(),
            _ => said.to_owned(),
        },
        fix: "install curl in the pod's image; in a fleet, call at a rate instead, which needs none: --rate 10".into(),
    }
}

/// What stands before curl's own words on each call.
const MARK: &str = "#catamaran";

pub(crate) fn read(output: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut body = String::new();
    let mut at = 0.0;
    for line in output.lines() {
        let Some(words) = line.strip_prefix(MARK) else {
            body.push_str(line);
            body.push('\n');
            continue;
        };
        let mut words = words.trim_start().splitn(4, ' ');
        let status: u16 = words.next().and_then(|w| w.parse().ok()).unwrap_or(0);
        let seconds: f64 = words.next().and_then(|w| w.parse().ok()).unwrap_or(0.0);
        let exit = words.next().unwrap_or("?");
        let message = words.next().unwrap_or("").trim();
        let took_ms = seconds * 1000.0;
        let answer = std::mem::take(&mut body);
        let good = (200..300).contains(&status) && exit == "0";
        calls.push(Call {
            sent_ms: at,
            took_ms,
            answer: good.then(|| answer.trim().to_owned()),
            error: (!good).then(|| match status {
                0 if message.is_empty() => format!("curl exit {exit}"),
                0 => message.to_owned(),
                status => format!("status {status}"),
            }),
        });
        at += took_ms;
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_curl_wrote_becomes_calls() {
        let output = "Hello version: v1, instance: a-1\n\n#catamaran 200 0.004 0 \n\
                      no healthy upstream\n#catamaran 503 0.001 0 \n\
                      \n#catamaran 000 0.002 7 Failed to connect to helloworld port 5000\n";
        let calls = read(output);
        assert_eq!(calls.len(), 3);
        assert_eq!(calls[0].hello(), Some(("v1", "a-1")));
        assert_eq!(calls[1].error.as_deref(), Some("status 503"));
        assert!(
            calls[2]
                .error
                .as_deref()
                .is_some_and(|e| e.starts_with("Failed to connect"))
        );
        assert_eq!(calls[1].sent_ms, 4.0);
    }
}
