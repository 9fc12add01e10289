use rustls::ProtocolVersion;

use super::*;
use crate::fixtures::*;
use crate::issuer::Issuer;

const H2: &[&[u8]] = &[b"istio-h2", b"istio"];

fn credentials(holding: Holding) -> (Credentials, Arc<SetClock>) {
    let clock = SetClock::at(NOW);
    (Credentials::new(holding, clock.clone()), clock)
}

struct Pair {
    client: Credentials,
    server: Credentials,
}

fn pair(client: &Issuer, server: &Issuer) -> Pair {
    Pair {
        client: credentials(holding(client, "sleep", NOW)).0,
        server: credentials(holding(server, "hello", NOW)).0,
    }
}

impl Pair {
    fn shake(
        &self,
        rule: &PeerRule,
    ) -> Result<(rustls::ClientConnection, rustls::ServerConnection), Refusal> {
        let client = self.client.client_config(rule, H2).unwrap();
        let server = self.server.server_config(H2, ClientAuth::Required).unwrap();
        shake(&client, &server)
    }
}

/// Which side refused, and by which rule.
fn refusal<T>(result: Result<T, Refusal>) -> (&'static str, String) {
    match result.err().expect("a refusal") {
        Refusal::ByClient(error) => (
            "client",
            PeerError::of_tls(&error).map_or_else(|| error.to_string(), |e| e.code().to_owned()),
        ),
        Refusal::ByServer(error) => (
            "server",
            PeerError::of_tls(&error).map_or_else(|| error.to_string(), |e| e.code().to_owned()),
        ),
    }
}

#[test]
fn two_clusters_on_one_root_know_each_other() {
    let root = root("mesh-1");
    let (one, two) = (issuer(&root, 1), issuer(&root, 2));
    let pair = pair(&one, &two);
    let rule = PeerRule::exactly(id("hello")).issued_by([two.fingerprint()]);
    let (mut client, mut server) = pair.shake(&rule).unwrap();

    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    assert_eq!(
        client.negotiated_cipher_suite().unwrap().suite(),
        rustls::CipherSuite::TLS13_AES_128_GCM_SHA256
    );
    assert_eq!(
        client.negotiated_key_exchange_group().unwrap().name(),
        rustls::NamedGroup::X25519
    );
    assert_eq!(client.alpn_protocol(), Some(H2[0]));
    assert_eq!(
        server.server_name(),
        Some("outbound_.5000_._.helloworld.default.svc.cluster.local")
    );

    let caller = pair
        .server
        .peer(&server, PeerRole::Client, NOW)
        .unwrap()
        .unwrap();
    assert_eq!(
        (caller.id, caller.issuers[0]),
        (id("sleep"), one.fingerprint())
    );
    let callee = pair
        .client
        .peer(&client, PeerRole::Server, NOW)
        .unwrap()
        .unwrap();
    assert_eq!(
        (callee.id, callee.issuers[0]),
        (id("hello"), two.fingerprint())
    );
    assert_eq!(say(&mut client, &mut server, "GET /hello"), "GET /hello");
}

#[test]
fn tls_1_2_peers_are_served_with_the_same_checks() {
    let root = root("mesh-1");
    let pair = pair(&issuer(&root, 1), &issuer(&root, 2));
    let old = |rule: &PeerRule| {
        let verifier = ServerVerifier::new(pair.client.trust.clone(), rule.clone());
        let config = ClientConfig::builder_with_details(tls::provider(), pair.client.clock.clone())
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(Resolver(pair.client.held.clone())));
        Arc::new(config)
    };
    let server = pair
        .server
        .server_config(&[], ClientAuth::Required)
        .unwrap();
    let (client, accepted) = shake(&old(&PeerRule::exactly(id("hello"))), &server).unwrap();
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    assert!(
        pair.server
            .peer(&accepted, PeerRole::Client, NOW)
            .unwrap()
            .is_some()
    );
    let error = refusal(shake(&old(&PeerRule::exactly(id("other"))), &server));
    assert_eq!(error, ("client", "wrong_identity".to_owned()));
}

#[test]
fn who_is_not_the_wanted_one_is_refused_before_a_byte_is_sent() {
    let root = root("mesh-1");
    let pair = pair(&issuer(&root, 1), &issuer(&root, 2));
    assert_eq!(
        refusal(pair.shake(&PeerRule::exactly(id("other")))),
        ("client", "wrong_identity".to_owned())
    );
}

#[test]
fn a_mesh_with_another_root_is_refused_by_name_on_both_sides() {
    let (ours, theirs) = (root("mesh-1"), root("mesh-3"));
    let stranger = issuer(&theirs, 3);
    let server_is_strange = pair(&issuer(&ours, 1), &stranger);
    let Err(Refusal::ByClient(error)) = server_is_strange.shake(&PeerRule::exactly(id("hello")))
    else {
        panic!();
    };
    let reason = PeerError::of_tls(&error).unwrap().to_string();
    assert!(reason.contains("OU=cluster-3, CN=mesh-3"), "{reason}");
    assert!(
        reason.contains(&ours.facts().fingerprint.short()),
        "{reason}"
    );

    let client_is_strange = Pair {
        client: Credentials::new(
            holding(&stranger, "sleep", NOW)
                .with_bundle(
                    theirs
                        .bundle(&domain())
                        .unwrap()
                        .with(&ours.bundle(&domain()).unwrap()),
                    NOW,
                )
                .unwrap(),
            SetClock::at(NOW),
        ),
        server: credentials(holding(&issuer(&ours, 1), "hello", NOW)).0,
    };
    let refused = refusal(client_is_strange.shake(&PeerRule::exactly(id("hello"))));
    assert_eq!(refused, ("server", "unknown_issuer".to_owned()));
}

#[test]
fn a_stolen_authority_cannot_speak_for_another_cluster() {
    let root = root("mesh-1");
    let (one, two) = (issuer(&root, 1), issuer(&root, 2));
    let forged = pair(&one, &one);
    let rule = PeerRule::exactly(id("hello")).issued_by([two.fingerprint()]);
    assert_eq!(
        refusal(forged.shake(&rule)),
        ("client", "wrong_issuer".to_owned())
    );
    assert!(
        forged.shake(&PeerRule::exactly(id("hello"))).is_ok(),
        "unknown issuers demand nothing"
    );
}

#[test]
fn a_new_leaf_under_another_intermediate_serves_from_the_next_handshake_on() {
    let root = root("mesh-1");
    let (old, new) = (issuer(&root, 1), issuer(&root, 2));
    let pair = pair(&old, &old);
    let listener = pair.server.server_config(H2, ClientAuth::Required).unwrap();
    let dialer = pair
        .client
        .client_config(&PeerRule::exactly(id("hello")), H2)
        .unwrap();
    let (mut before_client, mut before_server) = shake(&dialer, &listener).unwrap();

    assert_eq!(pair.server.generation(), 1);
    assert_eq!(pair.server.install(holding(&new, "hello", NOW)), 2);
    assert_eq!(pair.client.install(holding(&new, "sleep", NOW)), 2);

    let (after_client, after_server) = shake(&dialer, &listener).unwrap();
    let issuer_seen = |credentials: &Credentials, connection: &CommonState, role| {
        credentials
            .peer(connection, role, NOW)
            .unwrap()
            .unwrap()
            .issuers[0]
    };
    assert_eq!(
        issuer_seen(&pair.client, &after_client, PeerRole::Server),
        new.fingerprint()
    );
    assert_eq!(
        issuer_seen(&pair.server, &after_server, PeerRole::Client),
        new.fingerprint()
    );
    // What stood before still stands, and carries.
    assert_eq!(
        issuer_seen(&pair.client, &before_client, PeerRole::Server),
        old.fingerprint()
    );
    assert_eq!(
        say(&mut before_client, &mut before_server, "still here"),
        "still here"
    );
    assert!(Arc::ptr_eq(
        &listener,
        &pair.server.server_config(H2, ClientAuth::Required).unwrap()
    ));
}

#[test]
fn a_root_that_is_taken_away_ends_belief_at_the_next_handshake() {
    let (a, b) = (root("mesh-a"), root("mesh-b"));
    let both = a
        .bundle(&domain())
        .unwrap()
        .with(&b.bundle(&domain()).unwrap());
    let (ca, cb) = (issuer(&a, 1), issuer(&b, 2));
    let client = Credentials::new(
        holding(&ca, "sleep", NOW)
            .with_bundle(both.clone(), NOW)
            .unwrap(),
        SetClock::at(NOW),
    );
    let server = Credentials::new(
        holding(&cb, "hello", NOW).with_bundle(both, NOW).unwrap(),
        SetClock::at(NOW),
    );
    let pair = Pair { client, server };
    let rule = PeerRule::exactly(id("hello"));
    let (_, accepted) = pair.shake(&rule).unwrap();
    pair.server.install(holding(&cb, "hello", NOW));
    assert_eq!(
        refusal(pair.shake(&rule)),
        ("server", "unknown_issuer".to_owned())
    );
    let error = pair
        .server
        .peer(&accepted, PeerRole::Client, NOW)
        .unwrap_err();
    assert_eq!(error.code(), "unknown_issuer");
}

#[test]
fn nobody_is_believed_past_the_end_of_a_certificate() {
    let root = root("mesh-1");
    let (client, client_clock) = credentials(holding(&issuer(&root, 1), "sleep", NOW));
    let (server, server_clock) = credentials(holding(&issuer(&root, 2), "hello", NOW));
    let pair = Pair { client, server };
    let rule = PeerRule::exactly(id("hello"));
    // One configuration for all: kept sessions would let a later handshake skip the checks.
    let _listener = pair.server.server_config(H2, ClientAuth::Required).unwrap();
    let _dialer = pair.client.client_config(&rule, H2).unwrap();
    for _ in 0..3 {
        let (client, server) = pair.shake(&rule).unwrap();
        assert_eq!(client.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(server.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
    let late = NOW.after(DAY + HOUR);
    server_clock.set(late);
    assert_eq!(refusal(pair.shake(&rule)), ("server", "expired".to_owned()));
    client_clock.set(late);
    assert_eq!(refusal(pair.shake(&rule)), ("client", "expired".to_owned()));
}

/// A pair that resumes sessions, and what the client keeps of them.
struct Resuming {
    pair: Pair,
    clocks: [Arc<SetClock>; 2],
    rule: PeerRule,
    dialer: Arc<ClientConfig>,
    sessions: Arc<Sessions>,
    listener: Arc<ServerConfig>,
}

impl Resuming {
    fn new(client: Holding, server: Holding, rule: PeerRule) -> Resuming {
        let (client, client_clock) = credentials(client);
        let (server, server_clock) = credentials(server);
        let pair = Pair { client, server };
        let base = pair.client.client_config(&rule, H2).unwrap();
        let (dialer, sessions) = pair.client.resuming(&base, 4);
        let listener = pair
            .server
            .resuming_server_config(H2, ClientAuth::Required)
            .unwrap();
        Resuming {
            pair,
            clocks: [client_clock, server_clock],
            rule,
            dialer,
            sessions,
            listener,
        }
    }

    /// One connection, and how its handshake went.
    fn connect(
        &self,
    ) -> (
        rustls::ClientConnection,
        rustls::ServerConnection,
        rustls::HandshakeKind,
    ) {
        let (client, server) = shake(&self.dialer, &self.listener).unwrap();
        let kind = client.handshake_kind().unwrap();
        assert_eq!(server.handshake_kind(), Some(kind));
        (client, server, kind)
    }

    /// How often out of four the handshake was a resumed one.
    fn resumed(&self) -> usize {
        (0..4)
            .filter(|_| self.connect().2 == rustls::HandshakeKind::Resumed)
            .count()
    }

    fn set(&self, now: Timestamp) {
        for clock in &self.clocks {
            clock.set(now);
        }
    }
}

#[test]
fn where_sessions_have_no_room_each_handshake_is_a_whole_one() {
    let root = root("mesh-1");
    let one = issuer(&root, 1);
    let mut pair = Resuming::new(
        holding(&one, "sleep", NOW),
        holding(&one, "hello", NOW),
        PeerRule::exactly(id("hello")),
    );
    let base = pair.pair.client.client_config(&pair.rule, H2).unwrap();
    assert!(pair.resumed() > 0, "with room they are resumed");
    (pair.dialer, pair.sessions) = pair.pair.client.resuming(&base, 0);
    assert_eq!(pair.resumed(), 0);
}

#[test]
fn a_resumed_session_gives_the_same_verified_peers() {
    let root = root("mesh-1");
    let (one, two) = (issuer(&root, 1), issuer(&root, 2));
    let rule = PeerRule::exactly(id("hello")).issued_by([two.fingerprint()]);
    let both = Resuming::new(
        holding(&one, "sleep", NOW),
        holding(&two, "hello", NOW),
        rule,
    );
    let mut met = Vec::new();
    for wanted in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
        let (mut client, mut server, kind) = both.connect();
        assert_eq!(kind, wanted);
        let to = both.pair.client.server(&client, &both.rule, NOW).unwrap();
        let from = both.pair.server.peer(&server, PeerRole::Client, NOW);
        met.push((to, from.unwrap().unwrap()));
        assert_eq!(say(&mut client, &mut server, "hi"), "hi");
    }
    assert_eq!(met[0].0.id, id("hello"));
    assert_eq!(met[0].1.id, id("sleep"));
    assert_eq!(met[0], met[1]);
    both.sessions.forget();
    assert_eq!(both.connect().2, rustls::HandshakeKind::Full);
}

#[test]
fn sessions_end_with_the_certificate_or_the_roots_of_either_side() {
    let root = root("mesh-1");
    let (one, two) = (issuer(&root, 1), issuer(&root, 2));
    let both = Resuming::new(
        holding(&one, "sleep", NOW),
        holding(&one, "hello", NOW),
        PeerRule::exactly(id("hello")),
    );
    assert_eq!(both.resumed(), 3);
    both.pair.server.install(holding(&two, "hello", NOW));
    let (client, _, kind) = both.connect();
    assert_eq!(kind, rustls::HandshakeKind::Full);
    let seen = both.pair.client.server(&client, &both.rule, NOW).unwrap();
    assert_eq!(seen.issuers[0], two.fingerprint());
    both.pair.client.install(holding(&two, "sleep", NOW));
    let (_, server, kind) = both.connect();
    assert_eq!(kind, rustls::HandshakeKind::Full);
    let seen = both.pair.server.peer(&server, PeerRole::Client, NOW);
    assert_eq!(seen.unwrap().unwrap().issuers[0], two.fingerprint());
    assert_eq!(both.resumed(), 4);
    both.set(NOW.after(HOUR));
    assert_eq!(both.connect().2, rustls::HandshakeKind::Full);
}

/// The bookkeeping above only avoids it: even a session that outlived a root by a race leads nowhere.
#[test]
fn a_resumed_peer_whose_root_was_taken_away_is_refused() {
    let (a, b) = (root("mesh-a"), root("mesh-b"));
    let both_roots = a
        .bundle(&domain())
        .unwrap()
        .with(&b.bundle(&domain()).unwrap());
    let (ca, cb) = (issuer(&a, 1), issuer(&b, 2));
    let with_both = |holding: Holding| holding.with_bundle(both_roots.clone(), NOW).unwrap();
    let both = Resuming::new(
        with_both(holding(&ca, "sleep", NOW)),
        with_both(holding(&cb, "hello", NOW)),
        PeerRule::exactly(id("hello")),
    );
    both.connect();
    let (client, server, kind) = both.connect();
    assert_eq!(kind, rustls::HandshakeKind::Resumed);
    both.pair.client.install(holding(&ca, "sleep", NOW));
    both.pair.server.install(holding(&cb, "hello", NOW));
    let to = both.pair.client.server(&client, &both.rule, NOW);
    assert_eq!(to.unwrap_err().code(), "unknown_issuer");
    let from = both.pair.server.peer(&server, PeerRole::Client, NOW);
    assert_eq!(from.unwrap_err().code(), "unknown_issuer");
}

#[test]
fn a_resumed_peer_is_not_believed_past_its_certificate_nor_for_another_rule() {
    let root = root("mesh-1");
    let one = issuer(&root, 1);
    let both = Resuming::new(
        holding(&one, "sleep", NOW),
        holding(&one, "hello", NOW),
        PeerRule::exactly(id("hello")),
    );
    both.connect();
    let (client, server, kind) = both.connect();
    assert_eq!(kind, rustls::HandshakeKind::Resumed);
    let late = NOW.after(DAY + HOUR);
    let to = both.pair.client.server(&client, &both.rule, late);
    assert_eq!(to.unwrap_err().code(), "expired");
    let from = both.pair.server.peer(&server, PeerRole::Client, late);
    assert_eq!(from.unwrap_err().code(), "expired");
    for (rule, code) in [
        (PeerRule::exactly(id("other")), "wrong_identity"),
        (
            PeerRule::exactly(id("hello")).issued_by([issuer(&root, 2).fingerprint()]),
            "wrong_issuer",
        ),
    ] {
        let refused = both.pair.client.server(&client, &rule, NOW).unwrap_err();
        assert_eq!(refused.code(), code);
    }
}

/// A session of an anonymous caller must not open a door at which certificates are demanded.
#[test]
fn a_ticket_of_one_listener_is_worth_nothing_to_another() {
    let root = root("mesh-1");
    let (server, clock) = credentials(holding(&issuer(&root, 2), "hello", NOW));
    let nobody = Credentials::anonymous(root.bundle(&domain()).unwrap(), clock);
    let base = nobody
        .client_config(&PeerRule::exactly(id("hello")), H2)
        .unwrap();
    let (dialer, _sessions) = nobody.resuming(&base, 4);
    let open = server
        .resuming_server_config(H2, ClientAuth::Optional)
        .unwrap();
    let closed = server
        .resuming_server_config(H2, ClientAuth::Required)
        .unwrap();
    for wanted in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
        let (client, accepted) = shake(&dialer, &open).unwrap();
        assert_eq!(client.handshake_kind(), Some(wanted));
        let caller = server.peer(&accepted, PeerRole::Client, NOW).unwrap();
        assert_eq!(caller, None);
    }
    assert_eq!(
        refusal(shake(&dialer, &closed)),
        ("server", "no_certificate".to_owned())
    );
}

#[test]
fn who_has_no_certificate_reaches_only_those_that_allow_it() {
    let root = root("mesh-1");
    let bundle = root.bundle(&domain()).unwrap();
    let newcomer = Credentials::anonymous(bundle, SetClock::at(NOW));
    let control_plane = catamaran_model::SpiffeId::control_plane(domain());
    let held = issuer(&root, 1)
        .holding_for(&control_plane, None, NOW)
        .unwrap();
    let (server, _) = credentials(held);
    let dialer = newcomer
        .client_config(&PeerRule::exactly(control_plane), &[b"h2"])
        .unwrap();

    let open = server
        .server_config(&[b"h2"], ClientAuth::Optional)
        .unwrap();
    let (_, accepted) = shake(&dialer, &open).unwrap();
    assert_eq!(server.peer(&accepted, PeerRole::Client, NOW), Ok(None));

    let closed = server
        .server_config(&[b"h2"], ClientAuth::Required)
        .unwrap();
    assert_eq!(
        refusal(shake(&dialer, &closed)),
        ("server", "no_certificate".to_owned())
    );

    assert_eq!(newcomer.generation(), 0);
    newcomer.install(holding(&issuer(&root, 1), "sleep", NOW));
    let (_, accepted) = shake(&dialer, &closed).unwrap();
    assert_eq!(
        server
            .peer(&accepted, PeerRole::Client, NOW)
            .unwrap()
            .unwrap()
            .id,
        id("sleep")
    );
}

#[test]
fn a_bad_certificate_is_refused_even_where_none_is_needed() {
    let (ours, theirs) = (root("mesh-1"), root("mesh-3"));
    let (server, _) = credentials(holding(&issuer(&ours, 1), "hello", NOW));
    let both = theirs
        .bundle(&domain())
        .unwrap()
        .with(&ours.bundle(&domain()).unwrap());
    let client = Credentials::new(
        holding(&issuer(&theirs, 3), "sleep", NOW)
            .with_bundle(both, NOW)
            .unwrap(),
        SetClock::at(NOW),
    );
    let open = server.server_config(&[], ClientAuth::Optional).unwrap();
    let dialer = client
        .client_config(&PeerRule::exactly(id("hello")), &[])
        .unwrap();
    assert_eq!(
        refusal(shake(&dialer, &open)),
        ("server", "unknown_issuer".to_owned())
    );
}

#[test]
fn a_server_without_a_certificate_serves_nobody() {
    let root = root("mesh-1");
    let empty = Credentials::anonymous(root.bundle(&domain()).unwrap(), SetClock::at(NOW));
    let (client, _) = credentials(holding(&issuer(&root, 1), "sleep", NOW));
    let listener = empty.server_config(&[], ClientAuth::Required).unwrap();
    let dialer = client
        .client_config(&PeerRule::exactly(id("hello")), &[])
        .unwrap();
    assert_eq!(refusal(shake(&dialer, &listener)).0, "server");
}

#[test]
fn equal_rules_share_one_configuration_and_unused_ones_go() {
    let root = root("mesh-1");
    let one = issuer(&root, 1);
    let (credentials, _) = credentials(holding(&one, "sleep", NOW));
    let rule =
        |account: &str| PeerRule::any_of([id(account), id("hello")]).issued_by([one.fingerprint()]);
    let kept = credentials.client_config(&rule("a"), H2).unwrap();
    assert!(Arc::ptr_eq(
        &kept,
        &credentials.client_config(&rule("a"), H2).unwrap()
    ));
    assert!(!Arc::ptr_eq(
        &kept,
        &credentials.client_config(&rule("b"), H2).unwrap()
    ));
    assert!(!Arc::ptr_eq(
        &kept,
        &credentials.client_config(&rule("a"), &[]).unwrap()
    ));
    for n in 0..10 * SWEEP_EVERY {
        credentials
            .client_config(&rule(&format!("a{n}")), H2)
            .unwrap();
    }
    let remembered = credentials.configs().clients.len();
    assert!(remembered <= SWEEP_EVERY + 1, "{remembered}");
    assert!(Arc::ptr_eq(
        &kept,
        &credentials.client_config(&rule("a"), H2).unwrap()
    ));
}

#[test]
fn the_same_content_again_is_no_new_generation() {
    let root = root("mesh-1");
    let held = holding(&issuer(&root, 1), "sleep", NOW);
    let (credentials, _) = credentials(held.clone());
    assert_eq!(credentials.install(held.clone()), 1);
    let wider = root
        .bundle(&domain())
        .unwrap()
        .with(&crate::fixtures::root("mesh-2").bundle(&domain()).unwrap());
    assert_eq!(
        credentials.install(held.with_bundle(wider, NOW).unwrap()),
        2
    );
    assert_eq!(credentials.bundle().fingerprints().len(), 2);
}

#[test]
fn no_form_of_it_prints_the_key() {
    let held = holding(&issuer(&root("mesh-1"), 1), "sleep", NOW);
    let key = held.key_pem();
    let (credentials, _) = credentials(held);
    let server = credentials.server_config(H2, ClientAuth::Required).unwrap();
    let text = format!("{credentials:?} {:?} {server:?}", credentials.holding());
    assert!(!text.contains(key.lines().nth(1).unwrap()));
}
