//! The serving end of one stream of one client.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use catamaran_model::Timestamp;
use catamaran_wire::discovery::{DeltaDiscoveryRequest, DiscoveryRequest};
use catamaran_wire::endpoint::ClusterLoadAssignment;
use catamaran_wire::route::RouteConfiguration;
use catamaran_wire::well_known::Status;

use self::holding::{Held, Holding, Interest};
use crate::nack;
use crate::{Quarantine, Refusal, Resource, ResourceKey, ResourceSet, TypeUrlKind, Version};

pub use response::Response;

mod holding;
mod response;

/// Names that a client asked for. Sessions may share one set.
pub type Names = BTreeSet<Arc<str>>;

/// How many names of one kind a client may ask for.
pub const NAMES_LIMIT: usize = 50_000;
/// The longest name a client may ask for, in bytes.
pub const NAME_LIMIT: usize = 1024;
/// How many bytes of bodies go into one response of changes; what is more goes into the next. A single larger resource goes
/// alone. A response with the state of the world cannot be split.
pub const RESPONSE_LIMIT: usize = 4 << 20;
/// How long listeners, routes and names wait for the clusters and endpoints they may refer to.
pub const MAKE_WAIT: Duration = Duration::from_secs(5);
/// How long what is gone stays with the client, so that what refers to it is replaced first.
pub const BREAK_WAIT: Duration = Duration::from_secs(5);
/// What a name in an ordered set takes, about: a pointer with its length, in nodes that are two thirds full.
const NAME_SIZE: usize = 24;
/// How long a client that comes back has to ask for all kinds, before what is gone meanwhile is taken away.
pub const OPEN_WAIT: Duration = Duration::from_secs(1);

/// Which of the two protocols the stream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Each response holds what changed.
    Delta,
    /// Each response holds all resources of its kind.
    StateOfTheWorld,
}

/// Whose habits the client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// Uses what it can of a response and names the rest.
    Catamaran,
    /// Refuses responses, and waits for the endpoints of a cluster that changed although it holds them.
    Envoy,
}

impl Peer {
    /// By the user agent in the node of the first request: `catamaran-proxy` or anything else.
    pub fn of(user_agent_name: &str) -> Peer {
        match user_agent_name {
            "catamaran-proxy" => Peer::Catamaran,
            _ => Peer::Envoy,
        }
    }
}

/// What enters a [`ServerSession`].
#[derive(Debug, Clone)]
pub enum Input {
    /// The client asks, accepts or refuses; [`Protocol::Delta`] only.
    Delta(DeltaDiscoveryRequest),
    /// The client asks, accepts or refuses; [`Protocol::StateOfTheWorld`] only.
    Full(DiscoveryRequest),
    /// What the client should have from now on.
    Current(Current),
    /// What other proxies that would refuse the same refused already. Replaces the one before.
    Quarantine(Arc<Quarantine>),
    /// Time has passed; see [`Outputs::wake_at`].
    Tick,
}

/// All that the client may hear, and what of it is new.
#[derive(Debug, Clone)]
pub struct Current {
    /// Shared by all sessions of the same audience.
    pub set: Arc<ResourceSet>,
    /// Where it differs from the set before.
    pub changed: Changed,
    /// Goes into `system_version_info`; means nothing here.
    pub revision: Arc<str>,
}

/// Where a set differs from the one before.
#[derive(Debug, Clone)]
pub enum Changed {
    /// To be found out by comparing; kinds whose map is shared cost nothing.
    Unknown,
    /// In no other resources than these.
    Only(Arc<[ResourceKey]>),
}

/// What comes out of one step.
#[derive(Debug, Default)]
pub struct Outputs {
    /// To be sent in this order. There is never more than one response of a kind without an answer, so a queue of
    /// [`TypeUrlKind::ALL`]'s length never blocks.
    pub responses: Vec<Response>,
    /// For status, metrics and the log.
    pub events: Vec<Event>,
    /// When to come back with [`Input::Tick`] if nothing else comes.
    pub wake_at: Option<Timestamp>,
    /// The stream must be closed with this.
    pub end: Option<SessionError>,
}

/// What became known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The client uses what it was sent.
    Accepted {
        /// Of this kind.
        kind: TypeUrlKind,
        /// How many resources and removals.
        count: usize,
        /// From sending to the answer.
        after: Duration,
    },
    /// A resource is refused and will not be sent again as it is.
    Refused(Refusal),
    /// A response was refused and its culprit is not known yet, or it had no resource that could be one.
    Rejected {
        /// Of this kind.
        kind: TypeUrlKind,
        /// The client's words, one line.
        reason: String,
    },
    /// The client asks for a type that we do not serve. It gets no answer.
    Unserved {
        /// As it stood in the request, cut to [`NAME_LIMIT`] bytes.
        type_url: String,
    },
}

/// Why a stream cannot go on. The client has to change; coming back as before does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// Delta and state of the world do not mix.
    #[error(
        "the client sent a request of the other protocol on this stream; it must open a stream for each"
    )]
    Protocol,
    /// More than [`NAMES_LIMIT`].
    #[error(
        "the client asked for more than {NAMES_LIMIT} {kind} resources by name; narrow its scope"
    )]
    Names {
        /// Of this kind.
        kind: TypeUrlKind,
    },
    /// Longer than [`NAME_LIMIT`].
    #[error("the client asked for a {kind} resource with a name of more than {NAME_LIMIT} bytes")]
    Name {
        /// Of this kind.
        kind: TypeUrlKind,
    },
}

/// How things stand with one kind, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindStatus {
    /// Of this kind.
    pub kind: TypeUrlKind,
    /// Whether the client asked for all.
    pub wildcard: bool,
    /// How many it asked for by name.
    pub names: usize,
    /// How many are still to be sent or taken away.
    pub pending: usize,
    /// Since when a response has no answer.
    pub unanswered_since: Option<Timestamp>,
    /// When a response was last accepted.
    pub accepted_at: Option<Timestamp>,
}

/// The serving end of one stream of one client, without its socket and its clock.
///
/// Of a client that is in sync it keeps a pointer to the shared set and the names that were asked for. What is to be sent
/// is a set of names, so the latest content wins and a slow client costs nothing.
#[derive(Debug)]
pub struct ServerSession {
    protocol: Protocol,
    peer: Peer,
    identifier: Arc<str>,
    current: Arc<ResourceSet>,
    revision: Arc<str>,
    shared: Arc<Quarantine>,
    own: Quarantine,
    kinds: BTreeMap<TypeUrlKind, Box<Kind>>,
    /// Clusters that were sent as new and whose endpoints were not asked for yet.
    awaited: BTreeSet<Arc<str>>,
    sent: u64,
}

/// One kind that the client asked for.
#[derive(Debug, Default)]
struct Kind {
    interest: Interest,
    holding: Holding,
    /// May differ from what should be held. Every other name does not.
    dirty: BTreeSet<Arc<str>>,
    /// To be answered even if nothing differs.
    forced: BTreeSet<Arc<str>>,
    /// A response is due even if it is empty.
    answer_due: bool,
    /// The client holds a state of the world that we do not know and that a first accepted response replaces.
    unknown_start: bool,
    in_flight: Option<InFlight>,
    /// Parts of a refused response, each to be tried alone.
    suspects: VecDeque<Vec<(Arc<str>, Version)>>,
    /// Gone, but left with the client for a while.
    lingering: BTreeSet<Arc<str>>,
    lingering_since: Timestamp,
    opened_at: Timestamp,
    blocked_since: Option<Timestamp>,
    /// The number of the last response of this kind.
    last: u64,
    /// The number of a response that may make the client ask again for what it was sent before that.
    refreshed: Option<u64>,
    accepted_at: Option<Timestamp>,
}

#[derive(Debug)]
struct InFlight {
    number: u64,
    sent_at: Timestamp,
    set: Vec<Sent>,
    removed: Vec<(Arc<str>, Held)>,
    /// Names to which what becomes of it no longer matters.
    left: BTreeSet<Arc<str>>,
}

#[derive(Debug)]
struct Sent {
    resource: Arc<Resource>,
    before: Held,
}

/// How much of a kind's work goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    /// Only what the client asked for and must hear.
    Asked,
}

/// What a client should hold under a name.
enum Want {
    This(Arc<Resource>),
    /// Whatever it holds.
    Keep,
    Nothing,
}

impl Kind {
    fn has_work(&self) -> bool {
        !self.dirty.is_empty()
            || !self.forced.is_empty()
            || !self.suspects.is_empty()
            || self.answer_due
    }

    fn is_quiet(&self) -> bool {
        !self.has_work() && self.in_flight.is_none()
    }

    /// The client drops what it had under this name, or never had it: it must be told in any case.
    fn ask(&mut self, name: Arc<str>) {
        self.holding.put(name.clone(), Held::Nothing);
        self.lingering.remove(&name);
        self.leave_flight(&name);
        self.forced.insert(name);
    }

    fn drop_name(&mut self, name: &str) {
        self.holding.forget(name);
        self.dirty.remove(name);
        self.forced.remove(name);
        self.lingering.remove(name);
        self.leave_flight(name);
    }

    /// What becomes of the response in flight no longer matters to this name.
    fn leave_flight(&mut self, name: &str) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.left.insert(Arc::from(name));
            if in_flight.left.len() > in_flight.set.len() + in_flight.removed.len() {
                in_flight.let_go();
            }
        }
    }
}

impl InFlight {
    /// Forgets the names that have left. Not for each of them at once: a client that asks for fifty thousand names while as many
    /// are under way would cost a look at each for each.
    fn let_go(&mut self) {
        let left = std::mem::take(&mut self.left);
        self.set.retain(|sent| !left.contains(&sent.resource.name));
        self.removed.retain(|(name, _)| !left.contains(name));
    }
}

impl ServerSession {
    /// A stream that was just opened by a client that should have `current`. `identifier` names this control plane in
    /// every response.
    ///
    /// A session cannot be without a set: a client that comes back would be told that all it holds is gone.
    pub fn new(
        protocol: Protocol,
        peer: Peer,
        identifier: impl Into<Arc<str>>,
        current: Arc<ResourceSet>,
        revision: Arc<str>,
    ) -> ServerSession {
        ServerSession {
            protocol,
            peer,
            identifier: identifier.into(),
            current,
            revision,
            shared: Arc::default(),
            own: Quarantine::default(),
            kinds: BTreeMap::new(),
            awaited: BTreeSet::new(),
            sent: 0,
        }
    }

    /// Takes one input and says what to do now.
    pub fn step(&mut self, input: Input, now: Timestamp) -> Outputs {
        let mut out = Outputs::default();
        let taken = match input {
            Input::Delta(request) => self.delta(request, now, &mut out),
            Input::Full(request) => self.full(request, now, &mut out),
            Input::Current(current) => {
                self.renew(current, now);
                Ok(())
            }
            Input::Quarantine(shared) => {
                self.share(shared);
                Ok(())
            }
            Input::Tick => Ok(()),
        };
        match taken {
            Ok(()) => self.pump(now, &mut out),
            Err(error) => out.end = Some(error),
        }
        out
    }

    /// How things stand with each kind that the client asked for.
    pub fn status(&self) -> impl Iterator<Item = KindStatus> + '_ {
        self.kinds.iter().map(|(kind, state)| KindStatus {
            kind: *kind,
            wildcard: state.interest.wildcard,
            names: state.interest.names.len(),
            pending: state.dirty.union(&state.forced).count()
                + state.suspects.iter().map(Vec::len).sum::<usize>()
                + state.lingering.len(),
            unanswered_since: state.in_flight.as_ref().map(|flight| flight.sent_at),
            accepted_at: state.accepted_at,
        })
    }

    /// Whether the client asked for all of a kind, and which names it asked for; `None` when it did not ask for the kind.
    pub fn interest(&self, kind: TypeUrlKind) -> Option<(bool, &Arc<Names>)> {
        let interest = &self.kinds.get(&kind)?.interest;
        Some((interest.wildcard, &interest.names))
    }

    /// Hands in a set of names equal to the one that the client asked for, so that this session has none of its own. One that is
    /// not equal is not taken.
    pub fn share_names(&mut self, kind: TypeUrlKind, names: &Arc<Names>) {
        if let Some(state) = self.kinds.get_mut(&kind)
            && state.interest.names == *names
        {
            state.interest.names = names.clone();
        }
    }

    /// About how many bytes this session holds that no other session shares with it.
    pub fn footprint(&self) -> usize {
        let names = |names: usize| names * NAME_SIZE;
        let kinds = self.kinds.values().map(|state| {
            let own = match Arc::strong_count(&state.interest.names) {
                1 => state.interest.names.len(),
                _ => 0,
            };
            let flight = state.in_flight.iter();
            let flying = flight.map(|flight| flight.set.len() + flight.removed.len());
            let suspects = state.suspects.iter().map(Vec::len);
            size_of::<(TypeUrlKind, Box<Kind>, Kind)>()
                + names(own + state.dirty.len() + state.forced.len() + state.lingering.len())
                + (names(1) + size_of::<Held>())
                    * (state.holding.exceptions() + flying.chain(suspects).sum::<usize>())
        });
        size_of::<Self>() + kinds.sum::<usize>() + names(self.awaited.len())
    }

    /// What this client refused of the current set.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.own.iter()
    }

    /// Whether there is nothing to send, nothing without an answer, and nothing kept back.
    pub fn is_in_sync(&self) -> bool {
        self.kinds
            .values()
            .all(|state| state.is_quiet() && state.lingering.is_empty())
    }

    fn delta(
        &mut self,
        request: DeltaDiscoveryRequest,
        now: Timestamp,
        out: &mut Outputs,
    ) -> Result<(), SessionError> {
        if self.protocol != Protocol::Delta {
            return Err(SessionError::Protocol);
        }
        let Some(kind) = served(&request.type_url, out) else {
            return Ok(());
        };
        check_names(kind, &request.resource_names_subscribe)?;
        if self.kinds.contains_key(&kind) {
            self.answer(
                kind,
                &request.response_nonce,
                request.error_detail,
                now,
                out,
            );
            self.subscribe(
                kind,
                request.resource_names_subscribe,
                request.resource_names_unsubscribe,
            );
        } else {
            self.open_delta(kind, request, now);
        }
        let asked = self
            .kinds
            .get(&kind)
            .map_or(0, |kind| kind.interest.names.len());
        if asked > NAMES_LIMIT {
            return Err(SessionError::Names { kind });
        }
        Ok(())
    }

    /// The first request for a kind on a stream of deltas: the client may hold much already.
    fn open_delta(&mut self, kind: TypeUrlKind, request: DeltaDiscoveryRequest, now: Timestamp) {
        let asked = request.resource_names_subscribe;
        let mut state = Box::new(Kind {
            opened_at: now,
            lingering_since: now,
            ..Kind::default()
        });
        state.interest.wildcard =
            asked.iter().any(|name| name == "*") || (asked.is_empty() && kind.is_wildcard());
        let names = asked.into_iter().filter(|name| name != "*");
        state.interest.names = Arc::new(names.map(|name| self.interned(kind, &name)).collect());

        let current = self.current.shared(kind);
        let mut holding = Holding::of(current.clone());
        let mut dirty = BTreeSet::new();
        let initial = request.initial_resource_versions;
        state.answer_due = state.interest.wildcard && initial.is_empty();
        for (name, resource) in current.iter() {
            let held = held_as(initial.get(&**name).map(String::as_str));
            if state.interest.wants(name) && !held.is(resource) {
                holding.put(name.clone(), held);
                dirty.insert(name.clone());
            }
        }
        for (name, version) in &initial {
            if state.interest.wants(name) && !current.contains_key(name.as_str()) {
                let name: Arc<str> = Arc::from(name.as_str());
                holding.put(name.clone(), held_as(Some(version)));
                state.lingering.insert(name);
            }
        }
        let asked = state.interest.names.iter();
        let asked = asked.filter(|name| !initial.contains_key(&***name));
        state.forced.extend(asked.cloned());
        state.holding = holding;
        state.dirty = dirty;
        self.kinds.insert(kind, state);
    }

    fn subscribe(&mut self, kind: TypeUrlKind, add: Vec<String>, drop: Vec<String>) {
        let current = self.current.shared(kind);
        let add: Vec<Arc<str>> = add.iter().map(|name| self.interned(kind, name)).collect();
        let Some(state) = self.kinds.get_mut(&kind) else {
            return;
        };
        for name in drop {
            if name == "*" {
                state.interest.wildcard = false;
                let named = std::mem::take(&mut state.interest.names);
                let unnamed: Vec<Arc<str>> = current
                    .keys()
                    .chain(&state.dirty)
                    .chain(&state.lingering)
                    .filter(|name| !named.contains(*name))
                    .cloned()
                    .collect();
                unnamed.iter().for_each(|name| state.drop_name(name));
                state.interest.names = named;
            } else if state.interest.names.contains(name.as_str()) {
                Arc::make_mut(&mut state.interest.names).remove(name.as_str());
                if !state.interest.wildcard {
                    state.drop_name(&name);
                }
            }
        }
        for name in add {
            if &*name != "*" {
                if !state.interest.names.contains(&name) {
                    Arc::make_mut(&mut state.interest.names).insert(name.clone());
                }
                state.ask(name);
            } else if !state.interest.wildcard {
                state.interest.wildcard = true;
                state.answer_due = true;
                let unnamed = current.keys();
                let unnamed = unnamed.filter(|name| !state.interest.names.contains(*name));
                for name in unnamed {
                    state.holding.put(name.clone(), Held::Nothing);
                    state.dirty.insert(name.clone());
                }
            }
        }
    }

    fn full(
        &mut self,
        request: DiscoveryRequest,
        now: Timestamp,
        out: &mut Outputs,
    ) -> Result<(), SessionError> {
        if self.protocol != Protocol::StateOfTheWorld {
            return Err(SessionError::Protocol);
        }
        let Some(kind) = served(&request.type_url, out) else {
            return Ok(());
        };
        check_names(kind, &request.resource_names)?;
        let names = request.resource_names;
        match self.kinds.get(&kind) {
            None => self.open_full(kind, names, &request.version_info),
            Some(state) if request.response_nonce != number_text(state.last) => {}
            Some(state) => {
                let again = state.refreshed.is_some_and(|by| {
                    let answers = state.in_flight.as_ref();
                    answers.is_none_or(|flight| flight.number < by)
                });
                self.answer(
                    kind,
                    &request.response_nonce,
                    request.error_detail,
                    now,
                    out,
                );
                self.ask_full(kind, names, again);
            }
        }
        Ok(())
    }

    fn open_full(&mut self, kind: TypeUrlKind, names: Vec<String>, version: &str) {
        let mut state = Box::<Kind>::default();
        state.interest.wildcard =
            names.iter().any(|name| name == "*") || (names.is_empty() && kind.is_wildcard());
        let named = names.iter().filter(|name| *name != "*");
        state.interest.names = Arc::new(named.map(|name| self.interned(kind, name)).collect());

        let current = self.current.shared(kind);
        let wanted: Vec<Arc<Resource>> = current
            .keys()
            .filter(|name| state.interest.wants(name))
            .filter_map(|name| match self.want(kind, &state, name, &Held::Nothing) {
                Want::This(resource) => Some(resource),
                Want::Keep | Want::Nothing => None,
            })
            .collect();
        let held = !version.is_empty() && version == version_of_all(&wanted);
        if !held {
            state.answer_due = true;
            state.unknown_start = true;
            state.dirty = wanted
                .iter()
                .map(|resource| resource.name.clone())
                .collect();
            if !state.interest.wildcard {
                state.forced = state.dirty.clone();
            }
            self.kinds.insert(kind, state);
            return;
        }
        let mut holding = Holding::of(current.clone());
        let wanted: BTreeMap<&str, &Arc<Resource>> = wanted
            .iter()
            .map(|resource| (&*resource.name, resource))
            .collect();
        for (name, resource) in current
            .iter()
            .filter(|(name, _)| state.interest.wants(name))
        {
            match wanted.get(&**name) {
                Some(held) if held.version == resource.version => {}
                Some(held) => holding.put(name.clone(), Held::Known((*held).clone())),
                None => holding.put(name.clone(), Held::Nothing),
            }
        }
        state.holding = holding;
        self.kinds.insert(kind, state);
    }

    fn ask_full(&mut self, kind: TypeUrlKind, names: Vec<String>, again: bool) {
        let names: Names = names.iter().map(|name| self.interned(kind, name)).collect();
        let Some(state) = self.kinds.get_mut(&kind) else {
            return;
        };
        if !state.interest.wildcard && *state.interest.names != names {
            let before = std::mem::replace(&mut state.interest.names, Arc::new(names));
            let dropped: Vec<Arc<str>> =
                before.difference(&state.interest.names).cloned().collect();
            let added: Vec<Arc<str>> = state.interest.names.difference(&before).cloned().collect();
            dropped.iter().for_each(|name| state.drop_name(name));
            added.into_iter().for_each(|name| state.ask(name));
        }
        if again {
            state.refreshed = None;
            state.answer_due = true;
        }
    }

    /// The client's answer to the response in flight, if it is one.
    fn answer(
        &mut self,
        kind: TypeUrlKind,
        nonce: &str,
        error: Option<Status>,
        now: Timestamp,
        out: &mut Outputs,
    ) {
        let Some(state) = self.kinds.get_mut(&kind) else {
            return;
        };
        let Some(mut flight) = state
            .in_flight
            .take_if(|flight| nonce == number_text(flight.number))
        else {
            return;
        };
        flight.let_go();
        match error {
            None => {
                state.accepted_at = Some(now);
                state.unknown_start = false;
                out.events.push(Event::Accepted {
                    kind,
                    count: flight.set.len() + flight.removed.len(),
                    after: now.since(flight.sent_at),
                });
            }
            Some(error) => self.refuse(kind, flight, &error.message, out),
        }
    }

    fn refuse(&mut self, kind: TypeUrlKind, flight: InFlight, message: &str, out: &mut Outputs) {
        if let Some(named) = nack::read(kind, message) {
            return self.refuse_named(kind, flight, named.into_iter().collect(), message, out);
        }
        let reason = nack::one_line(&nack::without_dump(message).0);
        let sent = flight.set.iter().map(|sent| &sent.resource.name);
        let culprits: BTreeSet<Arc<str>> = match &flight.set[..] {
            [alone] => [alone.resource.name.clone()].into(),
            _ => nack::names_in(message, sent).into_iter().collect(),
        };
        if culprits.is_empty() {
            let reason = reason.clone();
            out.events.push(Event::Rejected { kind, reason });
        }
        let nothing_to_blame = flight.set.is_empty();
        let mut rest = Vec::new();
        for sent in flight.set {
            if culprits.contains(&sent.resource.name) {
                self.refuse_one(kind, sent, reason.clone(), out);
            } else {
                rest.push(sent);
            }
        }
        let Some(state) = self.kinds.get_mut(&kind) else {
            return;
        };
        if !nothing_to_blame {
            state.answer_due |= state.unknown_start;
            for (name, before) in flight.removed {
                state.holding.put(name.clone(), before);
                state.dirty.insert(name);
            }
        }
        let mut group = Vec::new();
        for sent in rest {
            group.push((sent.resource.name.clone(), sent.resource.version));
            state.holding.put(sent.resource.name.clone(), sent.before);
        }
        if culprits.is_empty() {
            let other = group.split_off(group.len() / 2);
            state.suspects.push_front(other);
        }
        state.suspects.push_front(group);
        state.suspects.retain(|group| !group.is_empty());
    }

    /// A NACK of ours: what it does not name is in use.
    fn refuse_named(
        &mut self,
        kind: TypeUrlKind,
        flight: InFlight,
        named: BTreeMap<String, String>,
        message: &str,
        out: &mut Outputs,
    ) {
        let mut found = false;
        for sent in flight.set {
            if let Some(reason) = named.get(&*sent.resource.name) {
                found = true;
                self.refuse_one(kind, sent, reason.clone(), out);
            }
        }
        if !found {
            let reason = nack::one_line(message);
            out.events.push(Event::Rejected { kind, reason });
        }
    }

    fn refuse_one(&mut self, kind: TypeUrlKind, sent: Sent, reason: String, out: &mut Outputs) {
        let refusal = Refusal {
            kind,
            name: sent.resource.name.clone(),
            version: sent.resource.version,
            reason,
            instead: sent.before.known().cloned(),
        };
        if let Some(state) = self.kinds.get_mut(&kind) {
            state.holding.put(refusal.name.clone(), sent.before);
        }
        if kind == TypeUrlKind::Cluster {
            self.awaited.remove(&refusal.name);
        }
        self.own.add(refusal.clone());
        out.events.push(Event::Refused(refusal));
    }

    fn renew(&mut self, current: Current, now: Timestamp) {
        let before = std::mem::replace(&mut self.current, current.set);
        self.revision = current.revision;
        self.own.forget_replaced(&self.current);
        let set = &self.current;
        self.awaited
            .retain(|name| set.get(TypeUrlKind::Endpoints, name).is_some());
        for (kind, state) in &mut self.kinds {
            let changed = match &current.changed {
                Changed::Unknown => before.differences(set, *kind),
                Changed::Only(keys) => {
                    let of_kind = keys.iter().filter(|key| key.kind == *kind);
                    of_kind.map(|key| key.name.clone()).collect()
                }
            };
            for name in changed
                .into_iter()
                .filter(|name| state.interest.wants(name))
            {
                if set.get(*kind, &name).is_some() || state.holding.get(&name).is_nothing() {
                    state.lingering.remove(&name);
                    state.dirty.insert(name);
                } else {
                    if state.lingering.is_empty() {
                        state.lingering_since = now;
                    }
                    state.dirty.remove(&name);
                    state.lingering.insert(name);
                }
            }
        }
    }

    fn share(&mut self, shared: Arc<Quarantine>) {
        let before = std::mem::replace(&mut self.shared, shared);
        for (kind, state) in &mut self.kinds {
            let names = before.names(*kind).chain(self.shared.names(*kind));
            let names = names.filter(|name| state.interest.wants(name));
            state.dirty.extend(names.cloned());
        }
    }

    /// What the client should hold under a name under which it holds `held`.
    fn want(&self, kind: TypeUrlKind, state: &Kind, name: &str, held: &Held) -> Want {
        let Some(resource) = self.current.get(kind, name) else {
            return match state.lingering.contains(name) {
                true => Want::Keep,
                false => Want::Nothing,
            };
        };
        if held.is(resource) {
            return Want::This(resource.clone());
        }
        let refused = self.own.get(resource).or_else(|| self.shared.get(resource));
        match refused {
            None => Want::This(resource.clone()),
            Some(_) if !held.is_nothing() => Want::Keep,
            Some(Refusal {
                instead: Some(instead),
                ..
            }) => Want::This(instead.clone()),
            Some(_) => match self.peer {
                Peer::Catamaran => Want::Nothing,
                Peer::Envoy => {
                    empty(kind, name).map_or(Want::Nothing, |empty| Want::This(Arc::new(empty)))
                }
            },
        }
    }

    /// Sends what may be sent now.
    fn pump(&mut self, now: Timestamp, out: &mut Outputs) {
        for (at, kind) in TypeUrlKind::ALL.into_iter().enumerate() {
            if !self.kinds.contains_key(&kind) {
                continue;
            }
            self.release(kind, &TypeUrlKind::ALL[at + 1..], now, out);
            self.settle(kind);
            let blocked = self.is_blocked(kind, &TypeUrlKind::ALL[..at]);
            let Some(state) = self.kinds.get_mut(&kind) else {
                continue;
            };
            if !state.has_work() || !blocked {
                state.blocked_since = None;
            }
            if !state.has_work() || state.in_flight.is_some() {
                continue;
            }
            if blocked {
                let until = state.blocked_since.get_or_insert(now).after(MAKE_WAIT);
                if now < until {
                    out.wake(until);
                    if self.keeps_an_answer_back(kind) {
                        self.send(kind, Part::Asked, now, out);
                    }
                    continue;
                }
                self.awaited.clear();
            }
            self.send(kind, Part::All, now, out);
        }
    }

    /// Lets go of what is gone, once nothing that may refer to it is under way, or when that takes too long.
    fn release(
        &mut self,
        kind: TypeUrlKind,
        later: &[TypeUrlKind],
        now: Timestamp,
        out: &mut Outputs,
    ) {
        let mut later = later.iter().filter_map(|kind| self.kinds.get(kind));
        let quiet = later.all(|state| state.is_quiet());
        let Some(state) = self.kinds.get_mut(&kind) else {
            return;
        };
        if state.lingering.is_empty() {
            return;
        }
        let open = state.opened_at.after(OPEN_WAIT);
        let until = match quiet {
            true => open,
            false => state.lingering_since.after(BREAK_WAIT).max(open),
        };
        if now >= until {
            state.dirty.append(&mut state.lingering);
        } else {
            out.wake(until);
        }
    }

    /// Drops from the work what turns out to be as it should be, and forgets the past of a client that is in sync.
    fn settle(&mut self, kind: TypeUrlKind) {
        let Some(state) = self.kinds.get(&kind) else {
            return;
        };
        let idle = !state.has_work() && self.current.holds(kind, state.holding.base());
        if state.in_flight.is_some() || idle && state.holding.exceptions() == 0 {
            return;
        }
        let settled: Vec<Arc<str>> = state
            .dirty
            .iter()
            .filter(|name| {
                let held = state.holding.get(name);
                match self.want(kind, state, name, &held) {
                    Want::This(resource) => held.is(&resource),
                    Want::Keep => true,
                    Want::Nothing => held.is_nothing(),
                }
            })
            .cloned()
            .collect();
        let mut suspects = state.suspects.clone();
        for group in &mut suspects {
            group.retain(|(name, version)| {
                state.interest.wants(name)
                    && self
                        .current
                        .get(kind, name)
                        .is_some_and(|now| now.version == *version)
            });
        }
        suspects.retain(|group| !group.is_empty());
        let current = self.current.shared(kind);
        let Some(state) = self.kinds.get_mut(&kind) else {
            return;
        };
        state.suspects = suspects;
        settled.iter().for_each(|name| {
            state.dirty.remove(name);
        });
        if !state.has_work() && state.lingering.is_empty() {
            let refused = self.own.names(kind).chain(self.shared.names(kind));
            state.holding.rebase(current, refused);
        }
    }

    /// Whether something of an earlier kind must be with the client first.
    fn is_blocked(&self, kind: TypeUrlKind, earlier: &[TypeUrlKind]) -> bool {
        let mut earlier = earlier.iter().filter_map(|kind| self.kinds.get(kind));
        if kind <= TypeUrlKind::Endpoints {
            // The stream keeps its order: what is sent before is read before.
            earlier.any(|state| state.has_work())
        } else {
            earlier.any(|state| !state.is_quiet()) || !self.awaited.is_empty()
        }
    }

    /// Whether the client answers a response of clusters only when it has the endpoints that it asked for. An Envoy does, and
    /// more clusters may wait for that answer: the next part of a large mesh, or of one in which a culprit is looked for.
    fn keeps_an_answer_back(&self, kind: TypeUrlKind) -> bool {
        let in_flight = |kind| {
            self.kinds
                .get(&kind)
                .is_some_and(|state| state.in_flight.is_some())
        };
        self.peer == Peer::Envoy
            && kind == TypeUrlKind::Endpoints
            && in_flight(TypeUrlKind::Cluster)
            && self
                .kinds
                .get(&kind)
                .is_some_and(|state| !state.forced.is_empty())
    }

    fn send(&mut self, kind: TypeUrlKind, part: Part, now: Timestamp, out: &mut Outputs) {
        let Some(mut state) = self.kinds.remove(&kind) else {
            return;
        };
        let due = |state: &Kind| match part {
            Part::All => state.has_work(),
            Part::Asked => !state.forced.is_empty(),
        };
        while due(&state) {
            let flight = self.load(kind, &mut state, part, now);
            if flight.set.is_empty() && flight.removed.is_empty() && !state.answer_due {
                continue;
            }
            self.sent = flight.number;
            state.last = flight.number;
            state.answer_due = false;
            state.refreshed = None;
            out.responses.push(self.response(kind, &state, &flight));
            self.follow(kind, &flight);
            state.in_flight = Some(flight);
            break;
        }
        self.kinds.insert(kind, state);
    }

    /// Takes the next part of the work: a group of suspects alone, or all that is dirty; or only what was asked for.
    fn load(&self, kind: TypeUrlKind, state: &mut Kind, part: Part, now: Timestamp) -> InFlight {
        let moving: Vec<Arc<str>> = match part {
            Part::Asked => state.forced.iter().cloned().collect(),
            Part::All => match state.suspects.pop_front() {
                Some(group) => group.into_iter().map(|(name, _)| name).collect(),
                None => state.dirty.union(&state.forced).cloned().collect(),
            },
        };
        let limit = match self.protocol {
            Protocol::Delta => RESPONSE_LIMIT,
            Protocol::StateOfTheWorld => usize::MAX,
        };
        let mut size = 0;
        let mut flight = InFlight {
            number: self.sent + 1,
            sent_at: now,
            set: Vec::new(),
            removed: Vec::new(),
            left: BTreeSet::new(),
        };
        for name in moving {
            let held = state.holding.get(&name);
            let forced = state.forced.contains(&name);
            let set = match self.want(kind, state, &name, &held) {
                Want::This(resource) if forced || !held.is(&resource) => Some(resource),
                Want::Keep if forced => held.known().cloned(),
                Want::Nothing if forced || !held.is_nothing() => {
                    state.holding.put(name.clone(), Held::Nothing);
                    flight.removed.push((name.clone(), held.clone()));
                    None
                }
                _ => None,
            };
            if let Some(resource) = set {
                if size > 0 && size + resource.bytes.len() > limit {
                    state.dirty.insert(name);
                    continue;
                }
                size += resource.bytes.len();
                let sent = Held::Known(resource.clone());
                state.holding.put(name.clone(), sent);
                flight.set.push(Sent {
                    resource,
                    before: held,
                });
            }
            state.dirty.remove(&name);
            state.forced.remove(&name);
        }
        flight
    }

    fn response(&self, kind: TypeUrlKind, state: &Kind, flight: &InFlight) -> Response {
        let frame = response::Frame {
            kind,
            nonce: number_text(flight.number),
            revision: &self.revision,
            identifier: &self.identifier,
        };
        match self.protocol {
            Protocol::Delta => {
                let resources = flight.set.iter().map(|sent| sent.resource.clone());
                let removed = flight.removed.iter().map(|(name, _)| name.to_string());
                frame.deltas(resources.collect(), removed.collect())
            }
            Protocol::StateOfTheWorld => frame.full(state.holding.resources(&state.interest)),
        }
    }

    /// What the sending of one kind means for the others.
    fn follow(&mut self, kind: TypeUrlKind, flight: &InFlight) {
        match kind {
            TypeUrlKind::Cluster => {
                for sent in &flight.set {
                    let name = &sent.resource.name;
                    let endpoints = self.kinds.get(&TypeUrlKind::Endpoints);
                    let held = endpoints.is_some_and(|state| {
                        state.interest.wants(name) && !state.holding.get(name).is_nothing()
                    });
                    if sent.before.is_nothing() {
                        let known = self.current.get(TypeUrlKind::Endpoints, name).is_some();
                        if known && !held {
                            self.awaited.insert(name.clone());
                        }
                    } else if self.peer == Peer::Envoy && self.protocol == Protocol::Delta {
                        // Envoy warms the changed cluster until endpoints come, and does not ask for them.
                        let endpoints = self.kinds.get_mut(&TypeUrlKind::Endpoints);
                        let endpoints = endpoints.filter(|state| state.interest.wants(name));
                        if let Some(state) = endpoints {
                            state.forced.insert(name.clone());
                        }
                    }
                }
                self.expect_again(TypeUrlKind::Endpoints, flight.number);
            }
            TypeUrlKind::Endpoints => {
                for sent in &flight.set {
                    self.awaited.remove(&sent.resource.name);
                }
            }
            TypeUrlKind::Listener => self.expect_again(TypeUrlKind::Route, flight.number),
            TypeUrlKind::Issuers | TypeUrlKind::Route | TypeUrlKind::Names => {}
        }
    }

    /// With the state of the world an Envoy that warms asks again for what it was sent; that looks like an answer.
    fn expect_again(&mut self, kind: TypeUrlKind, number: u64) {
        if self.peer == Peer::Envoy
            && self.protocol == Protocol::StateOfTheWorld
            && let Some(state) = self.kinds.get_mut(&kind)
        {
            state.refreshed = Some(number);
        }
    }

    /// The name as the current set has it, so that its text is shared.
    fn interned(&self, kind: TypeUrlKind, name: &str) -> Arc<str> {
        self.current
            .get(kind, name)
            .map_or_else(|| Arc::from(name), |resource| resource.name.clone())
    }
}

impl Outputs {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at)));
    }
}

fn served(type_url: &str, out: &mut Outputs) -> Option<TypeUrlKind> {
    let kind = TypeUrlKind::of(type_url);
    if kind.is_none() {
        let type_url = type_url.chars().take(NAME_LIMIT).collect();
        out.events.push(Event::Unserved { type_url });
    }
    kind
}

fn check_names(kind: TypeUrlKind, names: &[String]) -> Result<(), SessionError> {
    if names.len() > NAMES_LIMIT {
        return Err(SessionError::Names { kind });
    }
    match names.iter().any(|name| name.len() > NAME_LIMIT) {
        true => Err(SessionError::Name { kind }),
        false => Ok(()),
    }
}

/// What an Envoy is told in the place of a refused resource of which no version was accepted yet. It does not take routes for
/// absent whatever it is told, nor endpoints in the state of the world, and starts nothing that waits for them.
fn empty(kind: TypeUrlKind, name: &str) -> Option<Resource> {
    match kind {
        TypeUrlKind::Endpoints => Some(Resource::new(
            kind,
            name,
            &ClusterLoadAssignment {
                cluster_name: name.to_owned(),
                ..ClusterLoadAssignment::default()
            },
        )),
        TypeUrlKind::Route => Some(Resource::new(
            kind,
            name,
            &RouteConfiguration {
                name: name.to_owned(),
                ..RouteConfiguration::default()
            },
        )),
        _ => None,
    }
}

fn held_as(version: Option<&str>) -> Held {
    match version {
        None => Held::Nothing,
        Some(text) => Version::parse(text).map_or(Held::Foreign, Held::Named),
    }
}

fn number_text(number: u64) -> String {
    match number {
        0 => String::new(),
        number => number.to_string(),
    }
}

/// The version of a set of resources of one kind, ordered by name.
fn version_of_all(resources: &[Arc<Resource>]) -> String {
    let mut text = Vec::new();
    for resource in resources {
        text.extend_from_slice(&(resource.name.len() as u64).to_le_bytes());
        text.extend_from_slice(resource.name.as_bytes());
        text.extend_from_slice(resource.version.to_string().as_bytes());
    }
    Version::of(&text).to_string()
}

#[cfg(test)]
mod tests;
