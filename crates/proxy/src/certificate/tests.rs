use rustls::time_provider::DefaultTimeProvider;
use tempfile::TempDir;

use super::*;
use crate::config::tests::sidecar;
use crate::stand_in::{StandIn, authority, root};

fn start(config: &Config) -> Result<Keeper, CertificateError> {
    Keeper::start(config, Arc::new(DefaultTimeProvider))
}

/// A pod's folder that trusts `roots`, with a token of `stand_in`.
fn folder(roots: &str, stand_in: &StandIn, config: &mut Config) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    *config = Config {
        control_planes: config.control_planes.clone(),
        ..sidecar(folder.path(), Vec::new())
    };
    std::fs::write(&config.root_cert, roots).unwrap();
    let token = stand_in.token(config.identity());
    std::fs::write(config.join_token.as_ref().unwrap(), token).unwrap();
    folder
}

fn empty() -> Config {
    sidecar(std::path::Path::new(""), Vec::new())
}

#[tokio::test]
async fn the_first_certificate_is_for_the_token_and_the_next_for_the_certificate() {
    let root = root();
    let stand_in = StandIn::new(&root);
    let listening = stand_in.listen().await;
    let mut config = empty();
    config.control_planes = vec![listening.address.into()];
    let _folder = folder(&root.cert_pem(), &stand_in, &mut config);

    let mut keeper = start(&config).unwrap();
    assert!(keeper.credentials().holding().is_none());
    keeper.renew().await.unwrap();
    let credentials = keeper.credentials();
    assert_eq!(
        *credentials.holding().unwrap().identity(),
        config.identity()
    );
    let first = credentials.generation();

    assert!(
        stand_in.tokens.lock().unwrap().is_empty(),
        "a token is good once"
    );
    keeper.renew().await.unwrap();
    assert!(credentials.generation() > first);
}

#[tokio::test]
async fn a_restarted_proxy_has_its_certificate_without_a_control_plane_and_renews_without_a_token()
{
    let root = root();
    let stand_in = StandIn::new(&root);
    let listening = stand_in.listen().await;
    let mut config = empty();
    config.control_planes = vec![listening.address.into()];
    let _folder = folder(&root.cert_pem(), &stand_in, &mut config);
    start(&config).unwrap().renew().await.unwrap();
    let address = listening.address;
    drop(listening);

    config.join_token = None;
    let mut keeper = start(&config).unwrap();
    assert_eq!(
        *keeper.credentials().holding().unwrap().identity(),
        config.identity()
    );
    let failed = keeper.renew().await.unwrap_err();
    assert!(
        failed.to_string().contains(&address.to_string()),
        "{failed}"
    );
    assert!(
        keeper.credentials().holding().is_some(),
        "the old one serves on"
    );

    let again = stand_in.listen().await;
    keeper.control_planes = vec![address.into(), again.address.into()];
    keeper.renew().await.unwrap();
}

#[tokio::test]
async fn somebody_else_of_the_same_root_is_not_the_control_plane() {
    let root = root();
    let other = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/helloworld").unwrap();
    let stand_in = StandIn::named(&root, other);
    let listening = stand_in.listen().await;
    let mut config = empty();
    config.control_planes = vec![listening.address.into()];
    let _folder = folder(&root.cert_pem(), &stand_in, &mut config);
    let failed = start(&config)
        .unwrap()
        .renew()
        .await
        .unwrap_err()
        .to_string();
    assert!(failed.contains("is not who it should be"), "{failed}");
    assert!(failed.contains("sa/helloworld"), "{failed}");
    assert_eq!(
        stand_in.tokens.lock().unwrap().len(),
        1,
        "the token was not shown"
    );
}

#[tokio::test]
async fn a_control_plane_of_another_root_is_refused_by_name() {
    let stand_in = StandIn::new(&root());
    let listening = stand_in.listen().await;
    let mut config = empty();
    config.control_planes = vec![listening.address.into()];
    let _folder = folder(&root().cert_pem(), &stand_in, &mut config);
    let failed = start(&config)
        .unwrap()
        .renew()
        .await
        .unwrap_err()
        .to_string();
    assert!(failed.contains("no trusted root"), "{failed}");
}

#[tokio::test]
async fn without_token_and_certificate_the_next_step_is_said() {
    let root = root();
    let stand_in = StandIn::new(&root);
    let listening = stand_in.listen().await;
    let mut config = empty();
    config.control_planes = vec![listening.address.into()];
    let _folder = folder(&root.cert_pem(), &stand_in, &mut config);
    config.join_token = None;
    let failed = start(&config).unwrap().renew().await.unwrap_err();
    assert!(matches!(failed, CertificateError::NoProof));
}

#[tokio::test]
async fn roots_change_in_steps_and_never_all_at_once() {
    let (a, b) = (root(), root());
    let stand_in = StandIn::new(&a);
    let listening = stand_in.listen().await;
    let mut config = empty();
    config.control_planes = vec![listening.address.into()];
    let _folder = folder(&a.cert_pem(), &stand_in, &mut config);
    let mut keeper = start(&config).unwrap();
    keeper.renew().await.unwrap();
    let trusted = |keeper: &Keeper| keeper.credentials().bundle().fingerprints().len();
    let sign_with = |by: &catamaran_identity::Root, roots: &[&catamaran_identity::Root]| {
        let domain = config.trust_domain.clone();
        let issuer = catamaran_identity::Issuer::new(authority(by, roots), domain).unwrap();
        *stand_in.issuer.lock().unwrap() = issuer;
    };

    sign_with(&b, &[&b]);
    let failed = keeper.renew().await.unwrap_err();
    assert!(
        matches!(failed, CertificateError::OtherRoots { .. }),
        "{failed}"
    );
    assert_eq!(
        keeper.credentials().bundle().fingerprints(),
        vec![a.facts().fingerprint]
    );

    let both = a
        .bundle(&config.trust_domain)
        .unwrap()
        .with(&b.bundle(&config.trust_domain).unwrap());
    let shown = stand_in.credentials.holding().unwrap();
    stand_in
        .credentials
        .install(shown.with_bundle(both, now()).unwrap());
    sign_with(&a, &[&a, &b]);
    keeper.renew().await.unwrap();
    assert_eq!(trusted(&keeper), 2);
    sign_with(&b, &[&a, &b]);
    keeper.renew().await.unwrap();
    sign_with(&b, &[&b]);
    keeper.renew().await.unwrap();
    assert_eq!(
        keeper.credentials().bundle().fingerprints(),
        vec![b.facts().fingerprint]
    );

    // The file of old roots is as it was: what was adopted since counts.
    let restarted = start(&config).unwrap();
    assert_eq!(
        restarted.credentials().bundle().fingerprints(),
        vec![b.facts().fingerprint]
    );

    // A person replaces the file by a third root: what was saved does not count.
    let c = root();
    std::fs::write(&config.root_cert, c.cert_pem()).unwrap();
    let restarted = start(&config).unwrap();
    assert!(restarted.credentials().holding().is_none());
    assert_eq!(
        restarted.credentials().bundle().fingerprints(),
        vec![c.facts().fingerprint]
    );
}

#[tokio::test]
async fn a_torn_file_is_passed_over() {
    let root = root();
    let stand_in = StandIn::new(&root);
    let listening = stand_in.listen().await;
    let mut config = empty();
    config.control_planes = vec![listening.address.into()];
    let _folder = folder(&root.cert_pem(), &stand_in, &mut config);
    let mut keeper = start(&config).unwrap();
    keeper.renew().await.unwrap();
    let whole = std::fs::read(&keeper.file).unwrap();
    std::fs::write(&keeper.file, &whole[..whole.len() / 2]).unwrap();
    assert!(start(&config).unwrap().credentials().holding().is_none());
}

#[test]
fn roots_that_cannot_be_read_are_said_with_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = sidecar(folder.path(), Vec::new());
    let failed = start(&config).unwrap_err().to_string();
    assert!(failed.contains("root-cert.pem"), "{failed}");
    std::fs::write(&config.root_cert, "not PEM").unwrap();
    let failed = start(&config).unwrap_err().to_string();
    assert!(failed.contains("root-cert.pem"), "{failed}");
}

#[test]
fn a_token_is_a_join_token_or_a_service_accounts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let read = |text: &str| {
        std::fs::write(&path, text).unwrap();
        read_token(&path).map(|token| token.to_string())
    };
    let join = catamaran_identity::JoinToken::generate().unwrap();
    let text = join.text().to_string();
    assert_eq!(read(&format!("{text}\n")).unwrap(), text);
    assert_eq!(read("eyJh.e30.c2ln\n").unwrap(), "eyJh.e30.c2ln");
    let long = format!("a.b.{}", "c".repeat(MAX_TOKEN));
    for wrong in [
        "",
        "a.b",
        "a.b.c.d",
        "a..c",
        "a.b.c d",
        "a.b.c\nX-Evil: 1",
        &long,
    ] {
        assert!(
            matches!(read(wrong), Err(CertificateError::Token(_))),
            "{wrong}"
        );
    }
}
