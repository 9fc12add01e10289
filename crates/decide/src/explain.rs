//! Decisions in words, for people.

use std::fmt::{self, Write};

use catamaran_model::Timestamp;

use crate::{Arrival, Cluster, Decision, Endpoint, EndpointHealth, Forward, Table, Transport, Via};
use crate::{View, decide};

/// Says what would become of a call, for people: one line, then what the decision rests on.
///
/// `caller` and `callee` are only repeated.
///
/// ```text
/// sleep@cluster-1 -> helloworld: cluster-2 via gateway 198.18.2.10:15443, mTLS
///   route 5000/helloworld.default.svc.cluster.local:5000 / -> outbound|5000||helloworld.default.svc.cluster.local, endpoint 2 of 2 by round robin
///   asks for outbound_.5000_._.helloworld.default.svc.cluster.local, takes spiffe://cluster.local/ns/default/sa/helloworld
///   cluster-1/10.1.1.3:5000, mTLS, weight 1
///   cluster-2 via gateway 198.18.2.10:15443, mTLS, weight 1  <- this one
/// ```
pub fn explain(
    table: &Table,
    view: &View,
    caller: &str,
    callee: &str,
    arrival: &Arrival<'_>,
    now: Timestamp,
) -> String {
    let decision = decide(table, view, arrival, now);
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = lines(&decision, view, caller, callee, now, &mut text);
    text
}

fn lines(
    decision: &Decision,
    view: &View,
    caller: &str,
    callee: &str,
    now: Timestamp,
    out: &mut String,
) -> fmt::Result {
    writeln!(out, "{caller} -> {callee}: {decision}")?;
    let (why, chosen) = match decision {
        Decision::Forward(forward) => (&forward.why, Some(forward)),
        Decision::Respond(respond) => (&respond.why, None),
        Decision::Reject(reject) => (&reject.why, None),
    };
    let reason = why.to_string();
    if !reason.is_empty() {
        writeln!(out, "  {reason}")?;
    }
    if let Some(Transport::Mutual(tls)) = chosen.map(|forward| &forward.transport) {
        write!(out, "  asks for {}, takes ", tls.sni)?;
        match &tls.allowed[..] {
            [] => out.write_str("anybody of the mesh's roots")?,
            allowed => joined(allowed.iter(), out)?,
        }
        if let Some(issuers) = chosen.and_then(|forward| forward.issuers.as_ref()) {
            out.write_str(" issued by ")?;
            match &issuers[..] {
                [] => out.write_str("nobody")?,
                some => joined(some.iter().map(|fingerprint| fingerprint.short()), out)?,
            }
        }
        writeln!(out)?;
    }
    let Some(cluster) = &why.cluster else {
        return Ok(());
    };
    for endpoint in cluster.endpoints() {
        out.write_str("  ")?;
        place(cluster, endpoint, out)?;
        write!(out, ", weight {}", endpoint.weight)?;
        if endpoint.priority > 0 {
            write!(out, ", priority {}", endpoint.priority)?;
        }
        match endpoint.health {
            EndpointHealth::Usable => {}
            EndpointHealth::Degraded => out.write_str(", degraded")?,
            EndpointHealth::Unusable => out.write_str(", not ready or draining")?,
        }
        let seen = view.standing(cluster, endpoint.address);
        if seen.in_flight > 0 {
            write!(out, ", {} in flight", seen.in_flight)?;
        }
        match seen.out_until {
            Some(_) if seen.on_trial => out.write_str(", out, on trial")?,
            Some(until) if until > now => {
                write!(out, ", out for {} ms", until.since(now).as_millis())?;
            }
            Some(_) => out.write_str(", out, next attempt tries it")?,
            None => {}
        }
        if chosen.is_some_and(|forward| forward.endpoint.address == endpoint.address) {
            out.write_str("  <- this one")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn joined(items: impl Iterator<Item = impl fmt::Display>, out: &mut String) -> fmt::Result {
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.write_str(" or ")?;
        }
        write!(out, "{item}")?;
    }
    Ok(())
}

/// `cluster-1/10.1.1.3:5000, mTLS`, `cluster-2 via gateway 198.18.2.10:15443, mTLS`
fn place(cluster: &Cluster, endpoint: &Endpoint, out: &mut dyn Write) -> fmt::Result {
    let behind = cluster.behind(endpoint);
    for (at, name) in behind.iter().enumerate() {
        write!(out, "{}{name}", if at > 0 { "+" } else { "" })?;
    }
    match cluster.via(endpoint) {
        Via::Gateway => {
            let space = if behind.is_empty() { "" } else { " " };
            write!(out, "{space}via gateway {}", endpoint.address)?;
        }
        Via::Direct => {
            let slash = if behind.is_empty() { "" } else { "/" };
            write!(out, "{slash}{}", endpoint.address)?;
        }
    }
    out.write_str(in_words(cluster.transport(endpoint)))
}

fn in_words(transport: &Transport) -> &'static str {
    match transport {
        Transport::Plain => ", plain text",
        Transport::Mutual(_) => ", mTLS",
    }
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints = self.cluster.endpoints();
        match endpoints.get(self.endpoint.index as usize) {
            Some(endpoint) => place(&self.cluster, endpoint, f),
            None => write!(f, "{}{}", self.endpoint.address, in_words(&self.transport)),
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decision::Forward(forward) => forward.fmt(f),
            Decision::Respond(respond) => write!(f, "answered here with {}", respond.status),
            Decision::Reject(reject) => {
                write!(
                    f,
                    "not carried, {} {}: {}",
                    reject.status, reject.flag, reject.cause
                )
            }
        }
    }
}
