//! A real API server with its controllers and without a node, started for this run and ended with it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use catamaran_kubernetes::connect::Access;
use catamaran_kubernetes::kubeconfig::{Allowed, Kubeconfig};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::audit::Trail;

/// Requests under way at the same time while objects are made.
const AT_ONCE: usize = 48;
/// A request that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(30);
/// How often a request is tried that failed for a reason that goes by.
const TRIES: usize = 5;
/// Who writes the objects.
const MANAGER: &str = "bench";
/// The client certificate and the addresses are of this machine.
const ALLOWED: Allowed = Allowed {
    loopback: true,
    link_local: false,
    proxy: false,
    files: true,
};

/// An API server, taken down when the value is dropped.
#[derive(Debug)]
pub(crate) struct ApiServer {
    program: PathBuf,
    folder: PathBuf,
    /// Who made it, with all rights.
    pub(crate) access: Access,
    /// How it is reached.
    pub(crate) kubeconfig: Kubeconfig,
    /// What it is asked.
    pub(crate) trail: Trail,
}

/// Takes it down also when it did not come up whole.
struct Down<'a>(Option<(&'a Path, &'a Path)>);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        if let Some((program, folder)) = self.0 {
            down(program, folder);
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        down(&self.program, &self.folder);
    }
}

fn down(program: &Path, folder: &Path) {
    let mut command = Command::new(program);
    match command.arg("down").arg(folder).output() {
        Ok(said) if said.status.success() => {}
        Ok(said) => eprintln!(
            "{} is not down: {}",
            folder.display(),
            String::from_utf8_lossy(&said.stderr)
        ),
        Err(error) => eprintln!("{} is not down: {error}", folder.display()),
    }
}

impl ApiServer {
    /// Starts it in this folder.
    pub(crate) fn up(program: &Path, folder: &Path) -> Result<ApiServer> {
        let mut guard = Down(Some((program, folder)));
        let said = Command::new(program)
            .arg("up")
            .arg(folder)
            .args(["--only", "api", "--audit"])
            .stdin(Stdio::null())
            .output()
            .with_context(|| program.display().to_string())?;
        if !said.status.success() {
            bail!(
                "an API server did not start: {}",
                String::from_utf8_lossy(&said.stderr)
            );
        }
        let text = std::fs::read_to_string(folder.join("kubeconfig"))?;
        let kubeconfig = Kubeconfig::read(&text, ALLOWED)?;
        let server = ApiServer {
            access: Access::new(&kubeconfig, ALLOWED)?,
            kubeconfig,
            trail: Trail::open(&folder.join("audit.log"))?,
            program: program.to_owned(),
            folder: folder.to_owned(),
        };
        guard.0 = None;
        Ok(server)
    }

    /// Makes objects, many at once, and gives those their status that have one.
    pub(crate) async fn make(&self, objects: impl Iterator<Item = Value>) -> Result<usize> {
        let (mut made, mut under_way) = (0, JoinSet::new());
        let mut objects = objects.into_iter();
        loop {
            while under_way.len() < AT_ONCE
                && let Some(object) = objects.next()
            {
                under_way.spawn(make(self.access.client().clone(), object));
            }
            match under_way.join_next().await {
                Some(done) => done??,
                None => return Ok(made),
            }
            made += 1;
        }
    }

    /// Reads an object back.
    pub(crate) async fn get(&self, like: &Value) -> Result<Value> {
        let (api, name) = api(self.access.client().clone(), like);
        let object = timeout(LIMIT, api.get(&name)).await??;
        Ok(serde_json::to_value(object)?)
    }

    /// Changes an object by a JSON patch.
    pub(crate) async fn patch(&self, like: &Value, patch: &Value) -> Result<()> {
        let (api, name) = api(self.access.client().clone(), like);
        let request = http::Request::patch(format!("{}/{name}", api.resource_url()))
            .header("content-type", "application/json-patch+json")
            .body(patch.to_string().into_bytes())?;
        let asked = self.access.client().request::<Value>(request);
        let answer = timeout(LIMIT, asked).await;
        answer.context("a PATCH is not answered")??;
        Ok(())
    }
}

fn api(client: kube::Client, object: &Value) -> (Api<DynamicObject>, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&object["apiVersion"]);
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let kind = GroupVersionKind::gvk(group, version, &text(&object["kind"]));
    let resource = ApiResource::from_gvk(&kind);
    let api = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    (api, text(&object["metadata"]["name"]))
}

async fn make(client: kube::Client, mut object: Value) -> Result<()> {
    let status = object
        .as_object_mut()
        .and_then(|object| object.remove("status"));
    let (api, name) = api(client, &object);
    let named = || format!("{} {name}", object["kind"].as_str().unwrap_or_default());
    let whole: DynamicObject = serde_json::from_value(object.clone())?;
    let params = PostParams {
        field_manager: Some(MANAGER.into()),
        ..PostParams::default()
    };
    again(|| async {
        match api.create(&params, &whole).await {
            // It was made by a try whose answer did not come.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(drop),
        }
    })
    .await
    .with_context(named)?;
    if let Some(status) = status {
        let patch = Patch::Merge(serde_json::json!({"status": status}));
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        again(|| async { api.patch_status(&name, &params, &patch).await.map(drop) })
            .await
            .with_context(named)?;
    }
    Ok(())
}

/// Tries again what failed for a reason that goes by: too many requests, an error of the server, no answer.
async fn again<F: Future<Output = kube::Result<()>>>(ask: impl Fn() -> F) -> Result<()> {
    for tried in 1.. {
        let passes = match timeout(LIMIT, ask()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(kube::Error::Api(status))) if status.code != 429 && status.code < 500 => {
                bail!("{status}")
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {LIMIT:?}"),
        };
        if tried == TRIES {
            bail!("{passes} ({TRIES} tries)");
        }
        sleep(Duration::from_millis(200 * tried as u64)).await;
    }
    unreachable!("the loop has no end")
}
