//! The instance that is measured: installed on the one API server with the rights that it has in a cluster, and let read the other.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use catamaran_bench::control_plane::names::ACCOUNT;
use catamaran_identity::{CaCerts, Holding, Issuer, Root};
use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::install::{self, Instance as Installed};
use catamaran_kubernetes::{reader, token};
use catamaran_model::{
    ClusterId, MeshName, Namespace, Region, ServiceAccount, SpiffeId, Timestamp, TrustDomain,
    Version,
};
use serde_json::json;

use crate::objects::{self, Side};
use crate::server::ApiServer;

/// The two clusters, as the instance calls them.
pub(crate) const OWN: &str = "cluster-1";
pub(crate) const OTHER: &str = "cluster-2";
const MESH: &str = "mesh-1";
/// What a Deployment would be for is done by this program: it starts the control plane itself.
const LEFT_OUT: [&str; 3] = ["Deployment", "Service", "PodDisruptionBudget"];

/// An instance that can be started.
#[derive(Debug)]
pub(crate) struct Instance {
    folder: PathBuf,
    authority: CaCerts,
}

/// The user that the control plane is at this API server.
pub(crate) fn user(side: Side) -> String {
    let mesh = MeshName::new(MESH).expect("a legal name");
    let account = match side {
        Side::Own => install::name(&mesh),
        Side::Discovered => reader::account(&mesh).to_string(),
    };
    format!(
        "system:serviceaccount:{}:{account}",
        SpiffeId::SYSTEM_NAMESPACE
    )
}

/// An API server's refusal of something.
fn refused(what: &str) -> impl FnOnce(Failure) -> anyhow::Error {
    move |failure| anyhow::anyhow!("{what}: {failure:?}")
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp(since.map_or(0, |since| since.as_millis() as u64))
}

impl Instance {
    /// Installs it on `own`, and makes it a reader of `other`; keeps its files in this folder.
    pub(crate) async fn install(
        folder: &Path,
        own: &ApiServer,
        other: Option<&ApiServer>,
    ) -> Result<Instance> {
        let mesh = MeshName::new(MESH)?;
        let installed = Installed {
            replicas: 1,
            mesh: mesh.clone(),
            cluster: ClusterId::new(OWN)?,
            region: Some(Region::new("here")?),
            version: Version::new(env!("CARGO_PKG_VERSION"))?,
            network: None,
            image: "none".into(),
            istio: None,
            makes_namespace: true,
        };
        for manifest in install::manifests(&installed) {
            let kind = manifest["kind"].as_str().unwrap_or_default();
            if !LEFT_OUT.contains(&kind) {
                let put = install::put(&own.access, &manifest).await;
                put.map_err(refused(kind))?;
            }
        }
        own.make(objects::accounts()).await?;
        let system = Namespace::new(SpiffeId::SYSTEM_NAMESPACE)?;
        let account = ServiceAccount::new(install::name(&mesh))?;
        let granted = token::request(&own.access, &system, &account, token::LIFE)
            .await
            .map_err(refused("a token"))?;
        let config = &own.kubeconfig;
        let text = reader::kubeconfig(&ClusterId::new(OWN)?, &config.server, &config.ca, &granted);
        std::fs::write(folder.join("kubeconfig"), text)?;

        if let Some(other) = other {
            for manifest in install::manifests(&installed) {
                let definition = manifest["kind"] == "CustomResourceDefinition";
                if definition || manifest["kind"] == "Namespace" {
                    install::put(&other.access, &manifest)
                        .await
                        .map_err(refused("a definition"))?;
                }
            }
            other.make(objects::accounts()).await?;
            reader::install(&other.access, &mesh, |_| {})
                .await
                .map_err(refused("the reader"))?;
            let granted = reader::first_token(&other.access, &mesh)
                .await
                .map_err(refused("a reader's token"))?;
            let (name, config) = (ClusterId::new(OTHER)?, &other.kubeconfig);
            let text = reader::kubeconfig(&name, &config.server, &config.ca, &granted);
            let secret = reader::secret(&name, &text);
            let member = json!({
                "apiVersion": "catamaran.dev/v1alpha1", "kind": "Cluster",
                "metadata": {"namespace": SpiffeId::SYSTEM_NAMESPACE, "name": OTHER},
                "spec": {"mode": "DiscoveryOnly", "secret": secret["metadata"]["name"]},
            });
            own.make([secret, member].into_iter()).await?;
        }

        let (domain, cluster) = (TrustDomain::default(), ClusterId::new(OWN)?);
        let root = Root::create(&domain, &mesh, now())?;
        let authority = root.issue_intermediate(&domain, &mesh, &cluster, now())?;
        let cacerts = folder.join("cacerts");
        std::fs::create_dir_all(&cacerts)?;
        for (name, text) in authority.files().entries() {
            std::fs::write(cacerts.join(name), text)?;
        }
        Ok(Instance {
            folder: folder.to_owned(),
            authority,
        })
    }

    /// Where its control plane keeps what it knows.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Where it answers people.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("sock")
    }

    /// How its control plane is started. What it logs goes to `log`.
    pub(crate) fn command(&self, binary: &Path, log: &Path) -> Result<Command> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)?;
        let mut command = Command::new(binary);
        command
            .arg("control-plane")
            .args(["--cluster", OWN, "--mesh", MESH, "--allow-loopback"])
            .arg("--kubeconfig")
            .arg(self.folder.join("kubeconfig"))
            .arg("--cacerts")
            .arg(self.folder.join("cacerts"))
            .arg("--state")
            .arg(self.state())
            .arg("--socket")
            .arg(self.socket())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(command)
    }

    /// What every simulated proxy shows.
    pub(crate) fn holding(&self) -> Result<Holding> {
        let issuer = Issuer::new(self.authority.clone(), TrustDomain::default())?;
        let id = SpiffeId::parse(&format!("spiffe://cluster.local/ns/default/sa/{ACCOUNT}"))?;
        Ok(issuer.holding_for(&id, None, now())?)
    }
}
