use super::*;

/// A sidecar of `default/sleep` that keeps its things in `state`.
pub(crate) fn sidecar(state: &Path, control_planes: Vec<SocketAddr>) -> Config {
    Config {
        role: Role::Sidecar,
        mesh: MeshName::new("mesh-1").unwrap(),
        cluster: ClusterId::new("cluster-1").unwrap(),
        namespace: Namespace::new("default").unwrap(),
        pod: PodName::new("sleep-1").unwrap(),
        service_account: ServiceAccount::new("sleep").unwrap(),
        trust_domain: TrustDomain::default(),
        cluster_domain: ClusterDomain::default(),
        control_planes: control_planes.into_iter().map(Into::into).collect(),
        root_cert: state.join("root-cert.pem"),
        join_token: Some(state.join("join-token")),
        state: state.into(),
        admin_socket: state.join("admin.sock"),
        admin: None,
        capture: Capture::Explicit,
        address: [127, 0, 0, 1].into(),
        app: [127, 0, 0, 1].into(),
        workers: NonZeroUsize::MIN,
        resolvers: Vec::new(),
        access_log: None,
        app_probes: AppProbes::default(),
        version: "1.2.3".into(),
    }
}

#[test]
fn a_proxy_presents_itself_as_istio_knows_it() {
    let config = sidecar(Path::new("/state"), Vec::new());
    let node = config.node();
    assert_eq!(
        node.id,
        "sidecar~127.0.0.1~sleep-1.default~default.svc.cluster.local"
    );
    let metadata = node.metadata.unwrap();
    let field = |name: &str| metadata.get(name).and_then(Value::as_str);
    assert_eq!(field("CLUSTER_ID"), Some("cluster-1"));
    assert_eq!(field("CATAMARAN_CAPTURE"), Some("explicit"));
    assert_eq!(node.user_agent_name, "catamaran-proxy");
}

#[test]
fn without_a_network_of_its_own_a_proxy_keeps_to_its_address() {
    let mut config = sidecar(Path::new("/state"), Vec::new());
    config.address = [127, 9, 8, 7].into();
    assert_eq!(config.admin_address().to_string(), "127.9.8.7:15000");
    config.admin = Some(([127, 0, 0, 1], 15000).into());
    assert_eq!(config.admin_address().to_string(), "127.0.0.1:15000");
    config.admin = None;
    config.capture = Capture::Redirect;
    assert_eq!(config.admin_address().to_string(), "127.0.0.1:15000");
    assert_eq!(config.health_address().to_string(), "127.9.8.7:15021");
}
