use proptest::prelude::*;

use super::*;
use crate::fixtures::*;
use crate::root::{INTERMEDIATE_LIFE, ROOT_LIFE};

fn request(key: &KeyPair) -> Csr {
    Csr::from_pem(&key.request(&id("sleep")).unwrap()).unwrap()
}

#[test]
fn the_answer_is_istio_s_leaf_first_and_roots_last() {
    let root = root("mesh-1");
    let issuer = issuer(&root, 1);
    let issued = issuer
        .sign(
            &request(&KeyPair::generate().unwrap()),
            &id("sleep"),
            None,
            NOW,
        )
        .unwrap();
    let pems = issued.pems();
    assert_eq!(pems.len(), 3);
    let prints: Vec<_> = pems
        .iter()
        .map(|pem| CertificateFacts::of_pem(pem).unwrap()[0].fingerprint)
        .collect();
    assert_eq!(
        prints,
        [
            issued.facts.fingerprint,
            issuer.fingerprint(),
            root.facts().fingerprint
        ]
    );
}

#[test]
fn the_request_s_key_and_nothing_else_is_taken() {
    let issuer = issuer(&root("mesh-1"), 1);
    let csr = request(&KeyPair::generate().unwrap());
    let one = issuer.sign(&csr, &id("sleep"), None, NOW).unwrap();
    let two = issuer.sign(&csr, &id("sleep"), None, NOW).unwrap();
    assert_ne!(one.facts.serial, two.facts.serial);
    assert_eq!(
        crate::certificate::Certificate::read(&one.leaf)
            .unwrap()
            .spki,
        csr.spki
    );
}

#[test]
fn a_life_out_of_bounds_and_a_foreign_trust_domain_are_refused() {
    let issuer = issuer(&root("mesh-1"), 1);
    let csr = request(&KeyPair::generate().unwrap());
    for life in [
        Duration::ZERO,
        Duration::from_secs(59),
        DAY * 90 + Duration::from_secs(1),
        Duration::MAX,
    ] {
        assert!(matches!(
            issuer.sign(&csr, &id("sleep"), Some(life), NOW),
            Err(SignError::Life(_))
        ));
    }
    for life in [MIN_LEAF_LIFE, HOUR, MAX_LEAF_LIFE] {
        let issued = issuer.sign(&csr, &id("sleep"), Some(life), NOW).unwrap();
        assert_eq!(issued.facts.not_after, NOW.after(life));
    }
    let stranger = SpiffeId::parse("spiffe://other.domain/ns/default/sa/sleep").unwrap();
    let key = KeyPair::generate().unwrap();
    let csr = Csr::from_pem(&key.request(&stranger).unwrap()).unwrap();
    let error = issuer.sign(&csr, &stranger, None, NOW).unwrap_err();
    assert!(
        matches!(error, SignError::OtherTrustDomain { .. }),
        "{error}"
    );
}

#[test]
fn readiness_ends_one_leaf_before_the_issuer_and_signing_at_its_last_minute() {
    let issuer = issuer(&root("mesh-1"), 1);
    let csr = request(&KeyPair::generate().unwrap());
    let end = issuer.not_after();
    let before = |span: Duration| Timestamp(end.0 - span.as_millis() as u64);
    assert_eq!(issuer.ready(NOW), Ok(()));
    assert_eq!(issuer.ready(before(LEAF_LIFE)), Ok(()));
    let late = before(LEAF_LIFE - Duration::from_secs(1));
    assert!(matches!(
        issuer.ready(late),
        Err(NotReady::EndsTooSoon { .. })
    ));
    let issued = issuer.sign(&csr, &id("sleep"), None, late).unwrap();
    assert_eq!(issued.facts.not_after, end);
    let too_late = before(MIN_LEAF_LIFE - Duration::from_secs(1));
    let error = issuer.sign(&csr, &id("sleep"), None, too_late).unwrap_err();
    assert!(
        error.to_string().contains("catamaran trust renew"),
        "{error}"
    );
    let early = Timestamp(NOW.0 - HOUR.as_millis() as u64);
    assert!(matches!(
        issuer.ready(early),
        Err(NotReady::NotYetValid { .. })
    ));
    assert!(issuer.sign(&csr, &id("sleep"), None, early).is_err());
}

#[test]
fn people_are_warned_from_half_life() {
    let issuer = issuer(&root("mesh-1"), 1);
    let half = issuer.facts().half_life();
    assert_eq!(issuer.renewal_due(Timestamp(half.0 - 1)), None);
    assert_eq!(issuer.renewal_due(half), Some(issuer.not_after()));
}

#[test]
fn rsa_keys_may_also_encipher() {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let theirs = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let csr = request(&KeyPair::from_pem(&theirs.serialize_pem()).unwrap());
    let issued = issuer(&root("mesh-1"), 1)
        .sign(&csr, &id("sleep"), None, NOW)
        .unwrap();
    let (_, leaf) = X509Certificate::from_der(&issued.leaf).unwrap();
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && usage.key_encipherment());
}

#[test]
fn a_control_plane_gets_its_own_identity() {
    let issuer = issuer(&root("mesh-1"), 1);
    let own = SpiffeId::control_plane(domain());
    let held = issuer.holding_for(&own, None, NOW).unwrap();
    assert_eq!(held.identity(), &own);
    assert_eq!(held.issuers()[0], issuer.fingerprint());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// S8: leaf within intermediate within root, nothing shorter than a minute or longer than the longest.
    #[test]
    fn lifetimes_are_nested(
        intermediate_at in 0u64..ROOT_LIFE.as_secs(),
        leaf_at in 0u64..INTERMEDIATE_LIFE.as_secs() + 100,
        millis in 0u64..1000,
        life in 0u64..MAX_LEAF_LIFE.as_secs() + 100_000,
    ) {
        let root = root("mesh-1");
        let then = Timestamp(NOW.0 + intermediate_at * 1000 + millis);
        let Ok(authority) = root.issue_intermediate(&domain(), &mesh("mesh-1"), &cluster("cluster-1"), then) else {
            // Only in the root's last minute, in which nothing could be signed below it.
            prop_assert!(intermediate_at + 61 >= ROOT_LIFE.as_secs());
            return Ok(());
        };
        let issuer = Issuer::new(authority, domain()).unwrap();
        let (above, middle) = (root.facts(), issuer.facts());
        prop_assert!(above.not_before <= middle.not_before && middle.not_after <= above.not_after);
        let now = Timestamp(then.0 + leaf_at * 1000);
        let asked = Duration::from_secs(life);
        let key = KeyPair::generate().unwrap();
        match issuer.sign(&request(&key), &id("sleep"), Some(asked), now) {
            Ok(issued) => {
                let leaf = &issued.facts;
                prop_assert!((MIN_LEAF_LIFE..=MAX_LEAF_LIFE).contains(&asked));
                prop_assert!(middle.not_before <= leaf.not_before && leaf.not_after <= middle.not_after);
                prop_assert!(leaf.is_valid(now));
                let left = leaf.not_after.since(now);
                prop_assert!(left <= asked && left + Duration::from_secs(1) >= MIN_LEAF_LIFE);
                prop_assert!(now.since(leaf.not_before) < BACKDATE + Duration::from_secs(1));
                prop_assert!(Holding::from_response(&issued.pems(), key, &id("sleep"), now).is_ok());
            }
            Err(SignError::Life(_)) => prop_assert!(!(MIN_LEAF_LIFE..=MAX_LEAF_LIFE).contains(&asked)),
            Err(SignError::IssuerNotValid { .. }) => {
                prop_assert!(now.after(MIN_LEAF_LIFE) > middle.not_after);
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
