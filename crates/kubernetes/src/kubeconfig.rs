//! Kubeconfigs from outside, of which only harmless ones are taken.
//!
//! A kubeconfig can run programs, read files, act as somebody else and skip verification. Somebody who may write one into a
//! cluster may not do any of that with the control plane, so such fields are refused by name, never ignored.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use crate::base64;

mod program;

pub use program::{Interactive, Program, Runner};

/// The most bytes that a kubeconfig may have.
pub const MAX_BYTES: usize = 1 << 20;

/// What is allowed beyond the ordinary; nothing by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowed {
    /// API servers on loopback addresses (`kubectl proxy`, clusters on one's own machine).
    pub loopback: bool,
    /// API servers on link-local addresses, among them those where clouds keep their metadata.
    pub link_local: bool,
    /// `proxy-url`, for an HTTP proxy.
    pub proxy: bool,
    /// Certificates and keys as paths: only for a file on one's own machine, read by its owner.
    pub files: bool,
}

/// A kubeconfig that may be used: one server, its CA, one way to show who we are.
#[derive(Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// The name of the cluster entry, as the file calls it.
    pub name: String,
    /// Where the API server is.
    pub server: Server,
    /// The CA certificates, PEM.
    pub ca: String,
    /// Who we are there.
    pub user: User,
    /// An HTTP proxy on the way, `HOST:PORT`, when that is allowed.
    pub proxy: Option<String>,
}

/// Where an API server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The host to dial.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What stands before every path, without a slash at the end.
    pub path: String,
    /// The name its certificate must have.
    pub tls_name: String,
}

impl Server {
    /// Reads `https://HOST:PORT`, as a kubeconfig names it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(url: &str, allowed: Allowed) -> Result<Server, Refused> {
        let entry = ClusterEntry {
            server: url.to_owned(),
            tls_server_name: None,
            certificate_authority_data: None,
            certificate_authority: None,
            insecure_skip_tls_verify: false,
            proxy_url: None,
            extensions: None,
        };
        read_server("server".into(), &entry, allowed)
    }
}

/// How we show who we are.
#[derive(Clone, PartialEq, Eq)]
pub enum User {
    /// A bearer token.
    Token(Zeroizing<String>),
    /// A client certificate with its key, both PEM.
    Certificate {
        /// The chain.
        chain: String,
        /// The key.
        key: Zeroizing<String>,
    },
}

impl fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kubeconfig({}, {})", self.name, self.server)
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            User::Token(_) => "Token(not shown)",
            User::Certificate { .. } => "Certificate(key not shown)",
        })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Why a kubeconfig is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}; {next}")]
pub struct Refused {
    /// The field, `users[0].user.exec`.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
    /// What to do.
    pub next: &'static str,
}

const MAKE_ONE: &str = "make a credential that stands for itself with `catamaran cluster add NAME --discovery-only --context \
                        CONTEXT`, or put a bearer token of a service account there";
const INLINE: &str = "put the contents there as base64 (the field that ends in -data, or token)";

fn refused(field: impl Into<String>, reason: impl Into<String>, next: &'static str) -> Refused {
    Refused {
        field: field.into(),
        reason: reason.into(),
        next,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: ClusterEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterEntry {
    #[serde(default)]
    server: String,
    tls_server_name: Option<String>,
    certificate_authority_data: Option<String>,
    certificate_authority: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    proxy_url: Option<String>,
    extensions: Option<Vec<Extension>>,
}

/// What others add to a cluster's entry; only a program is told of its own.
#[derive(Deserialize)]
struct Extension {
    name: String,
    #[serde(default)]
    extension: serde_json::Value,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: UserEntry,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
struct UserEntry {
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
    client_certificate: Option<String>,
    client_key: Option<String>,
    username: Option<IgnoredAny>,
    password: Option<IgnoredAny>,
    exec: Option<Exec>,
    auth_provider: Option<IgnoredAny>,
}

/// A program, which is looked at only where one may be run; elsewhere its being there is enough.
#[derive(Deserialize)]
struct Exec(serde_json::Value);

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: ContextEntry,
}

#[derive(Deserialize)]
struct ContextEntry {
    cluster: String,
    user: String,
}

/// The names of the fields alone, so that one that is not known is seen.
#[derive(Deserialize)]
struct Keys {
    #[serde(default)]
    clusters: Vec<ClusterKeys>,
    #[serde(default)]
    users: Vec<UserKeys>,
}

#[derive(Deserialize)]
struct ClusterKeys {
    cluster: BTreeMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
struct UserKeys {
    #[serde(default)]
    user: Option<BTreeMap<String, IgnoredAny>>,
}

const CLUSTER_KEYS: [&str; 8] = [
    "server",
    "tls-server-name",
    "certificate-authority-data",
    "certificate-authority",
    "insecure-skip-tls-verify",
    "proxy-url",
    "disable-compression",
    "extensions",
];
const USER_KEYS: [&str; 11] = [
    "token",
    "tokenFile",
    "client-certificate-data",
    "client-key-data",
    "client-certificate",
    "client-key",
    "username",
    "password",
    "exec",
    "auth-provider",
    "extensions",
];

impl Kubeconfig {
    /// Reads the current context of a kubeconfig, or refuses it with the field that is in the way.
    pub fn read(text: &str, allowed: Allowed) -> Result<Kubeconfig, Refused> {
        Self::read_context(text, None, allowed)
    }

    /// Reads the context of this name.
    pub fn read_context(
        text: &str,
        context: Option<&str>,
        allowed: Allowed,
    ) -> Result<Kubeconfig, Refused> {
        Self::read_with(text, context, allowed, None)
    }

    /// Reads the context of this name in a person's own file, whose user may be said by a program: `run` runs it.
    ///
    /// Never for a file that somebody else may have written: a program does what it likes.
    pub fn read_own(
        text: &str,
        context: Option<&str>,
        allowed: Allowed,
        run: Runner<'_>,
    ) -> Result<Kubeconfig, Refused> {
        Self::read_with(text, context, allowed, Some(run))
    }

    fn read_with(
        text: &str,
        context: Option<&str>,
        allowed: Allowed,
        run: Option<Runner<'_>>,
    ) -> Result<Kubeconfig, Refused> {
        if text.len() > MAX_BYTES {
            let reason = format!("it has {} bytes, and {MAX_BYTES} are the limit", text.len());
            return Err(refused("kubeconfig", reason, MAKE_ONE));
        }
        let file: File = parse(text)?;
        let keys: Keys = parse(text)?;
        let (wanted, said) = match context {
            Some(name) => (name, "the context asked for"),
            None => (file.current_context.as_str(), "current-context"),
        };
        let context = match (
            file.contexts.iter().find(|c| c.name == wanted),
            &file.contexts[..],
        ) {
            (Some(context), _) => context,
            (None, [only]) if wanted.is_empty() => only,
            (None, _) => {
                let reason = format!("{said} is {wanted:?}, and there is no context of that name");
                return Err(refused(
                    "current-context",
                    reason,
                    "name one of the contexts in it",
                ));
            }
        };
        let position = |found: Option<usize>, field: &str, name: &str| {
            found.ok_or_else(|| {
                refused(
                    format!("contexts[{:?}].context.{field}", context.name),
                    format!("there is no {field} {name:?}"),
                    "write the whole kubeconfig, as `kubectl config view --raw --minify --flatten` does",
                )
            })
        };
        let (cluster, user) = (&context.context.cluster, &context.context.user);
        let c = position(
            file.clusters.iter().position(|c| c.name == *cluster),
            "cluster",
            cluster,
        )?;
        let u = position(
            file.users.iter().position(|u| u.name == *user),
            "user",
            user,
        )?;
        let unknown = |keys: &BTreeMap<String, IgnoredAny>, known: &[&str]| {
            keys.keys()
                .find(|key| !known.contains(&key.as_str()))
                .cloned()
        };
        if let Some(key) = unknown(&keys.clusters[c].cluster, &CLUSTER_KEYS) {
            return Err(not_known(format!("clusters[{c}].cluster"), &key));
        }
        if let Some(key) = keys.users[u]
            .user
            .as_ref()
            .and_then(|keys| unknown(keys, &USER_KEYS))
        {
            return Err(not_known(format!("users[{u}].user"), &key));
        }
        let entry = &file.clusters[c].cluster;
        let (server, ca, proxy) = read_cluster(c, entry, allowed)?;
        let user = &file.users[u].user;
        let user = match (&user.exec, run) {
            (Some(exec), Some(run)) => read_program(u, exec, entry, run)?,
            _ => read_user(u, user, allowed)?,
        };
        Ok(Kubeconfig {
            name: file.clusters[c].name.clone(),
            user,
            server,
            ca,
            proxy,
        })
    }

    /// The token, when it is one that shows who we are.
    pub fn token(&self) -> Option<Zeroizing<String>> {
        match &self.user {
            User::Token(token) => Some(token.clone()),
            User::Certificate { .. } => None,
        }
    }

    /// SHA-256 over everything in it: equal prints are the same credential.
    pub fn print(&self) -> [u8; 32] {
        let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let mut add = |text: &str| {
            digest.update(&(text.len() as u64).to_be_bytes());
            digest.update(text.as_bytes());
        };
        add(&self.server.to_string());
        add(&self.server.path);
        add(&self.server.tls_name);
        add(&self.ca);
        add(self.proxy.as_deref().unwrap_or(""));
        match &self.user {
            User::Token(token) => add(token),
            User::Certificate { chain, key } => {
                add(chain);
                add(key);
            }
        }
        let mut print = [0; 32];
        print.copy_from_slice(digest.finish().as_ref());
        print
    }
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Refused> {
    serde_saphyr::from_str(text).map_err(|error| {
        // What the parser quotes of the text may be a part of a key.
        let place = error.location().map_or(String::new(), |at| {
            format!(" at line {}, column {}", at.line(), at.column())
        });
        refused(
            "kubeconfig",
            format!("it is not the YAML of a kubeconfig{place}"),
            "compare it with what `kubectl config view --raw --minify` prints",
        )
    })
}

fn not_known(place: String, key: &str) -> Refused {
    let field = format!("{place}.{}", crate::failure::printable(key));
    let acts_as =
        ["as", "act-as"].contains(&key) || key.starts_with("as-") || key.starts_with("act-as-");
    match acts_as {
        true => refused(
            field,
            "it asks to act as somebody else (impersonation)",
            "take it out, and grant the rights to the credential's own user",
        ),
        false => refused(
            field,
            "this field is not known here, and may change what the credential means",
            "take it out",
        ),
    }
}

fn read_cluster(
    n: usize,
    entry: &ClusterEntry,
    allowed: Allowed,
) -> Result<(Server, String, Option<String>), Refused> {
    let field = |name: &str| format!("clusters[{n}].cluster.{name}");
    if entry.insecure_skip_tls_verify {
        return Err(refused(
            field("insecure-skip-tls-verify"),
            "whoever stands in between could then be the cluster",
            "take it out, and give certificate-authority-data",
        ));
    }
    let server = read_server(field("server"), entry, allowed)?;
    let ca = match (
        &entry.certificate_authority_data,
        &entry.certificate_authority,
    ) {
        (Some(data), None) => decode(field("certificate-authority-data"), data)?,
        (None, Some(path)) => read_file(field("certificate-authority"), path, allowed)?.to_string(),
        (Some(_), Some(_)) => {
            return Err(refused(
                field("certificate-authority"),
                "certificate-authority-data is there too",
                "leave only the data",
            ));
        }
        (None, None) => {
            return Err(refused(
                field("certificate-authority-data"),
                "it is missing, so the cluster could not be told from an impostor",
                INLINE,
            ));
        }
    };
    if !ca.contains("-----BEGIN CERTIFICATE-----") {
        return Err(refused(
            field("certificate-authority-data"),
            "there is no PEM certificate in it",
            INLINE,
        ));
    }
    let proxy = match (&entry.proxy_url, allowed.proxy) {
        (None, _) => None,
        (Some(_), false) => {
            return Err(refused(
                field("proxy-url"),
                "all that is read and the credential itself would go by that address",
                "take it out, or allow proxies when you add the cluster",
            ));
        }
        (Some(url), true) => Some(read_proxy(field("proxy-url"), url)?),
    };
    Ok((server, ca, proxy))
}

fn read_server(field: String, entry: &ClusterEntry, allowed: Allowed) -> Result<Server, Refused> {
    const NEXT: &str = "write it as https://HOST:PORT";
    let say = |reason: &str| refused(field.clone(), reason, NEXT);
    let uri: http::Uri = (entry.server.parse()).map_err(|_| say("it is not a URL"))?;
    if uri.scheme_str() != Some("https") {
        return Err(say("only https is spoken to API servers"));
    }
    let authority = uri.authority().ok_or_else(|| say("it has no host"))?;
    if authority.as_str().contains('@') {
        return Err(say("there may be no user name in it"));
    }
    if uri.query().is_some() {
        return Err(say("there may be no query in it"));
    }
    let path = uri.path().trim_end_matches('/').to_owned();
    if path.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(say("its path leads upwards"));
    }
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_ascii_lowercase();
    if host.is_empty() {
        return Err(say("it has no host"));
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        check_address(address, allowed).map_err(|what| {
            refused(
                field.clone(),
                format!("{address} is {what}, where no API server of another cluster is"),
                "correct it, or allow such addresses when you add the cluster",
            )
        })?;
    } else if !allowed.loopback && (host == "localhost" || host.ends_with(".localhost")) {
        return Err(refused(
            field,
            format!("{host} is this machine"),
            "correct it, or allow loopback addresses when you add the cluster",
        ));
    }
    let port = match authority.port_u16() {
        Some(0) => return Err(say("port 0 is none")),
        Some(port) => port,
        None => 443,
    };
    // The parser overlooks what is neither host nor port.
    let rest = authority.as_str().strip_prefix(authority.host());
    let plain = rest.is_some_and(|rest| rest.is_empty() || rest == format!(":{port}"));
    if !plain {
        return Err(say("what stands after its host is not a port"));
    }
    let tls_name = match entry.tls_server_name.as_deref() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => host.clone(),
    };
    if rustls_pki_types::ServerName::try_from(tls_name.clone()).is_err() {
        return Err(say(
            "its host, or tls-server-name, is not a name that a certificate can have",
        ));
    }
    Ok(Server {
        host,
        port,
        path,
        tls_name,
    })
}

fn read_proxy(field: String, url: &str) -> Result<String, Refused> {
    let say = |reason: &str| refused(field.clone(), reason, "write it as http://HOST:PORT");
    let uri: http::Uri = url.parse().map_err(|_| say("it is not a URL"))?;
    if uri.scheme_str() != Some("http") {
        return Err(say("only HTTP proxies are used (with CONNECT)"));
    }
    let authority = uri.authority().ok_or_else(|| say("it has no host"))?;
    if authority.as_str().contains('@') {
        return Err(say("there may be no password in it"));
    }
    Ok(match authority.port_u16() {
        Some(_) => authority.to_string(),
        None => format!("{authority}:80"),
    })
}

fn read_program(
    n: usize,
    exec: &Exec,
    cluster: &ClusterEntry,
    run: Runner<'_>,
) -> Result<User, Refused> {
    let field = format!("users[{n}].user.exec");
    let entry = program::Entry::deserialize(&exec.0).map_err(|error| {
        refused(
            field.clone(),
            crate::failure::printable(&error.to_string()),
            "compare it with what `kubectl config view --minify` prints",
        )
    })?;
    Program::of(field, &entry, cluster)?.ask(run)
}

fn read_user(n: usize, entry: &UserEntry, allowed: Allowed) -> Result<User, Refused> {
    let field = |name: &str| format!("users[{n}].user.{name}");
    if entry.exec.is_some() {
        return Err(refused(
            field("exec"),
            "it would run a program inside the control plane",
            MAKE_ONE,
        ));
    }
    if entry.auth_provider.is_some() {
        return Err(refused(
            field("auth-provider"),
            "it would run code of a provider inside the control plane",
            MAKE_ONE,
        ));
    }
    if entry.username.is_some() || entry.password.is_some() {
        return Err(refused(
            field("password"),
            "no API server since Kubernetes 1.19 takes passwords",
            MAKE_ONE,
        ));
    }
    if let Some(path) = &entry.token_file {
        let token = read_file(field("tokenFile"), path, allowed)?;
        return Ok(User::Token(bearer(field("tokenFile"), &token)?));
    }
    let chain = match (&entry.client_certificate_data, &entry.client_certificate) {
        (Some(data), _) => Some(decode(field("client-certificate-data"), data)?),
        (None, Some(path)) => {
            Some(read_file(field("client-certificate"), path, allowed)?.to_string())
        }
        (None, None) => None,
    };
    let key = match (&entry.client_key_data, &entry.client_key) {
        (Some(data), _) => Some(Zeroizing::new(decode(field("client-key-data"), data)?)),
        (None, Some(path)) => Some(read_file(field("client-key"), path, allowed)?),
        (None, None) => None,
    };
    match (&entry.token, chain, key) {
        (Some(token), None, None) => Ok(User::Token(bearer(field("token"), token)?)),
        (None, Some(chain), Some(key)) => Ok(User::Certificate { chain, key }),
        (Some(_), _, _) => Err(refused(
            field("token"),
            "there is a client certificate too",
            "leave one of them",
        )),
        (None, Some(_), None) => Err(refused(
            field("client-key-data"),
            "the client certificate has no key",
            INLINE,
        )),
        (None, None, Some(_)) => Err(refused(
            field("client-certificate-data"),
            "the client key has no certificate",
            INLINE,
        )),
        (None, None, None) => Err(refused(
            field("token"),
            "there is nothing that says who we are",
            MAKE_ONE,
        )),
    }
}

fn bearer(field: String, token: &str) -> Result<Zeroizing<String>, Refused> {
    let token = token.trim();
    let fits = |b: u8| b.is_ascii_graphic();
    match !token.is_empty() && token.bytes().all(fits) {
        true => Ok(Zeroizing::new(token.to_owned())),
        false => Err(refused(
            field,
            "it is empty, or has characters no token has",
            MAKE_ONE,
        )),
    }
}

fn read_file(field: String, path: &str, allowed: Allowed) -> Result<Zeroizing<String>, Refused> {
    if !allowed.files {
        return Err(refused(
            field,
            "it would read a file of the control plane's machine",
            INLINE,
        ));
    }
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => Err(refused(
            field,
            format!("{path}: {error}"),
            "make the file readable, or put its contents there",
        )),
    }
}

fn decode(field: String, data: &str) -> Result<String, Refused> {
    let say = |reason: &str| refused(field.clone(), reason, INLINE);
    let bytes = base64::decode(data).ok_or_else(|| say("it is not base64"))?;
    String::from_utf8(bytes).map_err(|_| say("it is not PEM"))
}

/// Says what is wrong with an address where a remote cluster's API server would be.
///
/// Private ranges are where API servers are. Loopback is ourselves; link-local and the providers' own addresses give out
/// credentials of the machine to whoever asks.
pub fn check_address(address: IpAddr, allowed: Allowed) -> Result<(), &'static str> {
    /// Where clouds keep their metadata outside the link-local range: Alibaba, Azure, Oracle.
    const METADATA: [Ipv4Addr; 3] = [
        Ipv4Addr::new(100, 100, 100, 200),
        Ipv4Addr::new(168, 63, 129, 16),
        Ipv4Addr::new(192, 0, 0, 192),
    ];
    let plain = match address {
        IpAddr::V6(v6) => {
            let s = v6.segments();
            let tail = || {
                let [.., a, b, c, d] = v6.octets();
                IpAddr::V4(Ipv4Addr::new(a, b, c, d))
            };
            // Mapped, compatible, and the translators' prefix 64:ff9b::/96 all lead to the IPv4 address at the end.
            match s {
                [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => tail(),
                [0, 0, 0, 0, 0, 0, hi, _] if hi != 0 => tail(),
                _ => address,
            }
        }
        v4 => v4,
    };
    let link_local = match plain {
        IpAddr::V4(v4) => v4.is_link_local() || METADATA.contains(&v4),
        IpAddr::V6(v6) => {
            v6.is_unicast_link_local() || v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254]
        }
    };
    match plain {
        _ if plain.is_unspecified() => Err("the unspecified address"),
        _ if plain.is_multicast() => Err("a multicast address"),
        IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0 => Err("a reserved address"),
        _ if plain.is_loopback() && !allowed.loopback => Err("a loopback address"),
        _ if link_local && !allowed.link_local => {
            Err("a link-local address, or where a cloud keeps its metadata")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
