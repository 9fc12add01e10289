//! What a pod mounts: Secrets, written into the pod's folder, and empty folders.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::atomic;
use crate::object::{PodSpec, SecretObject};

/// The largest Secret's value, in bytes.
const MAX_VALUE: usize = 1 << 20;

/// What a pod waits for before its volumes can be written, if anything. `secret` finds a Secret of the pod's namespace.
pub(crate) fn missing<'a>(
    pod: &PodSpec,
    namespace: &str,
    secret: impl Fn(&str) -> Option<&'a SecretObject>,
) -> Option<String> {
    for volume in &pod.volumes {
        match (&volume.secret, &volume.empty_dir) {
            (Some(wanted), _) => match secret(&wanted.secret_name) {
                None if wanted.optional != Some(true) => {
                    return Some(format!(
                        "Secret {namespace}/{} not found",
                        wanted.secret_name
                    ));
                }
                Some(found) => {
                    if let Err(reason) = contents(found) {
                        return Some(format!(
                            "Secret {namespace}/{}: {reason}",
                            wanted.secret_name
                        ));
                    }
                }
                None => {}
            },
            (None, Some(_)) => {}
            (None, None) => {
                return Some(format!(
                    "volume {} is neither a secret nor an emptyDir",
                    volume.name
                ));
            }
        }
    }
    None
}

/// Writes the volumes below `folder`; each one's folder by its name.
pub(crate) fn write<'a>(
    pod: &PodSpec,
    folder: &Path,
    secret: impl Fn(&str) -> Option<&'a SecretObject>,
) -> std::io::Result<BTreeMap<String, PathBuf>> {
    let mut written = BTreeMap::new();
    for volume in &pod.volumes {
        let at = folder.join(&volume.name);
        fs::create_dir_all(&at)?;
        let found = volume
            .secret
            .as_ref()
            .and_then(|wanted| secret(&wanted.secret_name));
        if let Some(files) = found.and_then(|found| contents(found).ok()) {
            for (name, bytes) in &files {
                atomic::write_if_changed(&at.join(name), bytes, 0o600)?;
            }
            for entry in fs::read_dir(&at)?.flatten() {
                if entry
                    .file_name()
                    .to_str()
                    .is_none_or(|name| !files.contains_key(name))
                {
                    atomic::remove(&entry.path())?;
                }
            }
        }
        written.insert(volume.name.clone(), at);
    }
    Ok(written)
}

fn contents(secret: &SecretObject) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut files = BTreeMap::new();
    for (name, text) in &secret.data {
        let bytes = base64(text).ok_or_else(|| format!("the value of {name} is no base64"))?;
        files.insert(name.clone(), bytes);
    }
    for (name, text) in &secret.string_data {
        files.insert(name.clone(), text.clone().into_bytes());
    }
    match files.iter().find(|(_, bytes)| bytes.len() > MAX_VALUE) {
        Some((name, _)) => Err(format!(
            "the value of {name} is larger than {MAX_VALUE} bytes"
        )),
        None => Ok(files),
    }
}

/// RFC 4648, section 4; line breaks are skipped.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let digits = text
        .iter()
        .rposition(|b| *b != b'=')
        .map_or(0, |last| last + 1);
    if !text.len().is_multiple_of(4) || text.len() - digits > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits * 3 / 4);
    for group in text[..digits].chunks(4) {
        let mut bits: u32 = 0;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * (4 - group.len());
        let [_, high, middle, low] = bits.to_be_bytes();
        bytes.extend(&[high, middle, low][..(group.len() * 3 / 4).max(1)]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{SecretVolume, Volume};

    fn pod(optional: Option<bool>) -> PodSpec {
        PodSpec {
            volumes: vec![Volume {
                name: "keys".into(),
                secret: Some(SecretVolume {
                    secret_name: "x".into(),
                    optional,
                }),
                empty_dir: None,
            }],
            ..PodSpec::default()
        }
    }

    #[test]
    fn a_secret_that_must_be_there_is_waited_for() {
        let none = |_: &str| None;
        assert_eq!(
            missing(&pod(None), "default", none).unwrap(),
            "Secret default/x not found"
        );
        assert_eq!(missing(&pod(Some(true)), "default", none), None);
    }

    #[test]
    fn a_secret_becomes_files() {
        let tmp = tempfile::tempdir().unwrap();
        let mut secret = SecretObject::default();
        secret.data.insert("a".into(), "aGVsbG8=".into());
        secret.string_data.insert("b".into(), "plain".into());
        let written = write(&pod(None), tmp.path(), |_| Some(&secret)).unwrap();
        assert_eq!(fs::read(written["keys"].join("a")).unwrap(), b"hello");
        secret.data.remove("a");
        write(&pod(None), tmp.path(), |_| Some(&secret)).unwrap();
        assert!(!written["keys"].join("a").exists());
        secret.data.insert("a".into(), "a*b".into());
        let reason = missing(&pod(None), "default", |_| Some(&secret)).unwrap();
        assert_eq!(reason, "Secret default/x: the value of a is no base64");
    }

    #[test]
    fn base64_is_that_of_the_rfc() {
        let table = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in table {
            assert_eq!(base64(coded).as_deref(), Some(plain.as_bytes()), "{coded}");
        }
        for bad in ["Z", "Zg", "Zg=", "Zm9v=", "====", "Z===", "Zm9v Yg=!"] {
            assert_eq!(base64(bad), None, "{bad}");
        }
    }
}
