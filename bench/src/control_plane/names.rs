//! How the services and proxies of every benchmark are called.

/// The port of every service.
pub const PORT: u16 = 5000;
/// Whom every simulated proxy is, in the namespace `default`.
pub const ACCOUNT: &str = "caller";

/// The name of service `n`.
pub fn service(n: usize) -> String {
    format!("service-{n:05}")
}

/// The name of the cluster of service `n`.
pub fn resource(n: usize) -> String {
    format!("outbound|{PORT}||{}.default.svc.cluster.local", service(n))
}

/// The name of the pod of proxy `n`.
pub fn caller(n: usize) -> String {
    format!("caller-{n}")
}
