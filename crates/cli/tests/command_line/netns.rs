//! The verbs of a pod's own containers, in a network namespace as a pod has it. Needs root; an ordinary user runs the others with
//! `-- --skip netns::`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::fchown;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};

use super::{Run, run};

const PROGRAM: &str = env!("CARGO_BIN_EXE_catamaran");

/// Does something in a network namespace of its own, with the address 192.0.2.9 on loopback. It goes with the thread.
fn in_a_pod<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            let made = unshare(CloneFlags::CLONE_NEWNET);
            made.expect("network namespaces need root; skip this test with `-- --skip netns::`");
            tool("ip", &["link", "set", "lo", "up"]).exits(0);
            tool("ip", &["addr", "add", "192.0.2.9/32", "dev", "lo"]).exits(0);
            work()
        });
        done.join().unwrap()
    })
}

fn tool(program: &str, words: &[&str]) -> Run {
    Run(Command::new(program).args(words).output().unwrap())
}

#[test]
fn rules_are_taken_replaced_and_looked_at() {
    in_a_pod(|| {
        let words = ["proxy", "capture", "--exclude-outbound-ports", "25"];
        for _ in 0..2 {
            let done = run(&words, None).exits(0);
            assert_eq!(done.out(), "connections are led through the sidecar\n");
        }
        let shown = tool("nft", &["list", "ruleset"]).exits(0).out();
        assert_eq!(shown.matches("redirect to :15001").count(), 1, "{shown}");
        let excluded = |shown: &str| shown.matches("th dport 25 return").count();
        assert_eq!(excluded(&shown), 2, "of both families: {shown}");
        run(&["proxy", "capture"], None).exits(0);
        let shown = tool("nft", &["list", "ruleset"]).exits(0).out();
        assert_eq!(excluded(&shown), 0, "{shown}");

        run(
            &["proxy", "capture", "--print", "--address", "2001:db8::1"],
            None,
        )
        .exits(0);
        let after = tool("nft", &["list", "ruleset"]).exits(0).out();
        assert_eq!(after, shown, "it was only shown");
    });
}

#[test]
fn who_may_not_is_told_what_it_takes() {
    in_a_pod(|| {
        let words = ["--bounding-set", "-net_admin", PROGRAM, "proxy", "capture"];
        let why = tool("setpriv", &words).exits(1).err();
        assert!(why.contains("Operation not permitted"), "{why}");
        assert!(why.contains("NET_ADMIN"), "{why}");
        let shown = tool("nft", &["list", "ruleset"]).exits(0).out();
        assert_eq!(shown, "");
        let nowhere = Command::new(PROGRAM)
            .args(["proxy", "capture"])
            .env("PATH", "/nowhere")
            .output();
        let why = Run(nowhere.unwrap()).exits(1).err();
        assert!(
            why.contains("nft cannot be run") && why.contains("nftables"),
            "{why}"
        );
    });
}

#[test]
fn a_sidecar_is_found_by_the_pod_s_own_address() {
    in_a_pod(|| {
        let listener = TcpListener::bind("192.0.2.9:15021").unwrap();
        std::thread::spawn(move || {
            for (stream, answer) in listener.incoming().flatten().zip(["503 No", "200 OK"]) {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    (&stream).read_exact(&mut byte).unwrap();
                    head.extend(byte);
                }
                let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
                (&stream).write_all(answer.as_bytes()).unwrap();
            }
        });
        let waited = run(&["proxy", "wait", "--timeout", "30s"], None).exits(0);
        assert_eq!(waited.err(), "");
    });
}

#[test]
fn the_end_of_the_workload_is_waited_for() {
    in_a_pod(|| {
        let own = TcpListener::bind("192.0.2.9:15006").unwrap();
        let workload = TcpListener::bind("[::]:5000").unwrap();
        fchown(&workload, Some(1000), None).unwrap();
        let drain = |timeout: &str| run(&["proxy", "drain", "--timeout", timeout], None).exits(0);
        assert_eq!(
            drain("1s").err(),
            "1 sockets of the workload are still in use after 1s; its sidecar ends nevertheless\n"
        );
        drop(workload);
        let before = Instant::now();
        assert_eq!(drain("60s").err(), "", "the sidecar's own does not count");
        assert!(before.elapsed() < Duration::from_secs(30));
        drop(own);
    });
}
