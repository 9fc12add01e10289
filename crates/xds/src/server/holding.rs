//! What one client holds of one kind: a shared map that it was brought to, and the names in which it differs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Names;
use crate::{OfKind, Resource, Version};

/// What a client holds under one name.
#[derive(Debug, Clone)]
pub(super) enum Held {
    Nothing,
    Known(Arc<Resource>),
    /// Named by the client when it came back; we do not have the bytes.
    Named(Version),
    /// Named by the client with a version that is none of ours.
    Foreign,
}

impl Held {
    pub(super) fn is(&self, resource: &Resource) -> bool {
        match self {
            Held::Known(held) => held.version == resource.version,
            Held::Named(version) => *version == resource.version,
            Held::Nothing | Held::Foreign => false,
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Held::Nothing)
    }

    pub(super) fn known(&self) -> Option<&Arc<Resource>> {
        match self {
            Held::Known(held) => Some(held),
            _ => None,
        }
    }
}

/// Which names a client asked for.
#[derive(Debug, Default)]
pub(super) struct Interest {
    pub(super) wildcard: bool,
    pub(super) names: Arc<Names>,
}

impl Interest {
    pub(super) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }
}

/// In sync it is one pointer: `off` is empty.
#[derive(Debug, Default)]
pub(super) struct Holding {
    base: Arc<OfKind>,
    off: BTreeMap<Arc<str>, Held>,
}

impl Holding {
    /// All of `base` is held.
    pub(super) fn of(base: Arc<OfKind>) -> Holding {
        Holding {
            base,
            off: BTreeMap::new(),
        }
    }

    /// What is held under a name that the client asked for.
    pub(super) fn get(&self, name: &str) -> Held {
        match self.off.get(name) {
            Some(held) => held.clone(),
            None => self
                .base
                .get(name)
                .map_or(Held::Nothing, |held| Held::Known(held.clone())),
        }
    }

    pub(super) fn put(&mut self, name: Arc<str>, held: Held) {
        self.off.insert(name, held);
    }

    /// Forgets what is known of a name that the client no longer asks for.
    pub(super) fn forget(&mut self, name: &str) {
        self.off.remove(name);
    }

    /// All that is held of what the client asked for and whose bytes are known, by name.
    pub(super) fn resources<'a>(&'a self, interest: &'a Interest) -> Vec<Arc<Resource>> {
        let known = |name: &Arc<str>| self.get(name).known().cloned();
        if interest.wildcard {
            let names: BTreeSet<&Arc<str>> = self.base.keys().chain(self.off.keys()).collect();
            names.into_iter().filter_map(known).collect()
        } else {
            interest.names.iter().filter_map(known).collect()
        }
    }

    /// Moves to a newer map, when nothing differs from it but, perhaps, the names in `off` and `others`.
    pub(super) fn rebase<'a>(
        &mut self,
        base: Arc<OfKind>,
        others: impl Iterator<Item = &'a Arc<str>>,
    ) {
        if Arc::ptr_eq(&self.base, &base) && self.off.is_empty() {
            return;
        }
        let others = others.cloned();
        let names: BTreeSet<Arc<str>> = self.off.keys().cloned().chain(others).collect();
        let off = names.into_iter().filter_map(|name| {
            let held = self.get(&name);
            let same = match base.get(&name) {
                Some(resource) => held.is(resource),
                None => held.is_nothing(),
            };
            (!same).then_some((name, held))
        });
        self.off = off.collect();
        self.base = base;
    }

    /// The shared map.
    pub(super) fn base(&self) -> &Arc<OfKind> {
        &self.base
    }

    /// In how many names it differs from the shared map.
    pub(super) fn exceptions(&self) -> usize {
        self.off.len()
    }
}
