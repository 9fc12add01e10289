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
fn a_figure_in_a_message_of_envoys_is_no_route() {
    let names: Vec<Arc<str>> = ["80", "8080"].map(Arc::from).to_vec();
    let twice = "Duplicate entry of domain a:80 in route 8080";
    assert_eq!(names_in(twice, names.iter()), [Arc::from("8080")]);
    assert!(names_in("value must be less than 80", names.iter()).is_empty());
}

/// As an Envoy 1.40 said it, shortened.
#[test]
fn what_an_envoy_writes_out_is_not_its_reason() {
    let said = "goo.gle/debugonly    \ncluster_name: \"b\"\nendpoints {\n  name: \"a\"\n  weight {\n  }\n}\n: Proto constraint \
                validation failed (LoadBalancingWeight: value must be greater than or equal to 1)";
    let reason = "Proto constraint validation failed (LoadBalancingWeight: value must be greater than or equal to 1)";
    assert_eq!(without_dump(said), (reason.to_owned(), Some("b")));
    let names: Vec<Arc<str>> = ["a", "b", "1"].map(Arc::from).to_vec();
    assert_eq!(names_in(said, names.iter()), [Arc::from("b")]);
    let short = "Invalid duration: Expected positive duration: goo.gle/debugstr  \nseconds: -1\n";
    let reason = "Invalid duration: Expected positive duration: seconds: -1\n";
    assert_eq!(without_dump(short), (reason.to_owned(), None));
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
