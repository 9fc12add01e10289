use super::*;

#[test]
fn a_nack_of_ours_is_read_as_it_was_written() {
    let refused = [
        (
            TypeUrlKind::Cluster,
            Arc::from("outbound|80||a.b"),
            "no such policy: ring".to_owned(),
        ),
        (
            TypeUrlKind::Cluster,
            Arc::from("odd: name%\n[::1]:80:"),
            "line one\nline two".to_owned(),
        ),
        (
            TypeUrlKind::Route,
            Arc::from("80"),
            "not asked for".to_owned(),
        ),
    ];
    let status = write(&refused);
    assert_eq!(status.code, 3);
    assert_eq!(
        read(TypeUrlKind::Cluster, &status.message).unwrap(),
        [
            (
                "outbound|80||a.b".to_owned(),
                "no such policy: ring".to_owned()
            ),
            (
                "odd: name%\n[::1]:80:".to_owned(),
                "line one line two".to_owned()
            ),
        ]
    );
    assert_eq!(
        read(
            TypeUrlKind::Cluster,
            "Error adding/updating cluster(s) a: x"
        ),
        None
    );
}

#[test]
fn a_reason_is_cut_between_characters() {
    let long = "é".repeat(REASON_LIMIT);
    let cut = one_line(&long);
    assert!(cut.len() <= REASON_LIMIT && long.starts_with(&cut));
}

#[test]
fn names_in_a_message_of_envoys_are_whole_words() {
    let names: Vec<Arc<str>> = ["a", "outbound|80||a", "outbound|80||a.b", "outbound|8", "b"]
        .map(Arc::from)
        .to_vec();
    let found = |message: &str| {
        names_in(message, names.iter())
            .iter()
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        found("Error adding/updating cluster(s) outbound|80||a.b: no hosts"),
        ["outbound|80||a.b"]
    );
    assert_eq!(
        found("'b' is bad, so is outbound|80||a."),
        ["outbound|80||a", "b"]
    );
    assert_eq!(
        found("Proto constraint validation failed"),
        Vec::<String>::new()
    );
}

#[test]
fn a_quarantine_forgets_what_was_replaced() {
    let resource = |text: &'static str| {
        Resource::from_bytes(TypeUrlKind::Cluster, "a", text.as_bytes().into())
    };
    let (good, bad, worse) = (resource("good"), resource("bad"), resource("worse"));
    let refusal = |of: &Resource, instead: Option<&Resource>| Refusal {
        kind: of.kind,
        name: of.name.clone(),
        version: of.version,
        reason: "bad".into(),
        instead: instead.map(|resource| Arc::new(resource.clone())),
    };
    let mut quarantine = Quarantine::default();
    assert!(quarantine.add(refusal(&bad, Some(&good))));
    assert!(
        !quarantine.add(refusal(&bad, None)),
        "the same again is no news"
    );
    assert!(quarantine.add(refusal(&worse, None)));
    assert!(quarantine.get(&bad).is_none());
    assert_eq!(
        quarantine.get(&worse).unwrap().instead.as_deref(),
        Some(&good)
    );
    assert!(!quarantine.forget_replaced(&[Arc::new(worse)].into_iter().collect()));
    assert!(quarantine.forget_replaced(&[Arc::new(good)].into_iter().collect()));
    assert!(quarantine.is_empty());
}
