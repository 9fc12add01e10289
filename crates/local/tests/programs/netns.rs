//! With namespaces: capture, routes, and what is not reachable. Needs root.

use std::process::Command;
use std::time::{Duration, Instant};

use catamaran_local::exec::{self, Target};
use catamaran_local::fleet::{ClusterDir, Isolation};
use catamaran_local::netns;
use catamaran_local::write;
use catamaran_model::{ClusterId, Credential, Member, MemberMode, NetworkId};

use super::Test;
use super::fleet::*;

pub(crate) const TESTS: &[Test] = &[
    (
        "netns::networks_meet_at_gateways_only",
        networks_meet_at_gateways_only,
    ),
    (
        "netns::a_pod_has_its_own_names_mounts_and_capture",
        a_pod_has_its_own_names_mounts_and_capture,
    ),
];

fn root_only() {
    if let Err(reason) = netns::supported() {
        panic!(
            "this test needs network namespaces: {reason}; run the others with `-- --skip netns::`"
        );
    }
}

fn shell(cluster: &ClusterDir, deployment: &str, script: &str) -> (Option<i32>, String) {
    let argv = ["sh", "-c", script].map(str::to_owned);
    let target = Target::Deployment(deployment.into());
    let program = std::env::current_exe().unwrap();
    let mut command = exec::exec_command(cluster, &default(), &target, &argv, &program).unwrap();
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (
        output.status.code(),
        text + &String::from_utf8_lossy(&output.stderr),
    )
}

/// What of the machine's own namespace speaks of a fleet. Others may use it meanwhile, so it is not compared as a whole.
fn of_fleets_in_the_machine() -> Vec<String> {
    let show = |args: &[&str]| {
        let output = Command::new(args[0]).args(&args[1..]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let shown = [
        show(&["ip", "-o", "addr"]),
        show(&["ip", "-o", "route"]),
        show(&["ip", "-o", "link"]),
        show(&["nft", "list", "ruleset"]),
    ];
    let speaks = |line: &&str| {
        [
            "198.18.",
            " 10.1.",
            " 10.2.",
            " 10.96.",
            "catamaran",
            ": net1",
            ": c1",
            ": br0",
            ": wan0",
        ]
        .iter()
        .any(|sign| line.contains(sign))
    };
    shown
        .concat()
        .lines()
        .filter(speaks)
        .map(str::to_owned)
        .collect()
}

fn sleep(name: &str, extra: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: sleep, image: curl, command: [/bin/sleep, infinity]{extra}}}]
"
    )
}

fn gateway(cluster: &ClusterDir, network: &str) {
    let name = ClusterId::new(cluster.name()).unwrap();
    let member = Member {
        credential: Credential::Folder(format!("clusters/{name}")),
        cluster: name,
        mode: MemberMode::Managed,
        network: Some(NetworkId::new(network).unwrap()),
        gateway: true,
        gateway_addresses: Vec::new(),
    };
    write::put_member(cluster, &member).unwrap();
}

fn networks_meet_at_gateways_only() {
    root_only();
    assert_eq!(of_fleets_in_the_machine(), [""; 0]);
    let fleet = Fleet::new(Isolation::Netns);
    let (c1, c2, c3) = (
        fleet.cluster("c1", "network1"),
        fleet.cluster("c2", "network2"),
        fleet.cluster("c3", "network1"),
    );
    let _nodes = [&c1, &c2, &c3].map(|c| fleet.node(c));
    for c in [&c1, &c2] {
        fleet.mesh(c);
        gateway(
            c,
            if c.name().as_str() == "c1" {
                "network1"
            } else {
                "network2"
            },
        );
    }
    for c in [&c1, &c2, &c3] {
        apply(
            c,
            &format!(
                "{ACCOUNT}{}---\n{}",
                helloworld(c.name().as_str(), 1),
                sleep("sleep", "")
            ),
        );
    }
    let ip = |c: &ClusterDir| fleet.ready(c, "helloworld", 1).remove(0).ip;
    let (ip1, ip2, ip3) = (ip(&c1), ip(&c2), ip(&c3));
    assert!(
        ip1.starts_with("10.1.1.") && ip2.starts_with("10.2.2.") && ip3.starts_with("10.1.3."),
        "{ip1} {ip2} {ip3}"
    );
    for c in [&c1, &c2, &c3] {
        fleet.ready(c, "sleep", 1);
    }
    let call = |from: &ClusterDir, at: &str| {
        let started = Instant::now();
        let (code, said) = shell(
            from,
            "sleep",
            &format!("curl -sS --max-time 10 --http0.9 {at}"),
        );
        let took = started.elapsed();
        (code == Some(0), said, took)
    };
    // One network: directly.
    let direct = call(&c1, &format!("{ip3}:5000/hello"));
    assert!(
        direct.0 && direct.1.starts_with("Hello version: c3"),
        "{direct:?}"
    );
    // Two networks: not, and refused at once.
    for at in [
        format!("{ip2}:5000/hello"),
        "198.18.0.2:5000".into(),
        "198.18.1.2:5000".into(),
        "10.2.2.3:15443".into(),
    ] {
        let refused = call(&c1, &at);
        assert!(!refused.0, "{at} answered {refused:?}");
        assert!(
            refused.2 < Duration::from_secs(2),
            "{at}: nobody should wait: {refused:?}"
        );
    }
    for (from, at) in [
        (&c1, "198.18.1.2"),
        (&c3, "198.18.1.2"),
        (&c2, "198.18.1.1"),
    ] {
        fleet.wait("the other network's gateway", || {
            match call(from, &format!("{at}:15443")) {
                (true, said, _) if said == "gateway\n" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    let service = c2.status_of(
        "Service",
        &catamaran_local::object::system_namespace(),
        "eastwest-gateway",
    );
    let service: serde_json::Value = fleet.wait("the gateway's address", || {
        serde_json::from_slice(&std::fs::read(&service).map_err(|e| e.to_string())?)
            .map_err(|e| e.to_string())
    });
    assert_eq!(
        service["status"]["loadBalancer"]["ingress"][0]["ip"],
        "198.18.1.2"
    );
    assert_eq!(
        service["metadata"]["labels"]["topology.istio.io/network"],
        "network2"
    );

    assert_eq!(
        of_fleets_in_the_machine(),
        [""; 0],
        "the machine's own namespace was touched"
    );
    let known = fleet.dir.read().unwrap();
    assert!(!netns::of_fleet(&known).is_empty());
    fleet.down();
    assert_eq!(netns::of_fleet(&known), [""; 0]);
    assert_eq!(of_fleets_in_the_machine(), [""; 0]);
}

fn a_pod_has_its_own_names_mounts_and_capture() {
    root_only();
    let fleet = Fleet::new(Isolation::Netns);
    let c = fleet.cluster("c1", "network1");
    let node = fleet.node(&c);
    fleet.mesh(&c);
    write::inject(&c, &default(), true).unwrap();
    apply(
        &c,
        "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {key: open}\n",
    );
    let volumes = "      volumes: [{name: keys, secret: {secretName: x}}, {name: none, secret: {secretName: y, optional: true}}]\n";
    let mounts = ", volumeMounts: [{name: keys, mountPath: /etc/sleep/tls}, {name: none, mountPath: /etc/other/place}]";
    apply(&c, &format!("{}{volumes}", sleep("sleep", mounts)));
    let pod = fleet.ready(&c, "sleep", 1).remove(0);
    let said = |script: &str| shell(&c, "sleep", script).1;
    assert_eq!(said("cat /etc/sleep/tls/key; ls /etc/other/place"), "open");
    assert!(
        !std::path::Path::new("/etc/sleep").exists(),
        "a mount leaked to the machine"
    );
    assert_eq!(
        said("cat /etc/resolv.conf"),
        "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    );
    assert_eq!(
        said("hostname || cat /proc/sys/kernel/hostname").trim(),
        pod.name
    );
    // Calls of the program go to the sidecar, whatever their address; its own loopback does not.
    assert_eq!(
        said("curl -sS --max-time 5 --http0.9 10.96.1.1:5000"),
        "outbound\n"
    );
    assert_eq!(
        said("curl -sS --max-time 5 --http0.9 192.0.2.1:80"),
        "outbound\n"
    );
    assert_ne!(
        shell(
            &c,
            "sleep",
            "curl -sS --max-time 5 --http0.9 127.0.0.1:5000"
        )
        .0,
        Some(0)
    );
    let as_proxy = |at: &str| {
        said(&format!(
            "setpriv --reuid 1337 --regid 1337 --clear-groups curl -sS --max-time 5 --http0.9 {at}"
        ))
    };
    assert_eq!(
        as_proxy(&format!("{}:5000", pod.ip)),
        "inbound\n",
        "a pod that calls itself"
    );
    assert!(
        as_proxy("10.96.1.1:5000").contains("curl: (7)"),
        "the sidecar's own calls are not captured"
    );
    let user = std::fs::read_to_string(format!("/proc/{}/status", pod.processes[0].1)).unwrap();
    assert!(user.contains("Uid:\t1337\t1337\t1337\t1337"), "{user}");
    // Calls from outside go to the sidecar too.
    let control_plane = catamaran_local::running::Running::read(&c.control_plane_record()).unwrap();
    let netns = netns::Network::of(&fleet.dir.read().unwrap(), &c.read().unwrap());
    let from = netns.name(netns::Place::ControlPlane, "");
    assert!(control_plane.alive());
    let inbound = netns::in_netns(
        &from,
        &[
            "curl",
            "-sS",
            "--max-time",
            "5",
            "--http0.9",
            &format!("{}:5000", pod.ip),
        ],
        None,
    );
    assert_eq!(inbound.unwrap(), "inbound\n");

    // Its network's router is lost: everything is made anew.
    fleet.leave(node);
    netns::remove(&netns.network()).unwrap();
    let _node = fleet.node(&c);
    let again = fleet.wait("the pod in a new namespace", || {
        let found = fleet
            .pods(&c)?
            .into_iter()
            .find(|found| found.ready && found.name == pod.name);
        found
            .filter(|found| found.processes != pod.processes)
            .ok_or_else(|| "not yet".into())
    });
    assert_eq!(again.ip, pod.ip);
    assert_eq!(
        said("curl -sS --max-time 5 --http0.9 192.0.2.1:80"),
        "outbound\n"
    );
    fleet.down();
    assert_eq!(netns::of_fleet(&fleet.dir.read().unwrap()), [""; 0]);
}
