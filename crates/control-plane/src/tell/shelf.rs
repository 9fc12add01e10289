//! What streams that hear the same are told of one kind, in one place, and who wants to know of which of it.
//!
//! A change is put up once, however many streams there are, and only those are looked up that asked for a name in it. Streams
//! that asked for the same names share one set of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use catamaran_xds::{Names, OfKind, ResourceKey, ResourceSet, TypeUrlKind};

use super::{Slot, StreamId};

/// What is told of one kind to all streams of the same classes.
pub(crate) struct Shelf {
    kind: TypeUrlKind,
    put: Mutex<Put>,
    listeners: Mutex<Listeners>,
}

/// What was put up last.
#[derive(Clone)]
struct Put {
    now: Arc<OfKind>,
    /// Where `now` differs from what was up before it.
    before: Arc<OfKind>,
    changed: Arc<[ResourceKey]>,
}

/// How what a stream has relates to what is up.
pub(super) enum Newer {
    Same,
    /// In these.
    Only(Arc<[ResourceKey]>),
    Unknown,
}

#[derive(Default)]
struct Listeners {
    /// Who asked for all.
    all: BTreeMap<StreamId, Arc<Slot>>,
    /// Who asked by name: those who asked for the same names together.
    groups: BTreeMap<u64, Group>,
    numbers: HashMap<Arc<Names>, u64>,
    by_name: HashMap<Arc<str>, BTreeSet<u64>>,
    /// The group of each stream.
    group_of: BTreeMap<StreamId, u64>,
    last: u64,
}

struct Group {
    names: Arc<Names>,
    streams: BTreeMap<StreamId, Arc<Slot>>,
}

impl Shelf {
    pub(super) fn new(kind: TypeUrlKind, now: Arc<OfKind>) -> Shelf {
        let put = Put {
            before: now.clone(),
            now,
            changed: Arc::default(),
        };
        Shelf {
            kind,
            put: Mutex::new(put),
            listeners: Mutex::default(),
        }
    }

    fn up(&self) -> MutexGuard<'_, Put> {
        self.put.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        (self.listeners.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// What is up now.
    pub(super) fn now(&self) -> Arc<OfKind> {
        self.up().now.clone()
    }

    /// Puts what is up into `set`, and says how it relates to what is in `given`.
    pub(super) fn give(&self, given: &ResourceSet, set: &mut ResourceSet) -> Newer {
        let Put {
            now,
            before,
            changed,
        } = self.up().clone();
        let held = given.shared(self.kind);
        let newer = if Arc::ptr_eq(&held, &now) || held.is_empty() && now.is_empty() {
            Newer::Same
        } else if Arc::ptr_eq(&held, &before) {
            Newer::Only(changed)
        } else {
            Newer::Unknown
        };
        set.put_shared(self.kind, now);
        newer
    }

    /// Puts up what follows. Who asked for any of it has to be told then: [`Shelf::concerned`].
    pub(super) fn put(&self, now: Arc<OfKind>, changed: Arc<[ResourceKey]>) {
        let mut up = self.up();
        let before = std::mem::replace(&mut up.now, now);
        up.before = before;
        up.changed = changed;
    }

    /// Who asked for any of these.
    pub(super) fn concerned(&self, keys: &[ResourceKey]) -> BTreeMap<StreamId, Arc<Slot>> {
        let listeners = self.listeners();
        let mut found = listeners.all.clone();
        let groups = keys
            .iter()
            .filter_map(|key| listeners.by_name.get(&key.name));
        for number in groups.flatten().collect::<BTreeSet<_>>() {
            let group = &listeners.groups[number];
            found.extend(group.streams.iter().map(|(id, slot)| (*id, slot.clone())));
        }
        found
    }

    /// A stream asks for this from now on, and for nothing else. Gives the set of names that all who ask for the same share.
    pub(super) fn listen(
        &self,
        id: StreamId,
        slot: &Arc<Slot>,
        wildcard: bool,
        names: &Arc<Names>,
    ) -> Arc<Names> {
        let mut listeners = self.listeners();
        listeners.forget(id);
        if wildcard {
            listeners.all.insert(id, slot.clone());
        }
        listeners.enter(id, slot, names)
    }

    /// A stream asks for nothing any more.
    pub(super) fn forget(&self, id: StreamId) {
        self.listeners().forget(id);
    }

    #[cfg(test)]
    pub(super) fn is_unheard(&self) -> bool {
        let listeners = self.listeners();
        listeners.all.is_empty() && listeners.groups.is_empty() && listeners.by_name.is_empty()
    }
}

impl Listeners {
    fn enter(&mut self, id: StreamId, slot: &Arc<Slot>, names: &Arc<Names>) -> Arc<Names> {
        if names.is_empty() {
            return names.clone();
        }
        let number = match self.numbers.get(names) {
            Some(number) => *number,
            None => {
                self.last += 1;
                self.numbers.insert(names.clone(), self.last);
                for name in names.iter() {
                    let groups = self.by_name.entry(name.clone()).or_default();
                    groups.insert(self.last);
                }
                self.last
            }
        };
        let group = self.groups.entry(number).or_insert_with(|| Group {
            names: names.clone(),
            streams: BTreeMap::new(),
        });
        group.streams.insert(id, slot.clone());
        self.group_of.insert(id, number);
        group.names.clone()
    }

    fn forget(&mut self, id: StreamId) {
        self.all.remove(&id);
        let Some(number) = self.group_of.remove(&id) else {
            return;
        };
        let Some(group) = self.groups.get_mut(&number) else {
            return;
        };
        group.streams.remove(&id);
        if !group.streams.is_empty() {
            return;
        }
        let Some(group) = self.groups.remove(&number) else {
            return;
        };
        self.numbers.remove(&group.names);
        for name in group.names.iter() {
            if let Some(groups) = self.by_name.get_mut(name) {
                groups.remove(&number);
                if groups.is_empty() {
                    self.by_name.remove(name);
                }
            }
        }
    }
}
