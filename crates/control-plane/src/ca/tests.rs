use super::*;

fn cluster() -> ClusterId {
    ClusterId::new("cluster-1").unwrap()
}

fn record(folder: &Path, name: &str, token: &str, cluster: &str, expires: u64) {
    let hash = fingerprint(&CertificateDer::from(token.as_bytes()));
    let text = format!(
        r#"{{"sha256": "{hash}", "identity": "spiffe://cluster.local/ns/default/sa/sleep", "cluster": "{cluster}", "expires": {expires}}}"#
    );
    std::fs::write(folder.join(name), text).unwrap();
}

fn look(folder: &Path, token: &str) -> Result<String, String> {
    let token = Token::of(token).map_err(|error| error.to_string())?;
    let found = find(folder, &token, &cluster(), Timestamp(1_000_000));
    found
        .map(|proof| proof.identity.to_string())
        .map_err(|status| status.message().to_owned())
}

#[test]
fn a_token_proves_what_its_record_says() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), "a.json", "one", "cluster-1", 2_000);
    record(folder.path(), "b.json", "two", "cluster-1", 2_000);
    let sleep = "spiffe://cluster.local/ns/default/sa/sleep".to_owned();
    assert_eq!(look(folder.path(), "one"), Ok(sleep.clone()));
    assert_eq!(look(folder.path(), " two\n"), Ok(sleep.clone()));
    // A token of the identity room's form is known by its bytes as well.
    let token = JoinToken::generate().unwrap();
    let text = format!(
        r#"{{"sha256": "{}", "identity": "{sleep}", "cluster": "cluster-1", "expires": 2000}}"#,
        token.sha256()
    );
    std::fs::write(folder.path().join("c.json"), text).unwrap();
    assert_eq!(look(folder.path(), &token.text()), Ok(sleep));
}

#[test]
fn other_tokens_prove_nothing() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), "late.json", "late", "cluster-1", 1_000);
    record(
        folder.path(),
        "elsewhere.json",
        "elsewhere",
        "cluster-2",
        2_000,
    );
    record(folder.path(), ".used-x.json", "used", "cluster-1", 2_000);
    record(folder.path(), "x.json.tmp", "half", "cluster-1", 2_000);
    std::fs::write(folder.path().join("torn.json"), r#"{"sha256": "#).unwrap();
    std::fs::write(folder.path().join("huge.json"), vec![b' '; 1 << 20]).unwrap();
    assert!(
        look(folder.path(), "late")
            .unwrap_err()
            .contains("ended at")
    );
    for token in ["elsewhere", "used", "half", "nobody's"] {
        assert!(
            look(folder.path(), token)
                .unwrap_err()
                .contains("is not known"),
            "{token}"
        );
    }
    for token in ["", "  ", &"x".repeat(MAX_TOKEN + 1)] {
        assert!(Token::of(token).is_err());
    }
}

#[test]
fn a_record_is_used_up_once() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), "a.json", "one", "cluster-1", 2_000);
    let path = folder.path().join("a.json");
    use_up(&path).unwrap();
    assert_eq!(
        use_up(&path).unwrap_err().code(),
        tonic::Code::Unauthenticated
    );
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
}
