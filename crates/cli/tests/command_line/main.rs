//! The binary as scripts use it: exit codes, what is on which output, and the words of errors.

mod netns;

use std::path::Path;
use std::process::{Command, Output};

struct Fleet(tempfile::TempDir);

impl Fleet {
    fn new() -> Fleet {
        Fleet(tempfile::tempdir().unwrap())
    }

    /// Runs the binary with the fleet named by the environment.
    fn run(&self, words: &[&str]) -> Run {
        run(words, Some(&self.0.path().join("fleet")))
    }
}

struct Run(Output);

impl Run {
    fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    #[track_caller]
    fn exits(self, code: i32) -> Run {
        assert_eq!(
            self.0.status.code(),
            Some(code),
            "{}{}",
            self.out(),
            self.err()
        );
        self
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out()).unwrap()
    }
}

fn run(words: &[&str], fleet: Option<&Path>) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_catamaran"));
    command
        .args(words)
        .env_remove("CATAMARAN_FLEET")
        .env("COLUMNS", "100");
    if let Some(fleet) = fleet {
        command.env("CATAMARAN_FLEET", fleet);
    }
    Run(command.output().unwrap())
}

#[test]
fn help_is_data_and_a_wrong_word_is_usage_with_a_hint() {
    let help = run(&["--help"], None).exits(0);
    assert!(help.out().contains("catamaran demo") && help.out().contains("Exit codes"));
    let wrong = run(&["clutser", "list"], None).exits(2);
    assert!(wrong.out().is_empty());
    assert!(wrong.err().contains("'cluster'"), "{}", wrong.err());
    run(&[], None).exits(2);
}

#[test]
fn no_fleet_is_said_with_the_next_step() {
    let none = run(&["mesh", "list"], None).exits(2);
    assert_eq!(
        none.err(),
        "error[CTM-F101]: no fleet is named\n  fix: give --fleet DIR, or set CATAMARAN_FLEET; `catamaran cluster create C --fleet DIR` makes a new one\n"
    );
    let nowhere = run(&["mesh", "list", "--fleet", "/nowhere/at/all"], None).exits(1);
    assert!(
        nowhere
            .err()
            .starts_with("error[CTM-F102]: /nowhere/at/all is not a fleet"),
        "{}",
        nowhere.err()
    );
}

#[test]
fn data_go_to_standard_output_and_narration_to_the_other() {
    let fleet = Fleet::new();
    let made = fleet
        .run(&[
            "cluster",
            "create",
            "cluster-1",
            "--network",
            "network1",
            "--isolation",
            "process",
        ])
        .exits(0);
    assert!(made.out().is_empty());
    assert!(made.err().contains("✓ create cluster-1"), "{}", made.err());
    assert!(!made.err().contains('\x1b'), "a pipe gets plain lines");
    let table = fleet.run(&["cluster", "list"]).exits(0);
    assert_eq!(
        table.out(),
        "CLUSTER    STATE    PHYSICAL NETWORK  MANAGED BY  DISCOVERED BY  PODS READY\n\
         cluster-1  stopped  network1          -           -              0/0\n"
    );
    assert!(table.err().is_empty());
    let json = fleet
        .run(&["cluster", "list", "-o", "json"])
        .exits(0)
        .json();
    assert_eq!(json[0]["name"], "cluster-1");
    let yaml = fleet.run(&["cluster", "list", "-o", "yaml"]).exits(0);
    assert!(yaml.out().contains("name: cluster-1"), "{}", yaml.out());
    let ascii = fleet
        .run(&["cluster", "create", "cluster-2", "--ascii"])
        .exits(0);
    assert!(ascii.err().is_ascii(), "{}", ascii.err());
}

#[test]
fn an_error_names_what_is_known_and_what_did_not_happen() {
    let fleet = Fleet::new();
    fleet
        .run(&["cluster", "create", "cluster-1", "--isolation", "process"])
        .exits(0);
    let refused = fleet
        .run(&[
            "mesh",
            "create",
            "mesh-2",
            "--cluster",
            "cluster-1",
            "--reuse-root",
            "mesh-9",
        ])
        .exits(1);
    assert!(refused.out().is_empty());
    let expected = "error[CTM-T101]: there is no mesh \"mesh-9\" to take the root certificate from\n  \
                    known meshes: none\n  \
                    fix: see `catamaran mesh list`, or create it with `catamaran mesh create`\n  \
                    nothing was created\n";
    assert!(refused.err().ends_with(expected), "{}", refused.err());
    let version = fleet
        .run(&[
            "mesh",
            "create",
            "mesh-1",
            "--cluster",
            "cluster-1",
            "--version",
            "7.0.0",
        ])
        .exits(1);
    assert!(
        version
            .err()
            .contains("error[CTM-M103]: version 7.0.0 is not installed\n  installed versions: ")
    );
    let near = fleet.run(&["cluster", "start", "clutser-1"]).exits(1);
    assert!(
        near.err().contains("did you mean \"cluster-1\"?"),
        "{}",
        near.err()
    );
    let twice = fleet.run(&["cluster", "create", "cluster-1"]).exits(1);
    assert!(twice.err().contains("error[CTM-C102]"), "{}", twice.err());
    let setting = fleet
        .run(&["network", "set", "--mesh", "mesh-1", "cluster-1"])
        .exits(2);
    assert!(
        setting
            .err()
            .contains("CLUSTER=NETWORK[,gateway[=IP:PORT]]"),
        "{}",
        setting.err()
    );
}

#[test]
fn a_manifest_is_taken_from_a_file_or_from_standard_input_and_errors_name_the_line() {
    let fleet = Fleet::new();
    fleet
        .run(&["cluster", "create", "cluster-1", "--isolation", "process"])
        .exits(0);
    let file = fleet.0.path().join("bad.yaml");
    std::fs::write(
        &file,
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 0}]}\n",
    )
    .unwrap();
    let file = file.display().to_string();
    let refused = fleet
        .run(&["apply", "-f", &file, "--cluster", "cluster-1"])
        .exits(1);
    assert!(
        refused.err().contains("error[CTM-O102]") && refused.err().contains("bad.yaml:"),
        "{}",
        refused.err()
    );
    assert!(refused.err().contains("nothing was changed"));
    let absent = fleet
        .run(&["apply", "-f", "/nowhere.yaml", "--cluster", "cluster-1"])
        .exits(1);
    assert!(absent.err().contains("/nowhere.yaml"), "{}", absent.err());
    let good = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/five-steps/cluster-2.yaml"
    );
    let applied = fleet
        .run(&["apply", "-f", good, "--cluster", "cluster-1", "-o", "json"])
        .exits(0)
        .json();
    assert_eq!(applied.as_array().unwrap().len(), 3);
    assert_eq!(applied[2]["outcome"], "created");
}

#[test]
fn a_fleet_in_which_nothing_runs_is_shown_at_once_and_its_check_says_so() {
    let fleet = Fleet::new();
    fleet
        .run(&["cluster", "create", "cluster-1", "--isolation", "process"])
        .exits(0);
    let status = fleet.run(&["status", "-o", "json"]).exits(0).json();
    assert_eq!(status["isolation"], "process");
    assert_eq!(status["clusters"][0]["state"], "stopped");
    assert!(status["gateways"].as_array().unwrap().is_empty());
    let check = fleet.run(&["check"]).exits(0);
    assert!(check.out().contains("– same-root"), "{}", check.out());
    assert!(check.out().ends_with("skipped\n"), "{}", check.out());
    let verify = fleet
        .run(&[
            "verify",
            "helloworld:5000/hello",
            "--from",
            "cluster-1/deploy/sleep",
        ])
        .exits(1);
    assert!(
        verify.err().contains("no call was made"),
        "{}",
        verify.err()
    );
    fleet.run(&["fleet", "down"]).exits(0);
}

#[test]
fn completions_and_the_version_are_data() {
    let version = run(&["version", "-o", "json"], None).exits(0).json();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    let bash = run(&["completion", "bash"], None).exits(0);
    assert!(bash.out().contains("catamaran") && bash.out().contains("reuse-root"));
}

#[test]
fn the_demo_plays_in_no_fleet_that_is_there_already() {
    let fleet = Fleet::new();
    fleet
        .run(&["cluster", "create", "cluster-1", "--isolation", "process"])
        .exits(0);
    let dir = fleet.0.path().join("fleet").display().to_string();
    let refused = run(
        &["demo", "--once", "--isolation", "process", "--dir", &dir],
        None,
    );
    assert!(!refused.0.status.success());
    assert!(refused.err().contains(&dir), "{}", refused.err());
    fleet.run(&["cluster", "list"]).exits(0);
}

#[test]
fn a_probe_says_how_far_it_came() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let probed = run(&["probe", &address], None).exits(0).json();
    assert_eq!(probed["reached"], "no_connection");
}

#[test]
fn what_is_captured_can_be_seen_before() {
    let print = run(
        &[
            "proxy",
            "capture",
            "--print",
            "--exclude-inbound-ports",
            "9090",
            "--include-outbound-ranges",
            "10.96.0.0/16, 10.97.0.0/16",
        ],
        None,
    );
    let rules = print.exits(0).out();
    for line in [
        "table ip catamaran {",
        "    tcp dport { 9090, 15000, 15001, 15006, 15020, 15021, 15053, 15090 } return",
        "    ip daddr { 10.96.0.0/16, 10.97.0.0/16 } meta l4proto tcp redirect to :15001",
    ] {
        assert!(rules.lines().any(|found| found == line), "{line}\n{rules}");
    }
    let wrong = run(
        &["proxy", "capture", "--exclude-inbound-ports", "80,http"],
        None,
    );
    let why = wrong.exits(2).err();
    assert!(why.contains("\"http\" is no port"), "{why}");
}

#[test]
fn a_sidecar_with_probes_that_cannot_be_used_does_not_start_and_shows_no_secret() {
    let line = "proxy sidecar --mesh mesh-1 --cluster c --namespace default --pod p --service-account s \
                --control-plane 127.0.0.1:1 --root-cert /nowhere --state /nowhere --admin-socket /nowhere \
                --capture redirect --address 127.0.0.1";
    let start = |more: &[&str], probes: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_catamaran"));
        command.args(line.split_whitespace()).args(more);
        Run(command
            .env("CATAMARAN_APP_PROBES", probes)
            .output()
            .unwrap())
    };
    let probes = r#"{"/app-health/web/livez": {"httpGet": {"port": "s3cret"}}}"#;
    let why = start(&[], probes).exits(1).err();
    assert!(
        why.contains("/app-health/web/livez: httpGet.port is no number"),
        "{why}"
    );
    assert!(!why.contains("s3cret"), "{why}");
    let why = start(&["--resolv-conf", "/nowhere/at/all"], "")
        .exits(1)
        .err();
    assert!(why.contains("/nowhere/at/all: No such file"), "{why}");
    let help = run(&["proxy", "sidecar", "--help"], None).exits(0).out();
    assert!(help.contains("CATAMARAN_APP_PROBES"), "{help}");
}

#[test]
fn who_waits_for_a_sidecar_that_is_not_there_is_told_why() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let waited = run(
        &["proxy", "wait", "--health", &nobody, "--timeout", "300ms"],
        None,
    );
    let why = waited.exits(6).err();
    let expected = format!("error: not ready within 300ms: {nobody}: Connection refused");
    assert!(why.starts_with(&expected), "{why}");
}
