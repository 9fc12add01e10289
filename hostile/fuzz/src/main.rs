//! One fuzzer for all targets: `CATAMARAN_TARGET` says which, `CATAMARAN_FUZZ` in which folder seeds and words are put. `cargo
//! xtask fuzz` builds and runs it.

#![no_main]

use std::fmt::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use catamaran_hostile::{Target, target};
use libfuzzer_sys::fuzz_target;

fn chosen() -> &'static Target {
    static TARGET: OnceLock<&'static Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("CATAMARAN_TARGET").expect("CATAMARAN_TARGET names a target");
        target(&name).expect("a target of that name")
    })
}

/// Puts seeds and words where the fuzzer looks for them next.
fn prepare() {
    let folder = std::env::var("CATAMARAN_FUZZ").expect("CATAMARAN_FUZZ names a folder");
    let folder = Path::new(&folder);
    for (number, seed) in (chosen().seeds)().iter().enumerate() {
        std::fs::write(folder.join("corpus").join(format!("seed-{number}")), seed)
            .expect("a seed can be written");
    }
    let mut words = String::new();
    for word in chosen().words {
        let escaped: String = word.iter().map(|byte| format!("\\x{byte:02x}")).collect();
        let _ = writeln!(words, "\"{escaped}\"");
    }
    std::fs::write(folder.join("words"), words).expect("words can be written");
}

fuzz_target!(init: prepare(), |bytes: &[u8]| {
    (chosen().run)(bytes);
});
