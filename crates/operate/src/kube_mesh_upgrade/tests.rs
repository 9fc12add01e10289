use super::*;

fn version(text: &str) -> Version {
    Version::new(text).unwrap()
}

fn upgrade(to: Option<&str>, force: bool) -> UpgradeMesh {
    UpgradeMesh {
        context: Contact {
            files: Vec::new(),
            context: Some("one".into()),
        },
        name: MeshName::new("mesh-1").unwrap(),
        version: to.map(version),
        image: None,
        force,
        patience: Duration::ZERO,
    }
}

fn running(versions: &[&str], peer: &str) -> Running {
    Running {
        versions: versions.iter().map(|text| version(text)).collect(),
        image: Some("example.org/c:1".into()),
        peers: vec![("cluster-2".into(), "mesh-2".into(), version(peer))],
        ..Running::default()
    }
}

#[test]
fn one_minor_up_or_down_is_gone_at_once_and_more_is_refused_with_the_next_step() {
    let go =
        |from: &[&str], to: &str| allowed(&upgrade(None, false), &running(from, to), &version(to));
    for (from, to) in [("1.3.0", "1.4.2"), ("1.3.0", "1.3.9"), ("1.3.0", "1.2.0")] {
        go(&[from], to).unwrap();
    }
    let next = |from: &[&str], to: &str| {
        let refused = go(from, to).unwrap_err();
        assert_eq!(refused.code(), "CTM-M105");
        assert!(refused.refused());
        let said = format!("{refused}");
        assert!(said.contains("mesh-1") && said.contains(to), "{said}");
        refused.fix().unwrap()
    };
    assert!(next(&["1.3.0"], "1.6.0").starts_with("go to 1.4 first"));
    assert!(next(&["1.3.0"], "1.1.0").starts_with("go to 1.2 first"));
    // One that stands halfway counts with both.
    assert!(next(&["1.3.0", "1.4.0"], "1.5.0").starts_with("go to 1.4 first"));
    assert!(next(&["1.3.0"], "2.0.0").contains("--force"));
    let forced = upgrade(None, true);
    allowed(&forced, &running(&["1.3.0"], "1.0.0"), &version("1.9.0")).unwrap();
}

#[test]
fn an_instance_is_not_taken_away_from_the_one_beside_it() {
    let go = |beside: &str, to: &str| {
        allowed(
            &upgrade(None, false),
            &running(&["1.3.0"], beside),
            &version(to),
        )
    };
    go("1.3.0", "1.4.0").unwrap();
    let refused = go("1.2.0", "1.4.0").unwrap_err();
    assert_eq!(refused.code(), "CTM-M106");
    let fix = refused.fix().unwrap();
    assert!(
        fix.starts_with("take mesh-2 one minor further before mesh-1"),
        "{fix}"
    );
    let fix = go("1.4.0", "1.2.0").unwrap_err().fix().unwrap();
    assert!(
        fix.starts_with("take mesh-1 one minor further before mesh-2"),
        "{fix}"
    );
}

#[test]
fn this_program_writes_its_own_version_and_the_one_before() {
    let ours = version(OUR_VERSION);
    assert_eq!(target(&upgrade(None, false)).unwrap(), ours);
    let (major, minor) = ours.line().unwrap();
    let later = format!("{major}.{}.0", minor + 1);
    let refused = target(&upgrade(Some(&later), false)).unwrap_err();
    assert_eq!(refused.code(), "CTM-M103");
    assert_eq!(
        target(&upgrade(Some(&later), true)).unwrap(),
        version(&later)
    );
    if let Some(before) = minor.checked_sub(1) {
        let before = format!("{major}.{before}.7");
        assert_eq!(
            target(&upgrade(Some(&before), false)).unwrap(),
            version(&before)
        );
    }
}

#[test]
fn the_way_back_is_a_command() {
    let said = back(&upgrade(None, false), &running(&["0.1.0"], "0.1.0")).unwrap();
    assert_eq!(
        said,
        "to go back: catamaran mesh upgrade mesh-1 --context one --version 0.1.0 --image example.org/c:1"
    );
}
