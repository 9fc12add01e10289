use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn at(millis: u64) -> Moment {
    Moment::at(Duration::from_millis(millis))
}

fn record(holder: &str, version: &str) -> Record {
    Record {
        holder: holder.into(),
        version: version.into(),
        life: Duration::from_secs(15),
    }
}

fn candidate(name: &str) -> Candidate {
    Candidate::new(name.into(), Terms::default())
}

#[test]
fn anothers_lease_is_taken_when_it_did_not_change_for_its_life() {
    let mut one = candidate("one");
    one.read(Some(record("two", "1")), at(1_000));
    assert_eq!(one.next(at(15_999)), Order::Read);
    one.read(Some(record("two", "2")), at(10_000));
    assert_eq!(one.next(at(24_999)), Order::Read);
    assert_eq!(one.next(at(25_000)), Order::Take("2".into()));
    // it is looked at when its time is over, not a round later
    assert_eq!(one.again(at(24_500)), Duration::from_millis(500));
    assert!(!one.leads(at(25_000)));
    one.wrote(Wrote::Conflict, at(25_000));
    assert_eq!(one.next(at(25_010)), Order::Read);
}

#[test]
fn what_was_given_back_is_taken_at_once() {
    let mut one = candidate("one");
    one.read(Some(record("", "5")), at(0));
    assert_eq!(one.next(at(0)), Order::Take("5".into()));
    one.wrote(Wrote::Done(record("one", "6")), at(0));
    assert!(one.leads(at(9_999)));
    assert_eq!(one.stop(), Some("6".into()));
    assert!(!one.leads(at(1)));
}

#[test]
fn a_leader_without_an_answer_is_through_before_its_lease() {
    let mut one = candidate("one");
    one.read(None, at(0));
    one.wrote(Wrote::Done(record("one", "1")), at(100));
    one.wrote(Wrote::Unknown, at(2_100));
    assert_eq!(one.next(at(6_000)), Order::Read);
    assert!(one.leads(at(10_099)));
    assert!(!one.leads(at(10_100)));
    // the write was done all the same: it is known only from the next one
    one.read(Some(record("one", "2")), at(11_000));
    assert!(!one.leads(at(11_000)));
    assert_eq!(one.next(at(11_000)), Order::Renew("2".into()));
}

#[test]
fn a_lease_that_says_it_is_for_ever_is_not_believed() {
    let mut one = candidate("one");
    let mut for_ever = record("two", "1");
    for_ever.life = Duration::from_secs(u64::from(u32::MAX));
    one.read(Some(for_ever), at(0));
    assert_eq!(one.next(at(60_000)), Order::Take("1".into()));
    // nor one that says less than we all agreed on
    let mut hasty = record("two", "2");
    hasty.life = Duration::ZERO;
    one.read(Some(hasty), at(100_000));
    assert_eq!(one.next(at(114_999)), Order::Read);
}

/// The API server: one lease, and one object that only leaders write, each write in place of a version.
#[derive(Default)]
struct Server {
    version: u64,
    lease: Option<Record>,
    object: Object,
}

/// Its version, and the term of the leader that wrote it.
#[derive(Default, Clone, Copy)]
struct Object {
    version: u64,
    term: usize,
}

impl Server {
    fn write(&mut self, order: &Order, holder: &str) -> Wrote {
        let stands = self.lease.as_ref().map(|record| record.version.clone());
        let agrees = match order {
            Order::Read => return Wrote::Refused,
            Order::Make => stands.is_none(),
            Order::Take(version) | Order::Renew(version) => stands.as_ref() == Some(version),
        };
        if !agrees {
            return Wrote::Conflict;
        }
        self.version += 1;
        let record = record(holder, &self.version.to_string());
        self.lease = Some(record.clone());
        Wrote::Done(record)
    }

    /// Says whether it was written; nothing of an earlier term may come over a later one's.
    fn put(&mut self, place: u64, term: usize) -> Result<bool, TestCaseError> {
        if self.object.version != place {
            return Ok(false);
        }
        prop_assert!(
            term >= self.object.term,
            "term {term} over {}",
            self.object.term
        );
        self.object = Object {
            version: place + 1,
            term,
        };
        Ok(true)
    }
}

/// A replica with a clock of its own.
struct Replica {
    candidate: Candidate,
    /// Its clock began at another time, and goes faster or slower: thousandths.
    offset: u64,
    rate: u64,
    /// When it acts next, in true time.
    due: u64,
    /// The version of the object that it knows.
    object: Option<u64>,
    /// A write to the object that is on its way: when it arrives, in place of which version, in which term.
    late: Option<(u64, u64, usize)>,
}

impl Replica {
    fn clock(&self, now: u64) -> Moment {
        at(self.offset + now * self.rate / 1000)
    }

    fn leads(&self, now: u64) -> bool {
        self.candidate.leads(self.clock(now))
    }
}

/// What happens to one request: how long it takes, and whether the request or the answer is lost.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Answered(u64),
    RequestLost,
    AnswerLost,
    /// The whole replica stops for so long, in the middle.
    Paused(u64),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => (1_u64..3_000).prop_map(Fate::Answered),
        2 => Just(Fate::RequestLost),
        2 => Just(Fate::AnswerLost),
        1 => (100_u64..40_000).prop_map(Fate::Paused),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Whatever is lost or late, and however clocks differ within bounds, two never lead at once, and nothing of an earlier
    /// leader is written over a later one's. When nothing is lost any more, one leads within 20 s.
    #[test]
    fn two_never_lead_at_once(
        clocks in vec((0_u64..1_000_000, 850_u64..1_200), 3),
        fates in vec(fate(), 300),
    ) {
        let mut server = Server::default();
        let mut replicas: Vec<Replica> = clocks.iter().enumerate().map(|(n, (offset, rate))| Replica {
            candidate: candidate(&format!("r{n}")),
            offset: *offset,
            rate: *rate,
            due: n as u64 * 300,
            object: None,
            late: None,
        }).collect();
        let mut fates = fates.into_iter();
        let mut terms = 0_usize;
        let mut last = None;
        let mut calm = None;
        let mut now = 0;
        while calm.is_none_or(|since| now < since + 60_000) {
            let n = (0..replicas.len()).min_by_key(|n| replicas[*n].due).unwrap();
            now = replicas[n].due.max(now + 1);
            for replica in &mut replicas {
                if let Some((arrives, place, term)) = replica.late && arrives <= now {
                    replica.late = None;
                    server.put(place, term)?;
                }
            }
            let leaders: Vec<usize> = (0..replicas.len()).filter(|n| replicas[*n].leads(now)).collect();
            prop_assert!(leaders.len() <= 1, "{leaders:?} lead at {now}");
            // one that is between two requests for long is busy with the one that was paused
            let waited = calm.is_some_and(|since| now > since + 20_000);
            prop_assert!(!waited || leaders.len() == 1, "none leads at {now}, calm since {calm:?}");
            if let [leader] = leaders[..] && last != Some(leader) {
                terms += 1;
                last = Some(leader);
                replicas[leader].object = None;
            }
            let fate = fates.next().unwrap_or_else(|| {
                calm = calm.or(Some(now.max(replicas.iter().map(|r| r.due).max().unwrap())));
                Fate::Answered(20)
            });
            let (takes, arrives, answers) = match fate {
                Fate::Answered(takes) | Fate::Paused(takes) => (takes, true, true),
                Fate::RequestLost => (4_000, false, false),
                Fate::AnswerLost => (4_000, true, false),
            };
            let replica = &mut replicas[n];
            // as a leader it writes its object, in place of what it knows; what is slow arrives much later
            if replica.leads(now) && replica.late.is_none() {
                let place = *replica.object.get_or_insert(server.object.version);
                match fate {
                    Fate::Answered(_) => {
                        let written = server.put(place, terms)?;
                        replica.object = written.then_some(place + 1);
                    }
                    _ => replica.late = Some((now + 30_000, place, terms)),
                }
            }
            let asked = replica.clock(now);
            let answered = replica.clock(now + takes);
            match replica.candidate.next(asked) {
                Order::Read if arrives && answers => replica.candidate.read(server.lease.clone(), answered),
                Order::Read => {}
                write => {
                    let wrote = match arrives {
                        true => server.write(&write, replica.candidate.identity()),
                        false => Wrote::Unknown,
                    };
                    replica.candidate.wrote(if answers { wrote } else { Wrote::Unknown }, asked);
                }
            }
            let again = replica.candidate.again(answered).as_millis() as u64;
            replica.due = now + takes + again * 1000 / replica.rate;
        }
    }
}
