//! One kind of one cluster: list it, watch it, list again when the server has forgotten where we were.
//!
//! A watch that the server ends in order, or that falls silent, is opened again from where it was. Anything else that goes
//! wrong is told as lost, tried again with growing pauses, and told as alive when it goes on without a gap.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use crate::api::{self, Line};
use crate::connect::Access;
use crate::failure::Failure;
use crate::join::Told;
use crate::seen::{Kind, Read, newer};

/// How patient a watch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// A page of a list must be there whole within this time, and a watch be answered.
    pub answer: Duration,
    /// A watch is opened again after so long without a line. API servers send a bookmark at least every 75 s.
    pub silence: Duration,
    /// A watch counts as alive when it says something, or when it was open for so long.
    pub settled: Duration,
    /// The first pause after a failure; it doubles.
    pub pause: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// How often a kind that is not installed or not granted is asked for again.
    pub absent: Duration,
    /// How long the server is asked to keep a watch open.
    pub watch: Duration,
    /// Objects on a page; of endpoint slices a tenth of it.
    pub page: usize,
    /// How often the names of gateways are looked up.
    pub names: Duration,
    /// How often the rights of a credential for discovery are reviewed.
    pub rights: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            answer: Duration::from_secs(30),
            silence: Duration::from_secs(90),
            settled: Duration::from_millis(500),
            pause: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            absent: Duration::from_secs(60),
            watch: Duration::from_secs(300),
            page: 500,
            names: Duration::from_secs(30),
            rights: Duration::from_secs(3600),
        }
    }
}

/// What is followed: where it is, and what its absence means.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// `/api/v1/pods`
    pub(crate) path: String,
    /// `labelSelector=…`, or nothing.
    pub(crate) selector: &'static str,
    /// A kind that is not installed there is fine.
    pub(crate) may_be_absent: bool,
    /// A credential that may not read it is fine.
    pub(crate) may_be_forbidden: bool,
    /// It is listed only after all of these.
    pub(crate) after: Vec<watch::Receiver<bool>>,
    /// Told when it was listed.
    pub(crate) listed: Option<watch::Sender<bool>>,
    /// Told when the server has answered for the first time, or has not.
    pub(crate) answered: Option<watch::Sender<bool>>,
}

/// Growing pauses, with chance in them so that many do not come back at once.
struct Pauses {
    pace: Pace,
    next: Duration,
}

impl Pauses {
    fn new(pace: Pace) -> Pauses {
        Pauses {
            pace,
            next: pace.pause,
        }
    }

    fn reset(&mut self) {
        self.next = self.pace.pause;
    }

    async fn pause(&mut self, failure: &Failure) {
        let pause = self.next.mul_f64(0.75 + 0.5 * chance());
        self.next = (self.next * 2).min(self.pace.longest);
        sleep(failure.wait().map_or(pause, |asked| asked.max(pause))).await;
    }
}

/// A number from 0 to 1.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without chance the pauses are regular, and that is all.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
}

/// The receiver is gone: nobody wants to hear more.
struct Over;

impl<T> From<mpsc::error::SendError<T>> for Over {
    fn from(_: mpsc::error::SendError<T>) -> Over {
        Over
    }
}

/// How a watch ended.
enum End {
    /// In order, or by silence.
    Orderly,
    /// The server does not know our revision any more.
    Expired,
    /// Otherwise.
    Failed(Failure),
}

/// Follows a kind until the receiver is gone.
pub(crate) async fn follow<T: Read>(
    access: Access,
    kind: Kind,
    place: Place,
    pace: Pace,
    told: mpsc::Sender<Told>,
) where
    crate::seen::Kept: From<T::Kept>,
{
    let mut follower = Follower {
        access,
        kind,
        place,
        pace,
        told,
        pauses: Pauses::new(pace),
        whole: false,
    };
    // Nobody listens any more: that is how it ends.
    let _over: Result<(), Over> = follower.run::<T>().await;
}

struct Follower {
    access: Access,
    kind: Kind,
    place: Place,
    pace: Pace,
    told: mpsc::Sender<Told>,
    pauses: Pauses,
    /// List without pages: the server forgot a list in the middle.
    whole: bool,
}

impl Follower {
    async fn run<T: Read>(&mut self) -> Result<(), Over>
    where
        crate::seen::Kept: From<T::Kept>,
    {
        let mut absent_before = false;
        let mut hasty = 0;
        loop {
            for after in &mut self.place.after {
                // The sender lives as long as we do.
                let _ = after.wait_for(|done| *done).await;
            }
            let listed = self.list::<T>().await?;
            if let Some(answered) = &self.place.answered {
                answered.send_replace(true);
            }
            match listed {
                Ok(revision) => {
                    absent_before = false;
                    self.pauses.reset();
                    if let Some(listed) = &self.place.listed {
                        listed.send_replace(true);
                    }
                    self.told
                        .send(Told::Listed(self.kind, revision.clone()))
                        .await?;
                    let begun = Instant::now();
                    self.watch::<T>(revision).await?;
                    // A server that forgets what it has just listed may not keep us, or itself, busy.
                    hasty = match begun.elapsed() < self.pace.settled {
                        true => hasty + 1,
                        false => 0,
                    };
                    if hasty > 1 {
                        let pause = self.pace.pause * 2u32.saturating_pow(hasty.min(16));
                        sleep(pause.min(self.pace.longest)).await;
                    }
                }
                // Said twice: once may be a server that is just starting.
                Err(Failure::Absent) if self.place.may_be_absent && !absent_before => {
                    absent_before = true;
                    sleep(self.pace.pause).await;
                }
                Err(failure) if self.is_fine(&failure) => {
                    let why = failure.about(self.kind.plural());
                    self.told.send(Told::Without(self.kind, why)).await?;
                    if let Some(listed) = &self.place.listed {
                        listed.send_replace(true);
                    }
                    sleep(self.pace.absent.mul_f64(0.75 + 0.5 * chance())).await;
                }
                Err(failure) => {
                    tracing::debug!(kind = self.kind.plural(), server = %self.access.server(), ?failure, "a list failed");
                    self.told
                        .send(Told::Lost(self.kind, failure.clone()))
                        .await?;
                    self.pauses.pause(&failure).await;
                }
            }
        }
    }

    /// A slice holds a hundred endpoints, so fewer of them are a page.
    fn page(&self) -> usize {
        match self.kind {
            Kind::EndpointSlice => (self.pace.page / 10).max(1),
            _ => self.pace.page,
        }
    }

    fn is_fine(&self, failure: &Failure) -> bool {
        match failure {
            Failure::Absent => self.place.may_be_absent,
            Failure::Forbidden { .. } => self.place.may_be_forbidden,
            _ => false,
        }
    }

    /// Lists all pages; gives the revision at which the list is complete.
    async fn list<T: Read>(&mut self) -> Result<Result<String, Failure>, Over>
    where
        crate::seen::Kept: From<T::Kept>,
    {
        self.told.send(Told::Begins(self.kind)).await?;
        let mut token: Option<String> = None;
        let mut pages = 0;
        loop {
            let mut query = Vec::new();
            if !self.place.selector.is_empty() {
                query.push(self.place.selector.to_owned());
            }
            if !self.whole {
                query.push(format!("limit={}", self.page()));
            }
            if let Some(token) = &token {
                query.push(format!("continue={}", escaped(token)));
            }
            let path = format!("{}?{}", self.place.path, query.join("&"));
            let page = match api::page::<T>(&self.access, &path, self.pace.answer).await {
                Ok(page) => page,
                Err(Failure::Expired) if token.is_some() => {
                    self.whole = true;
                    return Ok(Err(Failure::Expired));
                }
                Err(failure) => return Ok(Err(failure)),
            };
            for item in page.items {
                match item {
                    Ok(object) => self.put(object).await?,
                    Err(bad) => {
                        let told = Told::Bad(self.kind, bad.key, bad.reason);
                        self.told.send(told).await?;
                    }
                }
            }
            pages += 1;
            match page.next {
                None => {
                    self.whole = false;
                    return Ok(Ok(page.revision));
                }
                // No cluster has so many pages; a server that always has another one may not keep us.
                Some(_) if pages > MAX_PAGES => {
                    return Ok(Err(Failure::Unreadable {
                        why: format!("a list of more than {MAX_PAGES} pages"),
                    }));
                }
                Some(next) => token = Some(next),
            }
        }
    }

    async fn put<T: Read>(&mut self, object: T) -> Result<(), Over>
    where
        crate::seen::Kept: From<T::Kept>,
    {
        let key = match object.meta().key() {
            Ok(key) => key,
            Err(reason) => {
                let told = Told::Bad(self.kind, None, reason);
                return Ok(self.told.send(told).await?);
            }
        };
        let mut notes = Vec::new();
        let told = match object.keep(&mut notes) {
            Ok(Some(kept)) => Told::Put(key, kept.into(), notes),
            Ok(None) => Told::Gone(self.kind, key),
            Err(reason) => Told::Bad(self.kind, Some(key), reason),
        };
        Ok(self.told.send(told).await?)
    }

    /// Watches from `revision` on, until a new list is needed.
    async fn watch<T: Read>(&mut self, mut revision: String) -> Result<(), Over>
    where
        crate::seen::Kept: From<T::Kept>,
    {
        // The list before it was the sign of life.
        let mut alive = true;
        let mut brisk = 0;
        loop {
            let opened = Instant::now();
            match self.watch_once::<T>(&mut revision, &mut alive).await? {
                End::Expired => return Ok(()),
                End::Orderly if opened.elapsed() >= self.pace.settled => brisk = 0,
                End::Orderly => {
                    brisk += 1;
                    if brisk >= 3 {
                        alive = false;
                        self.lost(Failure::Brisk).await?;
                    }
                }
                End::Failed(failure) => {
                    alive = false;
                    self.lost(failure).await?;
                }
            }
        }
    }

    async fn lost(&mut self, failure: Failure) -> Result<(), Over> {
        tracing::debug!(kind = self.kind.plural(), server = %self.access.server(), ?failure, "a watch failed");
        self.told
            .send(Told::Lost(self.kind, failure.clone()))
            .await?;
        self.pauses.pause(&failure).await;
        Ok(())
    }

    async fn watch_once<T: Read>(
        &mut self,
        revision: &mut String,
        alive: &mut bool,
    ) -> Result<End, Over>
    where
        crate::seen::Kept: From<T::Kept>,
    {
        let selector = match self.place.selector {
            "" => String::new(),
            selector => format!("{selector}&"),
        };
        let path = format!(
            "{}?{selector}watch=true&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={}",
            self.place.path,
            escaped(revision),
            self.pace
                .watch
                .mul_f64(0.75 + 0.25 * chance())
                .as_secs()
                .max(1),
        );
        let opened = api::watch::<T>(&self.access, &path, self.pace.answer).await;
        let mut lines = match opened {
            Ok(lines) => lines,
            Err(Failure::Expired) => return Ok(End::Expired),
            Err(failure) => return Ok(End::Failed(failure)),
        };
        let mut settled = std::pin::pin!(sleep(self.pace.settled));
        let mut silent = Instant::now() + self.pace.silence;
        loop {
            let line = tokio::select! {
                line = lines.next::<T>() => line,
                () = &mut settled, if !*alive => {
                    self.revive(alive).await?;
                    continue;
                }
                () = tokio::time::sleep_until(silent) => return Ok(End::Orderly),
            };
            silent = Instant::now() + self.pace.silence;
            let seen = match line {
                None => return Ok(End::Orderly),
                Some(Line::Failed(Failure::Expired)) => return Ok(End::Expired),
                Some(Line::Failed(failure)) => return Ok(End::Failed(failure)),
                Some(Line::Put(object, seen)) => {
                    self.put(object).await?;
                    seen
                }
                Some(Line::Gone(key, seen)) => {
                    self.told.send(Told::Gone(self.kind, key)).await?;
                    seen
                }
                Some(Line::Bad(bad, seen)) => {
                    let told = Told::Bad(self.kind, bad.key, bad.reason);
                    self.told.send(told).await?;
                    seen
                }
                Some(Line::Bookmark(seen)) => seen,
            };
            if !seen.is_empty() && newer(&seen, revision).is_ge() {
                *revision = seen;
            }
            self.revive(alive).await?;
        }
    }

    async fn revive(&mut self, alive: &mut bool) -> Result<(), Over> {
        if !*alive {
            *alive = true;
            self.told.send(Told::Alive(self.kind)).await?;
        }
        self.pauses.reset();
        Ok(())
    }
}

/// The most pages of one list.
const MAX_PAGES: usize = 10_000;

/// A text as a part of a query.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(b as char);
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}
