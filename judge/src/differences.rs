//! What may differ, and why. Each is written in `docs/reference/differences.md` too, and each must be met by the test.

use crate::exchange::Exchange;
use crate::outcome::{Answer, Fate, Headers, Outcome};

/// A difference that is meant.
#[derive(Debug)]
pub struct Difference {
    /// A word for it.
    pub name: &'static str,
    /// Why it is so.
    pub why: &'static str,
    /// Takes it out of both outcomes of an exchange.
    pub level: fn(&Exchange, &mut Outcome, &mut Outcome),
}

/// All of them, in the order in which they are taken out.
pub const ALL: &[Difference] = &[
    Difference {
        name: "words-of-an-end",
        why: "how a connection that is closed in the middle looks to its caller is the kernel's and a moment's matter",
        level: words_of_an_end,
    },
    Difference {
        name: "transfer-coding",
        why: "a transfer coding that the codec cannot read at all is answered 400, Envoy's 501; one that can be read is 501 for both",
        level: transfer_coding,
    },
    Difference {
        name: "upgrade-over-http2",
        why: "an upgrade goes to its program over HTTP/1.1; Envoy asks a program of HTTP/2 by an extended CONNECT. 503 or 502 when it cannot",
        level: upgrade_over_http2,
    },
    Difference {
        name: "nothing-after-204",
        why: "an answer without content ends with its head (RFC 9110, 15.3.5); Envoy sends a direct response's body after a 204, and whatever \
              follows cannot be read",
        level: nothing_after_204,
    },
    Difference {
        name: "own-answers",
        why: "an answer that the proxy itself makes has a text that says why; Envoy's has none, or other words, and a `location` for 3xx",
        level: own_answers,
    },
    Difference {
        name: "http-1.0",
        why: "HTTP/1.0 is served; Envoy answers 426 unless accept_http_10 is set",
        level: http_10,
    },
    Difference {
        name: "nothing-to-send",
        why: "a frame around nothing says nothing that its absence does not; each sends it where the other may not",
        level: nothing_to_send,
    },
    Difference {
        name: "te-is-for-this-hop",
        why: "`te: trailers` goes with `connection: te` (RFC 9110, 10.1.4), which Envoy leaves out; an upgrade with `connection: upgrade`, \
              where Envoy keeps the caller's words and the headers that they name",
        level: te_is_for_this_hop,
    },
    Difference {
        name: "trailers",
        why: "trailers are carried over HTTP/1.1; Envoy drops them unless enable_trailers is set",
        level: trailers,
    },
    Difference {
        name: "broken-reuse",
        why: "an idempotent request whose connection was used before and ended without an answer is sent once more (RFC 9110, 9.2.2)",
        level: broken_reuse,
    },
    Difference {
        name: "what-is-repeated",
        why: "only idempotent methods with a body of at most 64 KiB are sent again after they may have reached somebody; Envoy sends any \
              of up to 1 MiB, but none after an interim answer",
        level: what_is_repeated,
    },
    Difference {
        name: "broken-answer",
        why: "an answer that breaks off at once may break before its head is on its way to the caller",
        level: broken_answer,
    },
    Difference {
        name: "two-framings",
        why: "`content-length` beside `transfer-encoding: chunked` is dropped, equal lengths are one (RFC 9112, 6.3); Envoy answers 400",
        level: two_framings,
    },
    Difference {
        name: "fragment",
        why: "a `#fragment` is cut off before anything reads the path; Envoy answers 400",
        level: fragment,
    },
    Difference {
        name: "request-line",
        why: "a request line with more than single spaces is answered 400; Envoy takes it",
        level: request_line,
    },
    Difference {
        name: "unwanted-upgrade",
        why: "an upgrade that is not configured is not passed on, its request is; Envoy answers 403",
        level: unwanted_upgrade,
    },
    Difference {
        name: "upgrade-not-made",
        why: "where the program does not make the upgrade its answer is like any other; Envoy cuts its body off and closes",
        level: upgrade_not_made,
    },
    Difference {
        name: "head-framing",
        why: "the answer to HEAD does not say `transfer-encoding: chunked`; it may be left out (RFC 9112, 6.1)",
        level: head_framing,
    },
    Difference {
        name: "early-answer",
        why: "an answer of the proxy's own before the request's end, or with another behind it: up to a bound the rest is read and the connection \
              kept, beyond it is closed; Envoy closes in other cases",
        level: early_answer,
    },
];

/// Bodies up to so many bytes are kept for another attempt.
const KEPT: usize = 64 * 1024;

/// Whether the names of all differences that explain an outcome, or nothing when something is left.
pub fn explain(exchange: &Exchange, envoy: &Outcome, ours: &Outcome) -> Option<Vec<&'static str>> {
    let (mut envoy, mut ours) = (envoy.clone(), ours.clone());
    let mut names = Vec::new();
    for one in ALL {
        let before = (envoy.clone(), ours.clone());
        (one.level)(exchange, &mut envoy, &mut ours);
        if before != (envoy.clone(), ours.clone()) {
            names.push(one.name);
        }
        if envoy == ours {
            return Some(names);
        }
    }
    None
}

fn both(
    envoy: &mut Outcome,
    ours: &mut Outcome,
    mut level: impl FnMut(usize, &mut Answer, &mut Answer),
) {
    for (at, (a, b)) in envoy.answers.iter_mut().zip(&mut ours.answers).enumerate() {
        if let (Ok(a), Ok(b)) = (a, b) {
            level(at, a, b);
        }
    }
}

fn without(headers: &mut Headers, names: &[&str]) {
    headers.retain(|(name, _)| !names.contains(&name.as_str()));
}

fn is_own(answer: &Answer) -> bool {
    !answer.headers.iter().any(|(name, _)| name == "x-program")
}

fn own_answers(_: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    both(envoy, ours, |_, a, b| {
        if is_own(a) && is_own(b) && a.status == b.status {
            for one in [a, b] {
                without(
                    &mut one.headers,
                    &[
                        "location",
                        "content-length",
                        "content-type",
                        "transfer-encoding",
                        "grpc-message",
                    ],
                );
                // a request that could not be read has no chain to say whose name its answer bears
                if one.status == 400 || one.status == 431 {
                    without(&mut one.headers, &["server", "date"]);
                }
                one.body = (0, 0);
            }
        }
    });
}

fn http_10(exchange: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    if text(exchange).contains(" http/1.0\r\n") && refused(envoy, 426) {
        *envoy = ours.clone();
    }
}

fn head_framing(exchange: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    both(envoy, ours, |at, a, b| {
        if exchange
            .methods
            .get(at)
            .is_some_and(|method| method == "HEAD")
        {
            for one in [a, b] {
                without(&mut one.headers, &["transfer-encoding", "trailer"]);
            }
        }
    });
}

fn early_answer(exchange: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    let upgrade = text(exchange).contains("\r\nupgrade:");
    let has_more = upgrade || exchange.pieces.len() > 1 || {
        let whole = exchange.pieces.concat();
        let head = whole.windows(4).position(|four| four == b"\r\n\r\n");
        head.is_some_and(|end| whole.len() > end + 4)
    };
    if !has_more {
        return;
    }
    let closing = |outcome: &Outcome| {
        let at = outcome.answers.iter().position(|answer| {
            answer.as_ref().is_ok_and(|answer| {
                is_own(answer)
                    && answer
                        .headers
                        .contains(&("connection".into(), "close".into()))
            })
        });
        let unsaid = || {
            let unanswered = outcome.answers.iter().position(Result::is_err);
            unanswered.and_then(|at| at.checked_sub(1))
        };
        at.or_else(unsaid).filter(|_| outcome.fate == Fate::Closed)
    };
    // what came after the answer with which one of them closed cannot be compared
    let at = match (closing(envoy), closing(ours)) {
        (Some(a), Some(b)) => a.min(b),
        (Some(a), None) | (None, Some(a)) => a,
        (None, None) => match (envoy.fate, ours.fate, envoy.answers.last()) {
            (Fate::Kept, Fate::Closed, Some(Ok(last))) if is_own(last) => envoy.answers.len() - 1,
            _ => return,
        },
    };
    let own =
        |outcome: &Outcome| matches!(outcome.answers.get(at), Some(Ok(answer)) if is_own(answer));
    if !own(envoy) || !own(ours) {
        return;
    }
    for one in [envoy, ours] {
        one.answers.truncate(at + 1);
        one.fate = Fate::Closed;
        let programs = one
            .answers
            .iter()
            .filter(|answer| answer.as_ref().is_ok_and(|a| !is_own(a)));
        let reached = programs.count();
        one.seen.truncate(reached);
        if let Some(Ok(answer)) = one.answers.last_mut() {
            without(&mut answer.headers, &["connection"]);
        }
    }
}

fn text(exchange: &Exchange) -> String {
    let whole = exchange.pieces.concat();
    String::from_utf8_lossy(&whole).to_ascii_lowercase()
}

fn refused(outcome: &Outcome, status: u16) -> bool {
    let mut answers = outcome.answers.iter();
    answers.any(|answer| {
        answer
            .as_ref()
            .is_ok_and(|answer| answer.status == status && is_own(answer))
    })
}

fn nothing_to_send(_: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    let nothing = ("content-length".to_owned(), "0".to_owned());
    for one in envoy.seen.iter_mut().chain(&mut ours.seen) {
        one.headers.retain(|pair| *pair != nothing);
        if one.body.0 == 0 {
            without(&mut one.headers, &["transfer-encoding"]);
        }
    }
}

fn te_is_for_this_hop(_: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    let hop = ("connection".to_owned(), "te".to_owned());
    for one in &mut ours.seen {
        one.headers.retain(|pair| *pair != hop);
    }
    for (a, b) in envoy.seen.iter_mut().zip(&mut ours.seen) {
        let words = |(name, value): &(String, String)| {
            (name == "connection").then(|| value.to_ascii_lowercase())
        };
        let kept: Vec<String> = a.headers.iter().filter_map(words).collect();
        if !kept.iter().any(|words| words.contains("upgrade")) {
            continue;
        }
        // what the caller's `connection` names, and what `te` takes, is for this hop; Envoy sends it on beside an upgrade
        let named = |name: &str| {
            let mut all = kept.iter().flat_map(|words| words.split(','));
            all.any(|word| word.trim() == name && name != "upgrade")
        };
        a.headers.retain(|(name, _)| !named(name));
        for one in [a, b] {
            for (name, value) in &mut one.headers {
                if name == "te" && value.to_ascii_lowercase().contains("trailers") {
                    *value = "trailers".into();
                }
            }
        }
    }
    for one in envoy.seen.iter_mut().chain(&mut ours.seen) {
        for (name, value) in &mut one.headers {
            if name == "connection" && value.to_ascii_lowercase().contains("upgrade") {
                *value = "upgrade".into();
            }
        }
    }
}

fn words_of_an_end(_: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    for answer in envoy.answers.iter_mut().chain(&mut ours.answers) {
        if let Err(text) = answer
            && text != "no answer in time"
        {
            *text = "ended".into();
        }
    }
}

fn transfer_coding(exchange: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    if text(exchange).contains("transfer-encoding:")
        && refused(envoy, 501)
        && (refused(ours, 400) || refused(ours, 501) || refused(ours, 200))
    {
        *envoy = ours.clone();
    }
}

fn two_framings(exchange: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    let text = text(exchange);
    let lengths = text.matches("content-length:").count();
    let two = lengths > 1 || (lengths > 0 && text.contains("transfer-encoding:"));
    if two && refused(envoy, 400) {
        *envoy = ours.clone();
    }
}

fn fragment(exchange: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    // for gRPC its 400 is a 200 with a status
    let refuses = refused(envoy, 400) || refused(envoy, 200);
    if text(exchange).contains("#fragment") && refuses {
        *envoy = ours.clone();
    }
}

fn request_line(exchange: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    if text(exchange).contains("  http/1") && refused(ours, 400) {
        *envoy = ours.clone();
    }
}

fn unwanted_upgrade(exchange: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    // for gRPC its 403 is a 200 with a status
    let refuses = refused(envoy, 403) || refused(envoy, 200);
    if text(exchange).contains("\r\nupgrade:") && refuses {
        *envoy = ours.clone();
    }
}

fn upgrade_over_http2(exchange: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    if text(exchange).contains("\r\nupgrade: websocket\r\n") {
        both(envoy, ours, |_, a, b| {
            if is_own(a) && is_own(b) && (a.status, b.status) == (502, 503) {
                b.status = a.status;
            }
        });
    }
}

fn nothing_after_204(_: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    let empty = |outcome: &Outcome| {
        outcome.answers.iter().position(|answer| {
            let own = answer.as_ref().ok().filter(|answer| is_own(answer));
            own.is_some_and(|answer| answer.status == 204)
        })
    };
    let Some(at) = empty(envoy).filter(|at| Some(*at) == empty(ours)) else {
        return;
    };
    let Some(Ok(answer)) = envoy.answers.get(at) else {
        return;
    };
    let says_more = |(name, value): &(String, String)| name == "content-length" && value != "0";
    let unreadable = matches!(envoy.answers.get(at + 1), Some(Err(_)));
    if unreadable && answer.headers.iter().any(says_more) {
        let fate = match envoy.fate == ours.fate {
            true => envoy.fate,
            false => Fate::Kept,
        };
        for one in [envoy, ours] {
            one.answers.truncate(at + 1);
            one.fate = fate;
            let programs = one.answers.iter().flatten();
            let reached = programs.filter(|answer| !is_own(answer)).count();
            one.seen.truncate(reached);
        }
    }
}

fn trailers(_: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    both(envoy, ours, |_, a, b| {
        if a.trailers.is_empty() {
            b.trailers.clear();
        }
    });
    for (a, b) in envoy.seen.iter_mut().zip(&mut ours.seen) {
        if a.trailers.is_empty() {
            b.trailers.clear();
        }
    }
}

fn broken_reuse(exchange: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    let text = text(exchange);
    let breaks = text.contains(" reset") || text.contains(" cut");
    if breaks && ours.seen.len() == envoy.seen.len() + 1 {
        let last = ours.seen.len() - 1;
        let again = |pair: &(String, String)| pair.0 != "x-envoy-attempt-count";
        let same = |at: usize| -> Vec<_> {
            ours.seen[at]
                .headers
                .iter()
                .filter(|pair| again(pair))
                .cloned()
                .collect()
        };
        if last > 0 && same(last) == same(last - 1) {
            ours.seen.pop();
        }
    }
}

fn upgrade_not_made(_: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    let asked = ours
        .seen
        .iter()
        .any(|seen| seen.headers.iter().any(|(name, _)| name == "upgrade"));
    let made = ours
        .answers
        .iter()
        .any(|answer| answer.as_ref().is_ok_and(|answer| answer.status == 101));
    let closes = envoy.fate == Fate::Closed || refused(envoy, 502);
    if asked && !made && closes && envoy.seen.len() == ours.seen.len() {
        envoy.answers = ours.answers.clone();
        envoy.fate = ours.fate;
    }
}

fn what_is_repeated(exchange: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    let (more, fewer) = match envoy.seen.len() > ours.seen.len() {
        true => (&mut envoy.seen, &mut ours.seen),
        false => (&mut ours.seen, &mut envoy.seen),
    };
    let once = |method: &str| matches!(method, "POST" | "PATCH");
    let hinted = text(exchange).contains(" hint");
    if more.len() == fewer.len() + 1
        && more
            .iter()
            .any(|seen| hinted || once(&seen.method) || seen.body.0 > KEPT)
        && let Some(at) = (1..more.len()).find(|at| {
            let (a, b) = (&more[at - 1], &more[*at]);
            a.method == b.method && a.target == b.target && a.body == b.body
        })
    {
        more.remove(at);
    }
}

fn broken_answer(exchange: &Exchange, envoy: &mut Outcome, ours: &mut Outcome) {
    if !text(exchange).contains(" cut") {
        return;
    }
    for (a, b) in envoy.answers.iter_mut().zip(&mut ours.answers) {
        match (&a, &b) {
            (Ok(one), Err(text)) | (Err(text), Ok(one)) if !one.whole && text == "ended" => {
                *a = b.clone()
            }
            _ => {}
        }
    }
}
