use std::fmt;

use catamaran_wire::TypeUrl;
use catamaran_wire::cluster::Cluster;
use catamaran_wire::endpoint::ClusterLoadAssignment;
use catamaran_wire::listener::Listener;
use catamaran_wire::own::Issuers;
use catamaran_wire::route::RouteConfiguration;

/// The kinds of resource that a [`Table`](crate::Table) is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// LDS.
    Listener,
    /// RDS.
    Route,
    /// CDS.
    Cluster,
    /// EDS.
    Assignment,
    /// Our own: who may speak for the workloads of a cluster.
    Issuers,
}

impl Kind {
    /// All of them, in the order in which they are applied: what is pointed at comes before what points.
    pub const ALL: [Kind; 5] = [
        Kind::Issuers,
        Kind::Assignment,
        Kind::Cluster,
        Kind::Route,
        Kind::Listener,
    ];

    /// The type URL, `type.googleapis.com/envoy.config.cluster.v3.Cluster`.
    pub fn type_url(self) -> &'static str {
        match self {
            Kind::Listener => Listener::TYPE_URL,
            Kind::Route => RouteConfiguration::TYPE_URL,
            Kind::Cluster => Cluster::TYPE_URL,
            Kind::Assignment => ClusterLoadAssignment::TYPE_URL,
            Kind::Issuers => Issuers::TYPE_URL,
        }
    }

    /// The kind that goes by a type URL; `None` for a type that no table is made of.
    pub fn of(type_url: &str) -> Option<Kind> {
        let name = |url: &str| url.rsplit('/').next().map(str::to_owned);
        Kind::ALL
            .into_iter()
            .find(|kind| name(kind.type_url()) == name(type_url))
    }

    fn word(self) -> &'static str {
        match self {
            Kind::Listener => "listener",
            Kind::Route => "route configuration",
            Kind::Cluster => "cluster",
            Kind::Assignment => "load assignment",
            Kind::Issuers => "issuers of cluster",
        }
    }
}

/// Why a resource is not used. Only this resource is refused: what was held under its name before stays in force.
///
/// The fault is the sender's, or ours where `reason` says that something is not implemented; the same bytes sent again
/// are refused again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct Refusal {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The path of the field, as in the `.proto` file: `virtual_hosts[0].routes[2].match.safe_regex`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} is refused: ", self.kind.word(), self.name)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}

/// A field that cannot be used, before the name of its resource is known.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) field: String,
    pub(crate) reason: String,
}

impl Fault {
    pub(crate) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Fault {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// The same fault, seen from the message around it.
    pub(crate) fn within(mut self, outer: impl fmt::Display) -> Self {
        self.field = match self.field.as_str() {
            "" => outer.to_string(),
            inner if inner.starts_with('[') => format!("{outer}{inner}"),
            inner => format!("{outer}.{inner}"),
        };
        self
    }

    pub(crate) fn of(self, kind: Kind, name: &str) -> Refusal {
        Refusal {
            kind,
            name: name.chars().take(MAX_NAME_SHOWN).collect(),
            field: self.field,
            reason: self.reason,
        }
    }
}

/// So much of a hostile name is repeated in a message, in characters.
const MAX_NAME_SHOWN: usize = 300;

/// `Err` when a field that is not implemented is set.
pub(crate) fn unset(set: bool, field: &str) -> Result<(), Fault> {
    if set {
        return Err(Fault::new(field, "is not implemented"));
    }
    Ok(())
}

/// Refuses each named field that is not at its default.
macro_rules! refuse_set {
    ($message:expr, $($field:ident),+ $(,)?) => {
        $($crate::refusal::unset($crate::refusal::is_set(&$message.$field), stringify!($field))?;)+
    };
}
pub(crate) use refuse_set;

pub(crate) fn is_set<T: Default + PartialEq>(field: &T) -> bool {
    *field != T::default()
}
