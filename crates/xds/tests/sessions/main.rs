//! Both ends of a stream, wired to each other: what a proxy ends up with, and what it cost to tell it.

mod converge;
mod envoy;
mod world;
