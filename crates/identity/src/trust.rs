//! The roots that are trusted at one time, and the chains that were found good under them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use catamaran_model::Timestamp;
use rustls_pki_types::CertificateDer;

use crate::bundle::TrustBundle;
use crate::peer::{self, Checked, Peer, PeerError, PeerRole};

/// Chains that are remembered at least; twice as many at most.
const REMEMBERED: usize = 1024;

/// Where verifiers find what is trusted at the moment of a handshake.
pub type SharedTrust = Arc<ArcSwap<Trust>>;

/// The SHA-256 of whole chain and side: nothing that differs in a byte is the same chain.
type Print = [u8; 32];

/// Roots, with a memory of good chains.
///
/// A handshake shows the same chain as the one before it, and the signatures in it need not be computed again: what is
/// remembered is "this chain, byte for byte, is good for this side from then until then". That its owner has the key is
/// proved in each handshake anew. New roots are a new `Trust` and begin with an empty memory, so no belief outlives a root;
/// a chain in which anything has ended is checked again, and refused with the reason.
pub struct Trust {
    bundle: Arc<TrustBundle>,
    memory: Mutex<Memory>,
}

/// Good chains: those met lately, and those met before them.
#[derive(Default)]
struct Memory {
    lately: BTreeMap<Print, Checked>,
    before: BTreeMap<Print, Checked>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trust").field(&self.bundle).finish()
    }
}

impl Trust {
    /// Trusts these roots, and remembers nothing yet.
    pub fn new(bundle: TrustBundle) -> Trust {
        Trust {
            bundle: Arc::new(bundle),
            memory: Mutex::default(),
        }
    }

    /// The roots.
    pub fn bundle(&self) -> &Arc<TrustBundle> {
        &self.bundle
    }

    /// The chain check for one side. Whoever failed it once is checked again; only good news is remembered.
    pub(crate) fn check(
        &self,
        role: PeerRole,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<Arc<Peer>, PeerError> {
        let print = print(role, end_entity, intermediates);
        if let Some(peer) = self.memory().recall(&print, now) {
            return Ok(peer);
        }
        let checked = peer::check_path(&self.bundle, role, end_entity, intermediates, now)?;
        let peer = checked.peer.clone();
        self.memory().keep(print, checked);
        Ok(peer)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn recall(&mut self, print: &Print, now: Timestamp) -> Option<Arc<Peer>> {
        if let Some(checked) = self.lately.get(print) {
            return checked.holds(now).then(|| checked.peer.clone());
        }
        let checked = self.before.remove(print)?;
        let peer = checked.holds(now).then(|| checked.peer.clone())?;
        self.keep(*print, checked);
        Some(peer)
    }

    fn keep(&mut self, print: Print, checked: Checked) {
        if self.lately.len() >= REMEMBERED {
            self.before = std::mem::take(&mut self.lately);
        }
        self.lately.insert(print, checked);
    }
}

fn print(
    role: PeerRole,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Print {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(match role {
        PeerRole::Server => b"server",
        PeerRole::Client => b"client",
    });
    for certificate in std::iter::once(end_entity).chain(intermediates) {
        context.update(&(certificate.len() as u64).to_be_bytes());
        context.update(certificate);
    }
    let mut print = [0; 32];
    print.copy_from_slice(context.finish().as_ref());
    print
}

#[cfg(test)]
mod tests;
