//! A real Envoy hears the real control plane: it takes everything, follows changes, and what it refuses costs only itself.

use catamaran_identity::Holding;
use catamaran_model::{GatewayAddress, Member, MemberMode, MtlsMode, NetworkId, TrustDomain};
use catamaran_wire::cluster::{Cluster as WireCluster, LbPolicy};
use catamaran_wire::endpoint::ClusterLoadAssignment;
use catamaran_wire::listener::Listener;
use catamaran_wire::route::RouteConfiguration;
use catamaran_wire::{Any, Message, TypeUrl};
use serde_json::json;

use self::door::{Door, Papers, Spoil};
use self::process::{Envoy, Seen, Variant, Who};
use crate::client::{certificate, connect, credentials};
use crate::fleet::{Cluster, Fleet, Plane, identity, now};

mod door;
mod process;

const SLEEP: Who<'_> = Who {
    kind: "sidecar",
    of: "default/sleep",
    pod: "sleep-1",
    capture: "redirect",
};
const GATEWAY: Who<'_> = Who {
    kind: "router",
    of: "catamaran-system/eastwest-gateway",
    pod: "eastwest-gateway-1",
    capture: "redirect",
};

/// An Envoy with its place in the mesh.
struct Placed {
    envoy: Envoy,
    door: Door,
    _folder: tempfile::TempDir,
}

impl Placed {
    async fn start(
        fleet: &Fleet,
        cluster: &Cluster,
        plane: &Plane,
        who: Who<'_>,
        variant: Variant,
    ) -> Placed {
        Placed::spoiled(fleet, cluster, plane, who, variant, None).await
    }

    /// What it hears is changed on the way.
    async fn spoiled(
        fleet: &Fleet,
        cluster: &Cluster,
        plane: &Plane,
        who: Who<'_>,
        variant: Variant,
        spoil: Option<Spoil>,
    ) -> Placed {
        let bundle = fleet.root.bundle(&TrustDomain::default()).unwrap();
        let roots = bundle.to_pem(&TrustDomain::default());
        let credentials = credentials(bundle);
        let channel = connect(plane.address, &credentials).await.unwrap();
        let id = identity(who.of);
        let token = cluster.token(who.of, 600);
        let (chain, key) = certificate(&channel, &id, Some(&token)).await.unwrap();
        let papers = Papers {
            chain: chain.concat(),
            key: key.to_pem().to_string(),
            roots,
        };
        credentials.install(Holding::from_response(&chain, key, &id, now()).unwrap());
        let channel = connect(plane.address, &credentials).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (door, path) = Door::open(channel, papers, folder.path());
        door.spoil(spoil);
        Placed {
            envoy: Envoy::start(who, variant, &path),
            door,
            _folder: folder,
        }
    }

    /// It has these clusters and listeners, all of it warm, and refused nothing.
    async fn settled(&self, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let settled = |seen: &Seen| {
            seen.count("server.state") == 0 && seen.troubles().is_empty() && wanted(seen)
        };
        let seen = self.envoy.until("everything in use", settled).await;
        assert_eq!(self.door.talk.lock().unwrap().refusals, [""; 0]);
        seen
    }
}

/// A Service with ports by name, number and transport, and its pods by address, each with a sidecar or without.
fn expose(
    cluster: &Cluster,
    name: &str,
    vip: &str,
    ports: &[(&str, u16, &str)],
    pods: &[(&str, bool)],
) {
    let named = |&(name, port, protocol): &(&str, u16, &str)| match name {
        "" => json!({"port": port, "protocol": protocol}),
        name => json!({"name": name, "port": port, "protocol": protocol}),
    };
    let ports: Vec<_> = ports.iter().map(named).collect();
    let mut manifest = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": ports, "selector": {"app": name}},
    });
    if vip == "None" {
        manifest["spec"]["clusterIP"] = json!("None");
    }
    cluster.put(&format!("objects/default/service-{name}.yaml"), &manifest);
    manifest["spec"]["clusterIP"] = json!(vip);
    cluster.put(&format!("status/Service/default/{name}.json"), &manifest);
    let mut endpoints = Vec::new();
    for (at, (ip, meshed)) in pods.iter().enumerate() {
        let pod = format!("{name}-{}", at + 1);
        let labels = match meshed {
            true => json!({"app": name, "security.istio.io/tlsMode": "istio"}),
            false => json!({"app": name}),
        };
        cluster.put(
            &format!("status/Pod/default/{pod}.json"),
            &json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod, "namespace": "default", "labels": labels},
                "spec": {"serviceAccountName": name}, "status": {"phase": "Running", "podIP": ip},
            }),
        );
        endpoints.push(json!({
            "addresses": [ip], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": pod},
        }));
    }
    cluster.put(&format!("status/EndpointSlice/default/{name}-local.json"), &json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{name}-local"), "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    }));
}

/// `sleep`, and `helloworld` with one pod here.
fn small(cluster: &Cluster) {
    expose(
        cluster,
        "sleep",
        "10.96.0.2",
        &[("http", 80, "TCP")],
        &[("10.1.1.1", true)],
    );
    expose(
        cluster,
        "helloworld",
        "10.96.0.3",
        &[("http", 5000, "TCP")],
        &[("10.1.1.10", true)],
    );
}

/// Everything that a Service may be.
fn rich(cluster: &Cluster) {
    small(cluster);
    let all = [
        ("http", 80, "TCP"),
        ("grpc", 81, "TCP"),
        ("http2", 82, "TCP"),
        ("tcp", 83, "TCP"),
        ("tls", 84, "TCP"),
        ("mystery", 85, "TCP"),
        ("https", 86, "TCP"),
        ("udp-dns", 87, "UDP"),
        ("http-more", 8080, "TCP"),
    ];
    expose(
        cluster,
        "app",
        "10.96.0.7",
        &all,
        &[("10.1.1.20", true), ("10.1.1.21", false)],
    );
    expose(
        cluster,
        "database",
        "None",
        &[("tcp", 5432, "TCP")],
        &[("10.1.1.30", true), ("10.1.1.31", true)],
    );
    expose(
        cluster,
        "outside",
        "10.96.0.8",
        &[("http", 5000, "TCP")],
        &[("10.1.1.40", false)],
    );
    expose(
        cluster,
        "nobody",
        "10.96.0.9",
        &[("http", 5000, "TCP"), ("tcp", 9000, "TCP")],
        &[],
    );
    expose(
        cluster,
        "nothing-declared",
        "10.96.0.10",
        &[("", 7000, "TCP")],
        &[("10.1.1.50", true)],
    );
}

fn member(of: &Cluster, name: &str, network: Option<&str>, gateways: &[&str]) {
    let managed = name == of.name.as_str();
    let member = Member {
        cluster: crate::fleet::cluster(name),
        mode: if managed {
            MemberMode::Managed
        } else {
            MemberMode::DiscoveryOnly
        },
        network: network.map(|network| NetworkId::new(network).unwrap()),
        gateway: false,
        gateway_addresses: gateways.iter().map(|at| address(at)).collect(),
        credential: catamaran_model::Credential::Folder(name.into()),
    };
    catamaran_local::write::put_member(&of.dir, &member).unwrap();
}

fn address(text: &str) -> GatewayAddress {
    catamaran_local::object::gateway_address(text).unwrap()
}

fn to(port: u16, name: &str) -> String {
    format!("outbound|{port}||{name}.default.svc.cluster.local")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoys_take_all_that_they_are_told() {
    for shape in ["alone", "permissive", "flat", "two networks", "no gateway"] {
        let fleet = Fleet::new();
        let here = fleet.cluster("cluster-1", "mesh-1");
        rich(&here);
        let there = fleet.cluster("cluster-2", "mesh-1");
        // The networks overlap: the same address is another pod.
        expose(
            &there,
            "helloworld",
            "10.96.0.3",
            &[("http", 5000, "TCP")],
            &[("10.1.1.10", true)],
        );
        expose(
            &there,
            "elsewhere",
            "10.96.0.2",
            &[("tcp", 83, "TCP"), ("http", 5001, "TCP")],
            &[("10.1.1.20", true)],
        );
        match shape {
            "alone" => {}
            "permissive" => here.settings(MtlsMode::Permissive),
            "flat" => member(&here, "cluster-2", None, &[]),
            "two networks" => {
                member(&here, "cluster-1", Some("network1"), &["198.18.1.10:15443"]);
                member(
                    &here,
                    "cluster-2",
                    Some("network2"),
                    &["198.18.2.10:15443", "198.18.2.11:15443"],
                );
            }
            _ => {
                member(&here, "cluster-1", Some("network1"), &[]);
                member(&here, "cluster-2", Some("network2"), &[]);
            }
        }
        let plane = here.start().await.ready().await;
        let joined = !matches!(shape, "alone" | "permissive");
        for variant in Variant::BOTH {
            let sidecar = Placed::start(&fleet, &here, &plane, SLEEP, variant).await;
            sidecar
                .settled(|seen| {
                    seen.clusters().contains(&to(5001, "elsewhere")) == joined
                        && seen.clusters().len() > 10
                        && seen.listeners().contains(&"virtualInbound".to_owned())
                })
                .await;
            let gateway = Placed::start(&fleet, &here, &plane, GATEWAY, variant).await;
            gateway
                .settled(|seen| seen.listeners() == ["0.0.0.0_15443"] && seen.clusters().len() > 10)
                .await;
        }
        plane.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_follows_what_comes_and_goes() {
    for variant in Variant::BOTH {
        let fleet = Fleet::new();
        let cluster = fleet.cluster("cluster-1", "mesh-1");
        small(&cluster);
        let plane = cluster.start().await.ready().await;
        let placed = Placed::start(&fleet, &cluster, &plane, SLEEP, variant).await;
        let helloworld = to(5000, "helloworld");
        let at = |seen: &Seen| -> Vec<String> {
            let all = seen.endpoints().into_iter();
            all.filter_map(|line| Some(line.strip_prefix(&helloworld)?.trim().to_owned()))
                .collect()
        };
        placed.settled(|seen| at(seen) == ["10.1.1.10:5000"]).await;
        let pods = |pods: &[(&str, bool)]| {
            expose(
                &cluster,
                "helloworld",
                "10.96.0.3",
                &[("http", 5000, "TCP")],
                pods,
            );
        };

        // Endpoints: more, others, of another kind, none, and again.
        pods(&[("10.1.1.10", true), ("10.1.1.11", true)]);
        placed
            .settled(|seen| at(seen) == ["10.1.1.10:5000", "10.1.1.11:5000"])
            .await;
        pods(&[("10.1.1.12", true), ("10.1.1.13", false)]);
        placed
            .settled(|seen| at(seen) == ["10.1.1.12:5000", "10.1.1.13:5000"])
            .await;
        pods(&[]);
        placed.settled(|seen| at(seen).is_empty()).await;
        pods(&[("10.1.1.14", true)]);
        placed.settled(|seen| at(seen) == ["10.1.1.14:5000"]).await;

        // Services: a new one with bytes and requests, then other ports, then gone, then again.
        let database = to(5432, "database");
        let ports = [("tcp", 5432, "TCP"), ("http-admin", 8081, "TCP")];
        let come = |ports: &[(&str, u16, &str)]| {
            expose(
                &cluster,
                "database",
                "10.96.0.20",
                ports,
                &[("10.1.1.30", true)],
            );
        };
        let has = |seen: &Seen, name: &str| seen.clusters().iter().any(|known| known == name);
        let listens = |seen: &Seen, name: &str| seen.listeners().iter().any(|known| known == name);
        let admin = to(8081, "database");
        for _ in 0..2 {
            come(&ports);
            placed
                .settled(|seen| {
                    has(seen, &database)
                        && has(seen, &admin)
                        && listens(seen, "10.96.0.20_5432")
                        && listens(seen, "0.0.0.0_8081")
                        && seen.routes().contains(&"8081".to_owned())
                        && seen
                            .endpoints()
                            .contains(&format!("{database} 10.1.1.30:5432"))
                })
                .await;
            come(&ports[..1]);
            placed
                .settled(|seen| {
                    !has(seen, &admin) && !listens(seen, "0.0.0.0_8081") && has(seen, &database)
                })
                .await;
            for folder in [
                "objects/default/service-database.yaml",
                "status/Service/default/database.json",
            ] {
                std::fs::remove_file(cluster.dir.path().join(folder)).unwrap();
            }
            placed
                .settled(|seen| !has(seen, &database) && !listens(seen, "10.96.0.20_5432"))
                .await;
        }
        assert_eq!(placed.door.talk.lock().unwrap().refusals, [""; 0]);
        plane.stop().await;
    }
}

/// Changes a message of type `M` that has this name.
fn edit<M: Message + Default + TypeUrl>(resource: &mut Any, change: impl FnOnce(&mut M)) {
    if let Ok(mut message) = resource.unpack::<M>() {
        change(&mut message);
        *resource = Any::pack(&message);
    }
}

const APP: &str = "outbound|80||app.default.svc.cluster.local";

/// Each way in which an Envoy refuses, what is refused, and a word of its reason.
const REFUSED: [(&str, Spoil, &str, &str); 5] = [
    (
        "a cluster that breaks a rule of the format: no name in the message",
        |resource| {
            edit(resource, |cluster: &mut WireCluster| {
                if cluster.name == APP {
                    cluster.connect_timeout = Some(catamaran_wire::well_known::Duration {
                        seconds: -1,
                        nanos: 0,
                    });
                }
            });
        },
        "cluster outbound|80||app.default.svc.cluster.local",
        "it: Invalid duration: Expected positive duration: seconds: -1",
    ),
    (
        "a cluster that makes no sense",
        |resource| {
            edit(resource, |cluster: &mut WireCluster| {
                if cluster.name == APP {
                    cluster.lb_policy = LbPolicy::ClusterProvided.into();
                }
            });
        },
        "cluster outbound|80||app.default.svc.cluster.local",
        "cluster provided LB",
    ),
    (
        "endpoints that make no sense",
        |resource| {
            edit(resource, |all: &mut ClusterLoadAssignment| {
                if all.cluster_name == APP {
                    for place in &mut all.endpoints {
                        place.lb_endpoints[0].load_balancing_weight = Some(0);
                    }
                }
            });
        },
        "endpoints outbound|80||app.default.svc.cluster.local",
        "it: Proto constraint validation failed (ClusterLoadAssignmentValidationError",
    ),
    (
        "a listener that makes no sense",
        |resource| {
            edit(resource, |listener: &mut Listener| {
                if listener.name == "10.96.0.7_83" {
                    listener.filter_chains.clear();
                }
            });
        },
        "listener 10.96.0.7_83",
        "no filter chains",
    ),
    (
        "routes that make no sense",
        |resource| {
            edit(resource, |routes: &mut RouteConfiguration| {
                if routes.name == "8080" {
                    let again = routes.virtual_hosts.first().cloned();
                    routes.virtual_hosts.extend(again);
                }
            });
        },
        "route 8080",
        "unique",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_envoy_refuses_is_found_and_the_rest_goes_on() {
    for (what, spoil, object, reason) in REFUSED {
        for variant in Variant::BOTH {
            println!("{what}, {variant:?}");
            let fleet = Fleet::new();
            let cluster = fleet.cluster("cluster-1", "mesh-1");
            rich(&cluster);
            let plane = cluster.start().await.ready().await;
            let placed =
                Placed::spoiled(&fleet, &cluster, &plane, SLEEP, variant, Some(spoil)).await;
            let refused = |status: &catamaran_control_plane::Status| {
                status.problems.iter().any(|problem| {
                    problem.kind == "refused"
                        && problem.object == object
                        && problem.message.contains(reason)
                })
            };
            plane.until("the refusal in the status", refused).await;

            // The rest is in use, and what comes later too.
            expose(
                &cluster,
                "later",
                "10.96.0.30",
                &[("http", 5000, "TCP"), ("tcp", 83, "TCP")],
                &[("10.1.1.60", true)],
            );
            let later = [
                format!("{} 10.1.1.60:5000", to(5000, "later")),
                format!("{} 10.1.1.60:83", to(83, "later")),
            ];
            let seen = placed
                .envoy
                .until("the rest", |seen| {
                    later.iter().all(|line| seen.endpoints().contains(line))
                        && seen.listeners().iter().any(|name| name == "10.96.0.30_83")
                        && seen.listeners().iter().any(|name| name == "virtualInbound")
                })
                .await;
            for port in [81, 83, 8080] {
                assert!(
                    seen.clusters().contains(&to(port, "app")),
                    "{:#}",
                    seen.summary()
                );
            }
            let status = plane.status().await;
            let count = status
                .problems
                .iter()
                .filter(|problem| problem.kind == "refused")
                .count();
            assert_eq!(count, 1, "only the culprit: {:#?}", status.problems);

            // Who comes later does not hear of it at all.
            let other =
                Placed::spoiled(&fleet, &cluster, &plane, SLEEP, variant, Some(spoil)).await;
            other
                .settled(|seen| later.iter().all(|line| seen.endpoints().contains(line)))
                .await;
            plane.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_stays_with_what_it_accepted_until_something_better_comes() {
    let object = format!("endpoints {APP}");
    // Only the version with that pod is bad; the state of the world tells the one before again and again.
    let spoil: Spoil = |resource| {
        edit(resource, |all: &mut ClusterLoadAssignment| {
            if all.cluster_name == APP && format!("{all:?}").contains("10.1.1.25") {
                all.endpoints[0].lb_endpoints[0].load_balancing_weight = Some(0);
            }
        });
    };
    for variant in Variant::BOTH {
        let fleet = Fleet::new();
        let cluster = fleet.cluster("cluster-1", "mesh-1");
        rich(&cluster);
        let plane = cluster.start().await.ready().await;
        let placed = Placed::start(&fleet, &cluster, &plane, SLEEP, variant).await;
        let at = |pod: u8| format!("{APP} 10.1.1.{pod}:80");
        let holds = |seen: &Seen, pod: u8| seen.endpoints().contains(&at(pod));
        placed.settled(|seen| holds(seen, 20)).await;

        let app = |pod: &str| {
            expose(
                &cluster,
                "app",
                "10.96.0.7",
                &[("http", 80, "TCP"), ("grpc", 81, "TCP")],
                &[(pod, true)],
            );
        };
        let of_it = |status: &catamaran_control_plane::Status| {
            let mut refused = status.problems.iter();
            refused
                .find(|problem| problem.kind == "refused" && problem.object == object)
                .map(|problem| problem.message.clone())
        };
        placed.door.spoil(Some(spoil));
        app("10.1.1.25");
        let status = plane
            .until("the refusal in the status", |status| {
                of_it(status).is_some()
            })
            .await;
        let message = of_it(&status).unwrap();
        assert!(message.contains("accepted before stays"), "{message}");
        // The other port of the same service, and services that come later, go on.
        expose(
            &cluster,
            "later",
            "10.96.0.30",
            &[("http", 5000, "TCP")],
            &[("10.1.1.60", true)],
        );
        let grpc = format!("{} 10.1.1.25:81", to(81, "app"));
        let later = format!("{} 10.1.1.60:5000", to(5000, "later"));
        let seen = placed
            .envoy
            .until("the rest", |seen| {
                seen.endpoints().contains(&grpc) && seen.endpoints().contains(&later)
            })
            .await;
        assert!(
            holds(&seen, 20) && !holds(&seen, 25),
            "{:#}",
            seen.summary()
        );

        placed.door.spoil(None);
        app("10.1.1.26");
        placed
            .envoy
            .until("the next version", |seen| {
                holds(seen, 26) && !holds(seen, 20)
            })
            .await;
        plane
            .until("no refusal", |status| of_it(status).is_none())
            .await;
        plane.stop().await;
    }
}
