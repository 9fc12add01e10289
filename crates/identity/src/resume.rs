//! Sessions that are resumed: what clients keep of them, and the tickets of servers.
//!
//! A resumed handshake computes no signature. It proves that the peer is the one of an earlier handshake, and shows that
//! handshake's certificates, whose chain is then checked with the roots and the time of the moment
//! ([`crate::Credentials::peer`]). What is here only sees to it that sessions for which that check would fail are rarely
//! tried: both sides forget all of them when their certificate or roots change, and after an hour.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::ProducesTickets;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::{ServerName, UnixTime};

use crate::credentials::Held;

/// How long a session is resumed at most.
pub(crate) const SESSION_LIFE: Duration = Duration::from_secs(3600);

/// What a client's or a server's sessions stand on: the certificate and roots of one generation, and the clock.
struct Ground {
    held: Arc<ArcSwap<Held>>,
    clock: Arc<dyn TimeProvider>,
}

impl Ground {
    fn generation(&self) -> u64 {
        self.held.load().generation
    }

    fn now(&self) -> Option<UnixTime> {
        self.clock.current_time()
    }
}

fn is_young(since: UnixTime, now: UnixTime) -> bool {
    now >= since && now.as_secs() - since.as_secs() < SESSION_LIFE.as_secs()
}

/// The sessions that a client can resume with one server: each is used once, the youngest first.
pub struct Sessions {
    ground: Ground,
    room: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    generation: u64,
    group: Option<NamedGroup>,
    sessions: VecDeque<(UnixTime, Tls13ClientSessionValue)>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sessions({})", self.kept().sessions.len())
    }
}

impl Sessions {
    pub(crate) fn new(
        held: Arc<ArcSwap<Held>>,
        clock: Arc<dyn TimeProvider>,
        room: usize,
    ) -> Sessions {
        Sessions {
            ground: Ground { held, clock },
            room,
            kept: Mutex::default(),
        }
    }

    /// Begins anew: the next handshakes are whole ones.
    pub fn forget(&self) {
        self.kept().sessions.clear();
    }

    /// What is kept, without what stood on another certificate or other roots.
    fn kept(&self) -> MutexGuard<'_, Kept> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.ground.generation();
        if kept.generation != generation {
            kept.generation = generation;
            kept.sessions.clear();
        }
        kept
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.kept().group = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept().group
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, session: Tls13ClientSessionValue) {
        let Some(now) = self.ground.now().filter(|_| self.room > 0) else {
            return;
        };
        let mut kept = self.kept();
        if kept.sessions.len() >= self.room {
            kept.sessions.pop_front();
        }
        if self.room > 0 {
            kept.sessions.push_back((now, session));
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let now = self.ground.now()?;
        let mut kept = self.kept();
        let (since, session) = kept.sessions.pop_back()?;
        if is_young(since, now) {
            return Some(session);
        }
        // the others are older
        kept.sessions.clear();
        None
    }
}

/// The tickets of one listener. They are encrypted with a key that lives in this process only, and a new one takes its
/// place when the certificate or the roots change and once in an hour; tickets of an earlier key lead to a whole handshake.
pub(crate) struct Tickets {
    ground: Ground,
    key: Mutex<Option<Key>>,
}

struct Key {
    generation: u64,
    since: UnixTime,
    ticketer: Arc<dyn ProducesTickets>,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl Tickets {
    pub(crate) fn new(held: Arc<ArcSwap<Held>>, clock: Arc<dyn TimeProvider>) -> Tickets {
        Tickets {
            ground: Ground { held, clock },
            key: Mutex::default(),
        }
    }

    /// The key of this moment.
    fn ticketer(&self) -> Option<Arc<dyn ProducesTickets>> {
        let generation = self.ground.generation();
        let now = self.ground.now()?;
        let mut key = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = &*key
            && key.generation == generation
            && is_young(key.since, now)
        {
            return Some(key.ticketer.clone());
        }
        let ticketer = Ticketer::new().ok()?;
        *key = Some(Key {
            generation,
            since: now,
            ticketer: ticketer.clone(),
        });
        Some(ticketer)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        SESSION_LIFE.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.ticketer()?.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.ticketer()?.decrypt(cipher)
    }
}
