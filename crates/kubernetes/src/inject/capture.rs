//! The init container that redirects a pod's connections, as its annotations say.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{InjectError, Instance, Meta, PROGRAM, REDIRECT};

/// What an annotation's list may hold.
#[derive(Clone, Copy)]
enum Of {
    /// Ports, or `*` for all.
    Ports,
    /// Ports only.
    SomePorts,
    /// Ranges and addresses, or `*` for all.
    Ranges,
    /// Ranges and addresses only.
    SomeRanges,
}

/// Annotations of Istio's, and the options of `catamaran proxy capture` that they are.
const OPTIONS: [(&str, &str, Of); 6] = [
    (
        "traffic.sidecar.istio.io/includeInboundPorts",
        "--include-inbound-ports",
        Of::Ports,
    ),
    (
        "traffic.sidecar.istio.io/excludeInboundPorts",
        "--exclude-inbound-ports",
        Of::SomePorts,
    ),
    (
        "traffic.sidecar.istio.io/includeOutboundPorts",
        "--include-outbound-ports",
        Of::SomePorts,
    ),
    (
        "traffic.sidecar.istio.io/excludeOutboundPorts",
        "--exclude-outbound-ports",
        Of::SomePorts,
    ),
    (
        "traffic.sidecar.istio.io/includeOutboundIPRanges",
        "--include-outbound-ranges",
        Of::Ranges,
    ),
    (
        "traffic.sidecar.istio.io/excludeOutboundIPRanges",
        "--exclude-outbound-ranges",
        Of::SomeRanges,
    ),
];
const MODE: &str = "sidecar.istio.io/interceptionMode";

pub(super) fn container(instance: &Instance, meta: &Meta) -> Result<Value, InjectError> {
    match meta.annotation(MODE) {
        None | Some("REDIRECT") => {}
        Some(other) => {
            return Err(InjectError::annotation(
                MODE,
                other,
                "is not implemented; leave it out, or say REDIRECT",
            ));
        }
    }
    let mut args = ["proxy", "capture", "--address", "$(POD_IP)"]
        .map(str::to_owned)
        .to_vec();
    for (annotation, option, of) in OPTIONS {
        let Some(text) = meta.annotation(annotation) else {
            continue;
        };
        let text = checked(annotation, text, of)?;
        // an empty list of what is included means that nothing is
        args.push(format!("{option}={text}"));
    }
    Ok(json!({
        "name": REDIRECT,
        "image": meta.annotation("sidecar.istio.io/proxyImage").unwrap_or(&instance.image),
        "command": [PROGRAM],
        "args": args,
        "env": [super::field("POD_IP", "status.podIP")],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "readOnlyRootFilesystem": true,
            "allowPrivilegeEscalation": false,
            "privileged": false,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
        },
    }))
}

/// A list without blanks, or which item of it is none. The option refuses the same, but in a pod that then does not start.
fn checked(annotation: &str, text: &str, of: Of) -> Result<String, InjectError> {
    if text.trim() == "*" && matches!(of, Of::Ports | Of::Ranges) {
        return Ok("*".into());
    }
    let items: Vec<&str> = text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect();
    for item in &items {
        let (legal, reason) = match of {
            Of::Ports | Of::SomePorts => (is_port(item), "is no list of ports, as 8080,9090"),
            Of::Ranges | Of::SomeRanges => {
                (is_range(item), "is no list of CIDR ranges, as 10.0.0.0/8")
            }
        };
        if !legal {
            return Err(InjectError::annotation(annotation, text, reason));
        }
    }
    Ok(items.join(","))
}

fn is_port(text: &str) -> bool {
    !text.starts_with('+') && text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// A range, or one address.
fn is_range(text: &str) -> bool {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.is_none_or(|bits| {
        !bits.starts_with('+') && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
    })
}
