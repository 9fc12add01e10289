//! What a proxy says of the resources it cannot use, and what is remembered of it.
//!
//! # The text of a NACK of ours
//! `error_detail` has code 3 (invalid argument) and a message of lines. The first is [`HEADER`]; it promises that every
//! resource of the response that is not named was accepted and is in use. Each further line names one that is not:
//! ```text
//! KIND NAME: REASON
//! ```
//! `KIND` is [`TypeUrlKind::word`]. `NAME` is the resource's name with `%`, white space and control characters written as
//! `%XX` for each byte. `REASON` runs to the end of the line and is at most [`REASON_LIMIT`] bytes.

use std::collections::BTreeMap;
use std::sync::Arc;

use catamaran_wire::well_known::Status;

use crate::{Resource, ResourceKey, ResourceSet, TypeUrlKind, Version};

/// The first line of a NACK's message in which the refused resources are named one by one.
pub const HEADER: &str =
    "catamaran: these resources are refused, the others of the response are in use";

/// In bytes; a longer reason is cut.
pub const REASON_LIMIT: usize = 512;

const INVALID_ARGUMENT: i32 = 3;

/// A resource that a proxy refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Of which kind.
    pub kind: TypeUrlKind,
    /// Unique within its kind.
    pub name: Arc<str>,
    /// Only this version is refused.
    pub version: Version,
    /// In the proxy's words, one line.
    pub reason: String,
    /// What the proxy goes on with: the version it accepted before, if it is still known.
    pub instead: Option<Arc<Resource>>,
}

/// A resource that a client cannot use, as its builder of tables says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// Which resource.
    pub key: ResourceKey,
    /// What is wrong with it, for the person who made it.
    pub reason: String,
}

/// Writes the NACK that names these.
pub(crate) fn write(refused: &[(TypeUrlKind, Arc<str>, String)]) -> Status {
    let mut message = String::from(HEADER);
    for (kind, name, reason) in refused {
        message.push('\n');
        message.push_str(kind.word());
        message.push(' ');
        escape(name, &mut message);
        message.push_str(": ");
        message.push_str(&one_line(reason));
    }
    Status {
        code: INVALID_ARGUMENT,
        message,
        details: Vec::new(),
    }
}

/// The resources of `kind` that a NACK of ours names; `None` when the message is not of our form.
pub(crate) fn read(kind: TypeUrlKind, message: &str) -> Option<Vec<(String, String)>> {
    let mut lines = message.lines();
    (lines.next()? == HEADER).then(|| {
        lines
            .filter_map(|line| {
                let (word, rest) = line.split_once(' ')?;
                let (name, reason) = rest.split_once(": ")?;
                if TypeUrlKind::of_word(word)? != kind {
                    return None;
                }
                Some((unescape(name)?, one_line(reason)))
            })
            .collect()
    })
}

/// What an Envoy begins the text of a whole message with; what follows it is not stable, and may be long.
const DUMP: &str = "goo.gle/debug";

/// A message of Envoy's without the text of the message that it is about, and the name that stands in that text.
///
/// What breaks a rule of the format is written out in full, before the reason; the reason is what a person needs, and in the
/// text the names of others may stand.
pub(crate) fn without_dump(message: &str) -> (String, Option<&str>) {
    let Some((before, dump)) = message.split_once(DUMP) else {
        return (message.to_owned(), None);
    };
    let named = dump.lines().find_map(|line| {
        let quoted = line
            .strip_prefix("name: \"")
            .or_else(|| line.strip_prefix("cluster_name: \""))?;
        quoted.strip_suffix('"')
    });
    let reason = match dump.rsplit_once("\n: ") {
        Some((_, after)) => format!("{before}{after}"),
        // The reason stands before it, and it is what the reason is about.
        None => {
            let text = dump
                .split_once(char::is_whitespace)
                .map_or("", |(_, text)| text);
            format!("{before}{}", text.trim_start())
        }
    };
    (reason, named)
}

/// Those of `names` that stand as a whole word in a message of Envoy's, such as
/// `Error adding/updating cluster(s) outbound|80||a: reason`. A name that is a number must be called a route: other numbers
/// are figures.
pub(crate) fn names_in<'a>(
    message: &str,
    names: impl Iterator<Item = &'a Arc<str>>,
) -> Vec<Arc<str>> {
    let (message, named) = without_dump(message);
    if let Some(named) = named {
        let mut names = names.filter(|name| &***name == named);
        return names.next().cloned().into_iter().collect();
    }
    let part_of_name = |c: char| c.is_alphanumeric() || "|._-*/".contains(c);
    let stands_in = |name: &str| {
        !name.is_empty()
            && message.match_indices(name).any(|(at, found)| {
                let before = message[..at].chars().next_back();
                let mut after = message[at + found.len()..].chars();
                let next = after.next();
                // A full stop may end the sentence rather than go on with a name.
                let ends = match next {
                    Some('.') => !after.next().is_some_and(part_of_name),
                    Some(c) => !part_of_name(c),
                    None => true,
                };
                let is_figure = name.bytes().all(|byte| byte.is_ascii_digit())
                    && !message[..at].ends_with("route ");
                !before.is_some_and(part_of_name) && ends && !is_figure
            })
    };
    names.filter(|name| stands_in(name)).cloned().collect()
}

/// Without line breaks or control characters, and at most [`REASON_LIMIT`] bytes.
pub(crate) fn one_line(text: &str) -> String {
    let mut line: String = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if line.len() > REASON_LIMIT {
        let cut = (0..=REASON_LIMIT)
            .rev()
            .find(|at| line.is_char_boundary(*at))
            .unwrap_or(0);
        line.truncate(cut);
    }
    line
}

fn escape(name: &str, into: &mut String) {
    for c in name.chars() {
        if c == '%' || c.is_whitespace() || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                into.push_str(&format!("%{byte:02X}"));
            }
        } else {
            into.push(c);
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    let mut name = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            name.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        name.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(name).ok()
}

/// The versions that proxies of one capability refused, so that each of them hears of it once and no other has to.
///
/// A session keeps one of its own; the control plane may keep one for all proxies that would refuse the same, fill it from
/// the refusals that sessions report, and hand it to all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quarantine {
    refusals: BTreeMap<ResourceKey, Refusal>,
}

impl Quarantine {
    /// Takes a refusal in; the newest of a resource counts. What was accepted before stays known when a further version is
    /// refused by a proxy that had not accepted any. False when nothing changed.
    pub fn add(&mut self, mut refusal: Refusal) -> bool {
        let key = ResourceKey::new(refusal.kind, refusal.name.clone());
        match self.refusals.get(&key) {
            Some(known) if known.version == refusal.version => false,
            known => {
                if refusal.instead.is_none() {
                    refusal.instead = known.and_then(|known| known.instead.clone());
                }
                self.refusals.insert(key, refusal);
                true
            }
        }
    }

    /// Forgets the refusals of versions that `current` no longer has. True when there were any.
    pub fn forget_replaced(&mut self, current: &ResourceSet) -> bool {
        let before = self.refusals.len();
        self.refusals.retain(|key, refusal| {
            current
                .get(key.kind, &key.name)
                .is_some_and(|now| now.version == refusal.version)
        });
        self.refusals.len() != before
    }

    /// The refusal of exactly this version.
    pub fn get(&self, resource: &Resource) -> Option<&Refusal> {
        self.refusals
            .get(&resource.key())
            .filter(|refusal| refusal.version == resource.version)
    }

    /// All, by kind and name.
    pub fn iter(&self) -> impl Iterator<Item = &Refusal> {
        self.refusals.values()
    }

    /// Whether nothing is refused.
    pub fn is_empty(&self) -> bool {
        self.refusals.is_empty()
    }

    pub(crate) fn names(&self, kind: TypeUrlKind) -> impl Iterator<Item = &Arc<str>> {
        let of_kind = self.refusals.keys().filter(move |key| key.kind == kind);
        of_kind.map(|key| &key.name)
    }
}

#[cfg(test)]
mod tests;
