//! The services of a snapshot: a sorted map in pieces, which snapshots share.
//!
//! A change copies the piece that it falls into and the list of pieces, which has one pointer for many services; all other
//! pieces stay the same ones, so two snapshots are compared by comparing pointers to pieces.

use std::cmp::Ordering;
use std::ops::Index;
use std::sync::Arc;

use catamaran_model::ServiceKey;

use crate::MergedService;

/// The most services of a piece; it is cut in two beyond. A power of two, so that halves are whole.
const PIECE: usize = 64;

type Piece = Vec<Arc<MergedService>>;

/// Services by key, which is their own.
///
/// ```
/// use catamaran_registry::Services;
/// let services = Services::default();
/// assert!(services.is_empty() && services.changes_since(&services.clone()).is_empty());
/// ```
#[derive(Debug, Clone, Default)]
pub struct Services {
    /// None is empty, and each ends before the next begins.
    pieces: Vec<Arc<Piece>>,
    len: usize,
}

/// A service in two pictures: before, and after.
#[derive(Debug, Clone, Copy)]
pub struct ServiceChange<'a> {
    /// `None`: it is new.
    pub old: Option<&'a Arc<MergedService>>,
    /// `None`: it is gone.
    pub new: Option<&'a Arc<MergedService>>,
}

impl<'a> ServiceChange<'a> {
    /// Whose change it is.
    pub fn key(&self) -> &'a ServiceKey {
        let either = self.new.or(self.old);
        &either.expect("a change has a side").key
    }
}

impl Services {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The piece in which a key is, or would be; after the last one it belongs to the last one.
    fn piece_of(&self, key: &ServiceKey) -> usize {
        let after = |piece: &Arc<Piece>| piece.last().is_some_and(|last| last.key < *key);
        let place = self.pieces.partition_point(after);
        place.min(self.pieces.len().saturating_sub(1))
    }

    /// The service of this name.
    pub fn get(&self, key: &ServiceKey) -> Option<&Arc<MergedService>> {
        let piece = self.pieces.get(self.piece_of(key))?;
        let place = piece
            .binary_search_by(|service| service.key.cmp(key))
            .ok()?;
        piece.get(place)
    }

    /// Whether there is a service of this name.
    pub fn contains_key(&self, key: &ServiceKey) -> bool {
        self.get(key).is_some()
    }

    /// Puts a service under its key; gives the one before.
    pub fn insert(&mut self, service: Arc<MergedService>) -> Option<Arc<MergedService>> {
        if self.pieces.is_empty() {
            self.pieces.push(Arc::new(vec![service]));
            self.len = 1;
            return None;
        }
        let at = self.piece_of(&service.key);
        let piece = Arc::make_mut(&mut self.pieces[at]);
        match piece.binary_search_by(|known| known.key.cmp(&service.key)) {
            Ok(place) => return Some(std::mem::replace(&mut piece[place], service)),
            Err(place) => piece.insert(place, service),
        }
        self.len += 1;
        if piece.len() > PIECE {
            let rest = piece.split_off(PIECE / 2);
            self.pieces.insert(at + 1, Arc::new(rest));
        }
        None
    }

    /// Takes a service out.
    pub fn remove(&mut self, key: &ServiceKey) -> Option<Arc<MergedService>> {
        let at = self.piece_of(key);
        let piece = self.pieces.get_mut(at)?;
        let place = piece
            .binary_search_by(|service| service.key.cmp(key))
            .ok()?;
        let removed = Arc::make_mut(piece).remove(place);
        self.len -= 1;
        self.join(at);
        Some(removed)
    }

    /// Joins a piece that became small with the next one when both fit into half of one, so that pieces stay few.
    fn join(&mut self, at: usize) {
        if self.pieces[at].is_empty() {
            self.pieces.remove(at);
            return;
        }
        let first = at.min(self.pieces.len().saturating_sub(2));
        if let [one, next, ..] = &self.pieces[first..]
            && one.len() + next.len() <= PIECE / 2
        {
            let next = self.pieces.remove(first + 1);
            Arc::make_mut(&mut self.pieces[first]).extend(next.iter().cloned());
        }
    }

    /// All of them, by key.
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            pieces: self.pieces.iter(),
            piece: [].iter(),
        }
    }

    /// Their keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &ServiceKey> {
        self.iter().map(|(key, _)| key)
    }

    /// All of them, by key.
    pub fn values(&self) -> impl Iterator<Item = &Arc<MergedService>> {
        self.pieces.iter().flat_map(|piece| piece.iter())
    }

    /// All that are another object than in an earlier picture, by key. Pieces that both share cost one comparison of pointers.
    pub fn changes_since<'a>(&'a self, earlier: &'a Services) -> Vec<ServiceChange<'a>> {
        let mut changes = Vec::new();
        let (mut old, mut new) = (Cursor::of(earlier), Cursor::of(self));
        loop {
            if old.skip_shared(&mut new) {
                continue;
            }
            let change = match (old.peek(), new.peek()) {
                (None, None) => return changes,
                (Some(a), Some(b)) => match a.key.cmp(&b.key) {
                    Ordering::Less => (old.next(), None),
                    Ordering::Greater => (None, new.next()),
                    Ordering::Equal => (old.next(), new.next()),
                },
                _ => (old.next(), new.next()),
            };
            match change {
                (Some(a), Some(b)) if Arc::ptr_eq(a, b) => {}
                (old, new) => changes.push(ServiceChange { old, new }),
            }
        }
    }

    /// How many services lie in pieces that an earlier picture does not have: what was copied in between.
    pub fn copied_since(&self, earlier: &Services) -> usize {
        let shared = |piece: &Arc<Piece>| {
            let first = &piece.first().expect("no piece is empty").key;
            let same = earlier.pieces.get(earlier.piece_of(first));
            same.is_some_and(|same| Arc::ptr_eq(same, piece))
        };
        let new = self.pieces.iter().filter(|piece| !shared(piece));
        new.map(|piece| piece.len()).sum()
    }
}

impl PartialEq for Services {
    fn eq(&self, other: &Services) -> bool {
        let same = |change: &ServiceChange<'_>| change.old == change.new;
        self.len == other.len && self.changes_since(other).iter().all(same)
    }
}

impl Eq for Services {}

impl Index<&ServiceKey> for Services {
    type Output = Arc<MergedService>;

    /// # Panics
    /// When there is no such service.
    fn index(&self, key: &ServiceKey) -> &Arc<MergedService> {
        self.get(key).expect("the service is there")
    }
}

impl FromIterator<Arc<MergedService>> for Services {
    fn from_iter<T: IntoIterator<Item = Arc<MergedService>>>(all: T) -> Services {
        let mut services = Services::default();
        for service in all {
            services.insert(service);
        }
        services
    }
}

impl<'a> IntoIterator for &'a Services {
    type Item = (&'a ServiceKey, &'a Arc<MergedService>);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// See [`Services::iter`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    pieces: std::slice::Iter<'a, Arc<Piece>>,
    piece: std::slice::Iter<'a, Arc<MergedService>>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a ServiceKey, &'a Arc<MergedService>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(service) = self.piece.next() {
                return Some((&service.key, service));
            }
            self.piece = self.pieces.next()?.iter();
        }
    }
}

/// A place in the pieces.
struct Cursor<'a> {
    pieces: &'a [Arc<Piece>],
    /// In the first of `pieces`.
    place: usize,
}

impl<'a> Cursor<'a> {
    fn of(services: &'a Services) -> Cursor<'a> {
        Cursor {
            pieces: &services.pieces,
            place: 0,
        }
    }

    /// Passes over a piece that both are at the beginning of.
    fn skip_shared(&mut self, other: &mut Cursor<'a>) -> bool {
        let (Some(one), Some(two)) = (self.pieces.first(), other.pieces.first()) else {
            return false;
        };
        let shared = self.place == 0 && other.place == 0 && Arc::ptr_eq(one, two);
        if shared {
            self.pieces = &self.pieces[1..];
            other.pieces = &other.pieces[1..];
        }
        shared
    }

    fn peek(&self) -> Option<&'a Arc<MergedService>> {
        self.pieces.first()?.get(self.place)
    }

    fn next(&mut self) -> Option<&'a Arc<MergedService>> {
        let service = self.peek()?;
        self.place += 1;
        if self.place == self.pieces[0].len() {
            (self.pieces, self.place) = (&self.pieces[1..], 0);
        }
        Some(service)
    }
}

#[cfg(test)]
mod tests;
