//! One instance as it was found, in a fleet or behind an API server: what is wanted of it, and what it says. Whoever shows or
//! checks instances begins here, so that both kinds of clusters are shown and checked alike.

use catamaran_model::{ClusterId, Fingerprint, Member, MemberMode, MeshSpec, NetworkId, Timestamp};

use crate::control_plane::ControlPlaneStatus;
use crate::mesh_list::{MemberRow, MeshRow};
use crate::mesh_state::{MeshState, mode_word};

/// See the page.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) spec: MeshSpec,
    /// The cluster it runs in and manages.
    pub(crate) home: ClusterId,
    /// Its clusters, its own among them.
    pub(crate) members: Vec<Member>,
    /// What its control plane says, or why it says nothing.
    pub(crate) status: Result<ControlPlaneStatus, String>,
    /// Whether that is all a control plane knows, and not only what it wrote into objects: those do not say which gateways it
    /// knows elsewhere, nor what became of each proxy.
    pub(crate) whole: bool,
    /// How it is, and what is missing for `running`.
    pub(crate) state: (MeshState, String),
    /// The roots that it trusts.
    pub(crate) roots: Vec<Fingerprint>,
    /// What it signs with; nothing when that cannot be seen from here.
    pub(crate) intermediate: Option<Result<Intermediate, String>>,
}

/// What an instance signs with, as far as checks need it.
#[derive(Debug, Clone)]
pub(crate) struct Intermediate {
    pub(crate) fingerprint: String,
    pub(crate) not_after: Timestamp,
    /// When half of its life is over, and it should be renewed.
    pub(crate) half_life: Timestamp,
}

impl Told {
    pub(crate) fn name(&self) -> &str {
        self.spec.name.as_str()
    }

    /// One of its clusters.
    pub(crate) fn member(&self, cluster: &ClusterId) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| member.cluster == *cluster)
    }

    /// The network of its own cluster.
    pub(crate) fn own_network(&self) -> Option<&NetworkId> {
        self.member(&self.home)?.network.as_ref()
    }

    /// The clusters that it only discovers.
    pub(crate) fn discovers(&self) -> impl Iterator<Item = &Member> {
        let members = self.members.iter();
        members.filter(|member| member.mode == MemberMode::DiscoveryOnly)
    }

    /// As tables show it.
    pub(crate) fn row(&self) -> MeshRow {
        let said = self.status.as_ref().ok();
        let roots = match said.and_then(|said| said.trust.as_ref()) {
            Some(trust) => trust.roots.clone(),
            None => self.roots.iter().map(ToString::to_string).collect(),
        };
        let runs = said
            .map(|status| status.version.clone())
            .filter(|version| !version.is_empty());
        MeshRow {
            name: self.spec.name.to_string(),
            state: self.state.0,
            reason: self.state.1.clone(),
            region: self.spec.region.as_ref().map(ToString::to_string),
            version: runs.or_else(|| self.spec.version.as_ref().map(ToString::to_string)),
            roots,
            manages: self.home.to_string(),
            discovers: (self.members.iter())
                .filter(|member| member.cluster != self.home)
                .map(|member| member.cluster.to_string())
                .collect(),
            proxies: said.filter(|_| self.whole).map(|status| status.proxies),
            clusters: self
                .members
                .iter()
                .map(|member| self.member_row(member))
                .collect(),
            problems: said.map_or_else(Vec::new, |status| status.problems.clone()),
        }
    }

    fn member_row(&self, member: &Member) -> MemberRow {
        let name = member.cluster.as_str();
        let said = self.status.as_ref().ok();
        let known = said.and_then(|status| status.of_cluster(name));
        let by_hand = member.gateway_addresses.iter();
        let by_hand = by_hand.map(ToString::to_string).collect();
        MemberRow {
            name: member.cluster.to_string(),
            mode: mode_word(member.mode).into(),
            network: member.network.as_ref().map(ToString::to_string),
            freshness: known.map(|cluster| cluster.freshness.clone()),
            stale_since: known.and_then(|cluster| cluster.since.clone()),
            reason: known.and_then(|cluster| cluster.reason.clone()),
            gateways: said.map_or(by_hand, |status| status.gateways_of(name)),
            services: known.map(|cluster| cluster.services),
            endpoints: known.map(|cluster| cluster.endpoints),
        }
    }
}
