//! A real Envoy in a network of its own, so that its ports are nobody else's; it is asked and told over sockets in a folder.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use serde_json::{Value as Json, json};

use crate::LONG;

/// Which of the two protocols it speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    Delta,
    World,
}

impl Variant {
    pub(crate) const BOTH: [Variant; 2] = [Variant::Delta, Variant::World];
}

/// Who it says it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    /// `sidecar` or `router`
    pub(crate) kind: &'a str,
    /// `default/sleep`
    pub(crate) of: &'a str,
    pub(crate) pod: &'a str,
    /// `redirect` or `explicit`
    pub(crate) capture: &'a str,
}

pub(crate) struct Envoy {
    child: Child,
    folder: tempfile::TempDir,
}

impl Envoy {
    /// Starts one that asks at `door`.
    pub(crate) fn start(who: Who<'_>, variant: Variant, door: &Path) -> Envoy {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bootstrap.json");
        let text = bootstrap(who, variant, door, &folder.path().join("admin")).to_string();
        std::fs::write(&path, text).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("unshare");
        if !nix_is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        let child = command
            .args(["--net", "--kill-child", "--fork"])
            .arg(binary())
            .args([
                "--concurrency",
                "1",
                "--use-dynamic-base-id",
                "--log-level",
                "warning",
                "--config-path",
            ])
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("unshare (of util-linux) starts an Envoy in a network of its own");
        Envoy { child, folder }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    async fn ask(&self, path: &str) -> Option<String> {
        let stream = tokio::net::UnixStream::connect(self.folder.path().join("admin"))
            .await
            .ok()?;
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
        let connection = tokio::spawn(connection);
        let request = http::Request::get(path)
            .header("host", "envoy")
            .body(Empty::<bytes::Bytes>::new())
            .unwrap();
        let answer = sender.send_request(request).await.ok()?;
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        connection.abort();
        String::from_utf8(body.to_vec()).ok()
    }

    /// What it holds and what it counts, as soon as it is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let end = Instant::now() + LONG;
        loop {
            let seen = self.look().await;
            match seen {
                Some(seen) if wanted(&seen) => return seen,
                seen if Instant::now() > end => {
                    let held = seen.map(|seen| seen.summary());
                    panic!("waited {LONG:?} for {what}: {held:#?}\n{}", self.log());
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    pub(crate) async fn look(&self) -> Option<Seen> {
        let stats = self.ask("/stats?format=json").await?;
        let dump = self.ask("/config_dump?include_eds").await?;
        Some(Seen {
            stats: serde_json::from_str(&stats).ok()?,
            dump: serde_json::from_str(&dump).ok()?,
        })
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // `unshare --kill-child` takes the Envoy along.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an Envoy says of itself at one moment.
pub(crate) struct Seen {
    stats: Json,
    dump: Json,
}

impl Seen {
    pub(crate) fn count(&self, name: &str) -> u64 {
        let all = self.stats["stats"].as_array().unwrap();
        let one = all.iter().find(|stat| stat["name"] == name);
        one.and_then(|stat| stat["value"].as_u64()).unwrap_or(0)
    }

    /// All counts whose names end so, but for zeros.
    pub(crate) fn counts(&self, ending: &str) -> Vec<(String, u64)> {
        let all = self.stats["stats"].as_array().unwrap();
        all.iter()
            .filter_map(|stat| Some((stat["name"].as_str()?.to_owned(), stat["value"].as_u64()?)))
            .filter(|(name, value)| name.ends_with(ending) && *value > 0)
            .collect()
    }

    fn section(&self, of: &str) -> impl Iterator<Item = &Json> {
        let sections = self.dump["configs"].as_array().unwrap().iter();
        let of = format!("{of}ConfigDump");
        sections.filter(move |section| section["@type"].as_str().unwrap().ends_with(&of))
    }

    fn list(&self, of: &str, field: &str) -> Vec<&Json> {
        let lists = self
            .section(of)
            .filter_map(|section| section[field].as_array());
        lists.flatten().collect()
    }

    /// Names of what is in use of a kind, sorted.
    pub(crate) fn clusters(&self) -> Vec<String> {
        names(self.list("Clusters", "dynamic_active_clusters"), |one| {
            &one["cluster"]["name"]
        })
    }

    pub(crate) fn listeners(&self) -> Vec<String> {
        let active = self.list("Listeners", "dynamic_listeners").into_iter();
        let active = active
            .filter(|one| one.get("active_state").is_some())
            .collect();
        names(active, |one| &one["name"])
    }

    pub(crate) fn routes(&self) -> Vec<String> {
        names(self.list("Routes", "dynamic_route_configs"), |one| {
            &one["route_config"]["name"]
        })
    }

    /// `CLUSTER ADDRESS`, sorted.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let mut all = Vec::new();
        for one in self.list("Endpoints", "dynamic_endpoint_configs") {
            let config = &one["endpoint_config"];
            for place in config["endpoints"].as_array().into_iter().flatten() {
                for endpoint in place["lb_endpoints"].as_array().into_iter().flatten() {
                    let at = &endpoint["endpoint"]["address"]["socket_address"];
                    all.push(format!(
                        "{} {}:{}",
                        config["cluster_name"].as_str().unwrap_or_default(),
                        at["address"].as_str().unwrap_or_default(),
                        at["port_value"]
                    ));
                }
            }
        }
        all.sort();
        all
    }

    /// What was refused, or is not warm yet: anything but what is in use.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (of, field) in [
            ("Clusters", "dynamic_warming_clusters"),
            ("Secrets", "dynamic_warming_secrets"),
            ("Listeners", "dynamic_listeners"),
            ("Clusters", "dynamic_active_clusters"),
            ("Routes", "dynamic_route_configs"),
            ("Endpoints", "dynamic_endpoint_configs"),
        ] {
            for one in self.list(of, field) {
                let name = || {
                    one["name"]
                        .as_str()
                        .or(one["cluster"]["name"].as_str())
                        .unwrap_or(of)
                };
                if field.contains("warming") || one.get("warming_state").is_some() {
                    all.push(format!("{field} {} is not warm", name()));
                }
                if let Some(error) = one.get("error_state") {
                    all.push(format!("{field} {}: {}", name(), error["details"]));
                }
            }
        }
        all.extend(
            self.counts("update_rejected")
                .iter()
                .map(|(name, count)| format!("{name} {count}")),
        );
        all
    }

    pub(crate) fn summary(&self) -> Json {
        json!({
            "clusters": self.clusters(),
            "listeners": self.listeners(),
            "routes": self.routes(),
            "endpoints": self.endpoints(),
            "troubles": self.troubles(),
        })
    }
}

fn names(all: Vec<&Json>, name: impl Fn(&Json) -> &Json) -> Vec<String> {
    let mut names: Vec<String> = all
        .into_iter()
        .filter_map(|one| name(one).as_str().map(str::to_owned))
        .collect();
    names.sort();
    names
}

/// The judge. It is fetched by `cargo xtask envoy`, which names it to tests.
fn binary() -> PathBuf {
    if let Some(given) = std::env::var_os("CATAMARAN_ENVOY") {
        return given.into();
    }
    let this = std::env::current_exe().unwrap();
    let target = this
        .ancestors()
        .find(|folder| folder.join("tools").is_dir());
    let found = target.map(|target| target.join("tools/envoy-1.40.0/envoy"));
    match found.filter(|envoy| envoy.is_file()) {
        Some(envoy) => envoy,
        None => panic!(
            "this test needs a real Envoy: run `cargo xtask envoy` once, set CATAMARAN_ENVOY, or run the others with \
             `-- --skip envoy::`"
        ),
    }
}

fn nix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn bootstrap(who: Who<'_>, variant: Variant, door: &Path, admin: &Path) -> Json {
    let (namespace, account) = who.of.split_once('/').unwrap();
    let Who {
        kind, pod, capture, ..
    } = who;
    let over_ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    json!({
        "node": {
            "id": format!("{kind}~10.1.1.1~{pod}.{namespace}~{namespace}.svc.cluster.local"),
            "cluster": account,
            "metadata": {
                "CLUSTER_ID": "cluster-1", "MESH_ID": "mesh-1", "NAMESPACE": namespace, "SERVICE_ACCOUNT": account,
                "CATAMARAN_CAPTURE": capture,
            },
        },
        "admin": {"address": {"pipe": {"path": admin}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": match variant { Variant::Delta => "DELTA_GRPC", Variant::World => "GRPC" },
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
            "cds_config": over_ads,
            "lds_config": over_ads,
        },
        "static_resources": {"clusters": [agent("sds-grpc", door), agent("xds-grpc", door)]},
    })
}

fn agent(name: &str, door: &Path) -> Json {
    let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "1s",
        "typed_extension_protocol_options": {(options): {
            "@type": format!("type.googleapis.com/{options}"), "explicit_http_config": {"http2_protocol_options": {}},
        }},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"pipe": {"path": door}}}},
        ]}]},
    })
}
