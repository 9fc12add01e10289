//! `namespace inject`: whether new pods of a namespace get a sidecar.

use catamaran_local::write;
use catamaran_model::{MeshName, Namespace};

use crate::{Fleet, Job, OperateError};

/// Switches injection on or off for a namespace of the instance's managed cluster; the namespace is made when it is not there.
/// Pods that run stay as they are until they are replaced.
pub fn inject_namespace(
    fleet: &Fleet,
    mesh: &MeshName,
    namespace: &Namespace,
    on: bool,
    job: &mut Job,
) -> Result<(), OperateError> {
    job.begin(&format!("injection for {namespace} of {mesh}"));
    let done = fleet.instance(mesh).and_then(|instance| {
        write::inject(&instance.home, namespace, on)?;
        Ok(())
    });
    job.end(done)
}
