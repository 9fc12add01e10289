//! Which versions of Catamaran work together.

use crate::Version;

impl Version {
    /// Major and minor, `0.1` of `0.1.7`; what has no such numbers has none.
    pub fn line(&self) -> Option<(u32, u32)> {
        let mut parts = self.as_str().split('.');
        let mut number = || parts.next()?.parse().ok();
        Some((number()?, number()?))
    }

    /// Whether a part of this version works together with one of the other: their minors differ by one at most, within one major.
    /// What is no number works with itself alone.
    pub fn is_neighbour(&self, other: &Version) -> bool {
        match (self.line(), other.line()) {
            (Some((major, minor)), Some((other_major, other_minor))) => {
                major == other_major && minor.abs_diff(other_minor) <= 1
            }
            _ => self == other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_differ_by_one_minor_at_most() {
        let near = |a: &str, b: &str| {
            let (a, b) = (Version::new(a).unwrap(), Version::new(b).unwrap());
            assert_eq!(a.is_neighbour(&b), b.is_neighbour(&a), "{a} {b}");
            a.is_neighbour(&b)
        };
        assert!(near("0.1.0", "0.1.9") && near("0.1.3", "0.2.0") && near("1.4.0", "1.4.0-rc.1"));
        assert!(!near("0.1.0", "0.3.0") && !near("0.9.0", "1.0.0") && !near("1.2.0", "2.2.0"));
        // What cannot be compared is not believed to fit.
        assert!(near("dev", "dev") && !near("dev", "0.1.0") && !near("1", "1.0.0"));
    }
}
