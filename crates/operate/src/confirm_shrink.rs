//! `confirm`: a list that lost so much that it was held is right.

use catamaran_model::{ClusterId, MeshName};

use crate::cluster_add::not_a_member;
use crate::{Fleet, OperateError, control_plane};

/// Tells an instance that what the held list of a cluster lacks is gone indeed.
pub async fn confirm_shrink(
    fleet: &Fleet,
    mesh: &MeshName,
    cluster: &ClusterId,
) -> Result<(), OperateError> {
    let instance = fleet.instance(mesh)?;
    if instance.member(cluster).is_none() {
        return Err(not_a_member(fleet, &instance, cluster));
    }
    let socket = instance.home.control_plane_socket();
    let path = format!("/v1/confirm?cluster={cluster}");
    let no_answer = |reason| OperateError::NoAnswer {
        who: format!("the control plane of {mesh}"),
        reason,
    };
    match control_plane::ask(&socket, "POST", &path)
        .await
        .map_err(no_answer)?
    {
        (200, _) => Ok(()),
        (_, said) => Err(OperateError::NotHeld {
            what: format!("{mesh} holds nothing back for {cluster}"),
            cause: said.trim().into(),
            fix: format!("see catamaran mesh show {mesh}"),
        }),
    }
}
