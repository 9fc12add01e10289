use super::*;

fn lost(subject: &str) -> Trouble {
    Trouble {
        about: About::Cluster("cluster-2".parse().unwrap()),
        reason: ("DiscoveryLost", "DiscoveryRestored"),
        subject: subject.into(),
        note: format!("{subject} cannot be reached"),
        settle: SETTLE,
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp(1_000_000 + seconds * 1000)
}

/// What is said when these troubles hold from one second to the next.
fn said(notices: &mut Notices, troubles: &[Trouble], seconds: std::ops::Range<u64>) -> Vec<String> {
    let mut all = Vec::new();
    for second in seconds {
        for said in notices.step(troubles.to_vec(), at(second)) {
            let kind = if said.warning { "Warning" } else { "Normal" };
            all.push(format!("{second} {kind} {}", said.reason));
        }
    }
    all
}

#[test]
fn what_comes_and_goes_is_said_once_each() {
    let mut notices = Notices::new(at(0));
    let trouble = [lost("a")];
    assert_eq!(
        said(&mut notices, &trouble, 0..300),
        ["10 Warning DiscoveryLost"]
    );
    assert_eq!(
        said(&mut notices, &[], 300..600),
        ["310 Normal DiscoveryRestored"]
    );
    // what was over within seconds is no news
    assert_eq!(said(&mut notices, &trouble, 600..605), [""; 0]);
    assert_eq!(said(&mut notices, &[], 605..700), [""; 0]);
}

#[test]
fn what_flaps_is_said_once_a_minute_at_most() {
    let mut notices = Notices::new(at(0));
    let mut all = Vec::new();
    for round in 0..100 {
        let begin = round * 30;
        all.extend(said(&mut notices, &[lost("a")], begin..begin + 15));
        all.extend(said(&mut notices, &[], begin + 15..begin + 30));
    }
    // 50 minutes of it
    assert!((20..=50).contains(&all.len()), "{}: {all:?}", all.len());
}

#[test]
fn what_came_back_before_it_was_over_goes_on() {
    let mut notices = Notices::new(at(0));
    said(&mut notices, &[lost("a")], 0..20);
    assert_eq!(said(&mut notices, &[], 20..25), [""; 0]);
    assert_eq!(said(&mut notices, &[lost("a")], 25..200), [""; 0]);
}

#[test]
fn what_lasts_is_said_again_before_it_is_forgotten() {
    let mut notices = Notices::new(at(0));
    let all = said(&mut notices, &[lost("a")], 0..2 * 3600);
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(notices.step(vec![lost("a")], at(3 * 3600))[0].again);
}

#[test]
fn a_flood_is_bounded_and_what_is_left_follows() {
    let flood: Vec<Trouble> = (0..200)
        .map(|n| Trouble {
            about: About::Cluster(format!("cluster-{n}").parse().unwrap()),
            ..lost("x")
        })
        .collect();
    let mut notices = Notices::new(at(0));
    let first = said(&mut notices, &flood, 0..11).len();
    assert!(first <= 25, "{first}");
    let later = said(&mut notices, &flood, 11..1700).len();
    let all = first + later;
    assert!((180..=24 + 1700 / 10).contains(&all), "{first} and {later}");
    // many of one kind about one object
    let mut notices = Notices::new(at(0));
    let many: Vec<Trouble> = (0..100).map(|n| lost(&n.to_string())).collect();
    assert_eq!(said(&mut notices, &many, 0..100).len(), 8);
    // and many that come and go leave nothing behind
    for n in 0..5000 {
        notices.step(vec![lost(&format!("other {n}"))], at(n));
    }
    assert!(notices.known.len() <= 512);
}

#[test]
fn what_could_not_be_said_is_tried_again() {
    let mut notices = Notices::new(at(0));
    notices.step(vec![lost("a")], at(0));
    let all = notices.step(vec![lost("a")], at(10));
    notices.unsaid(&all[0]);
    assert_eq!(notices.step(vec![lost("a")], at(12)), all);
}
