//! Questions to the name server.

use catamaran_proxy::fuzzing;
use catamaran_wire::Message as _;
use catamaran_wire::names::{NameInfo, NameTable};
use hickory_proto::op::Message;

use super::Target;

/// The name server's reader and writer.
pub(crate) const TARGET: Target = Target {
    name: "dns",
    what: "an answer has the question's number, is legal, and fits a datagram",
    run,
    seeds,
    words: &[
        b"\xc0\x0c",
        b"\x0ahelloworld\x07default\x03svc\x07cluster\x05local\x00",
        b"\x00\x00\x29\xff\xff",
        b"\x3f",
        b"\x00\xff\x00\x01",
    ],
    cases: 20_000,
};

/// The largest datagram of ours.
const LARGEST: usize = 1232;

fn run(question: &[u8]) {
    let answer = fuzzing::dns(&table(), question).expect("the table is good");
    let _ = fuzzing::dns(question, &seeds()[0]);
    let Some(answer) = answer else { return };
    let read = Message::from_vec(&answer).expect("what we write can be read");
    assert_eq!(read.metadata.id.to_be_bytes(), question[..2], "its number");
    let passed_on = read.metadata.message_type == hickory_proto::op::MessageType::Query;
    assert!(
        passed_on || answer.len() <= LARGEST,
        "{} bytes",
        answer.len()
    );
    assert!(answer.len() <= 64 * 1024, "{} bytes", answer.len());
}

fn table() -> Vec<u8> {
    let host = "helloworld.default.svc.cluster.local".to_owned();
    let many = NameInfo {
        ips: (1..=200).map(|n| format!("10.96.0.{n}")).collect(),
        alt_hosts: vec!["helloworld".into()],
        ..NameInfo::default()
    };
    let table = NameTable {
        table: [(host, many)].into(),
    };
    table.encode_to_vec()
}

fn seeds() -> Vec<Vec<u8>> {
    let header = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00";
    let question = |name: &[u8], kind: u8| [&header[..], b"\x00", name, &[0, kind, 0, 1]].concat();
    let mut extended = question(b"\x0ahelloworld\x00", 1);
    extended[11] = 1;
    extended.extend(b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00");
    vec![
        question(
            b"\x0ahelloworld\x07default\x03svc\x07cluster\x05local\x00",
            1,
        ),
        question(b"\x0aHelloWorld\x07default\x00", 28),
        question(b"\x07example\x03com\x00", 255),
        extended,
        table(),
    ]
}
