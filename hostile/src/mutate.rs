//! Changes inputs a little, the same way for the same seed.

/// Numbers that readers of lengths stumble over.
const NUMBERS: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0x16, b'\r', b'\n'];
/// A case grows no longer than this.
const LONGEST: usize = 64 * 1024;

/// A source of changed inputs.
#[derive(Debug, Clone)]
pub struct Mutator(u64);

impl Mutator {
    /// The one of this seed.
    pub fn new(seed: u64) -> Mutator {
        Mutator(seed)
    }

    /// The next number (splitmix64).
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: usize) -> usize {
        (self.number() % end.max(1) as u64) as usize
    }

    /// One of `seeds`, changed in one to six places; `words` are put in as they are.
    pub fn case(&mut self, seeds: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
        let mut bytes = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(6) {
            self.change(&mut bytes, seeds, words);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&[u8]]) {
        let at = self.below(bytes.len() + 1);
        let till = (at + 1 + self.below(16)).min(bytes.len());
        match self.below(11) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.number() as u8,
            2 if at < bytes.len() => bytes[at] = NUMBERS[self.below(NUMBERS.len())],
            3 => drop(bytes.drain(at.min(till)..till)),
            4 => {
                let part = bytes[at.min(till)..till].to_vec();
                bytes.splice(at..at, part);
            }
            5 => {
                let (count, byte) = (1 + self.below(64), self.number() as u8);
                bytes.splice(at..at, std::iter::repeat_n(byte, count));
            }
            6 => bytes.truncate(at),
            7 => {
                let other = &seeds[self.below(seeds.len())];
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            8 if at + 2 <= bytes.len() => {
                let number = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
                let step = self.below(5) as u16;
                let changed = number.wrapping_add(step).wrapping_sub(2).to_be_bytes();
                bytes[at..at + 2].copy_from_slice(&changed);
            }
            _ if !words.is_empty() => {
                let word = words[self.below(words.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            _ => bytes.push(self.number() as u8),
        }
    }
}
