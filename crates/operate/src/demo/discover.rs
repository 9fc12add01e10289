//! Step 2: each instance discovers the other cluster.

use catamaran_model::MemberMode;

use super::stage::Stage;
use crate::{AddCluster, Job, OperateError, add_cluster};

pub(super) async fn each_other(stage: &mut Stage<'_>) -> Result<(), OperateError> {
    for (here, there) in [(1, 2), (2, 1)] {
        let (here, there) = (stage.side(here)?, stage.side(there)?);
        let (mesh, cluster) = (&here.mesh, &there.cluster);
        add(stage, &here.mesh, &there.cluster)?;
        stage.running(mesh).await?;
        stage.job.note(format!(
            "{mesh} updating → running, sees {cluster} (read only)"
        ));
    }
    Ok(())
}

/// Adds a cluster as discovery-only.
pub(super) fn add(
    stage: &mut Stage<'_>,
    mesh: &catamaran_model::MeshName,
    cluster: &catamaran_model::ClusterId,
) -> Result<(), OperateError> {
    stage.typed(format!(
        "cluster add {cluster} --mesh {mesh} --discovery-only"
    ));
    let add = AddCluster {
        mesh: mesh.clone(),
        cluster: cluster.clone(),
        mode: MemberMode::DiscoveryOnly,
    };
    add_cluster(&stage.fleet, &add, &mut Job::unwatched())
}
