use super::*;

fn at(seconds: u64) -> Moment {
    Moment::at(Duration::from_secs(seconds))
}

fn told(replica: &str, version: u64, proxies: u32) -> Told {
    Told {
        replica: replica.into(),
        version: version.to_string(),
        beat: Beat {
            proxies,
            ..Beat::default()
        },
    }
}

fn sum(living: &Living) -> u32 {
    living.living().map(|(_, beat)| beat.proxies).sum()
}

#[test]
fn a_replica_counts_for_half_a_minute_after_its_last_word() {
    let mut living = Living::default();
    living.look(vec![], at(0));
    for now in [5, 10, 15, 20, 25, 30] {
        living.look(vec![told("a", 1, 3), told("b", now, 4)], at(now));
        assert_eq!(sum(&living), 7, "{now}");
    }
    living.look(vec![told("a", 1, 3), told("b", 31, 4)], at(34));
    assert_eq!(sum(&living), 7);
    living.look(vec![told("a", 1, 3), told("b", 31, 4)], at(35));
    assert_eq!(sum(&living), 4, "a said nothing for 30 s");
    living.look(vec![told("a", 99, 5), told("b", 39, 4)], at(40));
    assert_eq!(sum(&living), 9, "and is back");
    // its pod is gone, and its lease with it
    living.look(vec![told("b", 39, 4)], at(41));
    assert_eq!(sum(&living), 4);
}

#[test]
fn an_api_server_that_is_away_makes_nobody_dead() {
    let mut living = Living::default();
    living.look(vec![], at(0));
    living.look(vec![told("a", 1, 3)], at(5));
    // nothing is heard for ten minutes
    living.look(vec![told("a", 1, 3)], at(605));
    assert_eq!(sum(&living), 3);
    for now in [610, 615, 620] {
        living.look(vec![told("a", 1, 3)], at(now));
    }
    assert_eq!(sum(&living), 3);
    living.look(vec![told("a", 1, 3)], at(625));
    assert_eq!(sum(&living), 0);
}

#[test]
fn what_was_there_before_counts_when_it_is_renewed() {
    let mut living = Living::default();
    living.look(vec![told("dead", 1, 9), told("lives", 2, 1)], at(0));
    assert_eq!(sum(&living), 0);
    living.look(vec![told("dead", 1, 9), told("lives", 3, 1)], at(5));
    assert_eq!(sum(&living), 1);
}

#[test]
fn one_that_leaves_does_not_count() {
    let mut living = Living::default();
    living.look(vec![], at(0));
    let mut leaving = told("a", 1, 9);
    leaving.beat.leaving = true;
    living.look(vec![leaving], at(1));
    assert_eq!(sum(&living), 0);
}

#[test]
fn what_it_says_is_bounded_and_harmless() {
    let refusal = |n: usize| Refusal {
        object: format!("route {n}"),
        message: "\u{1b}[31m\u{1}\u{2}\u{3}\u{4}".repeat(1000),
    };
    let beat = Beat {
        refusals: (0..100).map(refusal).collect(),
        ..Beat::default()
    };
    let text = beat.text();
    assert!(text.len() < MAX_BYTES, "{}", text.len());
    let mut lease = Lease::default();
    lease.metadata.name = Some("a".into());
    lease.metadata.resource_version = Some("1".into());
    lease.metadata.annotations = Some([(SAYS.to_owned(), text)].into());
    let read = super::told(lease.clone()).unwrap();
    assert!((5..=MAX_REFUSALS).contains(&read.beat.refusals.len()));
    assert!(!read.beat.refusals[0].message.contains('\u{1b}'));
    // a word of somebody else, or of a later version
    for (text, sense) in [
        ("{}", true),
        ("[", false),
        (r#"{"proxies": 2, "more": 1}"#, true),
    ] {
        lease.metadata.annotations = Some([(SAYS.to_owned(), text.to_owned())].into());
        assert_eq!(super::told(lease.clone()).is_some(), sense, "{text}");
    }
    lease.metadata.annotations =
        Some([(SAYS.to_owned(), format!("{{{}}}", " ".repeat(MAX_BYTES)))].into());
    assert!(super::told(lease).is_none());
}
