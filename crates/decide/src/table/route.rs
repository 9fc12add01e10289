//! Route configurations: virtual hosts by authority, routes by what a request looks like.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use catamaran_wire::core::{DataSourceSpecifier, DenominatorType, RoutingPriority};
use catamaran_wire::extension::PREVIOUS_HOSTS;
use catamaran_wire::matcher::{MatchPattern, StringMatcher};
use catamaran_wire::route as wire;

use super::read::{Interner, each, span, span_or};
use super::{Fixed, Lookup};
use crate::arrival::split_port;
use crate::refusal::{Fault, refuse_set, unset};
use crate::{Request, RetryOn, RetryPolicy};

/// A route configuration: which virtual host an authority means, and which of its routes a request takes.
#[derive(Debug)]
pub struct RouteTable {
    name: Arc<str>,
    hosts: Box<[Host]>,
    exact: Lookup<u32>,
    /// `.example.com` for `*.example.com`, longest first.
    suffixes: Box<[(Arc<str>, u32)]>,
    /// `www.` for `www.*`, longest first.
    prefixes: Box<[(Arc<str>, u32)]>,
    any: Option<u32>,
    ignore_port: bool,
}

#[derive(Debug)]
pub(crate) struct Host {
    name: Arc<str>,
    routes: Box<[Route]>,
    pub(crate) attempt_header: bool,
}

#[derive(Debug)]
pub(crate) struct Route {
    name: Arc<str>,
    matcher: Matcher,
    pub(crate) action: Action,
}

#[derive(Debug)]
pub(crate) enum Action {
    Forward(Box<RouteForward>),
    Respond {
        status: u16,
        body: Bytes,
    },
    /// `non_forwarding_action`: for this side of the mesh there is nothing to do.
    Nothing,
}

#[derive(Debug)]
pub(crate) struct RouteForward {
    pub(crate) clusters: WeightedClusters,
    pub(crate) timeout: Option<Duration>,
    /// In place of the chain's; zero is none.
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) retry: Option<Arc<RetryPolicy>>,
    pub(crate) not_found: u16,
}

/// Clusters with their shares.
#[derive(Debug)]
pub(crate) struct WeightedClusters {
    names: Box<[(Arc<str>, u32)]>,
    total: u64,
}

impl WeightedClusters {
    pub(crate) fn one(name: Arc<str>) -> Self {
        WeightedClusters {
            names: Box::new([(name, 1)]),
            total: 1,
        }
    }

    pub(crate) fn new(names: Vec<(Arc<str>, u32)>) -> Result<Self, Fault> {
        let total = names.iter().map(|(_, weight)| u64::from(*weight)).sum();
        if total == 0 {
            return Err(Fault::new("clusters", "their weights add up to nothing"));
        }
        Ok(WeightedClusters {
            names: names.into(),
            total,
        })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.iter().map(|(name, _)| name)
    }

    /// The cluster that a lot falls on.
    pub(crate) fn take(&self, lot: u64) -> &Arc<str> {
        if let [(only, _)] = &self.names[..] {
            return only;
        }
        let mut at = lot % self.total;
        for (name, weight) in &self.names {
            match at.checked_sub(u64::from(*weight)) {
                None => return name,
                Some(rest) => at = rest,
            }
        }
        unreachable!("the lot is below the sum of the weights")
    }
}

#[derive(Debug)]
struct Matcher {
    path: PathMatch,
    case_sensitive: bool,
    headers: Box<[HeaderMatch]>,
    query: Box<[(Arc<str>, Option<TextMatch>)]>,
    grpc: bool,
}

#[derive(Debug)]
enum PathMatch {
    Prefix(Arc<str>),
    Exact(Arc<str>),
    /// A prefix that ends where a segment ends.
    Segments(Arc<str>),
}

#[derive(Debug)]
struct HeaderMatch {
    name: Arc<str>,
    wanted: HeaderWanted,
    invert: bool,
    missing_is_empty: bool,
}

#[derive(Debug)]
enum HeaderWanted {
    Present(bool),
    Text(TextMatch),
    Range(i64, i64),
}

#[derive(Debug)]
pub(crate) struct TextMatch {
    pattern: Pattern,
    ignore_case: bool,
}

#[derive(Debug)]
enum Pattern {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Contains(Box<[u8]>),
}

/// Envoy's default for `RouteAction.timeout`.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(15);
/// Envoy's default for `retry_back_off.base_interval`.
const BACK_OFF: Duration = Duration::from_millis(25);
/// Envoy's default for `max_direct_response_body_size_bytes`.
const MAX_BODY: usize = 4096;
/// The most attempts after the first.
const MAX_RETRIES: u32 = 100;

impl RouteTable {
    /// Its name, `5000` or `inbound|5000||`.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The virtual host that an authority means: the exact one, else the longest suffix, else the longest prefix, else `*`.
    pub(crate) fn host(&self, authority: &str) -> Option<(u32, &Host)> {
        let authority = if self.ignore_port {
            split_port(authority).0
        } else {
            authority
        };
        let authority = lower(authority);
        let longer = |part: &str| authority.len() > part.len();
        let at = self
            .exact
            .get(&*authority)
            .copied()
            .or_else(|| {
                let mut suffixes = self.suffixes.iter();
                suffixes
                    .find(|(part, _)| longer(part) && authority.ends_with(&**part))
                    .map(|(_, at)| *at)
            })
            .or_else(|| {
                let mut prefixes = self.prefixes.iter();
                prefixes
                    .find(|(part, _)| longer(part) && authority.starts_with(&**part))
                    .map(|(_, at)| *at)
            })
            .or(self.any)?;
        Some((at, &self.hosts[at as usize]))
    }

    /// All clusters that it leads to.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Arc<str>> {
        self.hosts
            .iter()
            .flat_map(|host| &host.routes)
            .filter_map(|route| match &route.action {
                Action::Forward(forward) => Some(forward.clusters.names()),
                Action::Respond { .. } | Action::Nothing => None,
            })
            .flatten()
    }

    /// `5000/helloworld.default.svc.cluster.local:5000 /`
    pub(crate) fn describe(
        &self,
        host: u32,
        route: Option<u32>,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        f.write_str(&self.name)?;
        let Some(host) = self.hosts.get(host as usize) else {
            return Ok(());
        };
        write!(f, "/{}", host.name)?;
        let Some(route) = route.and_then(|at| host.routes.get(at as usize)) else {
            return Ok(());
        };
        match &route.matcher.path {
            PathMatch::Prefix(path) => write!(f, " {path}")?,
            PathMatch::Exact(path) => write!(f, " ={path}")?,
            PathMatch::Segments(path) => write!(f, " {path}/")?,
        }
        if !route.name.is_empty() && &*route.name != "default" {
            write!(f, " ({})", route.name)?;
        }
        Ok(())
    }
}

impl Host {
    /// The first route that takes the request.
    pub(crate) fn route(&self, request: &Request<'_>) -> Option<(u32, &Route)> {
        (0u32..)
            .zip(&self.routes)
            .find(|(_, route)| route.matcher.takes(request))
    }
}

impl Matcher {
    fn takes(&self, request: &Request<'_>) -> bool {
        let (path, query) = split_path(request.path);
        self.takes_path(path)
            && (!self.grpc || is_grpc(request))
            && self.headers.iter().all(|header| header.takes(request))
            && self.query.iter().all(|(name, wanted)| {
                let value = parameter(query, name);
                match wanted {
                    None => value.is_some(),
                    Some(text) => value.is_some_and(|value| text.takes(value.as_bytes())),
                }
            })
    }

    fn takes_path(&self, path: &str) -> bool {
        let starts = |prefix: &str| match path.as_bytes().get(..prefix.len()) {
            None => false,
            Some(start) if self.case_sensitive => start == prefix.as_bytes(),
            Some(start) => start.eq_ignore_ascii_case(prefix.as_bytes()),
        };
        match &self.path {
            PathMatch::Prefix(prefix) => starts(prefix),
            PathMatch::Exact(exact) => path.len() == exact.len() && starts(exact),
            PathMatch::Segments(prefix) => {
                starts(prefix) && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
            }
        }
    }
}

impl HeaderMatch {
    fn takes(&self, request: &Request<'_>) -> bool {
        let value = match &*self.name {
            ":method" => Some(request.method.as_bytes()),
            ":authority" | "host" => Some(request.authority.as_bytes()),
            ":path" => Some(request.path.as_bytes()),
            name => request.headers.header(name),
        };
        let value = value.or(self.missing_is_empty.then_some(&b""[..]));
        let matched = match (&self.wanted, value) {
            (HeaderWanted::Present(wanted), value) => value.is_some() == *wanted,
            // Envoy: a header that is missing matches nothing, and inverting does not change that.
            (_, None) => return false,
            (HeaderWanted::Text(text), Some(value)) => text.takes(value),
            (HeaderWanted::Range(from, to), Some(value)) => std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .is_some_and(|number| (*from..*to).contains(&number)),
        };
        matched != self.invert
    }
}

impl TextMatch {
    fn takes(&self, value: &[u8]) -> bool {
        let same = |a: &[u8], b: &[u8]| match self.ignore_case {
            true => a.eq_ignore_ascii_case(b),
            false => a == b,
        };
        match &self.pattern {
            Pattern::Exact(text) => same(value, text),
            Pattern::Prefix(text) => value.get(..text.len()).is_some_and(|v| same(v, text)),
            Pattern::Suffix(text) => value
                .len()
                .checked_sub(text.len())
                .is_some_and(|from| same(&value[from..], text)),
            Pattern::Contains(text) => {
                text.is_empty() || value.windows(text.len()).any(|window| same(window, text))
            }
        }
    }

    fn read(matcher: &StringMatcher) -> Result<TextMatch, Fault> {
        let bytes = |text: &String| text.clone().into_bytes().into_boxed_slice();
        let pattern = match &matcher.match_pattern {
            Some(MatchPattern::Exact(text)) => Pattern::Exact(bytes(text)),
            Some(MatchPattern::Prefix(text)) => Pattern::Prefix(bytes(text)),
            Some(MatchPattern::Suffix(text)) => Pattern::Suffix(bytes(text)),
            Some(MatchPattern::Contains(text)) => Pattern::Contains(bytes(text)),
            Some(MatchPattern::SafeRegex(_)) => {
                return Err(Fault::new(
                    "safe_regex",
                    "regular expressions are not implemented",
                ));
            }
            Some(MatchPattern::Custom(_)) => {
                return Err(Fault::new("custom", "is not implemented"));
            }
            None => return Err(Fault::new("match_pattern", "is missing")),
        };
        Ok(TextMatch {
            pattern,
            ignore_case: matcher.ignore_case,
        })
    }
}

fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

fn split_path(path: &str) -> (&str, &str) {
    let path = path.split('#').next().unwrap_or(path);
    path.split_once('?').unwrap_or((path, ""))
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

fn is_grpc(request: &Request<'_>) -> bool {
    let kind = request.headers.header("content-type").unwrap_or(b"");
    match kind.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
        None => false,
    }
}

impl RouteTable {
    pub(crate) fn read(
        routes: &wire::RouteConfiguration,
        interner: &mut Interner,
    ) -> Result<RouteTable, Fault> {
        refuse_set!(
            routes,
            vhds,
            internal_only_headers,
            response_headers_to_add,
            response_headers_to_remove,
            request_headers_to_add,
            request_headers_to_remove,
            cluster_specifier_plugins,
            request_mirror_policies,
            vhost_header,
            ignore_path_parameters_in_path_matching,
            typed_per_filter_config,
            route_specifiers,
        );
        let most = routes
            .max_direct_response_body_size_bytes
            .map_or(MAX_BODY, |bytes| bytes as usize);
        let hosts = each(&routes.virtual_hosts, "virtual_hosts", |host| {
            Host::read(host, most, interner)
        })?;
        let mut table = RouteTable {
            name: interner.text(&routes.name),
            hosts: hosts.into(),
            exact: HashMap::with_hasher(Fixed::default()),
            suffixes: Box::new([]),
            prefixes: Box::new([]),
            any: None,
            ignore_port: routes.ignore_port_in_host_matching,
        };
        table.index(&routes.virtual_hosts)?;
        Ok(table)
    }

    fn index(&mut self, hosts: &[wire::VirtualHost]) -> Result<(), Fault> {
        let mut suffixes: Vec<(Arc<str>, u32)> = Vec::new();
        let mut prefixes: Vec<(Arc<str>, u32)> = Vec::new();
        for (at, host) in (0u32..).zip(hosts) {
            for (n, domain) in host.domains.iter().enumerate() {
                let bad = |reason: String| {
                    Fault::new(format!("virtual_hosts[{at}].domains[{n}]"), reason)
                };
                let domain = domain.to_ascii_lowercase();
                let before = if domain == "*" {
                    self.any.replace(at)
                } else if let Some(suffix) = domain.strip_prefix('*') {
                    let known = suffixes.iter().find(|(part, _)| **part == *suffix);
                    let known = known.map(|(_, at)| *at);
                    suffixes.push((Arc::from(suffix), at));
                    known
                } else if let Some(prefix) = domain.strip_suffix('*') {
                    let known = prefixes.iter().find(|(part, _)| **part == *prefix);
                    let known = known.map(|(_, at)| *at);
                    prefixes.push((Arc::from(prefix), at));
                    known
                } else if domain.is_empty() || domain.contains('*') {
                    return Err(bad(format!("{domain:?} is not a domain")));
                } else {
                    self.exact.insert(Arc::from(domain.as_str()), at)
                };
                if before.is_some() {
                    return Err(bad(format!("{domain:?} is there twice")));
                }
            }
        }
        suffixes.sort_by_key(|(part, _)| std::cmp::Reverse(part.len()));
        prefixes.sort_by_key(|(part, _)| std::cmp::Reverse(part.len()));
        self.suffixes = suffixes.into();
        self.prefixes = prefixes.into();
        Ok(())
    }
}

impl Host {
    fn read(
        host: &wire::VirtualHost,
        max_body: usize,
        interner: &mut Interner,
    ) -> Result<Host, Fault> {
        refuse_set!(
            host,
            matcher,
            require_tls,
            rate_limits,
            request_headers_to_add,
            request_headers_to_remove,
            response_headers_to_add,
            response_headers_to_remove,
            cors,
            typed_per_filter_config,
            include_attempt_count_in_response,
            retry_policy_typed_config,
            hedge_policy,
            include_is_timeout_retry_header,
            request_mirror_policies,
            route_specifiers,
        );
        if host.domains.is_empty() {
            return Err(Fault::new("domains", "at least one is needed"));
        }
        let retry = retry_policy(host.retry_policy.as_ref(), interner)
            .map_err(|fault| fault.within("retry_policy"))?;
        let routes = each(&host.routes, "routes", |route| {
            Route::read(route, retry.as_ref(), max_body, interner)
        })?;
        Ok(Host {
            name: interner.text(&host.name),
            routes: routes.into(),
            attempt_header: host.include_request_attempt_count,
        })
    }
}

impl Route {
    fn read(
        route: &wire::Route,
        retry: Option<&Arc<RetryPolicy>>,
        max_body: usize,
        interner: &mut Interner,
    ) -> Result<Route, Fault> {
        refuse_set!(
            route,
            typed_per_filter_config,
            request_headers_to_add,
            request_headers_to_remove,
            response_headers_to_add,
            response_headers_to_remove,
            route_specifiers,
        );
        let Some(matcher) = &route.r#match else {
            return Err(Fault::new("match", "is missing"));
        };
        let matcher = Matcher::read(matcher, interner).map_err(|fault| fault.within("match"))?;
        let action = match &route.action {
            Some(wire::Action::Route(action)) => RouteForward::read(action, retry, interner)
                .map(|forward| Action::Forward(Box::new(forward)))
                .map_err(|fault| fault.within("route"))?,
            Some(wire::Action::DirectResponse(response)) => {
                direct(response, max_body).map_err(|fault| fault.within("direct_response"))?
            }
            Some(wire::Action::NonForwardingAction(_)) => Action::Nothing,
            Some(wire::Action::Redirect(_)) => {
                return Err(Fault::new("redirect", "is not implemented"));
            }
            Some(wire::Action::FilterAction(_)) => {
                return Err(Fault::new("filter_action", "is not implemented"));
            }
            None => return Err(Fault::new("action", "is missing")),
        };
        Ok(Route {
            name: interner.text(&route.name),
            matcher,
            action,
        })
    }
}

fn direct(response: &wire::DirectResponseAction, max_body: usize) -> Result<Action, Fault> {
    refuse_set!(response, body_format);
    let status = u16::try_from(response.status)
        .ok()
        .filter(|status| (200..600).contains(status))
        .ok_or_else(|| Fault::new("status", format!("{} is no status", response.status)))?;
    let body = match response
        .body
        .as_ref()
        .and_then(|body| body.specifier.as_ref())
    {
        None => Bytes::new(),
        Some(DataSourceSpecifier::InlineBytes(bytes)) => Bytes::copy_from_slice(bytes),
        Some(DataSourceSpecifier::InlineString(text)) => Bytes::copy_from_slice(text.as_bytes()),
        Some(_) => return Err(Fault::new("body", "only an inline body is implemented")),
    };
    if body.len() > max_body {
        return Err(Fault::new(
            "body",
            format!("{} bytes are more than {max_body}", body.len()),
        ));
    }
    Ok(Action::Respond { status, body })
}

impl Matcher {
    fn read(matcher: &wire::RouteMatch, interner: &mut Interner) -> Result<Matcher, Fault> {
        refuse_set!(
            matcher,
            cookies,
            tls_context,
            dynamic_metadata,
            filter_state,
        );
        if let Some(fraction) = &matcher.runtime_fraction {
            let whole = fraction.default_value.as_ref().is_some_and(|fraction| {
                match DenominatorType::try_from(fraction.denominator) {
                    Ok(DenominatorType::Hundred) => fraction.numerator >= 100,
                    Ok(DenominatorType::TenThousand) => fraction.numerator >= 10_000,
                    Ok(DenominatorType::Million) => fraction.numerator >= 1_000_000,
                    Err(_) => false,
                }
            });
            unset(!whole, "runtime_fraction")?;
        }
        let path = match &matcher.path_specifier {
            Some(wire::PathSpecifier::Prefix(prefix)) => PathMatch::Prefix(interner.text(prefix)),
            Some(wire::PathSpecifier::Path(path)) => PathMatch::Exact(interner.text(path)),
            Some(wire::PathSpecifier::PathSeparatedPrefix(prefix)) => {
                if !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['?', '#'])
                {
                    return Err(Fault::new(
                        "path_separated_prefix",
                        "must begin with / and not end with it",
                    ));
                }
                PathMatch::Segments(interner.text(prefix))
            }
            Some(wire::PathSpecifier::SafeRegex(_)) => {
                return Err(Fault::new(
                    "safe_regex",
                    "regular expressions are not implemented",
                ));
            }
            Some(wire::PathSpecifier::ConnectMatcher(_)) => {
                return Err(Fault::new("connect_matcher", "is not implemented"));
            }
            Some(wire::PathSpecifier::PathMatchPolicy(_)) => {
                return Err(Fault::new("path_match_policy", "is not implemented"));
            }
            None => return Err(Fault::new("path_specifier", "is missing")),
        };
        let headers = each(&matcher.headers, "headers", |header| {
            HeaderMatch::read(header, interner)
        })?;
        let query = each(&matcher.query_parameters, "query_parameters", |query| {
            let wanted = match &query.query_parameter_match_specifier {
                None | Some(wire::QueryParameterMatchSpecifier::PresentMatch(true)) => None,
                Some(wire::QueryParameterMatchSpecifier::StringMatch(text)) => {
                    Some(TextMatch::read(text).map_err(|fault| fault.within("string_match"))?)
                }
                Some(wire::QueryParameterMatchSpecifier::PresentMatch(false)) => {
                    return Err(Fault::new("present_match", "only true is implemented"));
                }
            };
            Ok((interner.text(&query.name), wanted))
        })?;
        Ok(Matcher {
            path,
            case_sensitive: matcher.case_sensitive.unwrap_or(true),
            headers: headers.into(),
            query: query.into(),
            grpc: matcher.grpc.is_some(),
        })
    }
}

impl HeaderMatch {
    fn read(header: &wire::HeaderMatcher, interner: &mut Interner) -> Result<HeaderMatch, Fault> {
        use wire::HeaderMatchSpecifier as Specifier;
        if header.name.is_empty() {
            return Err(Fault::new("name", "is missing"));
        }
        let text = |pattern: Pattern| {
            HeaderWanted::Text(TextMatch {
                pattern,
                ignore_case: false,
            })
        };
        let bytes = |text: &String| text.clone().into_bytes().into_boxed_slice();
        let wanted = match &header.header_match_specifier {
            None => HeaderWanted::Present(true),
            Some(Specifier::PresentMatch(wanted)) => HeaderWanted::Present(*wanted),
            Some(Specifier::ExactMatch(value)) => text(Pattern::Exact(bytes(value))),
            Some(Specifier::PrefixMatch(value)) => text(Pattern::Prefix(bytes(value))),
            Some(Specifier::SuffixMatch(value)) => text(Pattern::Suffix(bytes(value))),
            Some(Specifier::ContainsMatch(value)) => text(Pattern::Contains(bytes(value))),
            Some(Specifier::StringMatch(value)) => HeaderWanted::Text(
                TextMatch::read(value).map_err(|fault| fault.within("string_match"))?,
            ),
            Some(Specifier::RangeMatch(range)) => HeaderWanted::Range(range.start, range.end),
            Some(Specifier::SafeRegexMatch(_)) => {
                return Err(Fault::new(
                    "safe_regex_match",
                    "regular expressions are not implemented",
                ));
            }
        };
        Ok(HeaderMatch {
            name: interner.text(&header.name.to_ascii_lowercase()),
            wanted,
            invert: header.invert_match,
            missing_is_empty: header.treat_missing_header_as_empty,
        })
    }
}

impl RouteForward {
    fn read(
        action: &wire::RouteAction,
        retry: Option<&Arc<RetryPolicy>>,
        interner: &mut Interner,
    ) -> Result<RouteForward, Fault> {
        refuse_set!(
            action,
            metadata_match,
            prefix_rewrite,
            regex_rewrite,
            path_rewrite_policy,
            path_rewrite,
            host_rewrite_specifier,
            append_x_forwarded_host,
            early_data_policy,
            retry_policy_typed_config,
            request_mirror_policies,
            rate_limits,
            cors,
            max_grpc_timeout,
            grpc_timeout_offset,
            upgrade_configs,
            internal_redirect_policy,
            internal_redirect_action,
            max_internal_redirects,
            hedge_policy,
        );
        if action.priority != i32::from(RoutingPriority::Default) {
            return Err(Fault::new("priority", "only DEFAULT is implemented"));
        }
        let clusters = match &action.cluster_specifier {
            Some(wire::ClusterSpecifier::Cluster(name)) => {
                WeightedClusters::one(interner.text(name))
            }
            Some(wire::ClusterSpecifier::WeightedClusters(weighted)) => {
                weighted_clusters(weighted, interner)
                    .map_err(|fault| fault.within("weighted_clusters"))?
            }
            Some(wire::ClusterSpecifier::ClusterHeader(_)) => {
                return Err(Fault::new("cluster_header", "is not implemented"));
            }
            Some(
                wire::ClusterSpecifier::ClusterSpecifierPlugin(_)
                | wire::ClusterSpecifier::InlineClusterSpecifierPlugin(_),
            ) => {
                return Err(Fault::new("cluster_specifier_plugin", "is not implemented"));
            }
            None => return Err(Fault::new("cluster_specifier", "is missing")),
        };
        use wire::ClusterNotFoundResponseCode as NotFound;
        let not_found = match NotFound::try_from(action.cluster_not_found_response_code) {
            Ok(NotFound::ServiceUnavailable) => 503,
            Ok(NotFound::NotFound) => 404,
            Ok(NotFound::InternalServerError) => 500,
            Err(_) => {
                return Err(Fault::new(
                    "cluster_not_found_response_code",
                    "is not known",
                ));
            }
        };
        let retry = match &action.retry_policy {
            None => retry.cloned(),
            some => retry_policy(some.as_ref(), interner)
                .map_err(|fault| fault.within("retry_policy"))?,
        };
        let timeout = span_or(action.timeout, "timeout", Some(ROUTE_TIMEOUT))?;
        let longest = match &action.max_stream_duration {
            None => None,
            Some(longest) => {
                refuse_set!(longest, grpc_timeout_header_offset);
                span_or(
                    longest.max_stream_duration,
                    "max_stream_duration.max_stream_duration",
                    None,
                )?
            }
        };
        Ok(RouteForward {
            clusters,
            timeout: match (timeout, longest) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            },
            idle_timeout: span(action.idle_timeout, "idle_timeout")?,
            retry,
            not_found,
        })
    }
}

fn weighted_clusters(
    weighted: &wire::WeightedCluster,
    interner: &mut Interner,
) -> Result<WeightedClusters, Fault> {
    refuse_set!(weighted, random_value_specifier);
    let clusters = each(&weighted.clusters, "clusters", |cluster| {
        refuse_set!(
            cluster,
            cluster_header,
            metadata_match,
            request_headers_to_add,
            request_headers_to_remove,
            response_headers_to_add,
            response_headers_to_remove,
            typed_per_filter_config,
            host_rewrite_literal,
        );
        Ok((interner.text(&cluster.name), cluster.weight.unwrap_or(0)))
    })?;
    let clusters = WeightedClusters::new(clusters)?;
    let total = weighted.total_weight.map(u64::from);
    if total.is_some_and(|total| total != clusters.total) {
        return Err(Fault::new("total_weight", "is not the sum of the weights"));
    }
    Ok(clusters)
}

/// A policy that retries nothing is none.
fn retry_policy(
    policy: Option<&wire::RetryPolicy>,
    interner: &mut Interner,
) -> Result<Option<Arc<RetryPolicy>>, Fault> {
    let Some(policy) = policy else {
        return Ok(None);
    };
    refuse_set!(
        policy,
        per_try_idle_timeout,
        retry_priority,
        retry_options_predicates,
        rate_limited_retry_back_off,
        retriable_headers,
        retriable_request_headers,
        refresh_cluster_on_retry,
    );
    for (at, predicate) in policy.retry_host_predicate.iter().enumerate() {
        let known = predicate
            .typed_config
            .as_ref()
            .map_or(predicate.name == PREVIOUS_HOSTS, |config| {
                config.is::<wire::PreviousHostsPredicate>()
            });
        unset(!known, &format!("retry_host_predicate[{at}]"))?;
    }
    let retries = policy.num_retries.unwrap_or(1);
    if retries > MAX_RETRIES {
        return Err(Fault::new(
            "num_retries",
            format!("{retries} is more than {MAX_RETRIES}"),
        ));
    }
    let on = retry_on(&policy.retry_on)?;
    let statuses = each(
        &policy.retriable_status_codes,
        "retriable_status_codes",
        |status| {
            u16::try_from(*status).map_err(|_| Fault::new("", format!("{status} is no status")))
        },
    )?;
    if retries == 0 || policy.retry_on.is_empty() {
        return Ok(None);
    }
    let (base, max) = match &policy.retry_back_off {
        None => (None, None),
        Some(back_off) => (
            span(back_off.base_interval, "retry_back_off.base_interval")?,
            span(back_off.max_interval, "retry_back_off.max_interval")?,
        ),
    };
    let back_off = base.unwrap_or(BACK_OFF);
    Ok(Some(interner.retry(RetryPolicy {
        retries,
        on,
        statuses: statuses.into(),
        per_try_timeout: span_or(policy.per_try_timeout, "per_try_timeout", None)?,
        back_off,
        back_off_max: max.unwrap_or(back_off.saturating_mul(10)).max(back_off),
    })))
}

fn retry_on(text: &str) -> Result<RetryOn, Fault> {
    let mut on = RetryOn::default();
    for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
        match word {
            "5xx" => on.server_error = true,
            "gateway-error" => on.gateway_error = true,
            "reset" | "reset-before-request" => on.reset = true,
            "retriable-4xx" => on.conflict = true,
            "retriable-status-codes" => on.statuses = true,
            "envoy-ratelimited" => on.rate_limited = true,
            "cancelled" => on.grpc |= 1 << 1,
            "deadline-exceeded" => on.grpc |= 1 << 4,
            "resource-exhausted" => on.grpc |= 1 << 8,
            "internal" => on.grpc |= 1 << 13,
            "unavailable" => on.grpc |= 1 << 14,
            // What these ask for is always done, or (HTTP/3) never happens.
            "connect-failure" | "refused-stream" | "http3-post-connect-failure" => {}
            other => {
                let shown: String = other.chars().take(80).collect();
                return Err(Fault::new("retry_on", format!("{shown:?} is not known")));
            }
        }
    }
    Ok(on)
}
