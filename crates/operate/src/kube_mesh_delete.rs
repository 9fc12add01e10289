//! `mesh delete` in a cluster with an API server: all that `mesh create` made goes.

use catamaran_kubernetes::install;
use catamaran_model::MeshName;

use crate::contact::{Contact, ContactError};
use crate::{Job, OperateError};

/// Takes an instance out of a cluster. Its root stays where it is on this machine: a root's key cannot be made again, so no
/// command of ours destroys one. Proxies go on with what they have until their pods are replaced.
pub async fn uninstall_mesh(
    context: &Contact,
    name: &MeshName,
    job: &mut Job,
) -> Result<(), OperateError> {
    job.begin(&format!("look at {}", context.short()));
    let looked = async {
        let there = context.reach()?;
        let found = install::look(&there.access).await;
        let found = found.map_err(ContactError::failed(&there.who, "what is installed"))?;
        // A namespace of ours without the object is what an earlier deletion left.
        let begun = (found.namespace.as_ref())
            .is_some_and(|there| there.made_for.as_deref() == Some(name.as_str()));
        // Its webhook there would keep pods from being made, and nobody could take it away from here any more.
        if let Some(cluster) = found.afar.first() {
            return Err(ContactError::Manages {
                mesh: name.clone(),
                cluster: cluster.clone(),
                option: context.option(),
            }
            .into());
        }
        let known = found.meshes.iter().any(|(there, _)| there == name.as_str());
        // So is what a chart's removal left: what the control plane wrote itself.
        let left = match begun || known {
            true => true,
            false => {
                let left = install::left_over(&there.access, name).await;
                left.map_err(ContactError::failed(&there.who, "what is left"))?
            }
        };
        match left {
            true => Ok(there),
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
    let there = job.end(looked.await)?;

    job.begin(&format!("delete {name} from {}", context.short()));
    let removed = install::remove(&there.access, name, |what| job.note(what)).await;
    let removed = removed.map_err(ContactError::failed(&there.who, "what is deleted"));
    job.end(removed)
}
