//! `mesh delete` in a cluster with an API server: all that `mesh create` made goes.

use catamaran_kubernetes::install;
use catamaran_model::MeshName;

use crate::kube_way::KubeContext;
use crate::{Job, OperateError};

/// Takes an instance out of a cluster. Its root stays where it is on this machine: a root's key cannot be made again, so no
/// command of ours destroys one. Proxies go on with what they have until their pods are replaced.
pub async fn uninstall_mesh(
    context: &KubeContext,
    name: &MeshName,
    job: &mut Job,
) -> Result<(), OperateError> {
    job.begin(&format!("look at {}", context.context));
    let looked = async {
        let access = context.open()?;
        let found = install::look(&access).await;
        let found = found.map_err(|failure| context.failed("what is installed", &failure))?;
        // A namespace of ours without the object is what an earlier deletion left.
        let begun = (found.namespace.as_ref())
            .is_some_and(|there| there.made_for.as_deref() == Some(name.as_str()));
        // Its webhook there would keep pods from being made, and nobody could take it away from here any more.
        if let Some(cluster) = found.afar.first() {
            return Err(OperateError::Cluster {
                context: context.context.clone(),
                what: format!("{name} manages {cluster} from here"),
                reason: "without it no pod that asks for a sidecar could be made there".into(),
                unreachable: false,
                fix: format!(
                    "catamaran cluster remove {cluster} --mesh {name} --context {} --remote-context CONTEXT",
                    context.context
                ),
            });
        }
        match begun || found.meshes.iter().any(|(there, _)| there == name.as_str()) {
            true => Ok(access),
            false => Err(OperateError::UnknownMesh {
                name: name.clone(),
                purpose: "",
                known: found
                    .meshes
                    .into_iter()
                    .map(|(name, _)| (name, String::new()))
                    .collect(),
            }),
        }
    };
    let access = job.end(looked.await)?;

    job.begin(&format!("delete {name} from {}", context.context));
    let removed = install::remove(&access, name, |what| job.note(what)).await;
    let removed = removed.map_err(|failure| context.failed("what is deleted", &failure));
    job.end(removed)
}
