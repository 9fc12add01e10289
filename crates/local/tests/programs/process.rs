//! Without namespaces: what an ordinary user sees.

use std::os::unix::fs::PermissionsExt;

use catamaran_local::exec::{self, Target};
use catamaran_local::fleet::Isolation;
use catamaran_local::lifecycle::{self, Stop};
use catamaran_local::node::{JoinRecord, PodRecord};
use catamaran_local::running::Running;
use catamaran_local::write;
use catamaran_model::PodName;
use nix::sys::signal::Signal;

use super::Test;
use super::fleet::*;

pub(crate) const TESTS: &[Test] = &[
    (
        "process::a_deployment_becomes_ready_pods_behind_a_service",
        a_deployment_becomes_ready_pods,
    ),
    (
        "process::a_program_that_ends_is_started_again",
        a_program_that_ends_is_started_again,
    ),
    (
        "process::a_new_template_is_rolled_out_without_a_gap",
        a_new_template_is_rolled_out_without_a_gap,
    ),
    (
        "process::pods_outlive_the_node_and_are_taken_over",
        pods_outlive_the_node,
    ),
    (
        "process::a_node_that_is_dying_does_not_keep_the_next_from_starting",
        a_node_that_is_dying_does_not_keep_the_next_from_starting,
    ),
    (
        "process::a_cluster_that_was_killed_comes_back",
        a_cluster_that_was_killed_comes_back,
    ),
    (
        "process::a_sidecar_starts_first_and_has_a_token",
        a_sidecar_starts_first,
    ),
    (
        "process::a_pod_says_what_it_waits_for",
        a_pod_says_what_it_waits_for,
    ),
    (
        "process::an_unreadable_manifest_ends_no_pod",
        an_unreadable_manifest_ends_no_pod,
    ),
    (
        "process::the_control_plane_is_started_again",
        the_control_plane_is_started_again,
    ),
    (
        "process::an_endpoint_is_marked_before_its_program_ends",
        an_endpoint_is_marked,
    ),
];

fn a_deployment_becomes_ready_pods() {
    let fleet = Fleet::new(Isolation::Process);
    let c = fleet.cluster("c1", "network1");
    let _node = fleet.node(&c);
    apply(&c, &format!("{ACCOUNT}{}", helloworld("v1", 2)));
    let pods = fleet.ready(&c, "helloworld", 2);
    for pod in &pods {
        let expected = format!("Hello version: v1, instance: {}\n", pod.name);
        assert_eq!(get(&pod.ip).unwrap(), expected);
        let parts: Vec<&str> = pod.name.rsplitn(3, '-').collect();
        assert_eq!(
            (parts[2], parts[1].len(), parts[0].len()),
            ("helloworld", 10, 5),
            "{}",
            pod.name
        );
    }
    fleet.wait("both endpoints", || {
        match slice(&c)?["endpoints"].as_array() {
            Some(all) if all.len() == 2 && all.iter().all(|e| e["conditions"]["ready"] == true) => {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    });
    let service = c.status_of("Service", &default(), "helloworld");
    let service: serde_json::Value =
        serde_json::from_slice(&std::fs::read(service).unwrap()).unwrap();
    assert!(
        service["spec"]["clusterIP"]
            .as_str()
            .unwrap()
            .starts_with("10.96."),
        "{service}"
    );

    write::scale(&c, &default(), "helloworld", 0).unwrap();
    fleet.ready(&c, "helloworld", 0);
    assert!(pods.iter().all(|pod| get(&pod.ip).is_err()));
    assert!(exec::logs(&c, &default(), &Target::Pod(pods[0].name.clone()), None, 10).is_ok());
    fleet.down();
}

fn a_program_that_ends_is_started_again() {
    let fleet = Fleet::new(Isolation::Process);
    let c = fleet.cluster("c1", "network1");
    let _node = fleet.node(&c);
    let crash = "apiVersion: apps/v1
kind: Deployment
metadata: {name: crash}
spec:
  selector: {matchLabels: {app: crash}}
  template:
    metadata: {labels: {app: crash}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: crash, image: x, command: [sh, -c, 'echo it fails; exit 3']}]
";
    apply(&c, &format!("{ACCOUNT}{}---\n{crash}", helloworld("v1", 1)));
    let before = fleet.ready(&c, "helloworld", 1).remove(0);
    Running::of(before.processes[0].1)
        .unwrap()
        .signal(Signal::SIGKILL);
    let after = fleet.wait("another process", || {
        let pod = fleet
            .pods(&c)?
            .into_iter()
            .find(|pod| pod.name == before.name && pod.ready);
        pod.filter(|pod| pod.processes != before.processes)
            .ok_or_else(|| "not yet".into())
    });
    assert_eq!((after.restarts, &after.ip), (1, &before.ip));
    fleet.wait("the reason of the crash", || {
        let pods = fleet.pods(&c)?;
        let crash = pods
            .iter()
            .find(|pod| pod.deployment.as_deref() == Some("crash"))
            .ok_or("none")?;
        match crash.waiting.as_deref() {
            Some(why)
                if why.starts_with(
                    "CrashLoopBackOff: container crash: it ended with exit status: 3",
                ) =>
            {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        }
    });
    let log = exec::logs(&c, &default(), &Target::Deployment("crash".into()), None, 1).unwrap();
    assert_eq!(log, "it fails\n");
    fleet.down();
}

fn a_new_template_is_rolled_out_without_a_gap() {
    let fleet = Fleet::new(Isolation::Process);
    let c = fleet.cluster("c1", "network1");
    let _node = fleet.node(&c);
    apply(&c, &format!("{ACCOUNT}{}", helloworld("v1", 1)));
    let old = fleet.ready(&c, "helloworld", 1).remove(0);
    apply(&c, &helloworld("v2", 1));
    let mut least = usize::MAX;
    let new = fleet.wait("the new pod alone", || {
        let pods = fleet.pods(&c)?;
        least = least.min(pods.iter().filter(|pod| pod.ready).count());
        match &pods[..] {
            [pod] if pod.ready && pod.name != old.name => Ok(pod.clone()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(least, 1, "there was a moment without a ready pod");
    assert_eq!(
        get(&new.ip).unwrap(),
        format!("Hello version: v2, instance: {}\n", new.name)
    );
    assert_ne!(new.ip, old.ip);
    fleet.down();
}

fn pods_outlive_the_node() {
    let fleet = Fleet::new(Isolation::Process);
    let c = fleet.cluster("c1", "network1");
    let node = fleet.node(&c);
    apply(&c, &format!("{ACCOUNT}{}", helloworld("v1", 1)));
    let before = fleet.ready(&c, "helloworld", 1).remove(0);
    let vip = c.status_of("Service", &default(), "helloworld");
    let service = std::fs::read_to_string(&vip).unwrap();
    fleet.leave(node);
    assert!(get(&before.ip).is_ok(), "the pod ended with its node");

    let node = fleet.node(&c);
    let after = fleet.ready(&c, "helloworld", 1).remove(0);
    assert_eq!(after, before);
    fleet.leave(node);

    // While no node runs, the pod dies.
    Running::of(before.processes[0].1)
        .unwrap()
        .signal(Signal::SIGKILL);
    let _node = fleet.node(&c);
    let again = fleet.wait("the pod to come back", || {
        let pod = fleet.pods(&c)?.into_iter().find(|pod| pod.ready);
        pod.filter(|pod| pod.processes != before.processes)
            .ok_or_else(|| "not yet".into())
    });
    assert_eq!((&again.name, &again.ip), (&before.name, &before.ip));
    assert_eq!(
        std::fs::read_to_string(&vip).unwrap(),
        service,
        "its virtual address is stable"
    );
    fleet.down();
}

/// A node that was just killed is alive until the system has cleared it away; the start that meets it then must not take it
/// for one that will answer.
fn a_node_that_is_dying_does_not_keep_the_next_from_starting() {
    let fleet = Fleet::new(Isolation::Process);
    let c = fleet.cluster("c1", "network1");
    let program = std::env::current_exe().unwrap();
    let mut dying = std::process::Command::new("sleep")
        .arg("0.5")
        .spawn()
        .unwrap();
    let record = Running::of(dying.id() as i32).unwrap();
    c.make_folders().unwrap();
    record.write(&c.node_record()).unwrap();
    fleet
        .block(lifecycle::start_cluster(&c, &program, PATIENCE))
        .unwrap();
    dying.wait().unwrap();
    let node = Running::read(&c.node_record()).unwrap();
    assert!(node.alive() && node != record);
    fleet.down();
}

fn a_cluster_that_was_killed_comes_back() {
    let fleet = Fleet::new(Isolation::Process);
    let c = fleet.cluster("c1", "network1");
    let program = std::env::current_exe().unwrap();
    fleet.mesh(&c);
    apply(&c, &format!("{ACCOUNT}{}", helloworld("v1", 2)));
    fleet
        .block(lifecycle::start_cluster(&c, &program, PATIENCE))
        .unwrap();
    let pods = fleet.ready(&c, "helloworld", 2);
    let node = Running::read(&c.node_record()).unwrap();
    assert!(node.alive() && node.pid != std::process::id() as i32);

    fleet
        .block(lifecycle::stop_cluster(&c, Stop::Kill, PATIENCE))
        .unwrap();
    assert!(!node.alive());
    assert!(pods.iter().all(|pod| get(&pod.ip).is_err()));
    assert!(
        !PodRecord::all(&c).is_empty(),
        "what was there is still written down"
    );

    fleet
        .block(lifecycle::start_cluster(&c, &program, PATIENCE))
        .unwrap();
    let back = fleet.ready(&c, "helloworld", 2);
    let names = |pods: &[catamaran_local::node::PodView]| {
        pods.iter()
            .map(|pod| (pod.name.clone(), pod.ip.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&back), names(&pods));
    fleet.down();
    assert!(back.iter().all(|pod| get(&pod.ip).is_err()));
    assert!(PodRecord::all(&c).is_empty());
    assert!(!c.node_socket().exists());
}

fn a_sidecar_starts_first() {
    let fleet = Fleet::new(Isolation::Process);
    let c = fleet.cluster("c1", "network1");
    let _node = fleet.node(&c);
    fleet.mesh(&c);
    write::inject(&c, &default(), true).unwrap();
    apply(&c, &format!("{ACCOUNT}{}", helloworld("v1", 1)));
    let pod = fleet.ready(&c, "helloworld", 1).remove(0);
    let containers: Vec<&str> = pod
        .processes
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(containers, ["istio-proxy", "helloworld"]);
    // The sidecar has the pod's address and carries to the program's.
    assert_eq!(
        get(&pod.ip).unwrap(),
        format!("Hello version: v1, instance: {}\n", pod.name)
    );

    let dir = c.pod(&default(), &PodName::new(&pod.name).unwrap());
    let mode = std::fs::metadata(dir.join_token())
        .unwrap()
        .permissions()
        .mode()
        & 0o777;
    assert_eq!(mode, 0o600);
    let records: Vec<JoinRecord> = (std::fs::read_dir(c.join()).unwrap().flatten())
        .map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap())
        .collect();
    assert_eq!(records.len(), 1);
    assert_eq!(
        records[0].identity,
        "spiffe://cluster.local/ns/default/sa/helloworld"
    );
    let token = std::fs::read_to_string(dir.join_token()).unwrap();
    assert_eq!((token.len(), records[0].sha256.len()), (43, 64));
    let now = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_millis() as u64;
    assert!(
        (now..now + 600_001).contains(&records[0].expires),
        "{records:?}"
    );
    assert!(
        fleet
            .block(raw_ready(&dir.admin_socket()))
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );

    let line = std::fs::read_to_string(format!("/proc/{}/cmdline", pod.processes[0].1)).unwrap();
    let line = line.replace('\0', " ");
    for part in [
        "proxy sidecar",
        "--mesh mesh-1",
        "--cluster c1",
        &format!("--pod {}", pod.name),
    ] {
        assert!(line.contains(part), "{line} does not say {part}");
    }
    let status: serde_json::Value =
        serde_json::from_slice(&std::fs::read(c.status_of("Pod", &default(), &pod.name)).unwrap())
            .unwrap();
    assert_eq!(
        status["metadata"]["labels"]["security.istio.io/tlsMode"],
        "istio"
    );

    let mut command = exec::exec_command(
        &c,
        &default(),
        &Target::Deployment("helloworld".into()),
        &[
            "sh".into(),
            "-c".into(),
            "echo $http_proxy $HOSTNAME; exit 7".into(),
        ],
        &std::env::current_exe().unwrap(),
    )
    .unwrap();
    let output = command.output().unwrap();
    let expected = format!("http://{}:15001 {}\n", pod.ip, pod.name);
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert_eq!(output.status.code(), Some(7));
    fleet.down();
    assert_eq!(
        std::fs::read_dir(c.join()).unwrap().count(),
        0,
        "a token is left"
    );
}

fn a_pod_says_what_it_waits_for() {
    let fleet = Fleet::new(Isolation::Process);
    let c = fleet.cluster("c1", "network1");
    let _node = fleet.node(&c);
    let sleep = "apiVersion: apps/v1
kind: Deployment
metadata: {name: sleep}
spec:
  selector: {matchLabels: {app: sleep}}
  template:
    metadata: {labels: {app: sleep}}
    spec:
      terminationGracePeriodSeconds: 0
      serviceAccountName: sleep
      containers:
        - {name: sleep, image: 'curl:8.1.2', command: [/bin/sleep, infinity], volumeMounts: [{name: keys, mountPath: /etc/sleep/tls}]}
      volumes: [{name: keys, secret: {secretName: x}}]
";
    apply(&c, sleep);
    let waits = |for_what: &str| {
        fleet.wait(for_what, || {
            let pods = fleet.pods(&c)?;
            match pods.first().ok_or("no pod")?.waiting.as_deref() {
                Some(why) if why.contains(for_what) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    };
    waits("ServiceAccount default/sleep not found");
    apply(
        &c,
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: sleep}\n",
    );
    waits("Secret default/x not found");
    apply(
        &c,
        "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {key: open}\n",
    );
    let pod = fleet.ready(&c, "sleep", 1).remove(0);
    let volume = c
        .pod(&default(), &PodName::new(&pod.name).unwrap())
        .volumes()
        .join("keys/key");
    assert_eq!(std::fs::read_to_string(volume).unwrap(), "open");

    write::inject(&c, &default(), true).unwrap();
    apply(&c, &sleep.replace("curl:8.1.2", "curl:9"));
    fleet.wait("a sidecar without a mesh is refused loudly", || {
        let pods = fleet.pods(&c)?;
        let waiting = pods
            .iter()
            .find_map(|pod| pod.waiting.clone())
            .ok_or("none waits")?;
        waiting
            .contains("no mesh manages this cluster")
            .then_some(())
            .ok_or(waiting)
    });
    fleet.down();
}

fn an_unreadable_manifest_ends_no_pod() {
    let fleet = Fleet::new(Isolation::Process);
    let c = fleet.cluster("c1", "network1");
    let node = fleet.node(&c);
    apply(&c, &format!("{ACCOUNT}{}", helloworld("v1", 1)));
    let before = fleet.ready(&c, "helloworld", 1).remove(0);
    fleet.leave(node);
    let manifest = c.object(&default(), "Deployment", "helloworld");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    let _node = fleet.node(&c);
    fleet.wait("the problem", || {
        let problems = fleet.ask(&c, "/v1/problems")?;
        problems
            .contains("deployment-helloworld.yaml")
            .then_some(())
            .ok_or(problems)
    });
    assert_eq!(
        fleet.ready(&c, "helloworld", 1),
        std::slice::from_ref(&before)
    );
    std::fs::remove_file(&manifest).unwrap();
    fleet.ready(&c, "helloworld", 0);
    fleet.down();
}

fn the_control_plane_is_started_again() {
    let fleet = Fleet::new(Isolation::Process);
    let c = fleet.cluster("c1", "network1");
    let node = fleet.node(&c);
    fleet.mesh(&c);
    let runs = |not: Option<i32>| {
        fleet.wait("a control plane", || {
            let running = Running::read(&c.control_plane_record()).ok_or("no record")?;
            (running.alive() && Some(running.pid) != not)
                .then_some(running)
                .ok_or_else(|| "dead".into())
        })
    };
    let first = runs(None);
    // It is what starts it for a moment, under the same id.
    fleet.wait("the control plane's own line", || {
        let line = std::fs::read_to_string(format!("/proc/{}/cmdline", first.pid));
        let line = line.unwrap_or_default().replace('\0', " ");
        match line.contains("control-plane --fleet") {
            true => Ok(()),
            false => Err(line),
        }
    });
    assert!(first.alive(), "the control plane ended");
    assert_eq!(lifecycle::kill_control_plane(&c).unwrap(), first);
    let second = runs(Some(first.pid));
    fleet.leave(node);
    assert!(second.alive(), "it ended with the node");
    let _node = fleet.node(&c);
    fleet.wait("the node", || fleet.ask(&c, "/ready"));
    assert_eq!(runs(None), second);
    fleet.down();
    assert!(!second.alive());
}

fn an_endpoint_is_marked() {
    let fleet = Fleet::new(Isolation::Process);
    let c = fleet.cluster("c1", "network1");
    let _node = fleet.node(&c);
    apply(&c, &format!("{ACCOUNT}{}", helloworld("v1", 1)));
    let pod = fleet.ready(&c, "helloworld", 1).remove(0);
    write::scale(&c, &default(), "helloworld", 0).unwrap();
    fleet.wait("the mark", || {
        let endpoint = slice(&c)?["endpoints"][0].clone();
        (endpoint["conditions"]["terminating"] == true)
            .then_some(())
            .ok_or(endpoint.to_string())
    });
    assert!(
        get(&pod.ip).is_ok(),
        "its program ended before others could notice"
    );
    fleet.wait("its end", || match slice(&c)?["endpoints"].as_array() {
        Some(none) if none.is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(get(&pod.ip).is_err());
    fleet.down();
}
