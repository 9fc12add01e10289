//! What carries a pod's connections: our own proxy, or a stock Envoy with our agent beside it.

use std::path::{Path, PathBuf};

use catamaran_model::Labels;

use super::DEFAULT_PATH;

/// The annotation of a pod's template, or of the `Cluster` object for its gateway, that says who carries: `catamaran`, as
/// without it, or `envoy`.
pub const CARRIER: &str = "catamaran.dev/proxy";
/// The annotation beside it that says how an Envoy is told its configuration: `delta`, as without it, or `sotw`.
pub const ENVOY_XDS: &str = "catamaran.dev/envoy-xds";
/// Where the Envoy is, for pods that want one; else `envoy` is looked for in `PATH`.
const ENVOY: &str = "CATAMARAN_ENVOY";

/// Who carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    Catamaran,
    Envoy { sotw: bool },
}

/// What a template's annotations ask for, or what cannot be made of them.
pub(crate) fn carrier(annotations: &Labels) -> Result<Carrier, String> {
    let said = |name| annotations.get(name).map(String::as_str);
    let unknown = |name: &str, value: &str, known: &str| {
        let value: String = value.chars().take(100).collect();
        Err(format!(
            "the annotation {name} is {value:?}; it may be {known}"
        ))
    };
    let sotw = match said(ENVOY_XDS) {
        None | Some("delta") => false,
        Some("sotw") => true,
        Some(other) => return unknown(ENVOY_XDS, other, "delta or sotw"),
    };
    match said(CARRIER) {
        None | Some("catamaran") => Ok(Carrier::Catamaran),
        Some("envoy") => Ok(Carrier::Envoy { sotw }),
        Some(other) => unknown(CARRIER, other, "catamaran or envoy"),
    }
}

/// Those of an object's annotations that say who carries.
pub(crate) fn said(annotations: &Labels) -> Labels {
    let ours = |name: &&String| [CARRIER, ENVOY_XDS].contains(&name.as_str());
    let pairs = annotations.iter().filter(|(name, _)| ours(name));
    pairs
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The Envoy of this machine, or why there is none.
pub(crate) fn find_envoy() -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os(ENVOY).map(PathBuf::from) {
        return match (given.is_absolute(), given.is_file()) {
            (true, true) => Ok(given),
            (false, _) => Err(format!("{ENVOY}={} is not absolute", given.display())),
            (_, false) => Err(format!("{ENVOY}={} is no file", given.display())),
        };
    }
    let path = std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.into());
    path.split(':')
        .map(|folder| Path::new(folder).join("envoy"))
        .find(|file| file.is_file())
        .ok_or_else(|| format!("{ENVOY} is not set, and envoy is not in PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Carrier, String> {
        let pairs = pairs.iter();
        carrier(
            &pairs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn a_template_says_who_carries() {
        assert_eq!(of(&[]), Ok(Carrier::Catamaran));
        assert_eq!(of(&[(CARRIER, "catamaran")]), Ok(Carrier::Catamaran));
        assert_eq!(
            of(&[(CARRIER, "envoy")]),
            Ok(Carrier::Envoy { sotw: false })
        );
        let full = [(CARRIER, "envoy"), (ENVOY_XDS, "sotw")];
        assert_eq!(of(&full), Ok(Carrier::Envoy { sotw: true }));
    }

    #[test]
    fn what_nobody_knows_is_named() {
        let nginx = of(&[(CARRIER, "nginx")]).unwrap_err();
        assert_eq!(
            nginx,
            "the annotation catamaran.dev/proxy is \"nginx\"; it may be catamaran or envoy"
        );
        assert!(of(&[(CARRIER, "envoy"), (ENVOY_XDS, "full")]).is_err());
    }
}
