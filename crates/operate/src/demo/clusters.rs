//! The five steps on two given clusters with API servers, by the operations that people use there.
//!
//! [`run_on`] does it and leaves other people's things alone: it refuses clusters that have an instance, and the sample lives in a
//! namespace of its own. [`end_on`] takes all of it out again, also when it was broken off.

use std::path::PathBuf;

use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::failure::Failure;
use catamaran_kubernetes::{enrol, reader, sight, workload};
use catamaran_model::{ClusterId, MeshName};

use super::{Ground, Report, chapter};
use crate::contact::{Contact, ContactError};
use crate::demo::FleetReport;
use crate::demo::stage::not_held;
use crate::{Job, MeshRow, MeshState, OperateError, context_mesh, uninstall_mesh, wait};

mod call;
mod steps;

/// Where the sample lives, so that nothing else in the clusters is touched and all of it goes at once.
pub const NAMESPACE: &str = "catamaran-demo";
/// How long an instance may take until it runs again, and a namespace until it is gone.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// What the demo is told of two clusters.
#[derive(Debug, Clone)]
pub struct ClusterDemo {
    /// The ways to cluster-1 and cluster-2.
    pub contacts: [Contact; 2],
    /// Where control planes reach the API servers, when not where the kubeconfig says: `https://HOST:PORT`.
    pub servers: [Option<String>; 2],
    /// Whether pods of one reach pods of the other.
    pub ground: Ground,
    /// The image with our program; that of our version when not said.
    pub image: Option<String>,
    /// Where the root's key is kept.
    pub roots: PathBuf,
}

/// A side of the demo: a cluster and its instance.
#[derive(Debug, Clone)]
struct Side {
    contact: Contact,
    access: Access,
    cluster: ClusterId,
    mesh: MeshName,
    network: &'static str,
    region: &'static str,
    server: Option<String>,
}

impl Side {
    /// ` --context one`
    fn option(&self) -> String {
        self.contact.option()
    }

    fn failed(&self, what: &str) -> impl FnOnce(Failure) -> OperateError + use<> {
        ContactError::failed(&self.contact.name(), what)
    }
}

struct Stage<'a> {
    demo: &'a ClusterDemo,
    sides: [Side; 2],
    job: &'a mut Job,
    report: &'a mut Report,
}

impl<'a> Stage<'a> {
    async fn play(
        &mut self,
        chapter: &str,
        act: impl AsyncFnOnce(&mut Stage<'a>) -> Result<(), OperateError>,
    ) -> Result<(), OperateError> {
        self.job.begin(chapter);
        let outcome = act(self).await;
        self.job.end(outcome)
    }

    fn flat(&self) -> bool {
        self.demo.ground == Ground::Flat
    }

    /// Waits until an instance runs, and knows of another cluster what `missing` asks for.
    async fn running(
        &self,
        side: &Side,
        missing: impl Fn(&MeshRow) -> Option<String>,
    ) -> Result<MeshRow, OperateError> {
        let mesh = &side.mesh;
        let look = format!(
            "see `catamaran mesh show {mesh}{0}`, and kubectl{0} logs -n catamaran-system deploy/catamaran-{mesh}",
            side.option()
        );
        let contacts = [side.contact.clone()];
        wait::until(&format!("{mesh} → running"), PATIENCE, &look, || async {
            match context_mesh(&contacts, mesh).await {
                Ok((row, _)) if row.state == MeshState::Running => match missing(&row) {
                    None => Ok(row),
                    Some(missing) => Err(missing),
                },
                Ok((row, _)) => Err(format!("{}: {}", row.state.as_str(), row.reason)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }
}

impl ClusterDemo {
    fn sides(&self) -> Result<[Side; 2], OperateError> {
        let side = |n: usize| -> Result<Side, OperateError> {
            let contact = self.contacts[n].clone();
            Ok(Side {
                access: contact.reach()?.access,
                contact,
                cluster: ClusterId::new(format!("cluster-{}", n + 1))?,
                mesh: MeshName::new(format!("mesh-{}", n + 1))?,
                network: ["network1", "network2"][n],
                region: ["region-1", "region-2"][n],
                server: self.servers[n].clone(),
            })
        };
        Ok([side(0)?, side(1)?])
    }
}

/// Plays the five steps; what came of it stands in `report` also when this is dropped before its end. `begun` becomes true before
/// anything is written: from then on there is something for [`end_on`].
///
/// # Errors
/// What failed. It has been told to the job already.
pub async fn run_on(
    demo: &ClusterDemo,
    job: &mut Job,
    report: &mut Report,
    begun: &mut bool,
) -> Result<(), OperateError> {
    let flat = demo.ground == Ground::Flat;
    let chapters = [
        chapter::BEFOREHAND,
        chapter::CREATE,
        chapter::DISCOVER,
        chapter::CONNECT,
        chapter::DEPLOY,
        chapter::CALL,
    ];
    let skipped = |name: &&str| !(flat && *name == chapter::CONNECT);
    job.plan(chapters.into_iter().filter(skipped));
    report.fleet = FleetReport {
        id: demo
            .contacts
            .each_ref()
            .map(|contact| contact.short().to_owned())
            .join(","),
        isolation: "kubernetes".into(),
        dir: PathBuf::new(),
    };

    job.begin(chapter::BEFOREHAND);
    let looked = beforehand(demo, job).await;
    let sides = job.end(looked)?;
    *begun = true;
    let mut stage = Stage {
        demo,
        sides,
        job,
        report,
    };
    stage
        .play(chapter::CREATE, async |s| steps::two_instances(s).await)
        .await?;
    stage
        .play(chapter::DISCOVER, async |s| steps::each_other(s).await)
        .await?;
    if !flat {
        stage
            .play(chapter::CONNECT, async |s| steps::two_networks(s).await)
            .await?;
    }
    stage
        .play(chapter::DEPLOY, async |s| steps::the_sample(s).await)
        .await?;
    stage
        .play(chapter::CALL, async |s| call::from_both(s).await)
        .await
}

/// Two clusters, not one, and nothing of ours in them.
async fn beforehand(demo: &ClusterDemo, job: &mut Job) -> Result<[Side; 2], OperateError> {
    let sides = demo.sides()?;
    let mut uids = Vec::new();
    for side in &sides {
        let uid = enrol::uid(&side.access).await;
        uids.push(uid.map_err(side.failed("namespaces"))?);
        refuse_what_is_there(side).await?;
        job.note(format!(
            "{} is {}, and has no instance",
            side.contact.name(),
            side.cluster
        ));
    }
    if uids[0] == uids[1] {
        return Err(not_held(
            format!(
                "{} and {} lead to one cluster",
                sides[0].contact.name(),
                sides[1].contact.name()
            ),
            "their namespaces kube-system have the same UID",
            "name two clusters: catamaran demo --context ONE --context TWO",
        ));
    }
    Ok(sides)
}

async fn refuse_what_is_there(side: &Side) -> Result<(), OperateError> {
    let option = side.option();
    let found = match sight::sight(&side.access).await {
        Ok(found) => found,
        Err(Failure::Absent) => sight::Sight::default(),
        Err(failure) => return Err(side.failed("objects of catamaran.dev")(failure)),
    };
    if let Some(mesh) = found.meshes.first() {
        let mesh = &mesh.spec.name;
        return Err(not_held(
            format!("{} has the instance {mesh} already", side.contact.name()),
            "the demo creates instances of its own, and touches no other",
            format!(
                "choose another cluster; or, when {mesh} is left of a demo that was broken off: catamaran mesh delete {mesh}{option}"
            ),
        ));
    }
    let there = workload::has_namespace(&side.access, NAMESPACE).await;
    match there.map_err(side.failed("namespaces"))? {
        false => Ok(()),
        true => Err(not_held(
            format!(
                "{} has the namespace {NAMESPACE} already",
                side.contact.name()
            ),
            "the demo's sample lives in a namespace of its own, and goes with it",
            format!("kubectl{option} delete namespace {NAMESPACE}"),
        )),
    }
}

/// Takes all of it out of both clusters again, each step as far as it comes.
///
/// # Errors
/// The first thing that could not be taken out; the others were all the same.
pub async fn end_on(demo: &ClusterDemo, job: &mut Job) -> Result<(), OperateError> {
    let sides = demo.sides()?;
    let mut first = Ok(());
    for side in &sides {
        job.begin(&format!("delete the sample from {}", side.contact.short()));
        let asked = workload::delete_namespace(&side.access, NAMESPACE).await;
        let asked = asked.map_err(side.failed("the namespace of the sample"));
        first = first.and(job.end(asked).map(drop));
    }
    for (side, other) in [(&sides[0], &sides[1]), (&sides[1], &sides[0])] {
        let short = side.contact.short();
        job.begin(&format!("take the reader of {} out of {short}", other.mesh));
        let taken = reader::remove(&side.access, &other.mesh, |what| job.note(what)).await;
        let taken = match taken {
            // The kinds, or the namespace, are not there: neither is the reader.
            Err(Failure::Absent | Failure::Unexpected { code: 404, .. }) => Ok(()),
            taken => taken.map_err(side.failed("the reader's objects")),
        };
        first = first.and(job.end(taken));
    }
    for side in &sides {
        let gone = uninstall_mesh(&side.contact, &side.mesh, job).await;
        first = first.and(match gone {
            Err(OperateError::UnknownMesh { .. }) => Ok(()),
            gone => gone,
        });
    }
    for side in &sides {
        job.begin(&format!(
            "{NAMESPACE} is gone from {}",
            side.contact.short()
        ));
        let gone = wait::until(
            "the sample's end",
            PATIENCE,
            "kubectl get namespaces",
            || async {
                match workload::has_namespace(&side.access, NAMESPACE).await {
                    Ok(false) => Ok(()),
                    Ok(true) => Err("its pods end".to_owned()),
                    Err(failure) => Err(failure.about("namespaces")),
                }
            },
        )
        .await;
        first = first.and(job.end(gone));
    }
    first
}
