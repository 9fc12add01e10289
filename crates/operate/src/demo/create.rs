//! Step 1: two instances on one root.

use catamaran_model::Region;

use super::stage::{MESH_PATIENCE, Stage, not_held, remarks};
use crate::{CreateMesh, Job, OperateError, create_mesh};

pub(super) async fn two_instances(stage: &mut Stage<'_>) -> Result<(), OperateError> {
    let first = instance(stage, 1, None).await?;
    let second = instance(stage, 2, Some(1)).await?;
    if first.is_empty() || first != second {
        return Err(not_held(
            "mesh-1 and mesh-2 are not on one root",
            format!(
                "mesh-1 trusts {}, mesh-2 trusts {}",
                first.join(", "),
                second.join(", ")
            ),
            "see `catamaran trust show`",
        ));
    }
    stage.job.remark("fingerprints of both roots are equal");
    Ok(())
}

/// Creates an instance and gives its roots.
pub(super) async fn instance(
    stage: &mut Stage<'_>,
    n: usize,
    reuse: Option<usize>,
) -> Result<Vec<String>, OperateError> {
    let side = stage.side(n)?;
    let reuse_root = match reuse {
        Some(other) => Some(stage.side(other)?.mesh),
        None => None,
    };
    let (mesh, cluster, region) = (&side.mesh, &side.cluster, side.region);
    let reuse = reuse_root
        .as_ref()
        .map_or(String::new(), |other| format!(" --reuse-root {other}"));
    stage.typed(format!(
        "mesh create {mesh} --cluster {cluster} --region {region}{reuse}"
    ));
    let create = CreateMesh {
        name: mesh.clone(),
        cluster: cluster.clone(),
        region: Some(Region::new(region)?),
        version: None,
        reuse_root,
        wait: Some(MESH_PATIENCE),
    };
    let mut inner = Job::unwatched();
    create_mesh(&stage.fleet, &create, &mut inner).await?;
    stage
        .job
        .note(format!("{mesh} creating → running ({})", remarks(&inner)));
    Ok(stage.running(mesh).await?.roots)
}
