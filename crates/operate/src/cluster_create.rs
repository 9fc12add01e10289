//! `cluster create`: a folder in which a cluster lives.

use catamaran_local::fleet::Cluster;
use catamaran_model::{ClusterId, NetworkId};

use crate::fleet::random_hex;
use crate::{Fleet, Job, OperateError};

/// The physical network of clusters that are not told another one: their pods reach each other directly.
pub const DEFAULT_NETWORK: &str = "flat";

/// Makes a cluster; nothing runs in it yet. Clusters of one physical network reach each other's pods.
pub fn create_cluster(
    fleet: &Fleet,
    name: &ClusterId,
    network: Option<&NetworkId>,
    job: &mut Job,
) -> Result<Cluster, OperateError> {
    job.begin(&format!("create {name}"));
    let made = NetworkId::new(DEFAULT_NETWORK)
        .map_err(OperateError::from)
        .and_then(|default| {
            let network = network.unwrap_or(&default);
            Ok(fleet.dir.create_cluster(name, network, &random_hex(8))?.1)
        });
    if let Ok(cluster) = &made {
        job.remark(format!(
            "{name} in the physical network {}",
            cluster.network
        ));
    }
    job.end(made)
}
