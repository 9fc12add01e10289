use super::*;

pub(super) fn instance() -> Instance {
    Instance {
        mesh: "mesh-1".parse().unwrap(),
        cluster: "cluster-1".parse().unwrap(),
        network: Some("network1".parse().unwrap()),
        trust_domain: "cluster.local".parse().unwrap(),
        cluster_domain: "cluster.local".parse().unwrap(),
        control_plane: "catamaran-mesh-1.catamaran-system.svc:15012".into(),
        image: "catamaran:1".into(),
        own_namespace: "catamaran-system".parse().unwrap(),
        native: true,
        by_default: false,
    }
}

fn pod() -> Value {
    json!({
        "metadata": {"name": "sleep-1", "labels": {"app": "sleep"}},
        "spec": {"containers": [{"name": "sleep", "image": "curl"}]},
    })
}

fn labels(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    all.iter()
        .map(|(a, b)| (a.to_string(), b.to_string()))
        .collect()
}

fn on_in(namespace: &str, namespace_labels: &[(&str, &str)], pod: &Value) -> Verdict {
    let labels = labels(namespace_labels);
    let place = Place {
        namespace,
        labels: &labels,
    };
    inject(&instance(), place, pod).unwrap()
}

fn left(namespace_labels: &[(&str, &str)], pod: &Value) -> Option<Why> {
    match on_in("sample", namespace_labels, pod) {
        Verdict::Leave(why) => Some(why),
        Verdict::Inject { .. } => None,
    }
}

const ENABLED: [(&str, &str); 1] = [("istio-injection", "enabled")];

fn injected(pod: &Value) -> (Value, Vec<String>) {
    match on_in("sample", &ENABLED, pod) {
        Verdict::Inject { pod, warnings } => (pod, warnings),
        Verdict::Leave(why) => panic!("{why}"),
    }
}

fn refused(pod: &Value) -> String {
    let labels = labels(&ENABLED);
    let place = Place {
        namespace: "sample",
        labels: &labels,
    };
    inject(&instance(), place, pod).unwrap_err().to_string()
}

fn with(pod: &mut Value, field: &str, name: &str, value: &str) {
    entry(pod, field, name, value.to_owned());
}

fn find<'a>(pod: &'a Value, list: &str, name: &str) -> &'a Value {
    let all = pod["spec"][list].as_array().unwrap();
    all.iter()
        .find(|one| one["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {list}"))
}

#[test]
fn a_namespace_asks_by_any_of_its_labels() {
    for (said, expected) in [
        (&[][..], Some(Why::NotAsked)),
        (&[("istio-injection", "enabled")], None),
        (&[("istio-injection", "disabled")], Some(Why::NotAsked)),
        (&[("catamaran.dev/injection", "enabled")], None),
        (
            &[
                ("istio-injection", "enabled"),
                ("catamaran.dev/injection", "disabled"),
            ],
            Some(Why::NotAsked),
        ),
        (&[("istio.io/rev", "mesh-1")], None),
        (&[("istio.io/rev", "default")], None),
        (&[("istio.io/rev", "mesh-2")], Some(Why::OtherRevision)),
        (
            &[("istio-injection", "enabled"), ("istio.io/rev", "mesh-2")],
            Some(Why::OtherRevision),
        ),
    ] {
        assert_eq!(left(said, &pod()), expected, "{said:?}");
    }
}

#[test]
fn the_pods_own_word_wins_and_its_label_over_its_annotation() {
    for (label, annotation, namespace, expected) in [
        (Some("true"), None, &[][..], None),
        (Some("true"), None, &[("istio-injection", "disabled")], None),
        (Some("false"), None, &ENABLED, Some(Why::PodSaysNo)),
        (None, Some("false"), &ENABLED, Some(Why::PodSaysNo)),
        (Some("true"), Some("false"), &[], None),
        (Some("perhaps"), None, &ENABLED, None),
    ] {
        let mut pod = pod();
        if let Some(label) = label {
            with(&mut pod, "labels", INJECT, label);
        }
        if let Some(annotation) = annotation {
            with(&mut pod, "annotations", INJECT, annotation);
        }
        assert_eq!(left(namespace, &pod), expected, "{label:?} {annotation:?}");
    }
    let mut other = pod();
    with(&mut other, "labels", REVISION, "mesh-2");
    assert_eq!(left(&ENABLED, &other), Some(Why::OtherRevision));
}

#[test]
fn what_must_never_have_one_is_left_whatever_it_says() {
    let mut asking = pod();
    with(&mut asking, "labels", INJECT, "true");
    for namespace in [
        "kube-system",
        "kube-public",
        "kube-node-lease",
        "local-path-storage",
        "catamaran-system",
    ] {
        let verdict = on_in(namespace, &ENABLED, &asking);
        assert_eq!(verdict, Verdict::Leave(Why::SystemNamespace), "{namespace}");
    }
    let mut host = asking.clone();
    host["spec"]["hostNetwork"] = true.into();
    assert_eq!(left(&ENABLED, &host), Some(Why::HostNetwork));
    let mut windows = asking.clone();
    windows["spec"]["nodeSelector"] = json!({"kubernetes.io/os": "windows"});
    assert_eq!(left(&ENABLED, &windows), Some(Why::OtherSystem));
}

#[test]
fn a_pod_is_injected_once() {
    let (once, _) = injected(&pod());
    assert_eq!(left(&ENABLED, &once), Some(Why::Injected));
    let mut bare = pod();
    let other = json!({"name": SIDECAR, "image": "istio/proxyv2"});
    bare["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(other);
    assert_eq!(left(&ENABLED, &bare), Some(Why::Injected));
}

#[test]
fn a_native_sidecar_stands_before_every_other_container() {
    let mut asking = pod();
    asking["spec"]["initContainers"] = json!([{"name": "migrate", "image": "m"}]);
    let (pod, warnings) = injected(&asking);
    assert_eq!(warnings, [""; 0]);
    let names: Vec<_> = pod["spec"]["initContainers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, [REDIRECT, SIDECAR, "migrate"]);
    let sidecar = find(&pod, "initContainers", SIDECAR);
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(sidecar["startupProbe"]["httpGet"]["port"], 15021);
    assert_eq!(sidecar["securityContext"]["runAsUser"], PROXY_USER);
    assert_eq!(sidecar["lifecycle"], Value::Null);
    let redirect = find(&pod, "initContainers", REDIRECT);
    assert_eq!(
        redirect["securityContext"]["capabilities"],
        json!({"drop": ["ALL"], "add": ["NET_ADMIN"]})
    );
    assert_eq!(pod["spec"]["containers"], asking["spec"]["containers"]);
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["security.istio.io/tlsMode"], "istio");
    assert_eq!(labels["topology.istio.io/network"], "network1");
    assert_eq!(labels["service.istio.io/canonical-name"], "sleep");
    assert_eq!(labels["service.istio.io/canonical-revision"], "latest");
    let status: Value =
        serde_json::from_str(pod["metadata"]["annotations"][STATUS].as_str().unwrap()).unwrap();
    assert_eq!(status["revision"], "mesh-1");
}

#[test]
fn every_file_and_variable_that_the_sidecar_is_told_of_is_there() {
    let (pod, _) = injected(&pod());
    let sidecar = find(&pod, "initContainers", SIDECAR);
    let mounts = sidecar["volumeMounts"].as_array().unwrap();
    for mount in mounts {
        find(&pod, "volumes", mount["name"].as_str().unwrap());
    }
    told_of(sidecar, mounts);
    told_of(find(&pod, "initContainers", REDIRECT), &[]);
}

fn told_of(container: &Value, mounts: &[Value]) {
    let variables: Vec<&str> = container["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    for arg in container["args"].as_array().unwrap() {
        let arg = arg.as_str().unwrap();
        if let Some(name) = arg
            .strip_prefix("$(")
            .and_then(|rest| rest.strip_suffix(')'))
        {
            assert!(variables.contains(&name), "{name}");
        }
        if arg.starts_with('/') && arg != "/etc/resolv.conf" {
            let under = |mount: &Value| arg.starts_with(mount["mountPath"].as_str().unwrap());
            assert!(mounts.iter().any(under), "{arg}");
        }
    }
}

#[test]
fn without_native_sidecars_the_programs_wait_for_it() {
    let mut asking = pod();
    with(
        &mut asking,
        "annotations",
        "sidecar.istio.io/nativeSidecar",
        "false",
    );
    asking["spec"]["initContainers"] = json!([{"name": "migrate", "image": "m"}]);
    let (pod, _) = injected(&asking);
    assert_eq!(pod["spec"]["containers"][0]["name"], SIDECAR);
    let hooks = &pod["spec"]["containers"][0]["lifecycle"];
    assert_eq!(hooks["postStart"]["exec"]["command"][2], "wait");
    let drain = |pod: &Value| {
        let hooks = &pod["spec"]["containers"][0]["lifecycle"];
        hooks["preStop"]["exec"]["command"].clone()
    };
    let program = "/usr/local/bin/catamaran";
    assert_eq!(
        drain(&pod),
        json!([program, "proxy", "drain", "--timeout", "19s"])
    );
    // 11 s of the pod's time are the sidecar's own
    for (grace, expected) in [(0, "1s"), (5, "1s"), (15, "4s"), (600, "589s")] {
        let mut asking = asking.clone();
        asking["spec"]["terminationGracePeriodSeconds"] = grace.into();
        assert_eq!(drain(&injected(&asking).0)[4], expected);
    }
    // what runs before the sidecar must reach the network by itself
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "migrate");
    assert_eq!(pod["spec"]["initContainers"][1]["name"], REDIRECT);
    asking["spec"]["restartPolicy"] = "OnFailure".into();
    let (_, warnings) = injected(&asking);
    assert!(
        warnings
            .iter()
            .any(|one| one.contains("is to end by itself")),
        "{warnings:?}"
    );
}

#[test]
fn probes_are_put_to_the_sidecar_and_say_what_they_were() {
    let mut asking = pod();
    asking["spec"]["containers"][0] = json!({
        "name": "web", "image": "w", "ports": [{"name": "http", "containerPort": 8080}],
        "livenessProbe": {"httpGet": {"path": "/live", "port": "http"}, "timeoutSeconds": 3, "periodSeconds": 7},
        "readinessProbe": {"tcpSocket": {"port": 9000}, "timeoutSeconds": 7200},
        "startupProbe": {"grpc": {"port": 9001, "service": "s"}},
    });
    asking["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(json!({
            "name": "other", "image": "o",
            "livenessProbe": {"exec": {"command": ["true"]}},
            "readinessProbe": {"httpGet": {"path": "/", "port": 80, "host": "elsewhere.test"}},
            "startupProbe": {"httpGet": {"path": "/", "port": "nameless"}},
        }));
    let (pod, warnings) = injected(&asking);
    let web = find(&pod, "containers", "web");
    assert_eq!(
        web["livenessProbe"],
        json!({
            "httpGet": {"path": "/app-health/web/livez", "port": 15021, "scheme": "HTTP"}, "timeoutSeconds": 3, "periodSeconds": 7,
        })
    );
    assert_eq!(web["readinessProbe"]["tcpSocket"], Value::Null);
    assert_eq!(
        find(&pod, "containers", "other"),
        &asking["spec"]["containers"][1],
        "not for the sidecar"
    );
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("nameless"));
    let env = find(&pod, "initContainers", SIDECAR)["env"]
        .as_array()
        .unwrap();
    let told = env
        .iter()
        .find(|one| one["name"] == "CATAMARAN_APP_PROBES")
        .unwrap();
    let told: Value = serde_json::from_str(told["value"].as_str().unwrap()).unwrap();
    assert_eq!(
        told,
        json!({
            "/app-health/web/livez": {"httpGet": {"path": "/live", "port": 8080}, "timeoutSeconds": 3},
            "/app-health/web/readyz": {"tcpSocket": {"port": 9000}, "timeoutSeconds": 3600},
            "/app-health/web/startupz": {"grpc": {"port": 9001, "service": "s"}},
        })
    );

    with(
        &mut asking,
        "annotations",
        "sidecar.istio.io/rewriteAppHTTPProbers",
        "false",
    );
    let (pod, _) = injected(&asking);
    assert_eq!(
        find(&pod, "containers", "web"),
        &asking["spec"]["containers"][0]
    );
}

#[test]
fn annotations_reach_the_redirect_or_are_refused_by_name() {
    let mut asking = pod();
    with(
        &mut asking,
        "annotations",
        "traffic.sidecar.istio.io/excludeOutboundPorts",
        "3306, 5432,",
    );
    with(
        &mut asking,
        "annotations",
        "traffic.sidecar.istio.io/includeOutboundIPRanges",
        "10.0.0.0/8,fd00::/8,192.0.2.1",
    );
    with(
        &mut asking,
        "annotations",
        "traffic.sidecar.istio.io/includeInboundPorts",
        "",
    );
    let (pod, _) = injected(&asking);
    assert_eq!(
        find(&pod, "initContainers", REDIRECT)["args"],
        json!([
            "proxy",
            "capture",
            "--address",
            "$(POD_IP)",
            "--include-inbound-ports=",
            "--exclude-outbound-ports=3306,5432",
            "--include-outbound-ranges=10.0.0.0/8,fd00::/8,192.0.2.1",
        ])
    );
    for (name, value, words) in [
        (
            "traffic.sidecar.istio.io/excludeInboundPorts",
            "80,http",
            "is no list of ports",
        ),
        (
            "traffic.sidecar.istio.io/excludeInboundPorts",
            "0",
            "is no list of ports",
        ),
        (
            "traffic.sidecar.istio.io/excludeOutboundIPRanges",
            "10.0.0.0/33",
            "is no list of CIDR",
        ),
        (
            "traffic.sidecar.istio.io/excludeOutboundIPRanges",
            "*",
            "is no list of CIDR",
        ),
        (
            "traffic.sidecar.istio.io/includeOutboundPorts",
            "*",
            "is no list of ports",
        ),
        (
            "traffic.sidecar.istio.io/includeInboundPorts",
            "*,80",
            "is no list of ports",
        ),
        (
            "sidecar.istio.io/interceptionMode",
            "TPROXY",
            "is not implemented",
        ),
        (
            "sidecar.istio.io/nativeSidecar",
            "maybe",
            "neither true nor false",
        ),
        ("sidecar.istio.io/logLevel", "loud", "is none of"),
    ] {
        let mut asking = super::tests::pod();
        with(&mut asking, "annotations", name, value);
        let said = refused(&asking);
        assert!(said.contains(name) && said.contains(words), "{said}");
    }
    let mut asking = super::tests::pod();
    with(&mut asking, "annotations", "proxy.istio.io/config", "{}");
    assert!(injected(&asking).1[0].contains("proxy.istio.io/config is not read"));
}

#[test]
fn a_persons_wishes_for_the_sidecar_win() {
    let mut asking = pod();
    with(
        &mut asking,
        "annotations",
        "sidecar.istio.io/proxyCPU",
        "100m",
    );
    with(
        &mut asking,
        "annotations",
        "sidecar.istio.io/proxyMemoryLimit",
        "64Mi",
    );
    let wishes = json!({
        "name": SIDECAR, "image": "auto", "imagePullPolicy": "Always",
        "env": [{"name": "MINE", "value": "1"}], "securityContext": {"readOnlyRootFilesystem": false},
    });
    asking["spec"]["containers"]
        .as_array_mut()
        .unwrap()
        .push(wishes);
    let (pod, _) = injected(&asking);
    assert_eq!(pod["spec"]["containers"].as_array().unwrap().len(), 1);
    let sidecar = find(&pod, "initContainers", SIDECAR);
    assert_eq!(
        (&sidecar["image"], &sidecar["imagePullPolicy"]),
        (&"catamaran:1".into(), &"Always".into())
    );
    assert_eq!(sidecar["securityContext"]["readOnlyRootFilesystem"], false);
    assert_eq!(sidecar["securityContext"]["runAsUser"], PROXY_USER);
    assert_eq!(sidecar["env"].as_array().unwrap().len(), 5);
    assert_eq!(
        sidecar["resources"],
        json!({"requests": {"cpu": "100m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}})
    );
}

#[test]
fn what_is_no_pod_is_refused() {
    let place = Place {
        namespace: "a",
        labels: &BTreeMap::new(),
    };
    for (wrong, field) in [
        (json!({}), "spec.containers"),
        (json!({"spec": {"containers": 1}}), "spec.containers"),
        (
            json!({"metadata": {"labels": {"a": 1}}, "spec": {"containers": []}}),
            "metadata.labels",
        ),
        (
            json!({"metadata": {"annotations": []}, "spec": {"containers": []}}),
            "metadata.annotations",
        ),
    ] {
        let said = inject(&instance(), place, &wrong).unwrap_err().to_string();
        assert!(said.starts_with(field), "{said}");
    }
    let mut taken = pod();
    taken["spec"]["volumes"] = json!([{"name": "catamaran-state"}]);
    assert!(refused(&taken).contains("catamaran-state"));
    let mut shaped = pod();
    shaped["spec"]["initContainers"] = 7.into();
    assert!(refused(&shaped).contains("spec.initContainers"));
}

#[test]
fn the_patch_makes_one_of_the_other() {
    let before = pod();
    let (after, _) = injected(&before);
    let operations = patch(&before, &after);
    let mut made = before.clone();
    for operation in operations.as_array().unwrap() {
        let path: Vec<&str> = operation["path"]
            .as_str()
            .unwrap()
            .split('/')
            .skip(1)
            .collect();
        let mut at = &mut made;
        for part in path {
            at = &mut at[part];
        }
        assert_eq!(operation["op"] == "add", at.is_null());
        *at = operation["value"].clone();
    }
    assert_eq!(made, after);
    assert_eq!(patch(&after, &after), json!([]));
}

#[test]
fn workloads_in_a_file_get_their_sidecars() {
    let mut deployment = json!({"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": {"spec": pod()["spec"]}}});
    let became = inject_document(&instance(), &mut deployment).unwrap();
    assert_eq!(
        became,
        [("Deployment web".to_owned(), Document::Injected(Vec::new()))]
    );
    let template = &deployment["spec"]["template"];
    assert_eq!(
        template["metadata"]["labels"]["service.istio.io/canonical-name"],
        "web"
    );
    find(template, "initContainers", SIDECAR);

    let mut cron = json!({"kind": "CronJob", "metadata": {"name": "c"}, "spec": {"jobTemplate": {"spec": {"template": pod()}}}});
    inject_document(&instance(), &mut cron).unwrap();
    find(
        &cron["spec"]["jobTemplate"]["spec"]["template"],
        "initContainers",
        SIDECAR,
    );

    let mut no = pod();
    no["kind"] = "Pod".into();
    with(&mut no, "labels", INJECT, "false");
    let service = json!({"kind": "Service", "metadata": {"name": "s"}});
    let mut list = json!({"kind": "List", "items": [service, no]});
    let before = list.clone();
    let became = inject_document(&instance(), &mut list).unwrap();
    assert_eq!(
        became,
        [
            ("Service s".to_owned(), Document::NoPods),
            ("Pod sleep-1".to_owned(), Document::Left(Why::PodSaysNo)),
        ]
    );
    assert_eq!(list, before);

    let mut broken = json!({"kind": "Deployment", "metadata": {"name": "web"}, "spec": {}});
    let said = inject_document(&instance(), &mut broken)
        .unwrap_err()
        .to_string();
    assert_eq!(said, "Deployment web: spec.template: is missing");
}
