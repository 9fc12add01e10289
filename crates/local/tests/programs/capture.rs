//! The rules of capture in real namespaces, by what a connection meets. Needs root.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use catamaran_local::launch;
use catamaran_local::netns::capture::{Family, Wanted};
use catamaran_local::netns::{self, in_netns};

use super::Test;

pub(crate) const TESTS: &[Test] = &[
    (
        "netns::what_annotations_say_is_captured",
        what_annotations_say_is_captured,
    ),
    (
        "netns::a_sidecar_with_an_ipv6_address_is_led_to",
        a_sidecar_with_an_ipv6_address_is_led_to,
    ),
];

/// A pod and what is outside of it, linked; gone when dropped.
struct Pair {
    pod: String,
    outside: String,
}

const POD: &str = "192.0.2.2";
const POD_6: &str = "[2001:db8::2]";

impl Pair {
    fn new(test: &str) -> Pair {
        if let Err(reason) = netns::supported() {
            panic!(
                "this test needs network namespaces: {reason}; skip it with `-- --skip netns::`"
            );
        }
        let name = |side: &str| format!("capture-{}-{test}-{side}", std::process::id());
        let pair = Pair {
            pod: name("pod"),
            outside: name("outside"),
        };
        for netns in [&pair.pod, &pair.outside] {
            ip(&["netns", "add", netns]);
            ip(&["-n", netns, "link", "set", "lo", "up"]);
        }
        ip(&[
            "-n",
            &pair.pod,
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &pair.outside,
        ]);
        for (netns, last) in [(&pair.pod, 2), (&pair.outside, 1)] {
            let four = format!("192.0.2.{last}/24");
            let six = format!("2001:db8::{last}/64");
            ip(&["-n", netns, "addr", "add", &four, "dev", "eth0"]);
            ip(&["-n", netns, "addr", "add", &six, "dev", "eth0", "nodad"]);
            ip(&["-n", netns, "link", "set", "eth0", "up"]);
        }
        for more in ["192.0.2.7/24", "2001:db8::7/64"] {
            ip(&[
                "-n",
                &pair.outside,
                "addr",
                "add",
                more,
                "dev",
                "eth0",
                "nodad",
            ]);
        }
        for (port, word) in [
            (15001, "outbound"),
            (15006, "inbound"),
            (80, "program"),
            (22, "program"),
        ] {
            say(&pair.pod, port, word);
        }
        for port in [80, 25, 443, 9000] {
            say(&pair.outside, port, "outside");
        }
        pair
    }

    fn install(&self, wanted: &Wanted) {
        inside(&self.pod, || wanted.install()).unwrap();
    }

    fn pod_meets(&self, to: &str) -> String {
        inside(&self.pod, || meets(to))
    }

    fn outside_meets(&self, to: &str) -> String {
        inside(&self.outside, || meets(to))
    }

    /// As the sidecar's user.
    fn sidecar_meets(&self, to: &str) -> String {
        let (host, port) = to.rsplit_once(':').unwrap();
        let host = host.trim_matches(['[', ']']);
        let script = format!("exec 3<>/dev/tcp/{host}/{port} && cat <&3");
        let words = [
            "setpriv",
            "--reuid",
            "1337",
            "--regid",
            "1337",
            "--clear-groups",
            "bash",
            "-c",
            &script,
        ];
        in_netns(&self.pod, &words, None).unwrap_or_else(|error| error.to_string())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for netns in [&self.pod, &self.outside] {
            let _ = netns::remove(netns);
            let _ = Command::new("ip").args(["netns", "del", netns]).output();
        }
    }
}

#[track_caller]
fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args:?}: {said}");
}

fn path(netns: &str) -> PathBuf {
    Path::new(launch::NETNS_FOLDER).join(netns)
}

/// Does something in a namespace, by a thread that stays there.
fn inside<T: Send>(netns: &str, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            launch::enter(&path(netns)).unwrap();
            work()
        });
        done.join().unwrap()
    })
}

/// Says a word to everybody who comes to a port, for ever.
fn say(netns: &str, port: u16, word: &'static str) {
    let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
    let listener = inside(netns, || TcpListener::bind(any)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = (&stream).write_all(word.as_bytes());
        }
    });
}

/// What says its word at an address, or why none does.
fn meets(to: &str) -> String {
    let to: SocketAddr = to.parse().unwrap();
    let wait = Duration::from_secs(5);
    let mut word = String::new();
    let said = TcpStream::connect_timeout(&to, wait).and_then(|mut stream| {
        stream.set_read_timeout(Some(wait))?;
        stream.read_to_string(&mut word)
    });
    match said {
        Ok(_) => word,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => "refused".into(),
        Err(error) => error.to_string(),
    }
}

/// Asks for a name over UDP at an address, and says who answers.
fn asks(from: &str, to: &str) -> Option<String> {
    let socket = UdpSocket::bind(from).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket.send_to(b"?", to).unwrap();
    let mut buffer = [0; 64];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    String::from_utf8(buffer[..length].to_vec()).ok()
}

fn answer(netns: &str, at: &str, word: &'static str) {
    let at = at.to_owned();
    let socket = inside(netns, || UdpSocket::bind(at)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(word.as_bytes(), from);
        }
    });
}

fn what_annotations_say_is_captured() {
    let pair = Pair::new("v4");
    answer(&pair.pod, "127.0.0.1:15053", "sidecar");
    answer(&pair.outside, "192.0.2.1:53", "resolver");
    answer(&pair.outside, "[2001:db8::1]:53", "resolver");
    assert_eq!(pair.pod_meets("192.0.2.1:80"), "outside", "nothing yet");

    pair.install(&Wanted::default());
    assert_eq!(pair.pod_meets("192.0.2.1:80"), "outbound");
    assert_eq!(pair.pod_meets("127.0.0.1:80"), "program");
    assert_eq!(pair.outside_meets(&format!("{POD}:80")), "inbound");
    assert_eq!(pair.sidecar_meets("192.0.2.1:80"), "outside");
    assert_eq!(pair.sidecar_meets(&format!("{POD}:80")), "inbound");
    assert_eq!(pair.sidecar_meets("127.0.0.1:80"), "program");
    let asked = inside(&pair.pod, || asks("0.0.0.0:0", "192.0.2.1:53"));
    assert_eq!(asked.as_deref(), Some("sidecar"));
    // The sidecar has no IPv6: nothing goes past it that way.
    assert_eq!(pair.pod_meets("[2001:db8::1]:80"), "refused");
    assert_eq!(pair.outside_meets(&format!("{POD_6}:80")), "refused");
    assert_eq!(pair.pod_meets("[::1]:80"), "program");
    assert_eq!(pair.sidecar_meets("2001:db8::1:80"), "outside");
    let asked = inside(&pair.pod, || asks("[::]:0", "[2001:db8::1]:53"));
    assert_eq!(asked.as_deref(), Some("resolver"));

    // A second run replaces what the first one made.
    let picky = Wanted {
        family: Family::V4,
        inbound_ports: "80".parse().unwrap(),
        not_inbound_ports: "22".parse().unwrap(),
        outbound_ports: "9000".parse().unwrap(),
        not_outbound_ports: "25".parse().unwrap(),
        outbound_ranges: "192.0.2.0/29,2001:db8::/64".parse().unwrap(),
        not_outbound_ranges: "192.0.2.7,2001:db8::7".parse().unwrap(),
    };
    pair.install(&picky);
    pair.install(&picky);
    for (to, meets, why) in [
        ("192.0.2.1:80", "outbound", "in the range"),
        ("192.0.2.1:25", "outside", "an excluded port"),
        ("192.0.2.7:80", "outside", "an excluded address"),
        (
            "192.0.2.7:9000",
            "outside",
            "excluded before it is included",
        ),
        ("[2001:db8::1]:80", "refused", "in the range"),
        ("[2001:db8::1]:25", "outside", "an excluded port"),
        ("[2001:db8::7]:80", "outside", "an excluded address"),
    ] {
        assert_eq!(pair.pod_meets(to), meets, "{to}: {why}");
    }
    for (port, four, six) in [(80, "inbound", "refused"), (22, "program", "program")] {
        assert_eq!(pair.outside_meets(&format!("{POD}:{port}")), four);
        assert_eq!(pair.outside_meets(&format!("{POD_6}:{port}")), six);
        assert_eq!(pair.sidecar_meets(&format!("{POD}:{port}")), four);
    }
    // Only the port is captured; the range is elsewhere.
    let port = Wanted {
        outbound_ports: "9000".parse().unwrap(),
        outbound_ranges: "198.51.100.0/24".parse().unwrap(),
        ..Wanted::default()
    };
    pair.install(&port);
    assert_eq!(pair.pod_meets("192.0.2.1:9000"), "outbound");
    assert_eq!(pair.pod_meets("192.0.2.1:80"), "outside");

    // Many of everything: nft shows long sets over several lines.
    let list = |of: &dyn Fn(u16) -> String| (1..200).map(of).collect::<Vec<_>>().join(",");
    let many = Wanted {
        inbound_ports: list(&|n| (n * 7).to_string()).parse().unwrap(),
        not_inbound_ports: list(&|n| (n + 20000).to_string()).parse().unwrap(),
        outbound_ports: list(&|n| (n + 30000).to_string()).parse().unwrap(),
        not_outbound_ports: list(&|n| (n + 40000).to_string()).parse().unwrap(),
        outbound_ranges: list(&|n| format!("10.{n}.0.0/24,fd00:{n}::/64"))
            .parse()
            .unwrap(),
        not_outbound_ranges: list(&|n| format!("10.{n}.1.1,fd00:{n}:1::1"))
            .parse()
            .unwrap(),
        ..Wanted::default()
    };
    pair.install(&many);
    assert_eq!(pair.outside_meets(&format!("{POD}:22")), "program");
}

fn a_sidecar_with_an_ipv6_address_is_led_to() {
    let pair = Pair::new("v6");
    pair.install(&Wanted {
        family: Family::V6,
        ..Wanted::default()
    });
    assert_eq!(pair.pod_meets("[2001:db8::1]:80"), "outbound");
    assert_eq!(pair.outside_meets(&format!("{POD_6}:80")), "inbound");
    assert_eq!(pair.sidecar_meets(&format!("{POD_6}:80")), "inbound");
    assert_eq!(pair.pod_meets("[::1]:80"), "program");
    assert_eq!(pair.pod_meets("192.0.2.1:80"), "refused");
    assert_eq!(pair.outside_meets(&format!("{POD}:80")), "refused");
    assert_eq!(pair.pod_meets("127.0.0.1:80"), "program");
}
