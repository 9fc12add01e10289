use super::*;
use crate::fixtures::*;

/// A chain of another implementation, and its root.
struct Chain {
    root: foreign::Authority,
    sent: [CertificateDer<'static>; 1],
    leaf: CertificateDer<'static>,
}

fn chain() -> Chain {
    let root = foreign::root("Corporate Root");
    let middle = root.below("Issuing");
    let (leaf, _) = middle.leaf(vec![foreign::uri(&id("hello").to_string())]);
    Chain {
        root,
        sent: [middle.der],
        leaf,
    }
}

fn trust(root: &foreign::Authority) -> Trust {
    Trust::new(TrustBundle::from_pem(&domain(), &root.pem()).unwrap())
}

impl Trust {
    fn remembered(&self) -> usize {
        let memory = self.memory();
        memory.lately.len() + memory.before.len()
    }
}

#[test]
fn a_good_chain_is_remembered_for_the_side_that_showed_it() {
    let Chain { root, sent, leaf } = chain();
    let trust = trust(&root);
    let first = trust.check(PeerRole::Server, &leaf, &sent, NOW).unwrap();
    let again = trust.check(PeerRole::Server, &leaf, &sent, NOW).unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    let other = trust.check(PeerRole::Client, &leaf, &sent, NOW).unwrap();
    assert!(!Arc::ptr_eq(&first, &other));
    assert_eq!(trust.remembered(), 2);
}

#[test]
fn what_is_remembered_ends_with_the_first_certificate_of_the_chain() {
    let root = foreign::root("Corporate Root");
    let mut params = foreign::ca_params("Issuing", 0);
    // the intermediate ends before the leaf does
    params.not_after = params.not_before + time::Duration::days(1) + time::Duration::hours(2);
    let middle = root.below_with(params);
    let (leaf, _) = middle.leaf(vec![foreign::uri(&id("hello").to_string())]);
    let sent = [middle.der];
    let trust = trust(&root);
    trust.check(PeerRole::Client, &leaf, &sent, NOW).unwrap();
    trust
        .check(PeerRole::Client, &leaf, &sent, NOW.after(HOUR))
        .unwrap();
    for late in [NOW.after(HOUR * 3), NOW.after(DAY * 2)] {
        let refused = trust.check(PeerRole::Client, &leaf, &sent, late);
        assert_eq!(refused.unwrap_err().code(), "expired");
    }
    let early = Timestamp(NOW.0 - DAY.as_millis() as u64 * 2);
    let refused = trust.check(PeerRole::Client, &leaf, &sent, early);
    assert_eq!(refused.unwrap_err().code(), "not_yet_valid");
}

#[test]
fn a_chain_with_one_other_byte_is_checked_anew() {
    let Chain { root, sent, leaf } = chain();
    let trust = trust(&root);
    trust.check(PeerRole::Server, &leaf, &sent, NOW).unwrap();
    // a signature that is not the issuer's
    let mut forged = leaf.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let forged = CertificateDer::from(forged);
    assert!(trust.check(PeerRole::Server, &forged, &sent, NOW).is_err());
    assert!(trust.check(PeerRole::Server, &leaf, &[], NOW).is_err());
    assert_eq!(trust.remembered(), 1);
}

#[test]
fn new_roots_remember_nothing_of_old_ones() {
    let root = root("mesh-1");
    let one = issuer(&root, 1);
    let credentials = crate::Credentials::new(holding(&one, "sleep", NOW), SetClock::at(NOW));
    let peer = holding(&one, "hello", NOW);
    let shown = peer.certified().cert.clone();
    credentials.check(&shown, PeerRole::Server, NOW).unwrap();
    let elsewhere = issuer(&crate::fixtures::root("mesh-2"), 2);
    credentials.install(holding(&elsewhere, "sleep", NOW));
    let refused = credentials.check(&shown, PeerRole::Server, NOW);
    assert_eq!(refused.unwrap_err().code(), "unknown_issuer");
}

#[test]
fn the_memory_is_bounded_and_keeps_what_is_met_again() {
    let mut memory = Memory::default();
    let Chain { root, sent, leaf } = chain();
    let checked = peer::check_path(trust(&root).bundle(), PeerRole::Server, &leaf, &sent, NOW);
    let checked = checked.unwrap();
    let print = |n: usize| {
        let mut print = [0; 32];
        print[..8].copy_from_slice(&n.to_be_bytes());
        print
    };
    for n in 0..REMEMBERED * 5 {
        memory.keep(print(n), checked.clone());
        assert!(memory.recall(&print(0), NOW).is_some());
        assert!(memory.lately.len() + memory.before.len() <= 2 * REMEMBERED);
    }
    assert!(memory.recall(&print(1), NOW).is_none());
}
