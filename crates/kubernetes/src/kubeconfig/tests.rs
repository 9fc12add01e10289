use std::fmt::Write as _;

use super::*;

/// A kubeconfig with these fields in its cluster and its user, as YAML flow maps without braces.
fn config(cluster: &str, user: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Config, current-context: x, clusters: [{{name: c, cluster: {{{cluster}}}}}], \
         users: [{{name: u, user: {{{user}}}}}], contexts: [{{name: x, context: {{cluster: c, user: u}}}}]}}"
    )
}

fn ca() -> String {
    let data = base64::encode(b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n");
    format!("certificate-authority-data: {data}")
}

fn server(url: &str) -> String {
    format!("server: '{url}', {}", ca())
}

fn read(cluster: &str, user: &str) -> Result<Kubeconfig, Refused> {
    Kubeconfig::read(&config(cluster, user), Allowed::default())
}

const TOKEN: &str = "token: abc.def.ghi";

#[test]
fn a_plain_one_is_taken() {
    let config = read(&server("https://api.c2.example.com:6443"), TOKEN).unwrap();
    assert_eq!(config.server.to_string(), "api.c2.example.com:6443");
    assert_eq!(config.server.tls_name, "api.c2.example.com");
    assert_eq!(
        config.user,
        User::Token(Zeroizing::new("abc.def.ghi".into()))
    );
    // Rancher's has a path, others a name of their own in the certificate.
    let other = format!(
        "{}, tls-server-name: kubernetes",
        server("https://10.0.0.1/k8s/clusters/c-1/")
    );
    let config = read(&other, TOKEN).unwrap();
    assert_eq!(
        (
            config.server.port,
            &*config.server.path,
            &*config.server.tls_name
        ),
        (443, "/k8s/clusters/c-1", "kubernetes")
    );
    let six = read(&server("https://[fd00::1]:6443"), TOKEN).unwrap();
    assert_eq!(six.server.to_string(), "[fd00::1]:6443");
}

#[test]
fn nothing_secret_is_printed() {
    let key = base64::encode(b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n");
    let chain = base64::encode(b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n");
    let user = format!("client-certificate-data: {chain}, client-key-data: {key}");
    for config in [
        read(&server("https://10.0.0.1"), TOKEN),
        read(&server("https://10.0.0.1"), &user),
    ] {
        let config = config.unwrap();
        let shown = format!("{config:?} {:?}", config.user);
        assert!(
            !shown.contains("abc.def") && !shown.contains("PRIVATE"),
            "{shown}"
        );
    }
    // Neither in what is said of a broken one.
    let broken = "users: [{name: u, user: {token: sesame, token: sesame}}]\n";
    let refused = Kubeconfig::read(broken, Allowed::default()).unwrap_err();
    assert!(!refused.to_string().contains("sesame"), "{refused}");
    let broken = "clusters: 7\nusers:\n- name: u\n  user: {token: sesame\n";
    let refused = Kubeconfig::read(broken, Allowed::default()).unwrap_err();
    assert!(
        !refused.to_string().contains("sesame") && refused.reason.contains("line"),
        "{refused}"
    );
}

#[test]
fn what_could_do_harm_is_refused_by_its_field() {
    let good = server("https://10.0.0.1:6443");
    let with = |more: &str| format!("{good}, {more}");
    let user = |more: &str| format!("{TOKEN}, {more}");
    let mut table: Vec<(String, String, String)> = Vec::new();
    let mut add =
        |cluster: String, user: String, field: &str| table.push((cluster, user, field.into()));
    // Programs, files, somebody else.
    for (more, field) in [
        (
            "exec: {apiVersion: client.authentication.k8s.io/v1, command: sh}",
            "exec",
        ),
        ("exec: {}", "exec"),
        ("auth-provider: {name: gcp}", "auth-provider"),
        (
            "auth-provider: {name: oidc, config: {id-token: x}}",
            "auth-provider",
        ),
        ("as: admin", "as"),
        ("as-uid: '1'", "as-uid"),
        ("as-groups: ['system:masters']", "as-groups"),
        ("as-user-extra: {a: [b]}", "as-user-extra"),
        ("act-as: admin", "act-as"),
        ("act-as-groups: [x]", "act-as-groups"),
        ("tokenFile: /var/run/secrets/token", "tokenFile"),
        (
            "client-certificate: /etc/x, client-key: /etc/y",
            "client-certificate",
        ),
        ("username: a, password: b", "password"),
        ("something-new: 1", "something-new"),
        ("EXEC: {command: sh}", "EXEC"),
    ] {
        add(good.clone(), user(more), &format!("users[0].user.{field}"));
    }
    let chain = base64::encode(b"-----BEGIN CERTIFICATE-----\n");
    add(
        good.clone(),
        format!("client-certificate-data: {chain}"),
        "users[0].user.client-key-data",
    );
    add(
        good.clone(),
        format!("client-key-data: {chain}"),
        "users[0].user.client-certificate-data",
    );
    add(
        good.clone(),
        format!("client-key: /etc/key, client-certificate-data: {chain}"),
        "users[0].user.client-key",
    );
    add(
        good.clone(),
        format!("{TOKEN}, client-certificate-data: {chain}, client-key-data: {chain}"),
        "users[0].user.token",
    );
    add(good.clone(), String::new(), "users[0].user.token");
    for bad in ["''", "'a b'", "\"a\\nb\"", "\"a\\u0000\"", "'ä'"] {
        add(good.clone(), format!("token: {bad}"), "users[0].user.token");
    }
    // Verification and detours.
    for (more, field) in [
        ("insecure-skip-tls-verify: true", "insecure-skip-tls-verify"),
        ("proxy-url: http://10.0.0.9:3128", "proxy-url"),
        ("proxy-url: socks5://10.0.0.9:1080", "proxy-url"),
        ("proxy-url: ''", "proxy-url"),
        ("certificate-authority: /etc/ca", "certificate-authority"),
        ("new-field: 1", "new-field"),
    ] {
        add(
            with(more),
            TOKEN.into(),
            &format!("clusters[0].cluster.{field}"),
        );
    }
    add(
        "server: 'https://10.0.0.1', certificate-authority: /etc/ca".into(),
        TOKEN.into(),
        "clusters[0].cluster.certificate-authority",
    );
    add(
        "server: 'https://10.0.0.1'".into(),
        TOKEN.into(),
        "clusters[0].cluster.certificate-authority-data",
    );
    for data in ["'*'", "''", "SGVsbG8="] {
        let cluster = format!("server: 'https://10.0.0.1', certificate-authority-data: {data}");
        add(
            cluster,
            TOKEN.into(),
            "clusters[0].cluster.certificate-authority-data",
        );
    }
    // Addresses that are no API server of another cluster, in each way to write them.
    for url in [
        "http://10.0.0.1",
        "HTTP://10.0.0.1",
        "file:///etc/passwd",
        "unix:///run/containerd.sock",
        "ftp://10.0.0.1",
        "gopher://10.0.0.1",
        "10.0.0.1:6443",
        "javascript:alert(1)",
        "ws://10.0.0.1",
        "https+unix://10.0.0.1",
        "https://10.0.0.1:6443:6443",
        "https://[::1",
        "https://[fe80::1%25eth0]",
        "https://[fd00::1]x",
        "https://[::ffff:0:127.0.0.1",
        "https://10.0.0.1/x?y",
        "https://-x-",
        "https://a..b",
        "https://*.example.com",
        "//10.0.0.1",
        "https://",
        "https:///x",
        "",
        "https://:6443",
        "https://user@10.0.0.1",
        "https://user:pw@10.0.0.1",
        "https://10.0.0.1@169.254.169.254",
        "https://10.0.0.1:0",
        "https://10.0.0.1:99999",
        "https://10.0.0.1:x",
        "https://10.0.0.1:",
        "https://10.0.0.1?x=y",
        "https://10.0.0.1/../x",
        "https://10.0.0.1/a/./b",
        "https://10.0.0.1 x",
        "https://a_b c",
        "https://10.0.0.1\\t",
        "https://127.0.0.1:6443",
        "https://127.8.9.1",
        "https://localhost:6443",
        "https://LOCALHOST",
        "https://x.localhost",
        "https://[::1]:6443",
        "https://[::ffff:127.0.0.1]",
        "https://[::ffff:7f00:1]",
        "https://[::127.0.0.1]",
        "https://[64:ff9b::127.0.0.1]",
        "https://[64:ff9b::7f00:1]",
        "https://169.254.169.254",
        "https://169.254.169.254:80/latest",
        "https://169.254.0.1",
        "https://[fe80::1]",
        "https://[::ffff:169.254.169.254]",
        "https://[::ffff:a9fe:a9fe]",
        "https://[64:ff9b::169.254.169.254]",
        "https://[fd00:ec2::254]",
        "https://100.100.100.200",
        "https://168.63.129.16",
        "https://192.0.0.192",
        "https://0.0.0.0",
        "https://0.1.2.3",
        "https://[::]",
        "https://255.255.255.255",
        "https://224.0.0.1",
        "https://[ff02::1]",
    ] {
        add(server(url), TOKEN.into(), "clusters[0].cluster.server");
    }
    add(
        with("tls-server-name: 'a b'"),
        TOKEN.into(),
        "clusters[0].cluster.server",
    );
    assert!(table.len() > 100, "{}", table.len());
    let mut wrong = String::new();
    for (cluster, user, field) in &table {
        match read(cluster, user) {
            Ok(config) => writeln!(wrong, "taken: {cluster} | {user} as {config:?}").unwrap(),
            Err(refused) if refused.field != *field => {
                writeln!(wrong, "{cluster} | {user}: {refused}, not {field}").unwrap();
            }
            Err(refused) => assert!(!refused.reason.is_empty() && !refused.next.is_empty()),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_whole_that_does_not_fit_together_is_refused() {
    let read = |text: &str| {
        Kubeconfig::read(text, Allowed::default())
            .unwrap_err()
            .field
    };
    assert_eq!(read(""), "current-context");
    assert_eq!(read("- 1"), "kubeconfig");
    assert_eq!(read("{a: &a [*a, *a]}"), "kubeconfig");
    assert_eq!(read("{}"), "current-context");
    assert_eq!(read(&"x".repeat(MAX_BYTES + 1)), "kubeconfig");
    let good = config(&server("https://10.0.0.1"), TOKEN);
    assert_eq!(
        read(&good.replace("current-context: x", "current-context: y")),
        "current-context"
    );
    assert_eq!(
        read(&good.replace("{cluster: c,", "{cluster: d,")),
        "contexts[\"x\"].context.cluster"
    );
    assert_eq!(
        read(&good.replace("user: u}", "user: v}")),
        "contexts[\"x\"].context.user"
    );
    // Without a current context the only one is meant.
    assert!(
        Kubeconfig::read(
            &good.replace("current-context: x, ", ""),
            Allowed::default()
        )
        .is_ok()
    );
    assert!(Kubeconfig::read_context(&good, Some("y"), Allowed::default()).is_err());
}

#[test]
fn what_is_allowed_is_allowed_one_by_one() {
    let on = |cluster: &str, user: &str, allowed: Allowed| {
        Kubeconfig::read(&config(cluster, user), allowed)
    };
    let loopback = Allowed {
        loopback: true,
        ..Allowed::default()
    };
    let link_local = Allowed {
        link_local: true,
        ..Allowed::default()
    };
    let proxy = Allowed {
        proxy: true,
        ..Allowed::default()
    };
    let files = Allowed {
        files: true,
        ..Allowed::default()
    };
    assert!(on(&server("https://127.0.0.1:6443"), TOKEN, loopback).is_ok());
    assert!(on(&server("https://localhost:6443"), TOKEN, loopback).is_ok());
    assert!(on(&server("https://127.0.0.1:6443"), TOKEN, link_local).is_err());
    assert!(on(&server("https://169.254.1.1"), TOKEN, link_local).is_ok());
    assert!(on(&server("https://169.254.1.1"), TOKEN, loopback).is_err());
    let by_proxy = |url: &str| format!("{}, proxy-url: '{url}'", server("https://10.0.0.1"));
    assert_eq!(
        on(&by_proxy("http://10.0.0.9:3128"), TOKEN, proxy)
            .unwrap()
            .proxy
            .as_deref(),
        Some("10.0.0.9:3128")
    );
    for url in [
        "socks5://10.0.0.9",
        "https://10.0.0.9",
        "http://a:b@10.0.0.9",
        "x",
    ] {
        assert!(on(&by_proxy(url), TOKEN, proxy).is_err(), "{url}");
    }
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("token");
    let user = format!("tokenFile: '{}'", path.display());
    let missing = on(&server("https://10.0.0.1"), &user, files).unwrap_err();
    assert!(missing.reason.contains("No such file"), "{missing}");
    std::fs::write(&path, "abc\n").unwrap();
    let config = on(&server("https://10.0.0.1"), &user, files).unwrap();
    assert_eq!(config.user, User::Token(Zeroizing::new("abc".into())));
}

#[test]
fn equal_prints_are_equal_credentials() {
    let print = |cluster: &str, user: &str| read(cluster, user).unwrap().print();
    let base = print(&server("https://10.0.0.1"), TOKEN);
    assert_eq!(base, print(&server("https://10.0.0.1:443"), TOKEN));
    assert_ne!(base, print(&server("https://10.0.0.2"), TOKEN));
    assert_ne!(base, print(&server("https://10.0.0.1"), "token: abc"));
}

#[test]
fn a_program_is_run_for_a_persons_own_file_alone_and_only_when_all_else_holds() {
    let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: who, args: [am, i]}";
    let answer = r#"{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "t.1"}}"#;
    let mut asked = Vec::new();
    let mut own = |cluster: &str| {
        let mut run = |program: &Program| {
            asked.push(format!("{} {}", program.command, program.args.join(" ")));
            Ok(Zeroizing::new(answer.to_owned()))
        };
        Kubeconfig::read_own(&config(cluster, exec), None, Allowed::default(), &mut run)
    };
    let good = server("https://10.0.0.1");
    assert_eq!(
        own(&good).unwrap().user,
        User::Token(Zeroizing::new("t.1".into()))
    );
    // An address that is not dialled is no reason to run anything.
    own(&server("https://169.254.169.254")).unwrap_err();
    assert_eq!(asked, ["who am i"]);
    let refused = read(&good, exec).unwrap_err();
    assert_eq!(refused.field, "users[0].user.exec");
}
