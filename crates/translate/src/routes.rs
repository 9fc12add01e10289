//! `envoy.config.route.v3.RouteConfiguration`: which request goes to which cluster.

use std::collections::BTreeSet;
use std::net::IpAddr;

use catamaran_model::{ClusterName, Namespace, ServiceKey};
use catamaran_registry::MergedService;
use catamaran_wire::route::{
    Action, ClusterSpecifier, PathSpecifier, PreviousHostsPredicate, RetryHostPredicate,
    RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
};
use catamaran_wire::well_known::Duration;
use catamaran_wire::{Any, extension};
use catamaran_xds::{Resource, TypeUrlKind};

use crate::clusters::{BLACK_HOLE, PASSTHROUGH};
use crate::settings::Settings;
use crate::virtual_address::VirtualAddresses;
use crate::{Capability, Capture, RoutesFor};

/// How often a retry looks for an endpoint that was not tried yet.
const OTHER_HOST_ATTEMPTS: i64 = 5;

/// `PORT`: one virtual host for each service that carries HTTP on that port, or may; and one for everybody else, which
/// passes on what was redirected and refuses what was not.
///
/// Services come in the order of their keys; should two claim one domain, it is the first one's.
pub(crate) fn port<'a>(
    port: u16,
    services: impl Iterator<Item = &'a MergedService>,
    audience: &RoutesFor,
    addresses: &VirtualAddresses,
    settings: &Settings,
) -> Resource {
    let mut taken = BTreeSet::new();
    let mut hosts: Vec<VirtualHost> = services
        .filter_map(|service| {
            let address = addresses.of(service, &audience.cluster);
            let mut domains = domains(&service.key, port, address, &audience.namespace, settings);
            domains.retain(|domain| taken.insert(domain.clone()));
            (!domains.is_empty())
                .then(|| host(service, port, domains, audience.capability, settings))
        })
        .collect();
    hosts.push(everybody_else(audience.capture));
    let routes = RouteConfiguration {
        name: port.to_string(),
        virtual_hosts: hosts,
        // A cluster may come later, or be refused; then only its own requests fail.
        validate_clusters: Some(false),
        ..RouteConfiguration::default()
    };
    Resource::new(TypeUrlKind::Route, routes.name.as_str(), &routes)
}

/// `inbound|PORT||`, which stands inside the listener: everything to the workload itself.
pub(crate) fn inbound(port: u16) -> RouteConfiguration {
    let name = ClusterName::inbound(port).to_string();
    RouteConfiguration {
        name: name.clone(),
        virtual_hosts: vec![VirtualHost {
            name: format!("inbound|http|{port}"),
            domains: vec!["*".to_owned()],
            routes: vec![everything(name, None)],
            ..VirtualHost::default()
        }],
        validate_clusters: Some(false),
        ..RouteConfiguration::default()
    }
}

fn host(
    service: &MergedService,
    port: u16,
    domains: Vec<String>,
    capability: Capability,
    settings: &Settings,
) -> VirtualHost {
    let host = service.key.host(&settings.domain);
    let cluster = ClusterName::outbound(port, host.as_str()).to_string();
    VirtualHost {
        name: format!("{host}:{port}"),
        domains,
        routes: vec![everything(cluster, retries(capability, settings))],
        ..VirtualHost::default()
    }
}

fn everybody_else(capture: Capture) -> VirtualHost {
    let (name, cluster) = match capture {
        Capture::Redirect => ("allow_any", PASSTHROUGH),
        Capture::Explicit => ("block_all", BLACK_HOLE),
    };
    VirtualHost {
        name: name.to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![Route {
            name: name.to_owned(),
            ..everything(cluster.to_owned(), None)
        }],
        ..VirtualHost::default()
    }
}

fn everything(cluster: String, retry_policy: Option<RetryPolicy>) -> Route {
    Route {
        name: "default".to_owned(),
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..RouteMatch::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
            timeout: Some(Duration::default()),
            retry_policy,
            ..RouteAction::default()
        })),
        ..Route::default()
    }
}

/// Our proxy repeats on `reset` only what is idempotent; an Envoy would repeat anything, so it is not told to.
fn retries(capability: Capability, settings: &Settings) -> Option<RetryPolicy> {
    let attempts = settings.policy.retries.attempts;
    let retry_on = match capability {
        Capability::Catamaran => "connect-failure,refused-stream,reset-before-request,reset",
        Capability::Envoy => "connect-failure,refused-stream,reset-before-request",
    };
    (attempts > 0).then(|| RetryPolicy {
        retry_on: retry_on.to_owned(),
        num_retries: Some(attempts),
        retry_host_predicate: vec![RetryHostPredicate {
            name: extension::PREVIOUS_HOSTS.to_owned(),
            typed_config: Some(Any::pack(&PreviousHostsPredicate {})),
        }],
        host_selection_retry_max_attempts: OTHER_HOST_ATTEMPTS,
        ..RetryPolicy::default()
    })
}

/// The names by which a service is called from `namespace`, each with and without the port: its host, `NAME.NAMESPACE.svc`,
/// `NAME.NAMESPACE`, the bare name within its own namespace, and its address.
fn domains(
    key: &ServiceKey,
    port: u16,
    address: Option<IpAddr>,
    namespace: &Namespace,
    settings: &Settings,
) -> Vec<String> {
    let mut names = vec![key.host(&settings.domain)];
    if key.namespace == *namespace {
        names.push(key.name.to_string());
    }
    names.push(format!("{}.{}.svc", key.name, key.namespace));
    names.push(format!("{}.{}", key.name, key.namespace));
    names.extend(address.map(|address| match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }));
    names
        .into_iter()
        .flat_map(|name| [format!("{name}:{port}"), name])
        .collect()
}

#[cfg(test)]
mod tests;
