//! The first bytes of a connection.

use catamaran_proxy::fuzzing;

use super::Target;

/// Bytes of a connection that are read before its ClientHello is whole.
const RAW_LIMIT: usize = 32 * 1024;

/// The reader of server names.
pub(crate) const TARGET: Target = Target {
    name: "hello",
    what: "a ClientHello means the same in whatever pieces it comes, and its name is one legal name",
    run,
    seeds,
    words: WORDS,
    cases: 20_000,
};

/// Which protocol a connection speaks.
pub(crate) const BEGINNING: Target = Target {
    name: "beginning",
    what: "what was looked at is kept, byte for byte, for whoever carries the connection",
    run: beginning,
    seeds: beginnings,
    words: &[
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET ",
        b" HTTP/1.1\r\n",
        b"\r\n",
        b"\x16\x03\x01",
    ],
    cases: 10_000,
};

const WORDS: &[&[u8]] = &[
    b"\x16\x03\x01\x00\x01",
    b"\x00\x00\x00\x05\x00\x03\x00\x00\x00",
    b"\x00\x10\x00\x05\x00\x03\x02h2",
    b"outbound_.5000_._.helloworld.default.svc.cluster.local",
    b"\xff\xff",
    b"*.",
    b"\0",
    b"%REQUESTED_SERVER_NAME%",
];

fn run(bytes: &[u8]) {
    let whole = fuzzing::hello([bytes]);
    if let Ok(Some(hello)) = &whole {
        if let Some(name) = &hello.server_name {
            assert!(
                (1..=255).contains(&name.len()),
                "a name of {} bytes",
                name.len()
            );
            let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
            assert!(name.bytes().all(legal), "the name {name:?}");
        }
        assert!(
            hello
                .alpn
                .iter()
                .all(|name| (1..=255).contains(&name.len()))
        );
    }
    if bytes.len() < RAW_LIMIT {
        let step = 1 + bytes.len() / 256;
        assert_eq!(
            fuzzing::hello(bytes.chunks(step)),
            whole,
            "in pieces of {step} bytes"
        );
        let (head, rest) =
            bytes.split_at(usize::from(bytes.first().copied().unwrap_or(0)).min(bytes.len()));
        assert_eq!(fuzzing::hello([head, rest]), whole, "cut at {}", head.len());
    }
}

fn beginning(bytes: &[u8]) {
    let Some((how, bytes)) = bytes.split_first() else {
        return;
    };
    let (tls, http) = (how & 1 != 0, how & 2 != 0);
    let (word, head) = super::http::block_on(fuzzing::beginning(bytes, tls, http));
    assert!(bytes.starts_with(&head), "what was read is kept");
    assert!(tls || word != "tls", "nobody looked for TLS");
    assert!(http || !word.starts_with("http"), "nobody looked for HTTP");
}

/// A ClientHello with these extensions, in one record.
pub fn client_hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, content) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend((content.len() as u16).to_be_bytes());
        list.extend(content);
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(32);
    body.extend([9; 32]);
    body.extend([0, 6, 0x13, 1, 0x13, 2, 0xc0, 0x2b]);
    body.extend([1, 0]);
    body.extend((list.len() as u16).to_be_bytes());
    body.extend(list);
    let mut message = vec![1, 0];
    message.extend((body.len() as u16).to_be_bytes());
    message.extend(body);
    records(&message, 16 * 1024)
}

/// A handshake message in records of so many bytes.
pub fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|part| {
            let mut record = vec![0x16, 3, 1];
            record.extend((part.len() as u16).to_be_bytes());
            record.extend_from_slice(part);
            record
        })
        .collect()
}

/// The extension that names a server.
pub fn server_name(name: &str) -> (u16, Vec<u8>) {
    let mut content = ((name.len() + 3) as u16).to_be_bytes().to_vec();
    content.push(0);
    content.extend((name.len() as u16).to_be_bytes());
    content.extend(name.as_bytes());
    (0, content)
}

/// The extension that offers protocols.
pub fn alpn(names: &[&str]) -> (u16, Vec<u8>) {
    let mut list = Vec::new();
    for name in names {
        list.push(name.len() as u8);
        list.extend(name.as_bytes());
    }
    let mut content = (list.len() as u16).to_be_bytes().to_vec();
    content.extend(list);
    (16, content)
}

fn seeds() -> Vec<Vec<u8>> {
    let name = "outbound_.5000_._.helloworld.default.svc.cluster.local";
    let full = client_hello(&[
        server_name(name),
        alpn(&["istio-peer-exchange", "istio", "h2", "http/1.1"]),
        (43, vec![2, 3, 4]),
        (10, vec![0, 2, 0, 29]),
    ]);
    vec![
        client_hello(&[]),
        client_hello(&[alpn(&["h2"])]),
        client_hello(&[server_name(&"a".repeat(255))]),
        client_hello(&[server_name(&"a".repeat(256))]),
        client_hello(&[server_name("a"), server_name("b")]),
        records(&full[5..], 1),
        records(&full[5..], 7),
        full,
    ]
}

fn beginnings() -> Vec<Vec<u8>> {
    let plain: [&[u8]; 5] = [
        b"\x03GET /hello HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\x02PROPFIND /a HTTP/1.0\r\n\r\n",
        b"\x03PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
        b"\x03SSH-2.0-OpenSSH\r\n",
        b"\x01",
    ];
    let hellos = seeds().into_iter().map(|hello| [&[3], &hello[..]].concat());
    plain
        .map(<[u8]>::to_vec)
        .into_iter()
        .chain(hellos)
        .collect()
}
