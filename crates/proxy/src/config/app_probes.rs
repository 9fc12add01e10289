//! What kubelet would have asked a workload, were it not captured. The injector leads kubelet's probes to the proxy, which asks
//! in its place.
//!
//! The form is JSON: each path under which kubelet asks the proxy, with the handler and the time of the probe that it replaces,
//! as Kubernetes writes them (`k8s.io/api/core/v1`, `Probe`). Other fields of a probe are kubelet's and passed over.
//!
//! ```
//! use catamaran_proxy::AppProbes;
//! let probes: AppProbes = r#"{
//!     "/app-health/web/livez": {"httpGet": {"path": "/healthz", "port": 8080}, "timeoutSeconds": 3},
//!     "/app-health/web/readyz": {"tcpSocket": {"port": 8080}},
//!     "/app-health/web/startupz": {"grpc": {"port": 9090, "service": "ready"}}
//! }"#.parse()?;
//! assert_eq!(probes.paths().count(), 3);
//! # Ok::<(), catamaran_proxy::AppProbesError>(())
//! ```

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value as Json};

/// Where all of them are.
pub(crate) const FOLDER: &str = "/app-health/";
/// The most of them: one pod has no more.
const MOST: usize = 256;
/// The most headers that one of them sends.
const MOST_HEADERS: usize = 64;
/// Kubernetes' own, for a probe that does not say.
const TIMEOUT: u64 = 1;
/// The longest that a probe may take, in seconds.
const LONGEST: u64 = 3600;

/// Probes of the workload by the paths under which the proxy makes them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AppProbes(BTreeMap<String, AppProbe>);

/// One probe.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AppProbe {
    pub(crate) handler: Handler,
    pub(crate) timeout: Duration,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Handler {
    /// A page, which shall answer with 200 to 399.
    Http {
        port: u16,
        secure: bool,
        target: PathAndQuery,
        /// Those that the probe says; its `Host` among them.
        headers: HeaderMap,
    },
    /// A connection.
    Tcp { port: u16 },
    /// `grpc.health.v1.Health/Check`.
    Grpc { port: u16, service: String },
}

/// Why a text is no map of probes. It never repeats a value, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the probes of the workload cannot be used: {0}")]
pub struct AppProbesError(String);

impl AppProbes {
    /// The paths, in order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn into_all(self) -> impl Iterator<Item = (String, AppProbe)> {
        self.0.into_iter()
    }
}

impl FromStr for AppProbes {
    type Err = AppProbesError;

    fn from_str(text: &str) -> Result<AppProbes, AppProbesError> {
        if text.trim().is_empty() {
            return Ok(AppProbes::default());
        }
        let json = serde_json::from_str(text)
            .map_err(|error| AppProbesError(format!("it is no JSON: {error}")))?;
        let Json::Object(all) = json else {
            return Err(AppProbesError("it is no map".into()));
        };
        if all.len() > MOST {
            return Err(AppProbesError(format!("more than {MOST} of them")));
        }
        let read = all.into_iter().map(|(path, json)| {
            check_path(&path)?;
            let probe = probe(&json).map_err(|error| AppProbesError(format!("{path}: {error}")))?;
            Ok((path, probe))
        });
        Ok(AppProbes(read.collect::<Result<_, _>>()?))
    }
}

/// `/app-health/CONTAINER/livez`, `readyz` or `startupz`.
fn check_path(path: &str) -> Result<(), AppProbesError> {
    let container = |name: &str| {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !name.is_empty() && name.len() <= 63 && name.bytes().all(legal)
    };
    let words = path
        .strip_prefix(FOLDER)
        .and_then(|rest| rest.split_once('/'));
    match words {
        Some((name, "livez" | "readyz" | "startupz")) if container(name) => Ok(()),
        _ => {
            let path: String = path.chars().take(100).collect();
            Err(AppProbesError(format!(
                "{path:?} is no path {FOLDER}CONTAINER/livez, readyz or startupz"
            )))
        }
    }
}

fn probe(json: &Json) -> Result<AppProbe, String> {
    let probe = json.as_object().ok_or("it is no probe")?;
    let said = |name: &str| probe.get(name).filter(|value| !value.is_null());
    let handlers = ["httpGet", "tcpSocket", "grpc", "exec"];
    let mut handlers = handlers
        .into_iter()
        .filter_map(|name| Some((name, said(name)?)));
    let (name, handler) = handlers
        .next()
        .ok_or("it has none of httpGet, tcpSocket and grpc")?;
    if let Some((other, _)) = handlers.next() {
        return Err(format!("it has both {name} and {other}"));
    }
    let fields = handler.as_object().ok_or(format!("{name} is no map"))?;
    let handler = match name {
        "httpGet" => http(fields)?,
        "tcpSocket" => Handler::Tcp {
            port: port(name, fields)?,
        },
        "grpc" => Handler::Grpc {
            port: port(name, fields)?,
            service: text(name, fields, "service")?.unwrap_or_default().into(),
        },
        _ => return Err(format!("{name} is kubelet's to run, not a proxy's")),
    };
    let timeout = match said("timeoutSeconds") {
        None => TIMEOUT,
        Some(value) => match value.as_u64() {
            // Kubernetes fills its own in for 0.
            Some(0) => TIMEOUT,
            Some(seconds) if seconds <= LONGEST => seconds,
            _ => return Err(format!("timeoutSeconds is no number from 1 to {LONGEST}")),
        },
    };
    Ok(AppProbe {
        handler,
        timeout: Duration::from_secs(timeout),
    })
}

fn http(fields: &Map<String, Json>) -> Result<Handler, String> {
    let secure = match text("httpGet", fields, "scheme")? {
        None | Some("" | "HTTP") => false,
        Some("HTTPS") => true,
        Some(_) => return Err("httpGet.scheme is neither HTTP nor HTTPS".into()),
    };
    let path = text("httpGet", fields, "path")?.unwrap_or_default();
    let target = target(path).ok_or("httpGet.path is no path")?;
    let mut headers = HeaderMap::new();
    let listed = match fields.get("httpHeaders") {
        None | Some(Json::Null) => &[][..],
        Some(Json::Array(listed)) if listed.len() <= MOST_HEADERS => listed,
        Some(Json::Array(_)) => {
            return Err(format!("httpGet.httpHeaders are more than {MOST_HEADERS}"));
        }
        Some(_) => return Err("httpGet.httpHeaders is no list".into()),
    };
    for (number, header) in listed.iter().enumerate() {
        let wrong = |what: &str| format!("httpGet.httpHeaders[{number}].{what}");
        let field = |name: &str| header.get(name).and_then(Json::as_str);
        let name = field("name").and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        let name = name.ok_or_else(|| wrong("name is no header's name"))?;
        let value = field("value").unwrap_or_default();
        let value = HeaderValue::from_bytes(value.as_bytes());
        let mut value = value.map_err(|_| wrong("value is no header's value"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(Handler::Http {
        port: port("httpGet", fields)?,
        secure,
        target,
        headers,
    })
}

/// What is asked for in a request: a path, perhaps with a question, as it may stand there. What follows `#` is not sent.
pub(crate) fn target(path: &str) -> Option<PathAndQuery> {
    let path = path.split('#').next().unwrap_or_default();
    let mut text = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        text.push('/');
    }
    for byte in path.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                text.push_str(&format!("%{byte:02X}"));
            }
            b'!'..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text.parse().ok()
}

fn port(name: &str, fields: &Map<String, Json>) -> Result<u16, String> {
    let port = fields.get("port").and_then(Json::as_u64);
    let port = port.and_then(|port| u16::try_from(port).ok());
    port.filter(|port| *port != 0).ok_or_else(|| {
        format!(
            "{name}.port is no number from 1 to 65535; a port's name is for the injector to look up"
        )
    })
}

fn text<'a>(
    handler: &str,
    fields: &'a Map<String, Json>,
    name: &str,
) -> Result<Option<&'a str>, String> {
    match fields.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{handler}.{name} is no text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(json: &str) -> Result<AppProbe, String> {
        let text = format!("{{\"/app-health/web/livez\": {json}}}");
        let probes: AppProbes = text.parse().map_err(|error: AppProbesError| error.0)?;
        Ok(probes.into_all().next().unwrap().1)
    }

    #[test]
    fn probes_are_read_as_kubernetes_writes_them() {
        let probe = one(
            r#"{"httpGet": {"path": "/health?deep=a b", "port": 8443, "scheme": "HTTPS", "host": "evil.example",
                "httpHeaders": [{"name": "X-Token", "value": "t"}, {"name": "Host", "value": "web"}]},
                "periodSeconds": 10, "failureThreshold": 3, "timeoutSeconds": 5}"#,
        )
        .unwrap();
        assert_eq!(probe.timeout, Duration::from_secs(5));
        let Handler::Http {
            port,
            secure,
            target,
            headers,
        } = probe.handler
        else {
            panic!("{probe:?}");
        };
        assert_eq!(
            (port, secure, target.as_str()),
            (8443, true, "/health?deep=a%20b")
        );
        assert_eq!(
            (&headers["x-token"], &headers["host"]),
            (&"t".parse().unwrap(), &"web".parse().unwrap())
        );
        assert!(
            !format!("{headers:?}").contains("\"t\""),
            "headers may be secret"
        );
        let probe =
            one(r#"{"httpGet": {"port": 1}, "tcpSocket": null, "timeoutSeconds": 0}"#).unwrap();
        assert_eq!(probe.timeout, Duration::from_secs(1));
        assert!(
            matches!(probe.handler, Handler::Http { secure: false, target, .. } if target == "/")
        );
        let probe = one(r#"{"grpc": {"port": 9090, "service": null}}"#).unwrap();
        let grpc = Handler::Grpc {
            port: 9090,
            service: String::new(),
        };
        assert_eq!(probe.handler, grpc);
        assert_eq!("".parse(), Ok(AppProbes::default()), "an empty variable");
    }

    #[test]
    fn a_target_is_made_fit_to_be_sent() {
        for (path, expected) in [
            ("", "/"),
            ("healthz", "/healthz"),
            ("/a#b", "/a"),
            ("?x=1", "/?x=1"),
            ("/ä\r\nx: y", "/%C3%A4%0D%0Ax:%20y"),
            ("/%41|", "/%41%7C"),
            ("http://evil.example/x", "/http://evil.example/x"),
        ] {
            assert_eq!(target(path).unwrap(), expected, "{path:?}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_said_without_its_values() {
        for (json, error) in [
            ("{}", "it has none of httpGet, tcpSocket and grpc"),
            ("[]", "it is no probe"),
            (
                r#"{"tcpSocket": {"port": 1}, "grpc": {"port": 1}}"#,
                "it has both tcpSocket and grpc",
            ),
            (
                r#"{"exec": {"command": ["s3cret"]}}"#,
                "exec is kubelet's to run, not a proxy's",
            ),
            (r#"{"tcpSocket": "s3cret"}"#, "tcpSocket is no map"),
            (
                r#"{"tcpSocket": {"port": "s3cret"}}"#,
                "tcpSocket.port is no number from 1 to 65535; a port's name is for the injector to look up",
            ),
            (
                r#"{"httpGet": {"port": 1, "scheme": "s3cret"}}"#,
                "httpGet.scheme is neither HTTP nor HTTPS",
            ),
            (
                r#"{"httpGet": {"port": 1, "path": 5}}"#,
                "httpGet.path is no text",
            ),
            (
                r#"{"httpGet": {"port": 1, "httpHeaders": "s3cret"}}"#,
                "httpGet.httpHeaders is no list",
            ),
            (
                r#"{"httpGet": {"port": 1, "httpHeaders": [{"name": "a b", "value": "s3cret"}]}}"#,
                "httpGet.httpHeaders[0].name is no header's name",
            ),
            (
                r#"{"httpGet": {"port": 1, "httpHeaders": [{"name": "a", "value": "s3cret\n"}]}}"#,
                "httpGet.httpHeaders[0].value is no header's value",
            ),
            (
                r#"{"tcpSocket": {"port": 1}, "timeoutSeconds": -1}"#,
                "timeoutSeconds is no number from 1 to 3600",
            ),
        ] {
            assert_eq!(
                one(json).unwrap_err(),
                format!("/app-health/web/livez: {error}")
            );
        }
        for port in ["0", "65536", "-1", "1.5", "null"] {
            assert!(
                one(&format!("{{\"tcpSocket\": {{\"port\": {port}}}}}")).is_err(),
                "{port}"
            );
        }
        let error = |text: &str| text.parse::<AppProbes>().unwrap_err().to_string();
        assert!(
            error("{\"s3cret\": ").contains("it is no JSON: EOF while parsing"),
            "{}",
            error("{")
        );
        assert!(!error("{\"a\": s3cret}").contains("s3cret"));
        assert!(error("[1]").ends_with("it is no map"));
        for path in [
            "/healthz/ready",
            "/app-health/web",
            "/app-health/web/livez/",
            "/app-health/Web/livez",
            "/app-health//livez",
            "/app-health/../livez",
        ] {
            let text = format!("{{\"{path}\": {{\"tcpSocket\": {{\"port\": 1}}}}}}");
            assert!(
                error(&text).contains("is no path /app-health/CONTAINER/livez"),
                "{path}"
            );
        }
    }
}
