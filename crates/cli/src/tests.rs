use clap::{Command, CommandFactory, Parser};

use crate::verbs::Cli;

/// Every verb at the end of the tree that people see, with its words.
fn verbs() -> Vec<(String, Command)> {
    fn walk(path: &str, command: &Command, found: &mut Vec<(String, Command)>) {
        let mut leaf = true;
        for sub in command
            .get_subcommands()
            .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
        {
            leaf = false;
            walk(format!("{path} {}", sub.get_name()).trim(), sub, found);
        }
        if leaf {
            found.push((path.to_owned(), command.clone()));
        }
    }
    let mut found = Vec::new();
    walk("", &Cli::command(), &mut found);
    found
}

#[test]
fn the_command_line_fits_together() {
    Cli::command().debug_assert();
}

#[test]
fn the_verbs_are_those_of_the_reference() {
    let names: Vec<String> = verbs().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "cluster create",
            "cluster start",
            "cluster stop",
            "cluster add",
            "cluster remove",
            "cluster list",
            "mesh create",
            "mesh list",
            "mesh show",
            "mesh upgrade",
            "mesh chart",
            "mesh delete",
            "network set",
            "namespace inject",
            "apply",
            "inject",
            "delete",
            "scale",
            "exec",
            "logs",
            "verify",
            "status",
            "check",
            "proxy list",
            "proxy config",
            "proxy sidecar",
            "proxy gateway",
            "proxy capture",
            "proxy wait",
            "proxy drain",
            "trust show",
            "trust renew",
            "trust export",
            "trust issue",
            "fleet down",
            "confirm",
            "demo",
            "completion",
            "version",
            "node",
            "control-plane",
        ]
    );
}

#[test]
fn every_verb_says_what_it_does_with_an_example_that_parses() {
    for (name, command) in verbs() {
        let help = command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            command.get_about().is_some(),
            "{name} does not say what it does"
        );
        let start = format!("  catamaran {name}");
        let examples: Vec<&str> = help.lines().filter(|line| line.contains(&start)).collect();
        assert!(
            !examples.is_empty() || help.contains("catamaran completion"),
            "{name} has no example:\n{help}"
        );
        for example in examples {
            // What stands after two blanks explains.
            let line = example.trim().split("   ").next().unwrap_or_default();
            if line.contains(['\'', '|', '<']) {
                continue;
            }
            let parsed = Cli::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_the_command_line() {
    for line in [
        "catamaran",
        "catamaran cluster",
        "catamaran clutser list",
        "catamaran cluster create Cluster_1",
        "catamaran mesh create mesh-1",
        "catamaran mesh create mesh-1 --cluster cluster-1 --region a/b",
        "catamaran cluster add cluster-1",
        "catamaran network set --mesh mesh-1",
        "catamaran scale sleep --replicas 1 --cluster cluster-1",
        "catamaran scale deploy/sleep --replicas -1 --cluster cluster-1",
        "catamaran exec cluster-1 deploy/sleep",
        "catamaran exec cluster-1 svc/sleep -- true",
        "catamaran verify helloworld:5000/ --from cluster-1/deploy/sleep -n 0",
        "catamaran verify helloworld:5000/ --from cluster-1/deploy/sleep --rate 0",
        "catamaran verify helloworld:5000/ --from cluster-1/deploy/sleep -n 1 --rate 5",
        "catamaran proxy config sleep secrets",
        "catamaran proxy",
        "catamaran proxy --validate",
        "catamaran proxy --static b.json list",
        "catamaran proxy capture --exclude-inbound-ports http",
        "catamaran proxy capture --exclude-outbound-ports *",
        "catamaran proxy capture --include-outbound-ranges 10.0.0.0/33",
        "catamaran proxy wait --timeout never",
        "catamaran demo --isolation vm",
        "catamaran status -o xml",
    ] {
        assert!(
            Cli::try_parse_from(line.split_whitespace()).is_err(),
            "{line}"
        );
    }
}

#[test]
fn the_node_s_command_lines_are_understood() {
    let proxy = "--mesh mesh-1 --cluster cluster-1 --namespace default --pod sleep-1 --service-account sleep \
                 --control-plane 10.1.1.2:15012 --root-cert root-cert.pem --join-token join-token --state state \
                 --admin-socket admin.sock --capture redirect --address 10.1.1.10";
    for line in [
        "catamaran node --fleet /f --cluster cluster-1".to_owned(),
        "catamaran control-plane --fleet /f --cluster cluster-1 --mesh mesh-1 --listen 10.1.1.2:15012".into(),
        format!("catamaran proxy sidecar {proxy}"),
        format!("catamaran proxy gateway {proxy} --workers 2"),
        "catamaran proxy --static b.json --workers 2 --access-log /dev/null".into(),
        "catamaran proxy --static b.json --validate".into(),
        format!("catamaran proxy sidecar {proxy} --app 127.0.0.9"),
        format!("catamaran proxy sidecar {proxy} --resolv-conf /etc/resolv.conf --app-probes {{}}"),
        "catamaran launch --spec /x.json -- curl -v http://helloworld:5000".into(),
        "catamaran load helloworld:5000/hello --rate 50 --for 500ms".into(),
        "catamaran probe 198.18.1.2:15443 --sni outbound_.5000_._.helloworld.default.svc.cluster.local".into(),
        "catamaran helloworld --version v2".into(),
    ] {
        let parsed = Cli::try_parse_from(line.split_whitespace());
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
    }
}
