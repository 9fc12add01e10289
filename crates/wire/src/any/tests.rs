use super::*;
use crate::core::TypedExtensionConfig;
use crate::listener::Listener;
use crate::names::NameTable;

#[test]
fn another_type_is_refused_by_both_names() {
    let packed = Any::pack(&Listener::default());
    let error = packed.unpack::<NameTable>().unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"wanted istio.networking.nds.v1.NameTable, found "envoy.config.listener.v3.Listener""#
    );
}

#[test]
fn malformed_bytes_are_refused_by_type_and_reason() {
    let packed = Any {
        type_url: Listener::TYPE_URL.into(),
        value: Bytes::from_static(b"\x0a\x05ab"),
    };
    let error = packed.unpack::<Listener>().unwrap_err().to_string();
    assert!(
        error.starts_with("malformed envoy.config.listener.v3.Listener: "),
        "{error}"
    );
    assert!(
        error.contains("buffer underflow") || error.contains("Listener.name"),
        "{error}"
    );
}

#[test]
fn the_host_of_a_type_url_means_nothing() {
    let mut packed = Any::pack(&Listener {
        name: "virtualInbound".into(),
        ..Default::default()
    });
    packed.type_url = "example.org/types/envoy.config.listener.v3.Listener".into();
    assert_eq!(packed.unpack::<Listener>().unwrap().name, "virtualInbound");
}

#[test]
fn a_nesting_of_any_depth_costs_no_stack() {
    let mut packed = Any::pack(&Listener {
        name: "innermost".into(),
        ..Default::default()
    });
    for _ in 0..10_000 {
        packed = Any::pack(&TypedExtensionConfig {
            name: String::new(),
            typed_config: Some(packed),
        });
    }
    let copy = packed.clone();
    assert_eq!(copy, packed);
    let mut depth = 0;
    while packed.is::<TypedExtensionConfig>() {
        packed = packed
            .unpack::<TypedExtensionConfig>()
            .unwrap()
            .typed_config
            .unwrap();
        depth += 1;
    }
    assert_eq!(
        (depth, packed.unpack::<Listener>().unwrap().name.as_str()),
        (10_000, "innermost")
    );
}

#[test]
fn a_shared_buffer_is_not_copied() {
    let outer = TypedExtensionConfig {
        name: "x".into(),
        typed_config: Some(Any::pack(&Listener {
            name: "inner".into(),
            ..Default::default()
        })),
    };
    let bytes: Bytes = outer.encode_to_vec().into();
    let inner = TypedExtensionConfig::decode(bytes.clone())
        .unwrap()
        .typed_config
        .unwrap();
    assert!(bytes.as_ptr_range().contains(&inner.value.as_ptr()));
}

#[test]
fn what_is_packed_is_not_printed() {
    let packed = Any {
        type_url: "t/secret".into(),
        value: Bytes::from_static(b"key"),
    };
    assert_eq!(
        format!("{packed:?}"),
        r#"Any { type_url: "t/secret", value: 3 bytes }"#
    );
}

#[test]
fn no_two_messages_share_a_name() {
    let mut names: Vec<&str> = NAMES.iter().map(|(_, name)| *name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn each_type_url_is_the_name_in_the_documentation() {
    for (path, name) in NAMES {
        let (module, message) = path.trim_start_matches("crate::").split_once("::").unwrap();
        let file = format!("{}/src/{module}.rs", env!("CARGO_MANIFEST_DIR"));
        let source = std::fs::read_to_string(file).unwrap();
        let (before, _) = source
            .split_once(&format!("pub struct {message} {{"))
            .unwrap();
        let item = &before[before.rfind("\n\n").unwrap()..];
        assert!(
            item.contains(&format!("/// `{name}`\n")),
            "{path} is not {name}: {item}"
        );
    }
}
