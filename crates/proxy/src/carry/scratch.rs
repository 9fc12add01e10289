//! The buffers that all connections of a thread read into.

use std::ops::{Deref, DerefMut};

/// Where in a page a scratch begins.
///
/// Large pieces of it are copied to and from buffers of rustls, which begin where pages do or a record's header later. On AMD's Zen 4
/// `memcpy` by `rep movsb` is many times slower when the two ends are within a few bytes of the same place of a page; half a
/// page away they never are.
const SKEW: usize = 2048;
const PAGE: usize = 4096;

/// A buffer of a thread, half a page off.
pub(crate) struct Scratch {
    bytes: Box<[u8]>,
    begin: usize,
    length: usize,
}

impl Scratch {
    pub(crate) fn new(length: usize) -> Self {
        let bytes = vec![0; length + PAGE].into_boxed_slice();
        let place = bytes.as_ptr().addr() % PAGE;
        Scratch {
            begin: (SKEW + PAGE - place) % PAGE,
            length,
            bytes,
        }
    }
}

impl Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.begin..self.begin + self.length]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.begin..self.begin + self.length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_long_as_wanted_and_half_a_page_off() {
        for length in [1, PAGE, 64 * 1024, 100_000] {
            let scratch = Scratch::new(length);
            assert_eq!(scratch.len(), length);
            assert_eq!(scratch.as_ptr().addr() % PAGE, SKEW);
        }
    }
}
