use std::sync::Arc;

use proptest::prelude::*;

use super::*;

const SNI: &str = "outbound_.5000_._.helloworld.default.svc.cluster.local";

/// The first flight of a rustls client that wants `name`.
fn real_hello(name: &str, alpn: &[&str]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

fn read(bytes: &[u8]) -> Result<Option<ClientHello>, HelloError> {
    HelloReader::default().push(bytes)
}

/// A ClientHello message from its extensions, in one record.
fn hello_with(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, content) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend((content.len() as u16).to_be_bytes());
        list.extend(content);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 2, 0x13, 0x01]);
    body.extend([1, 0]);
    body.extend((list.len() as u16).to_be_bytes());
    body.extend(list);
    message(&body)
}

fn message(body: &[u8]) -> Vec<u8> {
    let mut message = vec![1];
    message.extend(&(body.len() as u32).to_be_bytes()[1..]);
    message.extend(body);
    message
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in message.chunks(size) {
        out.extend([0x16, 3, 1]);
        out.extend((piece.len() as u16).to_be_bytes());
        out.extend(piece);
    }
    out
}

fn server_names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, name) in names {
        list.push(*kind);
        list.extend((name.len() as u16).to_be_bytes());
        list.extend(*name);
    }
    let mut content = (list.len() as u16).to_be_bytes().to_vec();
    content.extend(list);
    content
}

#[test]
fn a_real_hello_says_name_and_protocols() {
    let hello = read(&real_hello(SNI, &["istio-h2", "istio"]))
        .unwrap()
        .unwrap();
    assert_eq!(hello.server_name.as_deref(), Some(SNI));
    assert_eq!(hello.alpn, [b"istio-h2".to_vec(), b"istio".to_vec()]);
}

#[test]
fn every_split_of_a_real_hello_reads_the_same() {
    let bytes = real_hello(SNI, &["istio-h2"]);
    let whole = read(&bytes).unwrap();
    for cut in 1..bytes.len() {
        let mut reader = HelloReader::default();
        assert_eq!(
            reader.push(&bytes[..cut]),
            Ok(None),
            "answered before byte {cut}"
        );
        assert_eq!(
            reader.push(&bytes[cut..]),
            Ok(whole.clone()),
            "cut at {cut}"
        );
    }
}

#[test]
fn records_and_segments_of_one_byte_read_the_same() {
    let bytes = real_hello(SNI, &["istio"]);
    let whole = read(&bytes).unwrap();
    let one_by_one = records(&bytes[5..], 1);
    let mut reader = HelloReader::default();
    for (at, byte) in one_by_one.iter().enumerate() {
        let got = reader.push(std::slice::from_ref(byte)).unwrap();
        if at + 1 == one_by_one.len() {
            assert_eq!(got, whole);
        } else {
            assert_eq!(got, None);
        }
    }
}

#[test]
fn what_follows_the_hello_does_not_matter() {
    let mut bytes = real_hello(SNI, &[]);
    bytes.extend(b"\x17\x03\x03\x00\x01x");
    assert!(read(&bytes).unwrap().is_some());
}

#[test]
fn a_hello_without_a_name_has_none() {
    assert_eq!(
        read(&records(&hello_with(&[]), 100)),
        Ok(Some(ClientHello::default()))
    );
}

#[test]
fn names_are_compared_in_lower_case() {
    let hello = hello_with(&[(0, server_names(&[(0, b"Hello.Example")]))]);
    let name = read(&records(&hello, 400)).unwrap().unwrap().server_name;
    assert_eq!(name.as_deref(), Some("hello.example"));
}

#[test]
fn ambiguous_and_illegal_names_are_refused() {
    let refused = |content: Vec<u8>, why: HelloError| {
        assert_eq!(read(&records(&hello_with(&[(0, content)]), 4000)), Err(why));
    };
    refused(
        server_names(&[(0, b"a"), (0, b"b")]),
        HelloError::ServerName,
    );
    refused(server_names(&[(0, b"")]), HelloError::ServerName);
    refused(server_names(&[(1, b"a")]), HelloError::ServerName);
    refused(server_names(&[(0, b"a\0b")]), HelloError::ServerName);
    refused(
        server_names(&[(0, "ä.b".as_bytes())]),
        HelloError::ServerName,
    );
    refused(server_names(&[(0, &[b'a'; 256])]), HelloError::ServerName);
    refused(server_names(&[]), HelloError::Malformed);
    refused(vec![0, 9, 0, 0, 1, b'a'], HelloError::Malformed);
    let name = server_names(&[(0, b"a")]);
    let twice = hello_with(&[(0, name.clone()), (0, name)]);
    assert_eq!(read(&records(&twice, 400)), Err(HelloError::Duplicate));
}

#[test]
fn the_longest_legal_name_is_read() {
    let hello = hello_with(&[(0, server_names(&[(0, &[b'a'; NAME_LIMIT])]))]);
    let name = read(&records(&hello, 4000)).unwrap().unwrap().server_name;
    assert_eq!(name.unwrap().len(), NAME_LIMIT);
}

#[test]
fn oversized_hellos_are_refused_before_they_are_read() {
    let mut claims = vec![0x16, 3, 1, 0, 4, 1];
    claims.extend(&((MESSAGE_LIMIT + 1) as u32).to_be_bytes()[1..]);
    assert_eq!(read(&claims), Err(HelloError::Oversized));
    let fits = hello_with(&[(21, vec![0; MESSAGE_LIMIT - 200])]);
    assert!(read(&records(&fits, 1 << 14)).unwrap().is_some());
    let crumbs = records(&fits, 1);
    let mut reader = HelloReader::default();
    let end = crumbs
        .chunks(100)
        .map(|piece| reader.push(piece))
        .find(|got| *got != Ok(None));
    assert_eq!(end, Some(Err(HelloError::Oversized)));
    assert!(reader.pushed <= RAW_LIMIT + 100);
}

#[test]
fn other_protocols_are_told_apart_at_once() {
    assert_eq!(read(b"GET / HTTP/1.1\r\n"), Err(HelloError::NotTls));
    assert_eq!(read(&[0x16, 2, 0]), Err(HelloError::NotTls));
    assert_eq!(read(&[0x16, 3, 1, 0, 0]), Err(HelloError::Record));
    assert_eq!(read(&[0x16, 3, 1, 0xff, 0xff]), Err(HelloError::Record));
    assert_eq!(
        read(&[0x16, 3, 1, 0, 1, 2]),
        Err(HelloError::NotClientHello)
    );
    let mut cut_by_alert = records(&hello_with(&[])[..9], 9);
    cut_by_alert.extend([0x15, 3, 1, 0, 2, 1, 0]);
    assert_eq!(read(&cut_by_alert), Err(HelloError::Record));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in 0usize..600) {
        let cut = cut.min(bytes.len());
        let mut reader = HelloReader::default();
        if reader.push(&bytes[..cut]) == Ok(None) {
            let _ = reader.push(&bytes[cut..]);
        }
        let _ = read(&records(&message(&bytes), 77));
    }

    #[test]
    fn a_damaged_hello_never_panics(at in 0usize..300, value in any::<u8>()) {
        let mut bytes = records(&hello_with(&[(0, server_names(&[(0, b"a.b")])), (16, vec![0, 3, 2, b'h', b'2'])]), 30);
        let at = at % bytes.len();
        bytes[at] = value;
        let _ = read(&bytes);
    }
}
