//! What people should hear of as events: what came, what went, and what lasts. No clock and no socket.
//!
//! Every replica follows along, so that whoever comes to write knows what was said already. What is said is bounded: one thing
//! at most once a minute, so many things of one kind, and so many events in all; what does not fit is said later, if it still
//! holds.

use std::collections::BTreeMap;
use std::time::Duration;

use catamaran_kubernetes::events::{About, Said};
use catamaran_model::Timestamp;

/// What holds for less is not said: an API server that restarts is no news.
pub(crate) const SETTLE: Duration = Duration::from_secs(10);
/// One thing is said at most so often.
const QUIET: Duration = Duration::from_secs(60);
/// What lasts is said again so often: an API server forgets events after an hour.
const REMIND: Duration = Duration::from_secs(30 * 60);
/// Things of one kind about one object that are said one by one.
const OF_ONE_KIND: usize = 8;
/// Events that may be said at once, and after how long there may be another.
const BURST: u32 = 24;
const REFILL: Duration = Duration::from_secs(10);
/// Things that are remembered.
const REMEMBERED: usize = 512;
/// What is over is remembered for so long.
const MEMORY: Duration = Duration::from_secs(3600);

/// Something that people should act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// What it is about.
    pub(crate) about: About,
    /// In one word, and the word for when it is over.
    pub(crate) reason: (&'static str, &'static str),
    /// What it concerns there; one trouble each.
    pub(crate) subject: String,
    /// In words.
    pub(crate) note: String,
    /// How long it must hold before it is said.
    pub(crate) settle: Duration,
}

type Key = (About, &'static str, String);

#[derive(Debug, Clone)]
struct Known {
    over: &'static str,
    note: String,
    /// Since when it is there, or is not.
    since: Timestamp,
    settle: Duration,
    holds: bool,
    /// What people heard last: that it holds, or that it does not.
    heard: bool,
    /// When they heard it.
    spoken: Option<Timestamp>,
}

/// What is known, and what was said of it.
#[derive(Debug, Clone)]
pub(crate) struct Notices {
    known: BTreeMap<Key, Known>,
    budget: u32,
    refilled: Timestamp,
}

impl Notices {
    pub(crate) fn new(now: Timestamp) -> Notices {
        Notices {
            known: BTreeMap::new(),
            budget: BURST,
            refilled: now,
        }
    }

    /// What is to be said now that this is all that troubles us. It is remembered as said; [`Notices::unsaid`] takes that back.
    pub(crate) fn step(&mut self, troubles: Vec<Trouble>, now: Timestamp) -> Vec<Said> {
        let mut now_there: BTreeMap<Key, Trouble> = BTreeMap::new();
        let mut of_kind: BTreeMap<(About, &'static str), usize> = BTreeMap::new();
        // what was said already keeps its place before what is new
        let (mut old, new): (Vec<_>, Vec<_>) = troubles
            .into_iter()
            .partition(|trouble| self.known.contains_key(&key(trouble)));
        old.extend(new);
        for trouble in old {
            let place = key(&trouble);
            let count = of_kind
                .entry((trouble.about.clone(), trouble.reason.0))
                .or_default();
            if now_there.contains_key(&place) || *count >= OF_ONE_KIND {
                continue;
            }
            *count += 1;
            now_there.insert(place, trouble);
        }
        for (key, known) in &mut self.known {
            let there = now_there.remove(key);
            let holds = there.is_some();
            if let Some(trouble) = there {
                known.note = trouble.note;
                known.settle = trouble.settle;
            }
            if known.holds != holds {
                known.holds = holds;
                known.since = now;
            }
        }
        for (key, trouble) in now_there {
            if self.known.len() >= REMEMBERED {
                break;
            }
            let known = Known {
                over: trouble.reason.1,
                note: trouble.note,
                since: now,
                settle: trouble.settle,
                holds: true,
                heard: false,
                spoken: None,
            };
            self.known.insert(key, known);
        }
        self.known
            .retain(|_, known| known.holds || known.heard || now.since(known.since) < MEMORY);
        self.refill(now);
        self.say(now)
    }

    fn refill(&mut self, now: Timestamp) {
        let passed = now.since(self.refilled);
        let more = u32::try_from(passed.as_secs() / REFILL.as_secs()).unwrap_or(u32::MAX);
        if more > 0 {
            self.budget = self.budget.saturating_add(more).min(BURST);
            self.refilled = now;
        }
        // a clock that was set back must not silence us
        self.refilled = self.refilled.min(now);
    }

    fn say(&mut self, now: Timestamp) -> Vec<Said> {
        let mut all = Vec::new();
        for ((about, reason, _), known) in &mut self.known {
            if self.budget == 0 {
                break;
            }
            let passed = known.spoken.map(|at| now.since(at));
            let again = known.holds == known.heard;
            // what was never said need not be over, and what came back before that was said goes on
            let due = match again {
                false => {
                    now.since(known.since) >= known.settle
                        && passed.is_none_or(|passed| passed >= QUIET)
                }
                true => known.holds && passed.is_some_and(|passed| passed >= REMIND),
            };
            if !due {
                continue;
            }
            self.budget -= 1;
            known.heard = known.holds;
            known.spoken = Some(now);
            all.push(Said {
                about: about.clone(),
                warning: known.holds,
                reason: if known.holds { reason } else { known.over },
                note: match known.holds {
                    true => known.note.clone(),
                    false => format!("it is over: {}", known.note),
                },
                since: known.since,
                again,
            });
        }
        all
    }

    /// It could not be said: it is tried again.
    pub(crate) fn unsaid(&mut self, said: &Said) {
        for ((about, reason, _), known) in &mut self.known {
            let word = if known.holds { *reason } else { known.over };
            if *about == said.about && word == said.reason && known.since == said.since {
                known.heard = !known.holds;
                known.spoken = None;
            }
        }
    }
}

fn key(trouble: &Trouble) -> Key {
    (
        trouble.about.clone(),
        trouble.reason.0,
        trouble.subject.clone(),
    )
}

#[cfg(test)]
mod tests;
