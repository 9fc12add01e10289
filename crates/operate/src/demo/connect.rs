//! Step 3: two logical networks, and a gateway into each.

use std::str::FromStr;

use super::stage::{MESH_PATIENCE, Stage};
use crate::{Job, NetworkSetting, OperateError, set_networks, show_mesh, wait};

pub(super) async fn two_networks(stage: &mut Stage<'_>) -> Result<(), OperateError> {
    let sides = [stage.side(1)?, stage.side(2)?];
    for own in &sides {
        let settings: Vec<String> = (sides.iter())
            .map(|side| {
                let gateway = if side.cluster == own.cluster {
                    ",gateway"
                } else {
                    ""
                };
                format!("{}={}{gateway}", side.cluster, side.network)
            })
            .collect();
        stage.typed(format!(
            "network set --mesh {} {}",
            own.mesh,
            settings.join(" ")
        ));
        let settings: Vec<NetworkSetting> = settings
            .iter()
            .map(|text| NetworkSetting::from_str(text))
            .collect::<Result<_, _>>()?;
        set_networks(&stage.fleet, &own.mesh, &settings, &mut Job::unwatched())?;
        stage.job.note(format!(
            "{}: {} in {}, with a gateway",
            own.mesh, own.cluster, own.network
        ));
    }
    for (own, other) in [(0, 1), (1, 0)] {
        let (mesh, cluster) = (&sides[own].mesh, &sides[other].cluster);
        stage.running(mesh).await?;
        let gateways = known_gateways(stage, mesh, cluster).await?;
        stage.job.note(format!(
            "{mesh} updating → running, reaches {cluster} through {}",
            gateways.join(", ")
        ));
    }
    Ok(())
}

/// Waits until an instance knows the gateways of a cluster.
async fn known_gateways(
    stage: &Stage<'_>,
    mesh: &catamaran_model::MeshName,
    cluster: &catamaran_model::ClusterId,
) -> Result<Vec<String>, OperateError> {
    let what = format!("the gateway of {cluster}");
    let look = format!("see `catamaran mesh show {mesh}`");
    wait::until(&what, MESH_PATIENCE, &look, || async {
        let row = show_mesh(&stage.fleet, mesh)
            .await
            .map_err(|e| e.to_string())?;
        let member = row
            .clusters
            .into_iter()
            .find(|member| member.name == cluster.as_str());
        let gateways = member.map_or_else(Vec::new, |member| member.gateways);
        match gateways.is_empty() {
            true => Err(format!("{mesh} does not know it yet")),
            false => Ok(gateways),
        }
    })
    .await
}
