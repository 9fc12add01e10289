use proptest::prelude::*;

use super::normalize_path;

#[test]
fn dots_escapes_and_backslashes_go() {
    for (path, normal) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("/a//b", "/a//b"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/..", "/"),
        ("/../../a", "/a"),
        ("/a\\..\\b", "/b"),
        ("/%61/%2E%2e/b", "/b"),
        ("/a%2fb", "/a%2fb"),
        ("/%%32e%%32e/x", "/x"),
        ("/%252e%252e/x", "/%252e%252e/x"),
        ("/.hidden/...", "/.hidden/..."),
        ("/a%zz", "/a%zz"),
        ("/a/%2e?b=%2e%2e/", "/a/?b=%2e%2e/"),
        ("*", "*"),
        ("", ""),
        ("http://x/../y", "http://x/../y"),
    ] {
        assert_eq!(normalize_path(path), normal, "{path}");
    }
}

proptest! {
    #[test]
    fn twice_is_once(path in "/[a./%\\\\2e5c?#é]{0,40}") {
        let once = normalize_path(&path).into_owned();
        prop_assert_eq!(normalize_path(&once), once.as_str());
        let plain = once.split(['?', '#']).next().unwrap();
        prop_assert!(!plain.split('/').any(|segment| segment == "." || segment == ".."));
    }
}
