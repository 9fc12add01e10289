//! How another cluster becomes known to an instance: what the instance's own cluster holds of it, and what is written there.
//!
//! A person with a kubeconfig asks for it, not the control plane, which only reads what is written here.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use catamaran_model::{ClusterId, Credential, Member, MemberMode, MeshName, MeshSpec, SpiffeId};
use serde::Deserialize as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::base64;
use crate::connect::Access;
use crate::crd::{Cluster, FIELD_MANAGER, Mesh};
use crate::failure::{Failure, printable};
use crate::install;
use crate::kubeconfig::{Allowed, Kubeconfig, User};
use crate::manifest;
use crate::reader;
use crate::remote::REMOTE_SECRET_LABEL;

/// The annotation of a Secret with a kubeconfig: the UID of its cluster's namespace kube-system.
pub const UID: &str = "catamaran.dev/cluster-uid";
/// The label that says to which instance an object belongs; it goes with the instance.
pub(crate) const INSTANCE_LABEL: &str = "catamaran.dev/mesh";
/// A cluster that is known already has so long to say which one it is.
const PATIENCE: Duration = Duration::from_secs(5);
const SYSTEM: &str = SpiffeId::SYSTEM_NAMESPACE;

/// What an instance's own cluster holds of the instance.
#[derive(Debug, Clone)]
pub struct Home {
    /// The UID of its namespace kube-system.
    pub uid: String,
    /// The instances there.
    pub meshes: Vec<MeshSpec>,
    /// Their clusters.
    pub members: Vec<Member>,
    held: Vec<Held>,
}

/// A kubeconfig in a Secret.
#[derive(Clone)]
struct Held {
    /// `NAMESPACE/NAME`
    place: String,
    cluster: ClusterId,
    text: Zeroizing<String>,
    uid: Option<String>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Held({} in {}, contents not shown)",
            self.cluster, self.place
        )
    }
}

/// Which cluster it is: the UID of its namespace kube-system, which lives as long as the cluster.
///
/// # Errors
/// Why nobody knows.
pub async fn uid(access: &Access) -> Result<String, Failure> {
    let wanted =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}});
    let found = manifest::get(access, &wanted).await?;
    let uid = found.and_then(|found| Some(found["metadata"]["uid"].as_str()?.to_owned()));
    uid.ok_or_else(|| Failure::Unreadable {
        why: "there is no namespace kube-system with a UID".into(),
    })
}

impl Home {
    /// Reads it.
    ///
    /// # Errors
    /// Why it cannot be read. [`Failure::Absent`]: our kinds are not installed there, so no instance is.
    pub async fn read(access: &Access) -> Result<Home, Failure> {
        let uid = uid(access).await?;
        let meshes = ours(access, "Mesh").await?;
        let meshes = meshes.iter().map(|object| {
            let mesh = Mesh::deserialize(object).map_err(|error| error.to_string())?;
            mesh.spec.spec(name(object))
        });
        let meshes = meshes.collect::<Result<_, _>>().map_err(unreadable)?;
        let members = ours(access, "Cluster").await?;
        let members = members.iter().map(|object| {
            let cluster = Cluster::deserialize(object).map_err(|error| error.to_string())?;
            cluster.spec.member(name(object))
        });
        let members = members.collect::<Result<_, _>>().map_err(unreadable)?;
        let kind = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": SYSTEM}});
        let secrets = manifest::list(access, &kind).await?;
        Ok(Home {
            uid,
            meshes,
            members,
            held: secrets.iter().flat_map(held).collect(),
        })
    }

    /// The instance of this name.
    pub fn mesh(&self, mesh: &MeshName) -> Option<&MeshSpec> {
        self.meshes.iter().find(|spec| spec.name == *mesh)
    }

    /// The cluster of this name.
    pub fn member(&self, cluster: &ClusterId) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| member.cluster == *cluster)
    }

    /// The UID of a cluster that was added before, as it was then.
    pub fn uid_of(&self, cluster: &ClusterId) -> Option<&str> {
        let place = self.place(cluster)?;
        let mut held = self.held.iter();
        held.find(|held| held.cluster == *cluster && held.place == place)?
            .uid
            .as_deref()
    }

    /// Whether the Secret of a cluster is one that we wrote, and not one that somebody brought.
    pub fn wrote_secret(&self, cluster: &ClusterId) -> bool {
        let ours = format!("{SYSTEM}/{}", secret_name(cluster));
        self.place(cluster) == Some(ours) && self.uid_of(cluster).is_some()
    }

    /// Where its Secret is, `NAMESPACE/NAME`.
    fn place(&self, cluster: &ClusterId) -> Option<String> {
        match &self.member(cluster)?.credential {
            Credential::Secret(place) if place.contains('/') => Some(place.clone()),
            Credential::Secret(name) => Some(format!("{SYSTEM}/{name}")),
            Credential::Folder(_) => None,
        }
    }

    /// The other name under which the cluster with this UID is known already.
    ///
    /// Clusters whose Secrets do not say it are asked, with their own credentials; those that do not answer are told in the
    /// second list.
    pub async fn known_as(
        &self,
        uid: &str,
        but: &ClusterId,
        allowed: Allowed,
    ) -> (Option<ClusterId>, Vec<ClusterId>) {
        let mut silent = Vec::new();
        for held in self.held.iter().filter(|held| held.cluster != *but) {
            let known = match &held.uid {
                Some(known) => Some(known.clone()),
                None => ask(held, allowed).await,
            };
            match known {
                Some(known) if known == uid => return (Some(held.cluster.clone()), silent),
                Some(_) => {}
                None => silent.push(held.cluster.clone()),
            }
        }
        (None, silent)
    }
}

async fn ask(held: &Held, allowed: Allowed) -> Option<String> {
    let config = Kubeconfig::read(&held.text, allowed).ok()?;
    let access = Access::new(&config, allowed).ok()?;
    tokio::time::timeout(PATIENCE, uid(&access))
        .await
        .ok()?
        .ok()
}

async fn ours(access: &Access, kind: &str) -> Result<Vec<Value>, Failure> {
    let kind = json!({"apiVersion": "catamaran.dev/v1alpha1", "kind": kind, "metadata": {"namespace": SYSTEM}});
    match manifest::list(access, &kind).await {
        // Without any kind of our group the server does not answer in its own form.
        Err(Failure::Unexpected { code: 404, .. }) => Err(Failure::Absent),
        answer => answer,
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn unreadable(why: String) -> Failure {
    Failure::Unreadable {
        why: printable(&why),
    }
}

/// The kubeconfigs of a Secret.
fn held(secret: &Value) -> Vec<Held> {
    let (label, value) = REMOTE_SECRET_LABEL;
    if secret["metadata"]["labels"][label] != value {
        return Vec::new();
    }
    let data: BTreeMap<String, String> =
        serde_json::from_value(secret["data"].clone()).unwrap_or_default();
    let uid = secret["metadata"]["annotations"][UID].as_str();
    let read = |(key, value): (&String, &String)| {
        let text = base64::decode(value).and_then(|bytes| String::from_utf8(bytes).ok());
        Some(Held {
            place: format!("{SYSTEM}/{}", name(secret)),
            cluster: ClusterId::new(key).ok()?,
            text: Zeroizing::new(text.unwrap_or_default()),
            uid: uid.map(str::to_owned),
        })
    };
    data.iter().filter_map(read).collect()
}

/// A kubeconfig with this one way alone, in the shape of Istio's: nothing else that was in the file goes along.
pub fn kubeconfig(cluster: &ClusterId, config: &Kubeconfig) -> Zeroizing<String> {
    let server = &config.server;
    let mut entry = json!({
        "server": format!("https://{server}{}", server.path),
        "certificate-authority-data": base64::encode(config.ca.as_bytes()),
    });
    if server.tls_name != server.host {
        entry["tls-server-name"] = json!(server.tls_name);
    }
    if let Some(proxy) = &config.proxy {
        entry["proxy-url"] = json!(format!("http://{proxy}"));
    }
    let user = match &config.user {
        User::Token(token) => json!({"token": token.as_str()}),
        User::Certificate { chain, key } => json!({
            "client-certificate-data": base64::encode(chain.as_bytes()),
            "client-key-data": base64::encode(key.as_bytes()),
        }),
    };
    let name = cluster.as_str();
    let file = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": name,
        "clusters": [{"name": name, "cluster": entry}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    });
    Zeroizing::new(serde_saphyr::to_string(&file).expect("a kubeconfig is plain data"))
}

/// The name of the Secret that holds the kubeconfig for a cluster.
pub fn secret_name(cluster: &ClusterId) -> String {
    format!("istio-remote-secret-{cluster}")
}

/// The Secret that holds the kubeconfig for a cluster, which says which cluster it is.
pub fn secret(mesh: &MeshName, cluster: &ClusterId, config: &Kubeconfig, uid: &str) -> Value {
    let mut secret = reader::secret(cluster, &kubeconfig(cluster, config));
    secret["metadata"]["labels"][INSTANCE_LABEL] = mesh.as_str().into();
    secret["metadata"]["annotations"][UID] = uid.into();
    secret
}

/// The right to keep a renewed token in the Secret of a cluster, which is that Secret's alone, and who has it.
pub fn keeping(mesh: &MeshName, cluster: &ClusterId) -> [Value; 2] {
    let (account, version) = (install::name(mesh), "rbac.authorization.k8s.io/v1");
    let name = format!("{account}-credential-{cluster}");
    let metadata =
        json!({"namespace": SYSTEM, "name": name, "labels": {INSTANCE_LABEL: mesh.as_str()}});
    [
        json!({
            "apiVersion": version, "kind": "Role", "metadata": metadata,
            "rules": [{
                "apiGroups": [""], "resources": ["secrets"], "resourceNames": [secret_name(cluster)], "verbs": ["patch"],
            }],
        }),
        json!({
            "apiVersion": version, "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": SYSTEM}],
        }),
    ]
}

/// The object `Cluster`.
pub fn object(member: &Member) -> Value {
    let mut cluster = Cluster::from(member);
    // The model says by a folder's name that the cluster is the instance's own, which here is said by nothing.
    cluster.spec.folder = None;
    serde_json::to_value(cluster).expect("an object is plain data")
}

/// Whether a cluster with an API server may be so; on loopback, for one, no gateway is.
///
/// # Errors
/// Why not.
pub fn check(member: &Member) -> Result<(), String> {
    let object = Cluster::from(member);
    object.spec.member(member.cluster.as_str()).map(drop)
}

/// A cluster that is discovered only, by the Secret of [`secret`].
pub fn discovered(cluster: &ClusterId) -> Member {
    Member {
        cluster: cluster.clone(),
        mode: MemberMode::DiscoveryOnly,
        network: None,
        gateway: false,
        gateway_addresses: Vec::new(),
        credential: Credential::Secret(secret_name(cluster)),
    }
}

/// A cluster that is managed from here, by the Secret of [`secret`].
pub fn managed(cluster: &ClusterId) -> Member {
    Member {
        mode: MemberMode::Managed,
        ..discovered(cluster)
    }
}

/// Whether a cluster is managed from another, and not from within.
pub fn from_afar(member: &Member) -> bool {
    member.mode == MemberMode::Managed && matches!(member.credential, Credential::Secret(_))
}

/// Writes an object of the instance into its own cluster.
///
/// # Errors
/// Why it is not there.
pub async fn put(access: &Access, object: &Value) -> Result<(), Failure> {
    manifest::put(access, FIELD_MANAGER, object).await
}

/// Takes a cluster away from the instance: first what names it, then, when `secret`, its Secret. Gives what was there.
///
/// # Errors
/// Why one of them is still there.
pub async fn forget(
    access: &Access,
    mesh: &MeshName,
    cluster: &ClusterId,
    secret: bool,
) -> Result<Vec<String>, Failure> {
    let mut all = vec![object(&discovered(cluster))];
    if secret {
        let [role, binding] = keeping(mesh, cluster);
        all.extend([binding, role]);
        all.push(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": SYSTEM, "name": secret_name(cluster)}}));
    }
    let mut gone = Vec::new();
    for one in &all {
        if manifest::take(access, one).await? {
            gone.push(manifest::title(one));
        }
    }
    Ok(gone)
}

#[cfg(test)]
mod tests;
