//! Step 4: injection, and the sample.

use std::path::Path;

use super::stage::{Stage, namespace};
use crate::{Job, OperateError, apply, inject_namespace};

/// A manifest of the sample: where it is for people, and what is in it.
pub(super) struct Manifest {
    pub(super) path: &'static str,
    pub(super) text: &'static str,
}

pub(super) const CLUSTER_1: Manifest = Manifest {
    path: "examples/five-steps/cluster-1.yaml",
    text: include_str!("../../../../examples/five-steps/cluster-1.yaml"),
};
pub(super) const CLUSTER_2: Manifest = Manifest {
    path: "examples/five-steps/cluster-2.yaml",
    text: include_str!("../../../../examples/five-steps/cluster-2.yaml"),
};
pub(super) const SLEEP_CLUSTER_2: Manifest = Manifest {
    path: "examples/five-steps/sleep-cluster-2.yaml",
    text: include_str!("../../../../examples/five-steps/sleep-cluster-2.yaml"),
};

pub(super) async fn the_sample(stage: &mut Stage<'_>) -> Result<(), OperateError> {
    for n in [1, 2] {
        inject(stage, n)?;
    }
    put(stage, 1, &CLUSTER_1)?;
    put(stage, 2, &CLUSTER_2)?;
    let sides = [stage.side(1)?, stage.side(2)?];
    stage
        .pods(&sides[0].cluster, &[("sleep", 1), ("helloworld-v1", 1)])
        .await?;
    stage
        .job
        .note("cluster-1: sleep and helloworld-v1 are ready, each with a sidecar");
    stage
        .pods(&sides[1].cluster, &[("helloworld-v2", 1)])
        .await?;
    stage
        .job
        .note("cluster-2: helloworld-v2 is ready, with a sidecar");
    for side in &sides {
        let row = stage.running(&side.mesh).await?;
        let proxies = row.proxies.unwrap_or_default();
        stage.job.note(format!(
            "{}: {} of {} proxies are current",
            side.mesh, proxies.current, proxies.connected
        ));
    }
    Ok(())
}

pub(super) fn inject(stage: &mut Stage<'_>, n: usize) -> Result<(), OperateError> {
    let mesh = stage.side(n)?.mesh;
    stage.typed(format!("namespace inject default --mesh {mesh}"));
    inject_namespace(
        &stage.fleet,
        &mesh,
        &namespace()?,
        true,
        &mut Job::unwatched(),
    )?;
    stage
        .job
        .note(format!("new pods of default get a sidecar of {mesh}"));
    Ok(())
}

pub(super) fn put(
    stage: &mut Stage<'_>,
    n: usize,
    manifest: &Manifest,
) -> Result<(), OperateError> {
    let cluster = stage.side(n)?.cluster;
    stage.typed(format!("apply -f {} --cluster {cluster}", manifest.path));
    let applied = apply(
        &stage.fleet,
        &cluster,
        manifest.text,
        Path::new(manifest.path),
    )?;
    let changed = applied
        .iter()
        .filter(|object| object.outcome != "unchanged")
        .count();
    stage
        .job
        .note(format!("{changed} objects written in {cluster}"));
    Ok(())
}
