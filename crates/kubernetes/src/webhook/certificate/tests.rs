use super::*;

const START: Timestamp = Timestamp(1_700_000_000_000);

fn names() -> Vec<String> {
    vec![
        "catamaran-mesh-1.catamaran-system.svc".into(),
        "127.0.0.1".into(),
    ]
}

fn after(days: u64) -> Timestamp {
    START.after(Duration::from_secs(days * 24 * 3600))
}

fn written(due: Due) -> Kept {
    match due {
        Due::Write(kept) => *kept,
        Due::Nothing => panic!("nothing was due"),
    }
}

/// Whether an API server that believes `bundle` takes what `pair` shows.
fn believes(bundle: &str, pair: &Pair, name: &str, now: Timestamp) -> Result<(), String> {
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(der.unwrap()).unwrap();
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
        .build()
        .unwrap();
    let leaf = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    let name = name.to_owned().try_into().unwrap();
    let now = rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_millis(now.0));
    let checked = verifier.verify_server_cert(&leaf, &[], &name, &[], now);
    checked.map(|_| ()).map_err(|error| error.to_string())
}

#[test]
fn an_api_server_believes_it_for_its_names_and_its_life() {
    let kept = Kept::first(&names(), None, START).unwrap();
    for name in names() {
        assert_eq!(
            believes(&kept.bundle(), &kept.current, &name, START),
            Ok(())
        );
        assert_eq!(
            believes(&kept.bundle(), &kept.current, &name, after(89)),
            Ok(())
        );
    }
    believes(
        &kept.bundle(),
        &kept.current,
        "istiod.istio-system.svc",
        START,
    )
    .unwrap_err();
    believes(&kept.bundle(), &kept.current, &names()[0], after(91)).unwrap_err();
    let other = Kept::first(&names(), None, START).unwrap();
    believes(&other.bundle(), &kept.current, &names()[0], START).unwrap_err();
}

#[test]
fn the_secret_gives_back_what_was_put_in() {
    let first = Kept::first(&names(), None, START).unwrap();
    let next = written(first.due(&names(), None, after(61)).unwrap());
    assert!(next.next.is_some());
    assert_eq!(Kept::of(&next.data()), Some(next.clone()));
    let mut damaged = next.data();
    damaged.insert("tls.crt".into(), ByteString(b"nothing".to_vec()));
    assert_eq!(Kept::of(&damaged), None);
    // another's key or CA is no pair
    for part in ["tls.key", "ca.crt"] {
        let mut mixed = next.data();
        let strange = mixed[&format!("next-{part}")].clone();
        mixed.insert(part.into(), strange);
        assert_eq!(Kept::of(&mixed), None, "{part}");
    }
    let mut gone = next.data();
    gone.remove("next-tls.key");
    assert_eq!(Kept::of(&gone).unwrap().next, None);
    assert!(!format!("{next:?}").contains("PRIVATE"));
}

#[test]
fn a_successor_is_shown_only_when_it_is_believed_and_the_old_one_stays_believed() {
    let first = Kept::first(&names(), None, START).unwrap();
    assert_eq!(
        first.due(&names(), Some(START), after(59)).unwrap(),
        Due::Nothing
    );
    let now = after(61);
    let second = written(first.due(&names(), Some(START), now).unwrap());
    assert_eq!(second.current, first.current, "not yet");
    // replicas that have seen either are believed by an API server that has either bundle
    for bundle in [first.bundle(), second.bundle()] {
        assert_eq!(believes(&bundle, &first.current, &names()[0], now), Ok(()));
    }
    for believed in [None, Some(now)] {
        let due = second
            .due(&names(), believed, now.after(SETTLED / 2))
            .unwrap();
        assert_eq!(due, Due::Nothing);
    }
    let third = written(second.due(&names(), Some(now), now.after(SETTLED)).unwrap());
    assert_eq!(Some(&third.current), second.next.as_ref());
    assert_eq!(third.next, None);
    for bundle in [second.bundle(), third.bundle()] {
        for pair in [&first.current, &third.current] {
            assert_eq!(believes(&bundle, pair, &names()[0], now), Ok(()));
        }
    }
    assert_eq!(
        third.due(&names(), None, now.after(SETTLED * 2)).unwrap(),
        Due::Nothing
    );
    // years of it do not make the bundle longer
    let mut kept = third;
    let mut at = now;
    for _ in 0..5 {
        at = at.after(LIFE - EARLY);
        kept = written(kept.due(&names(), None, at).unwrap());
        at = at.after(SETTLED);
        kept = written(kept.due(&names(), Some(now), at).unwrap());
        assert_eq!(kept.bundle().matches("BEGIN").count(), 2);
        assert_eq!(
            believes(&kept.bundle(), &kept.current, &names()[0], at),
            Ok(())
        );
    }
}

#[test]
fn one_for_other_names_is_replaced_as_one_that_ends() {
    let first = Kept::first(&names()[..1], None, START).unwrap();
    let second = written(first.due(&names(), Some(START), after(1)).unwrap());
    assert!(second.next.as_ref().unwrap().is_for(&names()));
    let other = vec!["other.catamaran-system.svc".to_owned()];
    let third = written(second.due(&other, Some(START), after(2)).unwrap());
    assert!(third.next.as_ref().unwrap().is_for(&other));
    let back = written(second.due(&names()[..1], Some(after(2)), after(3)).unwrap());
    assert!(back.current.is_for(&names()[..1]));
}

#[test]
fn years_without_a_control_plane_end_with_a_certificate_that_counts() {
    let first = Kept::first(&names(), None, START).unwrap();
    let waiting = written(first.due(&names(), None, after(61)).unwrap());
    for kept in [first, waiting] {
        let now = after(1000);
        let renewed = written(kept.due(&names(), Some(START), now).unwrap());
        let next = renewed.next.clone().unwrap();
        assert_eq!(believes(&renewed.bundle(), &next, &names()[0], now), Ok(()));
    }
}

#[test]
fn a_lost_secret_leaves_what_is_shown_believed() {
    let shown = Kept::first(&names(), None, START).unwrap().current;
    let anew = Kept::first(&names(), Some(&shown), after(1)).unwrap();
    for pair in [&shown, &anew.current] {
        assert_eq!(
            believes(&anew.bundle(), pair, &names()[0], after(1)),
            Ok(())
        );
    }
}
