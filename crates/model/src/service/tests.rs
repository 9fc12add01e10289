use super::*;

#[test]
fn app_protocol_wins_over_the_port_name() {
    for (name, app, want) in [
        (Some("http"), None, AppProtocol::Http),
        (Some("http-web"), None, AppProtocol::Http),
        (Some("grpc-api"), None, AppProtocol::Grpc),
        (Some("tcp-db"), None, AppProtocol::Tcp),
        (Some("https"), None, AppProtocol::Tls),
        (Some("web"), None, AppProtocol::Detect),
        (None, None, AppProtocol::Detect),
        (Some("tcp"), Some("http"), AppProtocol::Http),
        (Some("http"), Some("kubernetes.io/h2c"), AppProtocol::Http2),
        (Some("http"), Some("kubernetes.io/ws"), AppProtocol::Http),
    ] {
        assert_eq!(AppProtocol::of(name, app), want, "{name:?} {app:?}");
    }
}
