//! Each target over its seeds and a bounded number of changed ones, the same each time.
//!
//! A failure prints the target and the input in hex. To play it again:
//! `CATAMARAN_INPUT=HEX cargo test -p catamaran-hostile --test fuzz TARGET`. `CATAMARAN_SEED` takes other changes, and
//! `CATAMARAN_CASES` another number of them.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use catamaran_hostile::{Mutator, Target, hex, target, unhex};

/// No reader needs this long for one input, however busy the machine is.
const HANG: Duration = Duration::from_secs(120);

fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

fn play(name: &str) {
    let target = target(name).expect("a target");
    if let Ok(input) = std::env::var("CATAMARAN_INPUT") {
        return (target.run)(&unhex(&input).expect("hex digits"));
    }
    let seeds = (target.seeds)();
    let mut mutator = Mutator::new(number("CATAMARAN_SEED").unwrap_or(1) as u64);
    let cases = number("CATAMARAN_CASES").unwrap_or(target.cases);
    let changed = (0..cases).map(|_| mutator.case(&seeds, target.words));
    let inputs: Vec<Vec<u8>> = seeds.iter().cloned().chain(changed).collect();
    let (told, is_told) = channel();
    let watched = inputs.clone();
    let watch = std::thread::spawn(move || watch(target, &watched, &is_told));
    for (number, input) in inputs.iter().enumerate() {
        told.send(number).expect("somebody watches");
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
            say(target, number, input);
            resume_unwind(panic);
        }
    }
    drop(told);
    watch.join().expect("nothing hung");
}

fn say(target: &Target, number: usize, input: &[u8]) {
    eprintln!(
        "case {number} of {} does not hold: {}",
        target.name, target.what
    );
    eprintln!(
        "CATAMARAN_INPUT={} cargo test -p catamaran-hostile --test fuzz {}",
        hex(input),
        target.name.replace('-', "_")
    );
}

/// Ends the process with the input at hand when one takes too long: a thread that hangs cannot be ended otherwise.
fn watch(target: &Target, inputs: &[Vec<u8>], told: &std::sync::mpsc::Receiver<usize>) {
    let mut at = 0;
    loop {
        match told.recv_timeout(HANG) {
            Ok(number) => at = number,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                eprintln!("one input takes longer than {HANG:?}");
                say(target, at, &inputs[at]);
                std::process::abort();
            }
        }
    }
}

macro_rules! targets {
    ($($test:ident $name:literal)*) => {
        $(#[test]
        fn $test() {
            play($name);
        })*

        #[test]
        fn no_target_is_left_out() {
            let all: Vec<&str> = catamaran_hostile::ALL.iter().map(|target| target.name).collect();
            assert_eq!(all, [$($name),*]);
        }
    };
}

targets! {
    hello "hello"
    beginning "beginning"
    head "head"
    http1 "http1"
    http2 "http2"
    xds_apply "xds-apply"
    xds_serve "xds-serve"
    certificates "certificates"
    manifest "manifest"
    dns "dns"
    saved "saved"
    names "names"
}
