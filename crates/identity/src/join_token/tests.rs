use super::*;
use crate::fixtures::*;

#[test]
fn a_token_proves_its_record_s_identity_in_its_cluster_until_its_end() {
    let token = JoinToken::generate().unwrap();
    let record = token.record(id("sleep"), cluster("cluster-1"), NOW.after(HOUR));
    let shown = JoinToken::parse(&format!("{}\n", *token.text())).unwrap();
    assert_eq!(
        record.admit(&shown, &cluster("cluster-1"), NOW),
        Ok(&id("sleep"))
    );
    assert_eq!(
        record.admit(&shown, &cluster("cluster-2"), NOW),
        Err(JoinError::Unknown)
    );
    assert_eq!(
        record.admit(&JoinToken::generate().unwrap(), &cluster("cluster-1"), NOW),
        Err(JoinError::Unknown)
    );
    let late = record
        .admit(&shown, &cluster("cluster-1"), NOW.after(HOUR))
        .unwrap_err();
    assert!(matches!(late, JoinError::Expired { .. }), "{late}");
}

#[test]
fn the_record_is_the_hash_of_the_bytes() {
    let token = JoinToken::from_bytes([0; 32]);
    assert_eq!(*token.text(), "A".repeat(43));
    assert_eq!(
        token.sha256(),
        "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"
    );
    assert!(!format!("{token:?}").contains("AAA"));
}

#[test]
fn other_texts_are_no_tokens() {
    for text in [
        "",
        "short",
        &"A".repeat(44),
        &"=".repeat(43),
        &"é".repeat(43),
    ] {
        assert!(
            matches!(JoinToken::parse(text), Err(JoinError::Malformed)),
            "{text}"
        );
    }
}
