//! A fleet of one cluster in a temporary folder, with as many services as wanted, and what a node would have written.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use catamaran_bench::control_plane::names::{ACCOUNT, PORT, caller, service};
use catamaran_identity::{CaCerts, Holding, Issuer, Root};
use catamaran_local::fleet::{ClusterDir, FleetDir, Isolation};
use catamaran_local::{atomic, write};
use catamaran_model::{
    ClusterDomain, ClusterId, Credential, FailoverMode, Member, MemberMode, MeshName, MeshSpec,
    MtlsMode, NetworkId, Region, SpiffeId, Timestamp, TrustDomain,
};
use catamaran_process::now_millis;
use serde_json::{Value, json};

/// Documents in one file: less than a file may have, and small enough to be read.
const BUNDLE: usize = 400;

/// A fleet, and who may sign in it.
pub(crate) struct World {
    folder: tempfile::TempDir,
    cluster: ClusterDir,
    authority: CaCerts,
    /// How many services there are.
    pub(crate) services: usize,
}

fn now() -> Timestamp {
    Timestamp(now_millis())
}

impl World {
    /// `services` services with two pods each, and `callers` pods that no service is made of.
    pub(crate) fn new(services: usize, callers: usize) -> Result<World> {
        let folder = tempfile::Builder::new().prefix("cpb").tempdir()?;
        let (fleet, _) = FleetDir::create(folder.path(), Isolation::Netns, "a1b2c3")?;
        let name = ClusterId::new("cluster-1")?;
        let mesh = MeshName::new("mesh-1")?;
        let (cluster, _) = fleet.create_cluster(&name, &NetworkId::new("flat")?, "uid-1")?;
        cluster.make_folders()?;
        let domain = TrustDomain::default();
        let root = Root::create(&domain, &mesh, now())?;
        let authority = root.issue_intermediate(&domain, &mesh, &name, now())?;
        for (name, text) in authority.files().entries() {
            atomic::write(&cluster.cacerts().join(name), text.as_bytes(), 0o600)?;
        }
        let spec = MeshSpec {
            name: mesh,
            region: Some(Region::new("here")?),
            version: None,
            trust_domain: domain,
            domain: ClusterDomain::default(),
            mtls: MtlsMode::Strict,
            failover: FailoverMode::Spread,
        };
        write::put_mesh(&cluster, &spec)?;
        let member = Member {
            cluster: name,
            mode: MemberMode::Managed,
            network: None,
            gateway: false,
            gateway_addresses: Vec::new(),
            credential: Credential::Folder("cluster-1".into()),
        };
        write::put_member(&cluster, &member)?;
        let world = World {
            folder,
            cluster,
            authority,
            services,
        };
        world.fill(callers)?;
        Ok(world)
    }

    /// How its control plane is started.
    pub(crate) fn command(&self, binary: &Path) -> Command {
        let mut command = Command::new(binary);
        command
            .arg("control-plane")
            .args(["--cluster", "cluster-1", "--mesh", "mesh-1"])
            .arg("--fleet")
            .arg(self.folder.path());
        command
    }

    /// Where the control plane answers people.
    pub(crate) fn socket(&self) -> PathBuf {
        self.cluster.control_plane_socket()
    }

    /// What every simulated proxy shows.
    pub(crate) fn holding(&self) -> Result<Holding> {
        let issuer = Issuer::new(self.authority.clone(), TrustDomain::default())?;
        let id = SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{ACCOUNT}"))?;
        Ok(issuer.holding_for(&id, None, now())?)
    }

    fn fill(&self, callers: usize) -> Result<()> {
        let all = 0..self.services;
        self.bundles("objects/default/services", all.clone().map(manifest))?;
        self.bundles("status/Service/default/services", all.clone().map(assigned))?;
        let pods = all.clone().flat_map(|n| [pod_of(n, 0), pod_of(n, 1)]);
        let callers = (0..callers).map(|n| pod(&caller(n), ACCOUNT, &address(200, n)));
        self.bundles("status/Pod/default/pods", pods.chain(callers))?;
        for n in all {
            self.slice(n, &[place(n, 0), place(n, 1)])?;
        }
        Ok(())
    }

    fn bundles(&self, path: &str, documents: impl Iterator<Item = Value>) -> Result<()> {
        let documents: Vec<Value> = documents.collect();
        for (number, part) in documents.chunks(BUNDLE).enumerate() {
            let mut text = String::new();
            for document in part {
                writeln!(text, "---\n{document}")?;
            }
            let path = self.cluster.path().join(format!("{path}-{number}.yaml"));
            atomic::write(&path, text.as_bytes(), 0o644)
                .with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    /// Adds service `n`, whole but for its manifest, which comes last.
    pub(crate) fn add(&self, n: usize) -> Result<()> {
        let one = std::iter::once;
        let pods = [pod_of(n, 0), pod_of(n, 1)].into_iter();
        self.bundles(&format!("status/Pod/default/more-{n}"), pods)?;
        self.slice(n, &[place(n, 0), place(n, 1)])?;
        self.bundles(
            &format!("status/Service/default/more-{n}"),
            one(assigned(n)),
        )?;
        self.bundles(&format!("objects/default/more-{n}"), one(manifest(n)))
    }

    /// Writes whom service `n` has, as the node does: one file, whole.
    pub(crate) fn slice(&self, n: usize, addresses: &[String]) -> Result<()> {
        let name = service(n);
        let endpoints = addresses.iter().enumerate().map(|(which, address)| {
            json!({
                "addresses": [address], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "name": format!("{name}-{which}")},
            })
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": format!("{name}-local"), "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": PORT}],
            "endpoints": endpoints.collect::<Vec<_>>(),
        });
        let path = format!("status/EndpointSlice/default/{name}-local.json");
        let path = self.cluster.path().join(path);
        atomic::write(&path, slice.to_string().as_bytes(), 0o644)
            .with_context(|| path.display().to_string())
    }
}

/// An address that no pod had before, for change `n` of many to all services.
pub(crate) fn other(n: usize) -> String {
    address(221, n)
}

/// The address of one of the two pods of service `n`.
pub(crate) fn place(n: usize, which: usize) -> String {
    address(100 + which, n)
}

/// An address that no pod had before, for change `n`.
pub(crate) fn fresh(n: usize) -> String {
    address(220, n)
}

fn address(of: usize, n: usize) -> String {
    format!("10.{of}.{}.{}", n / 250, 1 + n % 250)
}

fn manifest(n: usize) -> Value {
    let name = service(n);
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"name": "http", "port": PORT}], "selector": {"app": name}},
    })
}

fn assigned(n: usize) -> Value {
    let mut service = manifest(n);
    service["spec"]["clusterIP"] = json!(format!("10.96.{}.{}", 1 + n / 250, 1 + n % 250));
    service
}

fn pod_of(n: usize, which: usize) -> Value {
    let name = service(n);
    pod(&format!("{name}-{which}"), &name, &place(n, which))
}

fn pod(name: &str, account: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"app": account, "security.istio.io/tlsMode": "istio"}},
        "spec": {"serviceAccountName": account}, "status": {"phase": "Running", "podIP": address},
    })
}
