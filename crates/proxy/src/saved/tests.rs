use std::os::unix::fs::PermissionsExt;

use super::*;

fn resources() -> ResourceSet {
    let resource = |kind, name: &str, body: &'static [u8]| {
        Arc::new(Resource::from_bytes(kind, name, Bytes::from_static(body)))
    };
    [
        resource(TypeUrlKind::Cluster, "a", b"\x0a\x01a"),
        resource(TypeUrlKind::Names, "names", b""),
    ]
    .into_iter()
    .collect()
}

#[test]
fn what_was_saved_is_read_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resources");
    assert!(
        read(&path, "me").unwrap().is_none(),
        "nothing was saved yet"
    );
    write(&path, "me", &encode(&resources())).unwrap();
    write(&path, "me", &encode(&resources())).unwrap();
    let content = read(&path, "me").unwrap().unwrap();
    assert_eq!(decode(content).unwrap(), resources());
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
}

#[test]
fn a_torn_or_changed_file_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resources");
    write(&path, "me", &encode(&resources())).unwrap();
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(
            matches!(read(&path, "me"), Err(SavedError::Torn { .. })),
            "cut at {length}"
        );
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        assert!(read(&path, "me").is_err(), "changed at {at}");
    }
}

#[test]
fn what_was_saved_for_somebody_else_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resources");
    write(&path, "you", b"").unwrap();
    assert!(matches!(read(&path, "me"), Err(SavedError::Other { .. })));
}
