//! Why an operation was refused or failed: with a stable code, what is known, and the next step.

use std::path::PathBuf;
use std::time::Duration;

use catamaran_identity::ceremony::CeremonyError;
use catamaran_identity::{CaCertsError, CertificateError};
use catamaran_local::exec::{ExecError, Target};
use catamaran_local::fleet::FleetError;
use catamaran_local::lifecycle::LifecycleError;
use catamaran_local::manifest::FolderError;
use catamaran_local::write::WriteError;
use catamaran_model::{
    ClusterId, Fingerprint, MemberMode, MeshName, NameError, NetworkId, Version,
};

use crate::contact::ContactError;
use crate::nearest::nearest;

/// What the exit code of a program that meets an error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It failed: 1.
    Failed,
    /// What was asked for makes no sense: 2.
    Usage,
    /// Something was looked at and found wrong: 3.
    Found,
    /// Something does not answer, or does not let us in: 5.
    Unreachable,
    /// It took too long: 6.
    Timeout,
}

impl Class {
    /// The exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Class::Failed => 1,
            Class::Usage => 2,
            Class::Found => 3,
            Class::Unreachable => 5,
            Class::Timeout => 6,
        }
    }
}

/// Why an operation was refused or failed. Unless its text says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// No fleet was named.
    #[error("no fleet is named")]
    NoFleet,
    /// A mesh that is not there.
    #[error("there is no mesh {name:?}{purpose}")]
    UnknownMesh {
        /// The name that was given.
        name: MeshName,
        /// ` to take the root certificate from`, or empty.
        purpose: &'static str,
        /// The meshes there are, each with a few words.
        known: Vec<(String, String)>,
    },
    /// A cluster that is not there.
    #[error("there is no cluster {name:?} in this fleet")]
    UnknownCluster {
        /// The name that was given.
        name: ClusterId,
        /// The clusters there are.
        known: Vec<String>,
    },
    /// A cluster that the instance does not have.
    #[error("the cluster {cluster} is not in {mesh}")]
    NotAMember {
        /// The cluster.
        cluster: ClusterId,
        /// The instance.
        mesh: MeshName,
        /// Its clusters.
        known: Vec<String>,
    },
    /// A proxy that is not there.
    #[error("there is no proxy {name:?} in this fleet")]
    UnknownProxy {
        /// What was given.
        name: String,
        /// The proxies there are.
        known: Vec<String>,
    },
    /// Several proxies have that name.
    #[error("{name:?} may be any of several proxies")]
    ManyProxies {
        /// What was given.
        name: String,
        /// Which.
        known: Vec<String>,
    },
    /// The mesh is there already.
    #[error("the mesh {mesh} exists already, in cluster {cluster}")]
    MeshExists {
        /// The mesh.
        mesh: MeshName,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// The cluster exists already.
    #[error("the cluster {0} exists already: cluster ids are unique in a fleet")]
    ClusterExists(ClusterId),
    /// Another instance manages the cluster.
    #[error("the cluster {cluster} is managed by {by}: a cluster has one instance")]
    ManagedBy {
        /// The cluster.
        cluster: ClusterId,
        /// Who manages it.
        by: MeshName,
        /// Who wanted to.
        wanted: MeshName,
    },
    /// The cluster was added before.
    #[error("the cluster {cluster} is in {mesh} already, {}", mode_words(*mode))]
    AddedTwice {
        /// The cluster.
        cluster: ClusterId,
        /// The instance.
        mesh: MeshName,
        /// How.
        mode: MemberMode,
    },
    /// The cluster was added before, the other way.
    #[error(
        "the cluster {cluster} is in {mesh} already, {}: it cannot be {} as well",
        mode_words(*mode),
        mode_words(other(*mode))
    )]
    BothModes {
        /// The cluster.
        cluster: ClusterId,
        /// The instance.
        mesh: MeshName,
        /// How it is there.
        mode: MemberMode,
    },
    /// A local cluster is managed from within.
    #[error(
        "{mesh} runs in cluster {home} and cannot manage the local cluster {cluster}: a local cluster is managed by the \
         instance that its own node runs"
    )]
    ManagedFromWithin {
        /// The instance.
        mesh: MeshName,
        /// Its cluster.
        home: ClusterId,
        /// The other cluster.
        cluster: ClusterId,
    },
    /// The instance's own cluster stays.
    #[error(
        "the cluster {cluster} is the one that {mesh} runs in: without it there is no instance"
    )]
    OwnCluster {
        /// The instance.
        mesh: MeshName,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// Two instances with different roots.
    #[error(
        "{other} in cluster {cluster} has the root {}, {mesh} has {}: neither would accept the other's certificates",
        theirs.short(), ours.short()
    )]
    OtherRoot {
        /// Who wanted to discover.
        mesh: MeshName,
        /// Its root.
        ours: Fingerprint,
        /// Whose root is different.
        other: MeshName,
        /// Its root.
        theirs: Fingerprint,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// The root of a mesh cannot be found.
    #[error("the root {root} that {mesh} uses is in no trust folder of this fleet")]
    NoRoot {
        /// The mesh.
        mesh: MeshName,
        /// Its root.
        root: String,
    },
    /// A trust folder is left from before.
    #[error("{path} holds a root already, though there is no mesh {mesh}")]
    RootLeftOver {
        /// Whose.
        mesh: MeshName,
        /// Where.
        path: PathBuf,
    },
    /// A version that is not there.
    #[error("version {version} is not installed")]
    UnknownVersion {
        /// The version that was asked for.
        version: Version,
        /// The versions there are.
        installed: Vec<String>,
    },
    /// An instance of another version than this program.
    #[error("{mesh} runs {runs}, and this program is {wanted}")]
    OtherVersion {
        /// The instance.
        mesh: MeshName,
        /// What it runs.
        runs: Version,
        /// What this program would install.
        wanted: Version,
        /// What names its cluster on a command line, ` --context one`.
        option: String,
    },
    /// A version that cannot be gone to at once.
    #[error(
        "{mesh} runs {runs} and does not go to {wanted} at once: versions go up one minor at a time, and back one at most"
    )]
    VersionSkipped {
        /// The instance.
        mesh: MeshName,
        /// What it runs.
        runs: Version,
        /// What was asked for.
        wanted: Version,
    },
    /// A version that the instance beside it is not made for.
    #[error(
        "{peer} in {cluster} runs {runs}, which is not made for {mesh} at {wanted}: their minors may differ by one"
    )]
    VersionsApart {
        /// The instance.
        mesh: MeshName,
        /// What was asked for.
        wanted: Version,
        /// The instance beside it.
        peer: String,
        /// Its cluster.
        cluster: String,
        /// What that runs.
        runs: Version,
    },
    /// A gateway where none may be deployed.
    #[error(
        "{mesh} only discovers {cluster}, so it deploys no gateway there (asked for by {cluster}={network},gateway)"
    )]
    GatewayElsewhere {
        /// The instance.
        mesh: MeshName,
        /// The cluster.
        cluster: ClusterId,
        /// The network.
        network: NetworkId,
    },
    /// A cluster is named twice in one command.
    #[error("the cluster {0} is named twice")]
    NamedTwice(ClusterId),
    /// Something on the command line cannot be read.
    #[error("{text:?} is not {wanted}: {reason}")]
    BadSetting {
        /// What was given.
        text: String,
        /// What was wanted.
        wanted: &'static str,
        /// Why not.
        reason: String,
    },
    /// A name that is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The user of a context may not do all that is needed.
    #[error("the user of the context {context:?} may not {purpose}")]
    MissingRights {
        /// The context.
        context: String,
        /// `install an instance`
        purpose: &'static str,
        /// `create deployments.apps in catamaran-system`
        missing: Vec<String>,
    },
    /// A control plane or proxy does not answer.
    #[error("{who} does not answer: {reason}")]
    NoAnswer {
        /// Who.
        who: String,
        /// Why.
        reason: String,
    },
    /// What was waited for did not come.
    #[error("{what} is not done after {} s: {unmet} (for {} s)", waited.as_secs(), held.as_secs())]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        waited: Duration,
        /// The last condition that was not met.
        unmet: String,
        /// How long that has been so.
        held: Duration,
        /// Where to look.
        look: String,
    },
    /// Something that should hold does not.
    #[error("{what}")]
    NotHeld {
        /// What.
        what: String,
        /// Why.
        cause: String,
        /// What to do.
        fix: String,
    },
    /// A fleet or cluster cannot be used.
    #[error(transparent)]
    Fleet(FleetError),
    /// Manifests were not written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Manifests cannot be read.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A cluster could not be started or stopped.
    #[error(transparent)]
    Lifecycle(LifecycleError),
    /// No pod, no container.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A root or an intermediate could not be made.
    #[error(transparent)]
    Ceremony(#[from] CeremonyError),
    /// An intermediate cannot be used.
    #[error("the intermediate in {path}: {source}")]
    Authority {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        source: CaCertsError,
    },
    /// A cluster with an API server is not as it must be.
    #[error(transparent)]
    Contact(#[from] ContactError),
    /// A certificate cannot be read.
    #[error("the certificate in {path}: {source}")]
    Certificate {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        source: CertificateError,
    },
}

impl From<FleetError> for OperateError {
    fn from(error: FleetError) -> OperateError {
        match error {
            FleetError::ClusterExists(cluster) => OperateError::ClusterExists(cluster),
            FleetError::Name(name) => OperateError::Name(name),
            other => OperateError::Fleet(other),
        }
    }
}

impl From<LifecycleError> for OperateError {
    fn from(error: LifecycleError) -> OperateError {
        match error {
            LifecycleError::Fleet(fleet) => fleet.into(),
            other => OperateError::Lifecycle(other),
        }
    }
}

fn mode_words(mode: MemberMode) -> &'static str {
    match mode {
        MemberMode::Managed => "managed",
        MemberMode::DiscoveryOnly => "discovery only",
    }
}

fn other(mode: MemberMode) -> MemberMode {
    match mode {
        MemberMode::Managed => MemberMode::DiscoveryOnly,
        MemberMode::DiscoveryOnly => MemberMode::Managed,
    }
}

impl OperateError {
    /// A stable code, `CTM-T101`: the letter says the matter (F fleet, C cluster, M mesh, T trust, N network, O objects,
    /// P proxies, V verification, U usage, K clusters with an API server).
    pub fn code(&self) -> &'static str {
        match self {
            OperateError::NoFleet => "CTM-F101",
            OperateError::Fleet(FleetError::NotAFleet(_)) => "CTM-F102",
            OperateError::Fleet(FleetError::NoSuchCluster { .. }) => "CTM-C101",
            OperateError::Fleet(_) => "CTM-F103",
            OperateError::UnknownCluster { .. } => "CTM-C101",
            OperateError::ClusterExists(_) => "CTM-C102",
            OperateError::NotAMember { .. } => "CTM-C103",
            OperateError::AddedTwice { .. } => "CTM-C104",
            OperateError::BothModes { .. } => "CTM-C105",
            OperateError::ManagedBy { .. } => "CTM-C106",
            OperateError::ManagedFromWithin { .. } => "CTM-C107",
            OperateError::OwnCluster { .. } => "CTM-C108",
            OperateError::Lifecycle(_) => "CTM-C201",
            OperateError::UnknownMesh { purpose: "", .. } => "CTM-M101",
            OperateError::UnknownMesh { .. } => "CTM-T101",
            OperateError::MeshExists { .. } => "CTM-M102",
            OperateError::UnknownVersion { .. } => "CTM-M103",
            OperateError::OtherVersion { .. } => "CTM-M104",
            OperateError::VersionSkipped { .. } => "CTM-M105",
            OperateError::VersionsApart { .. } => "CTM-M106",
            OperateError::Timeout { .. } => "CTM-M201",
            OperateError::NoAnswer { .. } => "CTM-M202",
            OperateError::MissingRights { .. } => "CTM-K107",
            OperateError::OtherRoot { .. } => "CTM-T102",
            OperateError::NoRoot { .. } => "CTM-T103",
            OperateError::RootLeftOver { .. } => "CTM-T104",
            OperateError::Ceremony(_) => "CTM-T105",
            OperateError::Authority { .. } => "CTM-T106",
            OperateError::Certificate { .. } => "CTM-T107",
            OperateError::GatewayElsewhere { .. } => "CTM-N101",
            OperateError::NamedTwice(_) => "CTM-N102",
            OperateError::BadSetting { .. } => "CTM-U101",
            OperateError::Name(_) => "CTM-U102",
            OperateError::File { .. } => "CTM-O101",
            OperateError::Write(WriteError::Invalid(_)) => "CTM-O102",
            OperateError::Write(WriteError::NoSuchObject(_)) => "CTM-O103",
            OperateError::Write(_) | OperateError::Folder(_) => "CTM-O104",
            OperateError::Exec(_) => "CTM-O105",
            OperateError::UnknownProxy { .. } => "CTM-P101",
            OperateError::ManyProxies { .. } => "CTM-P102",
            OperateError::NotHeld { .. } => "CTM-V101",
            OperateError::Contact(contact) => match contact {
                ContactError::NoFile(_)
                | ContactError::NoContext { .. }
                | ContactError::File { .. } => "CTM-K101",
                ContactError::Refused { .. } | ContactError::Credential { .. } => "CTM-K102",
                ContactError::Failed { .. } | ContactError::NotNow { .. } => "CTM-K103",
                ContactError::NoInstance { .. } => "CTM-K104",
                ContactError::SameCluster { .. } | ContactError::OwnCluster { .. } => "CTM-K105",
                ContactError::OtherCluster { .. } => "CTM-K106",
                ContactError::Rights(_) => "CTM-K107",
                ContactError::NotHome { .. } => "CTM-K108",
                ContactError::NoImage(_) => "CTM-K109",
                ContactError::Brought { .. } | ContactError::NoRoots { .. } => "CTM-K110",
                ContactError::NoDoor { .. } => "CTM-K111",
                ContactError::NoWayThere { .. } => "CTM-K112",
                ContactError::Manages { .. } => "CTM-K113",
            },
        }
    }

    /// What the exit code says.
    pub fn class(&self) -> Class {
        match self {
            OperateError::NoFleet
            | OperateError::BadSetting { .. }
            | OperateError::Name(_)
            | OperateError::NamedTwice(_)
            | OperateError::Contact(
                ContactError::NoFile(_) | ContactError::NoContext { .. } | ContactError::NoImage(_),
            )
            | OperateError::Exec(ExecError::Target(_)) => Class::Usage,
            OperateError::NotHeld { .. } => Class::Found,
            OperateError::NoAnswer { .. } => Class::Unreachable,
            OperateError::Contact(contact) if contact.unreachable() => Class::Unreachable,
            OperateError::Timeout { .. }
            | OperateError::Lifecycle(LifecycleError::TooSlow { .. }) => Class::Timeout,
            _ => Class::Failed,
        }
    }

    /// Lines about what there is: known names, the nearest one.
    pub fn facts(&self) -> Vec<String> {
        match self {
            OperateError::UnknownMesh { name, known, .. } => {
                let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
                let list = known.iter().map(|(name, words)| match words.is_empty() {
                    true => name.clone(),
                    false => format!("{name} ({words})"),
                });
                known_lines("meshes", list.collect(), nearest(name.as_str(), &names))
            }
            OperateError::UnknownCluster { name, known } => {
                let near = nearest(name.as_str(), known);
                known_lines("clusters", known.clone(), near)
            }
            OperateError::NotAMember {
                cluster,
                known,
                mesh,
            } => {
                let mut lines = vec![format!("clusters of {mesh}: {}", list(known))];
                lines.extend(did_you_mean(nearest(cluster.as_str(), known)));
                lines
            }
            OperateError::UnknownProxy { name, known } => {
                let mut lines =
                    known_lines("proxies", known.iter().take(12).cloned().collect(), None);
                lines.extend(did_you_mean(nearest(name, known)));
                lines
            }
            OperateError::ManyProxies { known, .. } => vec![format!("it may be: {}", list(known))],
            OperateError::UnknownVersion { installed, .. } => {
                vec![format!("installed versions: {}", list(installed))]
            }
            OperateError::Exec(ExecError::Unknown { target, known, .. }) => {
                let there = known.iter().take(MAX_KNOWN).cloned().collect();
                let mut lines = known_lines("there", there, None);
                lines.extend(meant(target, known).map(|name| format!("did you mean {name}?")));
                lines
            }
            OperateError::MissingRights { missing, .. } => {
                vec![format!("missing: {}", list(missing))]
            }
            OperateError::NotHeld { cause, .. } if !cause.is_empty() => vec![cause.clone()],
            _ => Vec::new(),
        }
    }

    /// The next step, when the text does not say it.
    pub fn fix(&self) -> Option<String> {
        let fix = match self {
            OperateError::NoFleet => {
                "give --fleet DIR, or set CATAMARAN_FLEET; `catamaran cluster create C --fleet DIR` makes a new one".into()
            }
            OperateError::UnknownMesh { .. } => {
                "see `catamaran mesh list`, or create it with `catamaran mesh create`".into()
            }
            OperateError::UnknownCluster { .. } => {
                "see `catamaran cluster list`, or create it with `catamaran cluster create`".into()
            }
            OperateError::NotAMember { cluster, mesh, .. } => {
                format!("add it first: catamaran cluster add {cluster} --mesh {mesh} --discovery-only")
            }
            OperateError::UnknownProxy { .. } | OperateError::ManyProxies { .. } => {
                "see `catamaran proxy list`; NAMESPACE/POD and CLUSTER/NAMESPACE/POD tell them apart".into()
            }
            OperateError::MeshExists { mesh, .. } => {
                format!("choose another name, or see `catamaran mesh show {mesh}`")
            }
            OperateError::ClusterExists(_) => "choose another name, or see `catamaran cluster list`".into(),
            OperateError::ManagedBy { cluster, wanted, .. } => format!(
                "{wanted} may discover it: catamaran cluster add {cluster} --mesh {wanted} --discovery-only"
            ),
            OperateError::AddedTwice { mesh, .. } => {
                format!("nothing to do; see `catamaran mesh show {mesh}`")
            }
            OperateError::BothModes { cluster, mesh, mode } => match mode {
                MemberMode::DiscoveryOnly => {
                    format!("remove it first: catamaran cluster remove {cluster} --mesh {mesh}")
                }
                MemberMode::Managed => {
                    format!("nothing to do: {mesh} discovers what it manages")
                }
            },
            OperateError::ManagedFromWithin { mesh, cluster, .. } => format!(
                "create an instance there (catamaran mesh create NAME --cluster {cluster} --reuse-root {mesh}), or only \
                 discover it: catamaran cluster add {cluster} --mesh {mesh} --discovery-only"
            ),
            OperateError::OwnCluster { mesh, .. } => {
                format!("delete the instance: catamaran mesh delete {mesh}")
            }
            OperateError::OtherRoot { mesh, other, cluster, .. } => format!(
                "create {other} anew on the root of {mesh}: catamaran mesh delete {other}, then catamaran mesh create \
                 {other} --cluster {cluster} --reuse-root {mesh}"
            ),
            OperateError::NoRoot { .. } => {
                "put root-cert.pem and root-key.pem back into the trust folder, FLEET/trust/MESH".into()
            }
            OperateError::RootLeftOver { mesh, path } => format!(
                "to use it again: catamaran mesh create {mesh} ... --reuse-root {mesh}; else move {} away",
                path.display()
            ),
            OperateError::UnknownVersion { .. } => "leave --version out, or name an installed one".into(),
            OperateError::OtherVersion { mesh, option, .. } => {
                format!("take it there: catamaran mesh upgrade {mesh}{option}; or use the program of its version")
            }
            OperateError::VersionSkipped { mesh, runs, wanted } => match next_line(runs, wanted) {
                Some(next) => format!(
                    "go to {next} first, with the program of that version: catamaran mesh upgrade {mesh}; --force goes all the same"
                ),
                None => "use a version whose minor is a neighbour's; --force goes all the same".into(),
            },
            OperateError::VersionsApart { mesh, wanted, peer, runs, .. } => {
                let (first, then) = match runs.line() < wanted.line() {
                    true => (peer.as_str(), mesh.as_str()),
                    false => (mesh.as_str(), peer.as_str()),
                };
                format!("take {first} one minor further before {then}; --force goes all the same")
            }
            OperateError::GatewayElsewhere { cluster, network, .. } => format!(
                "leave the gateway out, its address is discovered ({cluster}={network}); or give it \
                 ({cluster}={network},gateway=IP:PORT); the instance that manages {cluster} deploys it"
            ),
            OperateError::NamedTwice(cluster) => format!("name {cluster} once"),
            OperateError::NoAnswer { .. } => "see `catamaran status`, and its log; try again".into(),
            OperateError::Timeout { look, .. } => look.clone(),
            OperateError::NotHeld { fix, .. } if !fix.is_empty() => fix.clone(),
            OperateError::Exec(ExecError::Unknown { .. }) => {
                "see `catamaran status`; another namespace is named with --namespace".into()
            }
            OperateError::Exec(ExecError::ScaledToZero { target, cluster, namespace }) => format!(
                "catamaran scale {target} --replicas 1 --cluster {cluster} --namespace {namespace}"
            ),
            OperateError::Exec(ExecError::Stopped { cluster, .. }) => {
                format!("catamaran cluster start {cluster}")
            }
            OperateError::Contact(contact) => return contact.fix(),
            OperateError::MissingRights { .. } => {
                "use a context whose user is an administrator of the cluster (cluster-admin), or ask one for these rights".into()
            }
            OperateError::Authority { .. } => {
                "issue a new one: catamaran trust renew MESH".into()
            }
            _ => return None,
        };
        Some(fix)
    }

    /// Whether it is a refusal, before anything was changed.
    pub fn refused(&self) -> bool {
        !matches!(
            self,
            OperateError::NoAnswer { .. }
                | OperateError::Timeout { .. }
                | OperateError::NotHeld { .. }
                | OperateError::File { .. }
                | OperateError::Contact(ContactError::Failed { .. } | ContactError::Rights(_))
                | OperateError::Lifecycle(_)
                | OperateError::Fleet(FleetError::Io { .. })
                | OperateError::Write(WriteError::Io { .. })
        )
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> OperateError {
        let path = path.into();
        move |source| OperateError::File { path, source }
    }
}

/// The next minor on the way from one version to another; none between majors.
fn next_line(runs: &Version, wanted: &Version) -> Option<String> {
    let ((major, minor), (to_major, to)) = (runs.line()?, wanted.line()?);
    let next = match minor < to {
        true => minor + 1,
        false => minor.checked_sub(1)?,
    };
    (major == to_major).then(|| format!("{major}.{next}"))
}

fn list(names: &[String]) -> String {
    match names.is_empty() {
        true => "none".into(),
        false => names.join(", "),
    }
}

/// The most names of what is there that an error lists.
const MAX_KNOWN: usize = 12;

/// What a target may have meant: the same name of the other kind, else the nearest name.
fn meant(target: &Target, known: &[String]) -> Option<String> {
    let (Target::Deployment(wanted) | Target::Pod(wanted)) = target;
    let named = |name: &str| {
        let of_name = |entry: &&String| entry.split_once('/').is_some_and(|(_, it)| it == name);
        known.iter().find(of_name).cloned()
    };
    let names: Vec<&str> = (known.iter())
        .filter_map(|entry| Some(entry.split_once('/')?.1))
        .collect();
    named(wanted).or_else(|| named(&nearest(wanted, &names)?))
}

fn known_lines(what: &str, names: Vec<String>, near: Option<String>) -> Vec<String> {
    let mut lines = vec![format!("known {what}: {}", list(&names))];
    lines.extend(did_you_mean(near));
    lines
}

fn did_you_mean(near: Option<String>) -> Option<String> {
    near.map(|name| format!("did you mean {name:?}?"))
}
