//! What reads bytes of strangers, as functions of these bytes.

mod certificates;
mod dns;
pub mod hello;
mod http;
mod manifest;
mod names;
mod saved;
mod xds;

/// One reader, and what to feed it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The word for it on the command line.
    pub name: &'static str,
    /// What is read, and what must hold.
    pub what: &'static str,
    /// Reads the bytes. It panics when something does not hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Words that mean something in such inputs.
    pub words: &'static [&'static [u8]],
    /// How many changed inputs the test command tries.
    pub cases: usize,
}

/// All of them.
pub const ALL: [Target; 12] = [
    hello::TARGET,
    hello::BEGINNING,
    http::HEAD,
    http::HTTP1,
    http::HTTP2,
    xds::APPLY,
    xds::SERVE,
    certificates::TARGET,
    manifest::TARGET,
    dns::TARGET,
    saved::TARGET,
    names::TARGET,
];

/// The one of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}
