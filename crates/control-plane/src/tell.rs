//! The one owner of the translation: follows snapshots, puts what changed where all streams that hear the same find it, and
//! wakes those that asked for it.
//!
//! There is the latest only, so a proxy that does not read costs nobody anything. A stream that did not ask for what changed is
//! not woken, nor looked at: it takes the latest when it has another reason to look.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use catamaran_model::{ClusterId, MemberMode, WorkloadKey};
use catamaran_process::Process;
use catamaran_registry::{ClusterView, Freshness, Problem, ProblemKind, Severity, Snapshot};
use catamaran_translate::{
    Audience, AudienceId, Capability, ClassId, Engine, ResourceChange, Role,
};
use catamaran_xds::{
    Changed, Current, KindStatus, Names, Quarantine, Refusal, ResourceKey, ResourceSet,
    ServerSession, TypeUrlKind,
};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::places::{Moved, Places};
use crate::proxy::{Proxy, namespace};

use shelf::{Newer, Shelf};

mod shelf;

/// Orders of streams that wait.
const ORDERS: usize = 1024;
/// Open streams.
const STREAMS: usize = 20_000;
/// How long after the start streams wait for clusters and issuers of which nothing is known. Without it a control plane that lost its disk
/// would tell proxies that everything of those clusters is gone, a moment before it learns of them.
const FIRST_LISTS: Duration = Duration::from_secs(5);

/// One stream, as the teller and the people's door see it.
pub(crate) struct Slot {
    pub(crate) proxy: Proxy,
    pub(crate) wake: Notify,
    mail: Mutex<Mail>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Mail {
    /// Where the stream finds what it is told; it has none before it is opened and after it is closed.
    place: Option<Place>,
    /// What was taken last.
    given: Option<Arc<ResourceSet>>,
    quarantine: Option<Arc<Quarantine>>,
    end: Option<String>,
    interest: BTreeMap<TypeUrlKind, Interest>,
}

/// Where a stream finds what it is told.
#[derive(Clone)]
struct Place {
    id: StreamId,
    shelves: Arc<[Arc<Shelf>]>,
    revision: Arc<Mutex<Arc<str>>>,
}

/// What a stream asked for of one kind.
struct Interest {
    wildcard: bool,
    names: Arc<Names>,
}

/// How things stand on a stream, for people.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    pub(crate) kinds: Vec<KindStatus>,
    pub(crate) refusals: Vec<Refusal>,
    /// The last refusal of a whole response.
    pub(crate) rejected: Option<String>,
    pub(crate) in_sync: bool,
}

/// What a stream finds in its mailbox.
#[derive(Default)]
pub(crate) struct Letters {
    pub(crate) current: Option<Current>,
    pub(crate) quarantine: Option<Arc<Quarantine>>,
    /// The stream must end, for this reason.
    pub(crate) end: Option<String>,
}

impl Slot {
    pub(crate) fn new(proxy: Proxy) -> Slot {
        Slot {
            proxy,
            wake: Notify::new(),
            mail: Mutex::default(),
            told: Mutex::default(),
        }
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what came since the last time.
    ///
    /// What is up of a kind and how it differs from what was up before are read together, so that no change is taken without
    /// being known.
    pub(crate) fn take(&self) -> Letters {
        let mut mail = self.mail();
        Letters {
            current: mail.look(),
            quarantine: mail.quarantine.take(),
            end: mail.end.take(),
        }
    }

    /// Notes what the client asked for, so that it is woken for that.
    pub(crate) fn note_interest(self: &Arc<Slot>, kind: TypeUrlKind, session: &mut ServerSession) {
        let Some((wildcard, names)) = session.interest(kind) else {
            return;
        };
        let mut mail = self.mail();
        let known = mail.interest.get(&kind);
        if known.is_some_and(|it| it.wildcard == wildcard && Arc::ptr_eq(&it.names, names)) {
            return;
        }
        let Some(place) = &mail.place else {
            return;
        };
        let names = place.shelves[kind as usize].listen(place.id, self, wildcard, names);
        session.share_names(kind, &names);
        mail.interest.insert(kind, Interest { wildcard, names });
    }

    /// Puts the stream in another place; what it asked for stays.
    fn put(self: &Arc<Slot>, place: Option<Place>) {
        let mut mail = self.mail();
        if let Some(old) = &mail.place {
            old.shelves.iter().for_each(|shelf| shelf.forget(old.id));
        }
        if let Some(new) = &place {
            for (kind, interest) in &mut mail.interest {
                let shelf = &new.shelves[*kind as usize];
                interest.names = shelf.listen(new.id, self, interest.wildcard, &interest.names);
            }
        }
        mail.place = place;
    }

    pub(crate) fn note(&self, session: &ServerSession, rejected: Option<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.kinds = session.status().collect();
        told.refusals = session.refusals().cloned().collect();
        told.in_sync = session.is_in_sync() && !told.kinds.is_empty();
        if rejected.is_some() {
            told.rejected = rejected;
        }
    }

    /// How things stand.
    pub(crate) fn told(&self) -> Told {
        self.told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Mail {
    /// What is up now, if it is another than was taken last.
    fn look(&mut self) -> Option<Current> {
        let place = self.place.as_ref()?;
        let nothing = ResourceSet::default();
        let given = self.given.as_deref().unwrap_or(&nothing);
        let mut set = ResourceSet::default();
        let mut same = self.given.is_some();
        let mut changed: Option<Vec<Arc<[ResourceKey]>>> = Some(Vec::new());
        for shelf in place.shelves.iter() {
            match shelf.give(given, &mut set) {
                Newer::Same => continue,
                Newer::Only(keys) => changed.iter_mut().for_each(|all| all.push(keys.clone())),
                Newer::Unknown => changed = None,
            }
            same = false;
        }
        if same {
            return None;
        }
        let changed = match changed.as_deref() {
            None => Changed::Unknown,
            Some([one]) => Changed::Only(one.clone()),
            Some(more) => {
                Changed::Only(more.iter().flat_map(|keys| keys.iter().cloned()).collect())
            }
        };
        let set = Arc::new(set);
        self.given = Some(set.clone());
        let revision = place
            .revision
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Some(Current {
            set,
            changed,
            revision: revision.clone(),
        })
    }
}

/// Why a stream is not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// It may be another time.
    NotNow(String),
    /// Trying again as before does not help.
    Never(String),
}

/// Whether a stream was opened; if not, why.
type Reply = oneshot::Sender<Result<StreamId, OpenError>>;

/// What streams ask of the teller.
enum Order {
    Open(Arc<Slot>, Reply),
    Close(StreamId),
    Refused(Capability, Refusal),
    Problems(oneshot::Sender<Vec<Problem>>),
}

/// One open stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamId(u64);

/// How streams and people reach the teller.
#[derive(Clone)]
pub(crate) struct Tell {
    orders: mpsc::Sender<Order>,
    /// For people: every open stream.
    streams: Arc<Mutex<BTreeMap<StreamId, Arc<Slot>>>>,
}

/// An open stream; dropping it closes it.
pub(crate) struct Opened {
    id: StreamId,
    tell: Tell,
}

impl Tell {
    /// Opens a stream: its first set is in the slot's mailbox then. Waits until there is something to tell.
    pub(crate) async fn open(&self, slot: &Arc<Slot>) -> Result<Opened, OpenError> {
        let (reply, answer) = oneshot::channel();
        let gone = |()| OpenError::NotNow("the control plane is stopping".to_owned());
        let order = Order::Open(slot.clone(), reply);
        self.orders.send(order).await.map_err(|_| gone(()))?;
        let id = answer.await.map_err(|_| gone(()))??;
        Ok(Opened {
            id,
            tell: self.clone(),
        })
    }

    /// A proxy refused a version: others like it are not sent it.
    pub(crate) async fn refused(&self, capability: Capability, refusal: Refusal) {
        // Only a control plane that stops does not take it.
        let _ = self.orders.send(Order::Refused(capability, refusal)).await;
    }

    /// What people should know of what is told.
    pub(crate) async fn problems(&self) -> Vec<Problem> {
        let (reply, answer) = oneshot::channel();
        match self.orders.send(Order::Problems(reply)).await {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }

    /// Every open stream.
    pub(crate) fn streams(&self) -> Vec<Arc<Slot>> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.values().cloned().collect()
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let (orders, id) = (self.tell.orders.clone(), self.id);
        if let Err(mpsc::error::TrySendError::Full(order)) = orders.try_send(Order::Close(id)) {
            tokio::spawn(async move { drop(orders.send(order).await) });
        }
    }
}

/// Starts the teller.
pub(crate) fn start(
    local: ClusterId,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    process: &Process,
) -> Tell {
    let (orders, orders_in) = mpsc::channel(ORDERS);
    let tell = Tell {
        orders,
        streams: Arc::default(),
    };
    let metrics = process.metrics();
    let teller = Teller {
        engine: Engine::new(Arc::new(Snapshot::empty())),
        places: BTreeMap::new(),
        revision: Arc::new(Mutex::new(Arc::from(""))),
        streams: BTreeMap::new(),
        shelves: BTreeMap::new(),
        saying: BTreeMap::new(),
        of_workload: BTreeMap::new(),
        quarantines: BTreeMap::new(),
        waiting: Vec::new(),
        known: tell.streams.clone(),
        last: 0,
        patience: Instant::now() + FIRST_LISTS,
        changed: metrics.counter(
            "catamaran_resources_changed",
            "Resources that a new picture changed, by class",
        ),
        woken: metrics.counter(
            "catamaran_streams_woken",
            "Times that a stream was told of a change",
        ),
        local,
    };
    let stopping = process.stopping();
    process.run("teller", async move {
        teller.tell(snapshots, orders_in, stopping.wait()).await;
        Ok::<(), Infallible>(())
    });
    tell
}

struct Teller {
    local: ClusterId,
    engine: Engine,
    /// Where workloads are, by managed cluster.
    places: BTreeMap<ClusterId, Places>,
    revision: Arc<Mutex<Arc<str>>>,
    streams: BTreeMap<StreamId, Stream>,
    shelves: BTreeMap<Label, Filled>,
    /// Where what a class says is told.
    saying: BTreeMap<ClassId, BTreeSet<Label>>,
    of_workload: BTreeMap<ClusterId, BTreeMap<WorkloadKey, BTreeSet<StreamId>>>,
    quarantines: BTreeMap<Capability, Arc<Quarantine>>,
    /// Streams that came before there was anything to tell.
    waiting: Vec<(Arc<Slot>, Reply)>,
    known: Arc<Mutex<BTreeMap<StreamId, Arc<Slot>>>>,
    last: u64,
    patience: Instant,
    changed: Counter,
    woken: Counter,
}

struct Stream {
    audience: Audience,
    id: AudienceId,
    /// One for each kind, in their order.
    labels: Vec<Label>,
    slot: Arc<Slot>,
}

/// Which shelf: a kind, and the classes whose resources of that kind are on it.
type Label = (TypeUrlKind, Vec<ClassId>);

/// A shelf, and how many streams are told what is on it.
struct Filled {
    shelf: Arc<Shelf>,
    streams: usize,
}

impl Teller {
    async fn tell(
        mut self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        mut orders: mpsc::Receiver<Order>,
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        let first = snapshots.borrow_and_update().clone();
        self.advance(&first);
        loop {
            // Whether those who wait may go on is looked at only when that may have changed: a herd of them waits long.
            let mut look = false;
            let waits = !self.waiting.is_empty() && !self.may_tell();
            tokio::select! {
                () = &mut stop => return,
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let snapshot = snapshots.borrow_and_update().clone();
                    self.advance(&snapshot);
                    look = true;
                }
                Some(order) = orders.recv() => self.handle(order),
                () = tokio::time::sleep_until(self.patience), if waits && self.patience > Instant::now() => look = true,
            }
            if look && self.may_tell() {
                for (slot, reply) in std::mem::take(&mut self.waiting) {
                    self.handle(Order::Open(slot, reply));
                }
            }
        }
    }

    fn handle(&mut self, order: Order) {
        match order {
            Order::Open(slot, reply) if !self.may_tell() || !self.knows_home_of(&slot.proxy) => {
                match self.waiting.len() < STREAMS {
                    true => self.waiting.push((slot, reply)),
                    false => {
                        let why = "too many proxies wait for the first view".into();
                        drop(reply.send(Err(OpenError::NotNow(why))));
                    }
                }
            }
            Order::Open(slot, reply) => self.open(slot, reply),
            Order::Close(id) => self.close(id),
            Order::Refused(capability, refusal) => self.refused(capability, refusal),
            // The one who asked may be gone.
            Order::Problems(reply) => drop(reply.send(self.problems())),
        }
    }

    /// Whether what would be told is whole: our own cluster's view in any case, and for a moment after the start also the
    /// others' and our own issuers, which we tell ourselves. Nothing is told rather than too little, since too little means
    /// that the rest is gone.
    fn may_tell(&self) -> bool {
        let snapshot = self.engine.snapshot();
        let known = |view: &ClusterView| view.freshness != Freshness::Unknown;
        let own = snapshot.clusters.get(&self.local).is_some_and(known) && snapshot.mesh.is_some();
        let whole =
            snapshot.clusters.values().all(known) && snapshot.issuers.contains_key(&self.local);
        own && (whole || Instant::now() >= self.patience)
    }

    /// Whether the proxy's own cluster was listed. Without it the proxy would hear that all of it is gone, however long we wait
    /// for other clusters. One that we do not manage is refused, not waited for.
    fn knows_home_of(&self, proxy: &Proxy) -> bool {
        let view = self.engine.snapshot().clusters.get(&proxy.cluster);
        view.is_none_or(|view| {
            view.mode != MemberMode::Managed || view.freshness != Freshness::Unknown
        })
    }

    fn managed(&self) -> impl Iterator<Item = &ClusterId> {
        let clusters = self.engine.snapshot().clusters.iter();
        clusters
            .filter(|(_, view)| view.mode == MemberMode::Managed)
            .map(|(cluster, _)| cluster)
    }

    /// Why a proxy is none of ours.
    fn foreign(&self, proxy: &Proxy) -> Option<String> {
        if self.managed().any(|cluster| *cluster == proxy.cluster) {
            return None;
        }
        let ours: Vec<&str> = self.managed().map(ClusterId::as_str).collect();
        Some(format!(
            "the proxy is of cluster {}; this control plane manages {}: connect it to its own cluster's",
            proxy.cluster,
            ours.join(", ")
        ))
    }

    fn open(&mut self, slot: Arc<Slot>, reply: Reply) {
        if reply.is_closed() {
            return;
        }
        let full = (self.streams.len() >= STREAMS).then(|| {
            OpenError::NotNow(format!(
                "{STREAMS} streams are open; connect to another replica"
            ))
        });
        let foreign = || self.foreign(&slot.proxy).map(OpenError::Never);
        let stranger = || self.stranger(&slot.proxy).map(OpenError::NotNow);
        let refused = full.or_else(foreign).or_else(stranger);
        if let Some(why) = refused {
            return drop(reply.send(Err(why)));
        }
        self.last += 1;
        let id = StreamId(self.last);
        let audience = self.audience(&slot.proxy);
        let stream = self.enter(id, audience, slot);
        let proxy = &stream.slot.proxy;
        self.of_workload
            .entry(proxy.cluster.clone())
            .or_default()
            .entry(proxy.workload.clone())
            .or_default()
            .insert(id);
        let known = stream.slot.clone();
        self.streams.insert(id, stream);
        self.known().insert(id, known);
        if reply.send(Ok(id)).is_err() {
            self.close(id);
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<StreamId, Arc<Slot>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds the stream its place.
    fn enter(&mut self, id: StreamId, audience: Audience, slot: Arc<Slot>) -> Stream {
        let opened = self.engine.open(&audience).audience;
        let kinds = TypeUrlKind::ALL.into_iter();
        let labels: Vec<Label> = kinds
            .map(|kind| (kind, self.engine.sayers(opened, kind)))
            .collect();
        let shelves: Vec<Arc<Shelf>> = labels.iter().map(|label| self.shelf(label)).collect();
        slot.put(Some(Place {
            id,
            shelves: shelves.into(),
            revision: self.revision.clone(),
        }));
        if let Some(quarantine) = self.quarantines.get(&audience.capability) {
            slot.mail().quarantine = Some(quarantine.clone());
        }
        Stream {
            audience,
            id: opened,
            labels,
            slot,
        }
    }

    /// The shelf of this label, for one more stream.
    fn shelf(&mut self, label: &Label) -> Arc<Shelf> {
        let filled = self.shelves.entry(label.clone()).or_insert_with(|| {
            let (kind, classes) = label;
            for class in classes {
                self.saying.entry(*class).or_default().insert(label.clone());
            }
            let now = self.engine.of_kind(classes, *kind);
            Filled {
                shelf: Arc::new(Shelf::new(*kind, now)),
                streams: 0,
            }
        });
        filled.streams += 1;
        filled.shelf.clone()
    }

    fn leave(&mut self, audience: AudienceId, labels: &[Label]) {
        for label in labels {
            let Some(filled) = self.shelves.get_mut(label) else {
                continue;
            };
            filled.streams -= 1;
            if filled.streams > 0 {
                continue;
            }
            self.shelves.remove(label);
            for class in &label.1 {
                if let Some(all) = self.saying.get_mut(class) {
                    all.remove(label);
                    if all.is_empty() {
                        self.saying.remove(class);
                    }
                }
            }
        }
        self.engine.close(audience);
    }

    fn close(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        stream.slot.put(None);
        self.leave(stream.id, &stream.labels);
        let Proxy {
            cluster, workload, ..
        } = &stream.slot.proxy;
        if let Some(all) = self.of_workload.get_mut(cluster)
            && let Some(streams) = all.get_mut(workload)
        {
            streams.remove(&id);
            if streams.is_empty() {
                all.remove(workload);
            }
            if all.is_empty() {
                self.of_workload.remove(cluster);
            }
        }
        self.known().remove(&id);
    }

    fn audience(&self, proxy: &Proxy) -> Audience {
        let place = self.places.get(&proxy.cluster);
        let place = place.map(|places| places.of(&proxy.workload));
        Audience {
            role: match proxy.gateway {
                true => Role::Gateway,
                false => Role::Sidecar {
                    workload: proxy.workload.clone(),
                    app: proxy.app,
                },
            },
            cluster: proxy.cluster.clone(),
            network: place.and_then(|place| place.network.clone()),
            locality: place.map_or_else(Default::default, |place| place.locality.clone()),
            namespace: namespace(proxy).clone(),
            capability: proxy.capability,
            capture: proxy.capture,
        }
    }

    /// Why a proxy is not the pod that it says it is.
    fn stranger(&self, proxy: &Proxy) -> Option<String> {
        let places = self.places.get(&proxy.cluster)?;
        let known = places.of(&proxy.workload).service_account.as_ref()?;
        (*known != proxy.service_account).then(|| {
            format!(
                "the pod {} runs as {known}, and the certificate is of {}: it is not that pod's proxy",
                proxy.workload, proxy.service_account
            )
        })
    }

    fn advance(&mut self, snapshot: &Arc<Snapshot>) {
        let before = self.engine.snapshot().clone();
        *(self.revision.lock()).unwrap_or_else(PoisonError::into_inner) = revision(snapshot);
        let moved = self.follow_places(&before, snapshot);
        let changes = self.engine.advance(snapshot);
        self.changed.inc_by(changes.len() as u64);
        self.deliver(changes);
        for (cluster, moved) in moved {
            self.follow_moves(&cluster, &moved);
        }
        self.forget_replaced();
    }

    /// Follows the workloads of each managed cluster. The proxies of one that is not managed any more must go elsewhere.
    fn follow_places(&mut self, before: &Snapshot, after: &Snapshot) -> Vec<(ClusterId, Moved)> {
        let managed = after.clusters.iter();
        let managed = managed.filter(|(_, view)| view.mode == MemberMode::Managed);
        let managed: BTreeSet<&ClusterId> = managed.map(|(cluster, _)| cluster).collect();
        self.places.retain(|cluster, _| managed.contains(cluster));
        let mut moved = Vec::new();
        for cluster in &managed {
            let one = match self.places.get_mut(*cluster) {
                Some(places) => places.follow(before, after),
                None => {
                    let mut places = Places::new((*cluster).clone(), **cluster == self.local);
                    let all = places.follow(&Snapshot::empty(), after);
                    self.places.insert((*cluster).clone(), places);
                    all
                }
            };
            if !one.is_empty() {
                moved.push(((*cluster).clone(), one));
            }
        }
        for slot in self.streams.values().map(|stream| &stream.slot) {
            if !managed.contains(&slot.proxy.cluster) {
                let cluster = &slot.proxy.cluster;
                let why = format!("{cluster} is not managed by this instance any more");
                slot.mail().end = Some(why);
                slot.wake.notify_one();
            }
        }
        moved
    }

    /// Puts up what changed, and wakes who asked for it. The work is that of the changes and of those who asked: nothing here
    /// goes by the number of streams.
    fn deliver(&mut self, changes: Vec<(ClassId, ResourceChange)>) {
        let mut by_label: BTreeMap<&Label, BTreeSet<ResourceKey>> = BTreeMap::new();
        for (class, change) in &changes {
            let key = change.key();
            let labels = self.saying.get(class).into_iter().flatten();
            for label in labels.filter(|(kind, _)| *kind == key.kind) {
                by_label.entry(label).or_default().insert(key.clone());
            }
        }
        let mut concerned: BTreeMap<StreamId, Arc<Slot>> = BTreeMap::new();
        for (label, keys) in by_label {
            let Some(filled) = self.shelves.get(label) else {
                continue;
            };
            let keys: Arc<[ResourceKey]> = keys.into_iter().collect();
            let (kind, classes) = label;
            let now = self.engine.of_kind(classes, *kind);
            filled.shelf.put(now, keys.clone());
            concerned.append(&mut filled.shelf.concerned(&keys));
        }
        for slot in concerned.values() {
            slot.wake.notify_one();
            self.woken.inc();
        }
    }

    /// Network and locality of a proxy are facts: when they change it becomes another audience.
    fn follow_moves(&mut self, cluster: &ClusterId, moved: &Moved) {
        let (Some(places), Some(streams)) =
            (self.places.get(cluster), self.of_workload.get(cluster))
        else {
            return;
        };
        let mut concerned: Vec<StreamId> = (moved.workloads.iter())
            .filter_map(|workload| streams.get(workload))
            .flatten()
            .copied()
            .collect();
        if moved.unknown {
            let all = streams.iter();
            let all = all.filter(|(workload, _)| !places.knows(workload));
            concerned.extend(all.flat_map(|(_, streams)| streams));
        }
        for id in concerned {
            let Some(stream) = self.streams.get(&id) else {
                continue;
            };
            if let Some(why) = self.stranger(&stream.slot.proxy) {
                stream.slot.mail().end = Some(why);
                stream.slot.wake.notify_one();
                continue;
            }
            let audience = self.audience(&stream.slot.proxy);
            if audience == stream.audience {
                continue;
            }
            let Some(old) = self.streams.remove(&id) else {
                continue;
            };
            // The new one first, so that what stays the same is not built again.
            let new = self.enter(id, audience, old.slot.clone());
            self.leave(old.id, &old.labels);
            new.slot.wake.notify_one();
            self.woken.inc();
            self.streams.insert(id, new);
        }
    }

    fn refused(&mut self, capability: Capability, refusal: Refusal) {
        tracing::warn!(
            kind = refusal.kind.word(), name = %refusal.name, ?capability,
            "a proxy refused a resource, which is withheld from others like it: {}", refusal.reason
        );
        let quarantine = self.quarantines.entry(capability).or_default();
        if Arc::make_mut(quarantine).add(refusal) {
            self.tell_quarantine(capability);
        }
    }

    fn tell_quarantine(&self, capability: Capability) {
        let quarantine = self
            .quarantines
            .get(&capability)
            .cloned()
            .unwrap_or_default();
        let like = self
            .streams
            .values()
            .filter(|stream| stream.audience.capability == capability);
        for stream in like {
            stream.slot.mail().quarantine = Some(quarantine.clone());
            stream.slot.wake.notify_one();
        }
    }

    /// A refused version that nobody should have any more is forgotten.
    fn forget_replaced(&mut self) {
        let mut changed = Vec::new();
        for (capability, quarantine) in &mut self.quarantines {
            if quarantine.is_empty() {
                continue;
            }
            let like = || {
                self.streams
                    .values()
                    .filter(|stream| stream.audience.capability == *capability)
            };
            let still = quarantine.iter().filter_map(|refusal| {
                let labels: BTreeSet<&Label> = like()
                    .flat_map(|stream| &stream.labels)
                    .filter(|(kind, _)| *kind == refusal.kind)
                    .collect();
                let shelves = labels
                    .into_iter()
                    .filter_map(|label| self.shelves.get(label));
                let mut current =
                    shelves.filter_map(|filled| filled.shelf.now().get(&refusal.name).cloned());
                current.find(|resource| resource.version == refusal.version)
            });
            let still: ResourceSet = still.collect();
            let mut rest = (**quarantine).clone();
            if rest.forget_replaced(&still) {
                *quarantine = Arc::new(rest);
                changed.push(*capability);
            }
        }
        for capability in changed {
            self.tell_quarantine(capability);
        }
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.engine.problems();
        for refusal in self
            .quarantines
            .values()
            .flat_map(|quarantine| quarantine.iter())
        {
            problems.push(Problem {
                severity: Severity::Error,
                kind: ProblemKind::Refused,
                cluster: Some(self.local.clone()),
                object: format!("{} {}", refusal.kind.word(), refusal.name),
                message: format!(
                    "a proxy refused it: {}; {}; `catamaran proxy list` names the proxy",
                    refusal.reason,
                    match refusal.instead {
                        Some(_) => "the version accepted before stays in use",
                        None => "it is withheld, and the rest of the update went on",
                    }
                ),
            });
        }
        problems
    }
}

/// How far the view of each cluster has come.
fn revision(snapshot: &Snapshot) -> Arc<str> {
    let each = snapshot
        .clusters
        .iter()
        .map(|(cluster, view)| format!("{cluster}={}", view.revision.0));
    Arc::from(each.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests;
