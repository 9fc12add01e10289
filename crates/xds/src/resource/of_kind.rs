//! The resources of one kind, in parts that versions of the map share.

use std::cmp::Ordering;
use std::sync::Arc;

use super::Resource;

/// How many resources a part has at most; half of it after a split.
const PART: usize = 64;

type Part = Vec<(Arc<str>, Arc<Resource>)>;

/// The resources of one kind by name.
///
/// A clone shares all parts with the original, and a change copies one part and the list of parts. So the map that a stream
/// holds of last hour's thousand services, and the newest one, have all in common but what changed.
#[derive(Debug, Clone, Default)]
pub struct OfKind {
    /// None of them empty; in the order of names, within each and among them.
    parts: Vec<Arc<Part>>,
    len: usize,
}

impl OfKind {
    /// One by name.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        let part = self.parts.get(self.part_of(name)?)?;
        let at = place(part, name).ok()?;
        Some(&part[at].1)
    }

    /// Whether there is one with this name.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Adds or replaces one.
    pub fn insert(&mut self, resource: Arc<Resource>) {
        let name = resource.name.clone();
        let Some(number) = self.part_of(&name) else {
            self.parts.push(Arc::new(vec![(name, resource)]));
            self.len = 1;
            return;
        };
        let part = Arc::make_mut(&mut self.parts[number]);
        match place(part, &name) {
            Ok(at) => part[at].1 = resource,
            Err(at) => {
                part.insert(at, (name, resource));
                self.len += 1;
                if part.len() > PART {
                    let rest = part.split_off(PART / 2);
                    self.parts.insert(number + 1, Arc::new(rest));
                }
            }
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, name: &str) -> Option<Arc<Resource>> {
        let number = self.part_of(name)?;
        let at = place(&self.parts[number], name).ok()?;
        let (_, found) = Arc::make_mut(&mut self.parts[number]).remove(at);
        self.len -= 1;
        self.close_up(number);
        Some(found)
    }

    /// Joins a part that became small with a neighbour, so that there are never many small ones.
    fn close_up(&mut self, number: usize) {
        if self.parts[number].is_empty() {
            self.parts.remove(number);
            return;
        }
        let size = |at: usize| self.parts.get(at).map_or(PART, |part| part.len());
        let small = |first: usize| size(first) + size(first + 1) <= PART / 2;
        let first = match number.checked_sub(1) {
            Some(before) if small(before) => before,
            _ if small(number) => number,
            _ => return,
        };
        let second = self.parts.remove(first + 1);
        Arc::make_mut(&mut self.parts[first]).extend_from_slice(&second);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Resource>)> {
        let all = self.parts.iter().flat_map(|part| part.iter());
        all.map(|(name, resource)| (name, resource))
    }

    /// All names, in order.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<str>> {
        self.iter().map(|(name, _)| name)
    }

    /// All resources, by name.
    pub fn values(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.iter().map(|(_, resource)| resource)
    }

    /// The names in which two maps differ. Parts that both share, before and after all that differs, are not looked into.
    pub fn differences(&self, other: &OfKind) -> Vec<Arc<str>> {
        let same = |(ours, theirs): &(&Arc<Part>, &Arc<Part>)| Arc::ptr_eq(ours, theirs);
        let before = self.parts.iter().zip(&other.parts).take_while(same).count();
        let (ours, theirs) = (&self.parts[before..], &other.parts[before..]);
        let both = ours.iter().rev().zip(theirs.iter().rev());
        let after = both.take_while(same).count();
        let mut ours = entries(&ours[..ours.len() - after]).peekable();
        let mut theirs = entries(&theirs[..theirs.len() - after]).peekable();
        let mut names = Vec::new();
        loop {
            let order = match (ours.peek(), theirs.peek()) {
                (None, None) => return names,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((ours, _)), Some((theirs, _))) => ours.cmp(theirs),
            };
            let held = if order.is_le() { ours.next() } else { None };
            let wanted = if order.is_ge() { theirs.next() } else { None };
            if let Some((name, _)) = held.or(wanted)
                && held.map(|(_, it)| it.version) != wanted.map(|(_, it)| it.version)
            {
                names.push(name.clone());
            }
        }
    }

    /// The part in which a name is, if it is anywhere.
    fn part_of(&self, name: &str) -> Option<usize> {
        let after = self.parts.partition_point(|part| &*part[0].0 <= name);
        match self.parts.is_empty() {
            true => None,
            false => Some(after.saturating_sub(1)),
        }
    }
}

fn entries(parts: &[Arc<Part>]) -> impl Iterator<Item = &(Arc<str>, Arc<Resource>)> {
    parts.iter().flat_map(|part| part.iter())
}

fn place(part: &Part, name: &str) -> Result<usize, usize> {
    part.binary_search_by(|(other, _)| (**other).cmp(name))
}

impl PartialEq for OfKind {
    fn eq(&self, other: &OfKind) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for OfKind {}

#[cfg(test)]
mod tests;
