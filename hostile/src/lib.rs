//! Hostile input: what strangers may send to our programs, and what must not come of it.
//!
//! Two halves. [`targets`] are functions of bytes, one for each thing that reads what a stranger wrote: `cargo xtask fuzz` feeds
//! them from a fuzzer, and `tests/fuzz` from [`Target::seeds`] and a [`Mutator`], a bounded number of cases each time.
//! `tests/attacks` and `tests/control_plane` are callers that mean harm, each beside a healthy one that must not notice.
//!
//! What it refuses: catching a panic as a remedy, a limit on wall-clock time, and a case that cannot be played again: a failure
//! prints its input in hex.
//!
//! Read [`Target`] first, then a file in `targets/`, then `tests/attacks/main.rs`.
//!
//! ```
//! let hello = catamaran_hostile::target("hello").unwrap();
//! for seed in (hello.seeds)() {
//!     (hello.run)(&seed);
//! }
//! (hello.run)(b"\x16\x03\x01\x00\x00"); // an empty record: refused, not a panic
//! ```

pub mod frames;
mod mutate;
pub mod stand;
pub mod strict;
pub mod targets;
pub mod witness;

#[allow(
    dead_code,
    unreachable_pub,
    reason = "the proxy's tests use more of it than this room"
)]
#[path = "../../crates/proxy/tests/carry/fleet.rs"]
mod fleet;

pub use mutate::Mutator;
pub use targets::{ALL, Target, target};

/// Reads hex digits, white space aside; `None` when there is something else.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| match pair {
        [high, low] => Some((high.to_digit(16)? * 16 + low.to_digit(16)?) as u8),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

/// Bytes as hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What base64 without white space says; of a file that we wrote, so it is not checked.
pub fn unbase64(text: &str) -> Vec<u8> {
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for digit in text.bytes().take_while(|digit| *digit != b'=') {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
