//! Do test clusters hold what they promise? Two of them, with the same pod and service ranges, from nothing to nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{cluster, image, steps};

/// Equal in both clusters, so that nothing can work by a mix-up of theirs.
const RANGES: [&str; 4] = [
    "--pod-range",
    "10.244.0.0/16",
    "--service-range",
    "10.96.0.0/16",
];

/// How long something may take to come true on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the test. `CATAMARAN_BIN` names a binary to make the images of, as in the end-to-end tests; else it is built.
pub(crate) fn run() -> Result<(), String> {
    let binary = std::env::var_os("CATAMARAN_BIN").map(PathBuf::from);
    let archives = image::sample(binary.as_deref())?;
    // Names of this process, so that clusters of another checkout do not matter.
    let names = ["a", "b"].map(|side| format!("test-{side}-{}", std::process::id()));
    let outcome = play(&names, &archives);
    for name in &names {
        if outcome.is_err() {
            let folder = cluster::folder(name)?;
            eprintln!("what {name} wrote is in {}", folder.join("log").display());
        }
        cluster::down(name)?;
    }
    outcome?;
    names.iter().try_for_each(|name| nothing_left(name))?;
    for name in &names {
        let folder = cluster::folder(name)?;
        std::fs::remove_dir_all(&folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    Ok(())
}

fn play(names: &[String; 2], archives: &image::Archives) -> Result<(), String> {
    let [a, b] = [Cluster::new(&names[0])?, Cluster::new(&names[1])?];
    let start = Instant::now();
    std::thread::scope(|scope| {
        let starting = [&a, &b].map(|each| scope.spawn(|| each.up()));
        starting.into_iter().try_for_each(|one| {
            one.join()
                .unwrap_or_else(|_| Err("a start panicked".into()))
        })
    })?;
    step("two clusters with the same ranges started", start);
    // What finds nothing at the end must find something now.
    for each in [&a, &b] {
        let found = nothing_left(&each.name).err().unwrap_or_default();
        for kind in ["process", "network namespace", "cgroup", "registration"] {
            if !found.contains(&format!("\n  {kind} ")) {
                return Err(format!("a running cluster has no {kind}: {found:?}"));
            }
        }
    }

    let start = Instant::now();
    for each in [&a, &b] {
        cluster::load(&each.name, &[&archives.curl, &archives.catamaran])?;
    }
    step("images loaded", start);

    let start = Instant::now();
    let sample = steps::root().join("examples/five-steps");
    a.kubectl(&["apply", "-f", utf8(&sample.join("cluster-1.yaml"))?])?;
    b.kubectl(&["apply", "-f", utf8(&sample.join("cluster-2.yaml"))?])?;
    for (each, deployment) in [(&a, "sleep"), (&a, "helloworld-v1"), (&b, "helloworld-v2")] {
        let deployment = format!("deployment/{deployment}");
        each.kubectl(&["rollout", "status", &deployment, "--timeout=120s"])?;
    }
    step("the sample runs", start);

    // By short name, from the sample's own pod: DNS, the service proxy, exec and the images at once.
    until("helloworld answers by its name", || {
        let said = a.exec_sleep("curl -sS --max-time 2 helloworld:5000/hello")?;
        expect(&said, |said| {
            said.starts_with("Hello version: v1, instance: helloworld-v1-")
        })
    })?;
    let said = a.exec_sleep("nslookup kubernetes.default.svc.cluster.local")?;
    expect(&said, |said| said.contains("10.96.0.1"))?;
    let said = a.exec_sleep("nslookup nosuch.default.svc.cluster.local 2>&1 || true")?;
    expect(&said, |said| said.contains("NXDOMAIN"))?;

    // The way an API server takes to a webhook: from the node to a service.
    let service = ["get", "service", "helloworld", "-o"];
    let address = a.kubectl(&[&service[..], &["jsonpath={.spec.clusterIP}"]].concat())?;
    let place = format!("http://{address}:5000/hello");
    let folder = utf8(&a.folder)?;
    let said = cluster::output(&[
        "shell",
        folder,
        "--",
        "curl",
        "-sS",
        "--max-time",
        "2",
        &place,
    ])?;
    expect(&said, |said| said.starts_with("Hello version: v1"))?;

    a.kubectl(&["scale", "deployment/helloworld-v1", "--replicas=3"])?;
    a.kubectl(&[
        "rollout",
        "status",
        "deployment/helloworld-v1",
        "--timeout=120s",
    ])?;
    until("three pods answer in turn", || {
        let said = a.exec_sleep(
            "for i in $(seq 30); do curl -sS --max-time 2 helloworld:5000/hello; done | sort -u | wc -l",
        )?;
        expect(&said, |said| said.trim() == "3")
    })?;
    let server = pod(&b, "app=helloworld")?;
    b.kubectl(&["logs", &server])?;
    let logged = a.kubectl(&[
        "run",
        "speaker",
        "--image=curl:8.1.2",
        "--restart=Never",
        "--command",
        "--",
        "echo",
        "it was me",
    ]);
    logged?;
    until("logs come", || {
        let said = a.kubectl(&["logs", "speaker"])?;
        expect(&said, |said| said == "it was me\n")
    })?;

    meet(&a, &b)?;
    outage(&a)?;

    let audited = std::fs::read_to_string(a.folder.join("audit.log"))
        .map_err(|error| format!("audit.log: {error}"))?;
    let exec = r#""resource":"pods","namespace":"default","name":"sleep-"#;
    if !audited.lines().any(|line| {
        line.contains(exec)
            && line.contains(r#""subresource":"exec""#)
            && line.contains(r#""username":"admin""#)
    }) {
        return Err("the audit log of a says nothing of kubectl exec".into());
    }

    flat(&a, &b, archives)?;
    only_api(&names[1])?;

    let start = Instant::now();
    for each in [&a, &b] {
        cluster::down(&each.name)?;
    }
    step("ended", start);
    Ok(())
}

/// An API server without a node, beside the others: its controllers answer, its pods wait for a node.
fn only_api(beside: &str) -> Result<(), String> {
    let start = Instant::now();
    let api = Cluster::new(&format!("{beside}-api"))?;
    let tried = cluster::up(&api.name, &["--only", "api"]).and_then(|_| {
        let token = api.kubectl(&["create", "token", "default", "--audience=catamaran"])?;
        expect(&token, |token| token.split('.').count() == 3)?;
        api.kubectl(&["create", "deployment", "waits", "--image=curl:8.1.2"])?;
        until("the controllers make its pod", || {
            let pods = api.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].status.phase}"])?;
            expect(&pods, |phase| phase == "Pending")
        })
    });
    cluster::down(&api.name)?;
    tried?;
    nothing_left(&api.name)?;
    step("an API server without a node", start);
    std::fs::remove_dir_all(&api.folder)
        .map_err(|error| format!("{}: {error}", api.folder.display()))
}

/// The second cluster again, with pods of other addresses: now pods reach pods, in both directions or in one.
fn flat(a: &Cluster, b: &Cluster, archives: &image::Archives) -> Result<(), String> {
    let start = Instant::now();
    cluster::down(&b.name)?;
    nothing_left(&b.name)?;
    let images = [utf8(&archives.curl)?, utf8(&archives.catamaran)?];
    let ranges = ["--pod-range", "10.245.0.0/16", "--service-range", RANGES[3]];
    let mut flags = vec!["--image", images[0], "--image", images[1]];
    flags.extend(ranges);
    cluster::up(&b.name, &flags)?;
    let sample = steps::root().join("examples/five-steps/cluster-2.yaml");
    b.kubectl(&["apply", "-f", utf8(&sample)?])?;
    let rolled = ["rollout", "status", "deployment/helloworld-v2"];
    b.kubectl(&rolled)?;
    let path = "jsonpath={.items[0].status.podIP}";
    let address = b.kubectl(&["get", "pods", "-l", "app=helloworld", "-o", path])?;
    expect(&address, |address| address.starts_with("10.245."))?;
    let place = format!("http://{address}:5000/hello");
    let (of_a, of_b) = (utf8(&a.folder)?, utf8(&b.folder)?);
    let answered = || {
        let said = a.exec_sleep(&format!("curl -sS --max-time 2 {place}"))?;
        expect(&said, |said| said.starts_with("Hello version: v2"))
    };
    cluster::output(&["connect", of_a, of_b, "--flat"])?;
    until("a pod answers a pod of the other cluster", answered)?;
    // What goes to b arrives, what comes back does not, and the other way round: no difference to a connection.
    for [from, to] in [[of_a, of_b], [of_b, of_a]] {
        cluster::output(&["cut", from, to, "--one-way"])?;
        apart(a, &place)?;
        cluster::output(&["connect", of_a, of_b, "--flat"])?;
        until("a pod answers again", answered)?;
    }
    step("pods met pods", start);
    Ok(())
}

/// The clusters are apart, then reach each other's load balancers, node ports and API servers, then are apart again.
fn meet(a: &Cluster, b: &Cluster) -> Result<(), String> {
    let start = Instant::now();
    b.kubectl(&[
        "expose",
        "deployment/helloworld-v2",
        "--name=outside",
        "--type=LoadBalancer",
        "--port=5000",
    ])?;
    let field = |path: &str| -> Result<String, String> {
        b.kubectl(&[
            "get",
            "service",
            "outside",
            "-o",
            &format!("jsonpath={path}"),
        ])
    };
    let mut balancer = String::new();
    until("the service has an address", || {
        balancer = field("{.status.loadBalancer.ingress[0].ip}")?;
        expect(&balancer, |address| !address.is_empty())
    })?;
    let port = field("{.spec.ports[0].nodePort}")?;
    let node = b.kubectl(&[
        "get",
        "nodes",
        "-o",
        "jsonpath={.items[0].status.addresses[0].address}",
    ])?;
    let places = [
        format!("http://{balancer}:5000/hello"),
        format!("http://{node}:{port}/hello"),
    ];
    for place in &places {
        // From inside the cluster and from this machine it is there before any connection is made.
        until(&format!("{place} answers its own side"), || {
            let said = output("curl", &["-sS", "--max-time", "2", place])?;
            expect(&said, |said| said.starts_with("Hello version: v2"))
        })?;
        apart(a, place)?;
    }
    let (of_a, of_b) = (utf8(&a.folder)?, utf8(&b.folder)?);
    cluster::output(&["connect", of_a, of_b])?;
    for place in &places {
        until(&format!("{place} answers the other cluster"), || {
            let said = a.exec_sleep(&format!("curl -sS --max-time 2 {place}"))?;
            expect(&said, |said| said.starts_with("Hello version: v2"))?;
            let line = ["shell", of_a, "--", "curl", "-sS", "--max-time", "2", place];
            expect(&cluster::output(&line)?, |said| {
                said.starts_with("Hello version: v2")
            })
        })?;
    }
    let said = a.exec_sleep(&format!(
        "curl -sSk --max-time 2 https://{node}:6443/version"
    ))?;
    expect(&said, |said| said.contains("\"gitVersion\": \"v1."))?;
    cluster::output(&["cut", of_a, of_b])?;
    for place in &places {
        apart(a, place)?;
    }
    // Pods with equal addresses cannot be connected.
    let reason = cluster::refusal(&["connect", of_a, of_b, "--flat"])?;
    expect(&reason, |reason| reason.contains("the same addresses"))?;
    step("connected and cut", start);
    Ok(())
}

fn apart(a: &Cluster, place: &str) -> Result<(), String> {
    match a.exec_sleep(&format!(
        "curl -sS --max-time 1 {place} || echo \"failed $?\""
    ))? {
        // 28: no answer came in time, as from behind a broken cable; a refusal would be another number.
        said if said.trim_end().ends_with("failed 28") => Ok(()),
        said => Err(format!(
            "{place} should be out of reach of {}, which got {said:?}",
            a.name
        )),
    }
}

/// The API server hangs, goes on, is killed, and comes back.
fn outage(a: &Cluster) -> Result<(), String> {
    let start = Instant::now();
    let folder = utf8(&a.folder)?;
    cluster::output(&["signal", folder, "kube-apiserver", "STOP"])?;
    let asked = a.kubectl(&["get", "nodes", "--request-timeout=2s"]);
    cluster::output(&["signal", folder, "kube-apiserver", "CONT"])?;
    if asked.is_ok() {
        return Err("a stopped API server answered".into());
    }
    until("the API server goes on", || {
        a.kubectl(&["get", "nodes"]).map(drop)
    })?;
    let before = a.pid("kube-apiserver")?;
    cluster::output(&["signal", folder, "kube-apiserver", "KILL"])?;
    until("the API server comes back", || {
        if a.pid("kube-apiserver")? == before {
            return Err("it is still the old one".into());
        }
        a.kubectl(&["get", "nodes"]).map(drop)
    })?;
    // Pods did not notice.
    let said = a.exec_sleep("curl -sS --max-time 2 helloworld:5000/hello")?;
    expect(&said, |said| said.starts_with("Hello version: v1"))?;
    step("the API server hung, and was killed", start);
    Ok(())
}

struct Cluster {
    name: String,
    folder: PathBuf,
}

impl Cluster {
    fn new(name: &str) -> Result<Cluster, String> {
        let folder = cluster::folder(name)?;
        Ok(Cluster {
            name: name.to_owned(),
            folder,
        })
    }

    fn up(&self) -> Result<(), String> {
        let mut flags = vec!["--audit"];
        flags.extend(RANGES);
        cluster::up(&self.name, &flags).map(drop)
    }

    fn kubectl(&self, args: &[&str]) -> Result<String, String> {
        let kubeconfig = self.folder.join("kubeconfig");
        let program = cluster::kubectl()?;
        let mut line = vec!["--kubeconfig", utf8(&kubeconfig)?];
        line.extend(args);
        output(utf8(&program)?, &line)
    }

    fn exec_sleep(&self, script: &str) -> Result<String, String> {
        self.kubectl(&["exec", "deployment/sleep", "--", "sh", "-c", script])
    }

    fn pid(&self, part: &str) -> Result<String, String> {
        let file = self.folder.join("pids").join(part);
        std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))
    }
}

fn pod(of: &Cluster, label: &str) -> Result<String, String> {
    let path = "jsonpath={.items[0].metadata.name}";
    of.kubectl(&["get", "pods", "-l", label, "-o", path])
}

/// Nothing that bears the cluster's name is on this machine: no process, mount, namespace, cgroup or link.
fn nothing_left(name: &str) -> Result<(), String> {
    let folder = cluster::folder(name)?;
    let mut left = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(utf8(&folder)?) || line.contains(&format!("{name}-node")) {
            left.push(format!("process {line}"));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    left.extend(
        mounts
            .lines()
            .filter(|line| line.contains(name))
            .map(|line| format!("mount {line}")),
    );
    for (what, listing) in [
        ("network namespace", output("ip", &["netns", "list"])?),
        (
            "cgroup",
            output(
                "find",
                &["/sys/fs/cgroup", "-type", "d", "-name", "cluster*"],
            )?,
        ),
        (
            "registration",
            output(
                "sh",
                &["-c", "cat /run/catamaran-clusters/* 2>/dev/null; true"],
            )?,
        ),
    ] {
        left.extend(
            listing
                .lines()
                .filter(|line| line.contains(name))
                .map(|line| format!("{what} {line}")),
        );
    }
    // The last cluster of a machine takes the router along; while another checkout has one it stays.
    let others = Path::new("/run/catamaran-clusters").exists();
    if !others {
        for (what, listing) in [
            ("network namespace", output("ip", &["netns", "list"])?),
            ("link", output("ip", &["-brief", "link"])?),
            ("route", output("ip", &["route"])?),
        ] {
            left.extend(
                listing
                    .lines()
                    .filter(|line| line.contains("catamaran-router") || line.contains("catamaran0"))
                    .map(|line| format!("{what} {line}")),
            );
        }
    }
    let kept: Vec<_> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|file| file != "log" && file != "audit.log")
        .collect();
    if !kept.is_empty() {
        left.push(format!("in {}: {kept:?}", folder.display()));
    }
    match left.is_empty() {
        true => Ok(()),
        false => Err(format!("{name} left behind\n  {}", left.join("\n  "))),
    }
}

fn step(what: &str, start: Instant) {
    println!("{:>7.1} s  {what}", start.elapsed().as_secs_f64());
}

/// Tries until it succeeds; when patience ends, the last failure is the reason.
fn until(what: &str, mut tried: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let start = Instant::now();
    loop {
        match tried() {
            Ok(()) => return Ok(()),
            Err(error) if start.elapsed() > PATIENCE => return Err(format!("{what}: {error}")),
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn expect(said: &str, right: impl FnOnce(&str) -> bool) -> Result<(), String> {
    match right(said) {
        true => Ok(()),
        false => Err(format!("unexpected: {said:?}")),
    }
}

fn output(program: &str, args: &[&str]) -> Result<String, String> {
    let said = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{program} could not be started: {error}"))?;
    match said.status.success() {
        true => Ok(String::from_utf8_lossy(&said.stdout).into_owned()),
        false => Err(format!(
            "{program} {} failed ({}): {}",
            args.join(" "),
            said.status,
            String::from_utf8_lossy(&said.stderr)
        )),
    }
}

fn utf8(path: &Path) -> Result<&str, String> {
    path.to_str()
        .ok_or_else(|| format!("{} is not UTF-8", path.display()))
}
