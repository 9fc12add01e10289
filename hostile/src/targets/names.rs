//! Names that come from outside: identities, clusters, paths, versions, prints.

use catamaran_decide::normalize_path;
use catamaran_model::{ClusterName, Fingerprint, SpiffeId};
use catamaran_xds::Version;

use super::Target;

/// The readers of names.
pub(crate) const TARGET: Target = Target {
    name: "names",
    what: "what is read as a name is written as the very same text, and normalising a path twice changes nothing more",
    run,
    seeds,
    words: &[
        b"spiffe://",
        b"/ns/",
        b"/sa/",
        b"%2e",
        b"%2F",
        b"/../",
        b"\\",
        b"//",
        b"_.",
        b"|",
        b"\0",
        b"+",
    ],
    cases: 20_000,
};

fn run(bytes: &[u8]) {
    let text = &*String::from_utf8_lossy(bytes);
    if let Ok(id) = SpiffeId::parse(text) {
        assert_eq!(id.to_string(), text);
        assert!(text.is_ascii() && !text.contains(['%', '\0', ' ']) && !text.ends_with('/'));
    }
    if let Ok(name) = ClusterName::parse(text) {
        assert_eq!(ClusterName::parse(&name.to_string()), Ok(name));
    }
    if let Ok(name) = ClusterName::parse_sni(text) {
        let sni = name.sni();
        assert_eq!(ClusterName::parse_sni(&sni).map(|name| name.sni()), Ok(sni));
    }
    if let Some(version) = Version::parse(text) {
        assert_eq!(version.to_string(), text.to_ascii_lowercase());
    }
    if let Some(print) = Fingerprint::parse(text) {
        // people write them with colons too
        assert_eq!(
            print.to_string(),
            text.replace(':', "").to_ascii_lowercase()
        );
    }
    let once = normalize_path(text).into_owned();
    assert_eq!(normalize_path(&once), once, "of {text:?}");
    if text.starts_with('/') {
        let path = once.split(['?', '#']).next().unwrap_or_default();
        assert!(
            path.starts_with('/') && !path.split('/').any(|part| part == ".."),
            "{once:?} of {text:?}"
        );
    }
}

fn seeds() -> Vec<Vec<u8>> {
    [
        "spiffe://cluster.local/ns/default/sa/sleep",
        "outbound|5000||helloworld.default.svc.cluster.local",
        "outbound_.5000_._.helloworld.default.svc.cluster.local",
        "inbound|80||",
        "/a/%2e%2E/b/./c?x=/../y",
        "/a//b/..%2f..\\c#d",
        "0123456789abcdef0123456789ABCDEF",
        // a sign is no digit, although Rust's readers of numbers take it
        "0123456789ab+def0123456789ABCDEF",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}
