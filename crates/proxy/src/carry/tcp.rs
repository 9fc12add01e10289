//! Carries connections as a whole: everything that is not HTTP, and all that passes a gateway.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use catamaran_decide::{
    Attempt, Decision, Forward, Handler, Outcome, Via, Way, decide_on, retryable,
};
use tokio::time::Instant;

use super::copy::{End, copy};
use super::dial::{Dialed, Target, dial};
use super::http::wall_clock;
use super::stream::Stream;
use super::tls::Offer;
use super::worker::{Admitted, InFlight, Worker, flags_of};
use crate::report::{Flags, LogLine};

/// How long a connection may be silent when its chain does not say.
pub(crate) const SILENCE: Duration = Duration::from_secs(3600);

/// Which way a connection goes, seen from the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toward {
    Outbound,
    Inbound,
    /// From one network to another.
    Through,
}

/// A caller's connection that is to be carried as a whole.
pub(crate) struct Call {
    pub(crate) toward: Toward,
    /// The caller.
    pub(crate) source: SocketAddr,
    /// Where the caller wanted to go.
    pub(crate) local: SocketAddr,
    pub(crate) server_name: Option<String>,
    /// The caller's verified identity.
    pub(crate) peer: Option<Arc<str>>,
    pub(crate) began: Instant,
    /// Held for as long as the connection stands.
    pub(crate) _admitted: Admitted,
}

/// How carrying a connection went.
#[derive(Debug, Default)]
pub(crate) struct Course {
    pub(crate) flags: Flags,
    pub(crate) reason: String,
    pub(crate) failure: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) cluster: Option<Arc<str>>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) upstream_peer: Option<Arc<str>>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// Carries a connection to its end. `head` is what was read of it already.
pub(crate) async fn carry(
    worker: &Rc<Worker>,
    way: &Way,
    call: Call,
    stream: Stream,
    head: Vec<u8>,
) {
    let mut course = Course::default();
    let idle = match way.chain.handler() {
        Handler::Tcp(tcp) => tcp.idle_timeout.unwrap_or(SILENCE),
        Handler::Http(_) => SILENCE,
    };
    let reached = Box::pin(reach(worker, way, &call, &mut course)).await;
    let Some((mut in_flight, dialed)) = reached else {
        tell(worker, &call, &course);
        return;
    };
    course.upstream_peer = dialed.peer.clone();
    let subject = match call.toward {
        Toward::Inbound => {
            worker.inbound_subject(call.peer.as_deref(), call.server_name.as_deref())
        }
        Toward::Outbound | Toward::Through => worker.outbound_subject(
            Some(&in_flight.forward.cluster),
            place(&in_flight.forward).as_deref(),
            dialed.peer.as_deref(),
        ),
    };
    worker.scribe.opened(subject);
    let copied = copy(stream, dialed.stream, head, idle).await;
    course.received = copied.forth;
    course.sent = copied.back;
    let outcome = match copied.end {
        End::Closed => Outcome::Closed,
        End::Idle => {
            course.flags = course.flags.and(Flags::IDLE);
            Outcome::Closed
        }
        End::First(error) => {
            course.flags = course.flags.and(Flags::CALLER_GONE);
            course.failure = Some(error.to_string());
            Outcome::Closed
        }
        End::Second(error) => {
            course.flags = course.flags.and(Flags::UPSTREAM_ENDED);
            course.failure = Some(error.to_string());
            if copied.back == 0 {
                Outcome::ResetBeforeHeaders
            } else {
                Outcome::ResetAfterHeaders
            }
        }
    };
    in_flight.finish(outcome);
    worker
        .scribe
        .closed(subject, course.flags, course.received, course.sent);
    tell(worker, &call, &course);
}

/// The one cluster that stands behind the endpoint, when it is one.
fn place(forward: &Forward) -> Option<Arc<str>> {
    let endpoint = forward
        .cluster
        .endpoints()
        .get(forward.endpoint.index as usize)?;
    match forward.cluster.behind(endpoint) {
        [one] => Some(one.clone()),
        _ => None,
    }
}

/// Decides and connects, and again elsewhere when that fails.
async fn reach(
    worker: &Rc<Worker>,
    way: &Way,
    call: &Call,
    course: &mut Course,
) -> Option<(InFlight, Dialed)> {
    let mut tried = Vec::new();
    loop {
        let attempt = Attempt {
            peer: call.peer.as_deref(),
            request: None,
            tried: &tried,
            ticket: worker.ticket(),
        };
        let decision = {
            let table = worker.table();
            decide_on(&table, &worker.view.borrow(), way, &attempt, worker.now())
        };
        let forward = match decision {
            Decision::Forward(forward) => forward,
            Decision::Respond(respond) => {
                course.reason = respond.why.to_string();
                course.flags = course.flags.and(Flags::NO_ROUTE);
                return None;
            }
            Decision::Reject(reject) => {
                course.cluster = reject
                    .why
                    .cluster
                    .as_ref()
                    .map(|cluster| cluster.name().clone());
                course.reason = format!("{}: {}", reject.cause, reject.why);
                course.flags = course.flags.and(flags_of(reject.flag));
                return None;
            }
        };
        course.attempts += 1;
        course.reason = forward.why.to_string();
        course.cluster = Some(forward.cluster.name().clone());
        course.address = Some(forward.endpoint.address);
        let own = &worker.settings.own.cluster;
        let behind = forward
            .cluster
            .endpoints()
            .get(forward.endpoint.index as usize)
            .map_or(&[][..], |endpoint| forward.cluster.behind(endpoint));
        let target = Target {
            address: forward.endpoint.address,
            transport: forward.transport.clone(),
            issuers: forward.issuers.clone(),
            connect: forward.timeouts.connect,
            offer: Offer::Opaque,
            remote: forward.via == Via::Gateway || (!behind.is_empty() && !behind.contains(own)),
        };
        let mut in_flight = worker.begin(forward);
        let error = match dial(worker, &target).await {
            Ok(dialed) => return Some((in_flight, dialed)),
            Err(error) => error,
        };
        let text = error.to_string();
        match &mut course.failure {
            None => course.failure = Some(text),
            Some(failure) => {
                failure.push_str("; ");
                failure.push_str(&text);
            }
        }
        let again = in_flight.forward.retry.as_ref().is_some_and(|policy| {
            course.attempts <= policy.retries
                && retryable(error.outcome(), None, policy)
                && worker.view.borrow().may_retry(&in_flight.forward.cluster)
        });
        tried.push(target.address);
        in_flight.finish(error.outcome());
        if !again {
            course.flags = course.flags.and(Flags::UPSTREAM_CONNECT);
            if course.attempts > 1 {
                course.flags = course.flags.and(Flags::ATTEMPTS);
            }
            return None;
        }
    }
}

/// Writes the line of a connection, carried or not.
pub(crate) fn tell(worker: &Worker, call: &Call, course: &Course) {
    if !worker.scribe.logs() {
        return;
    }
    let duration = call.began.elapsed();
    worker.scribe.log(&LogLine {
        start_time: wall_clock(duration),
        direction: match call.toward {
            Toward::Outbound => "outbound",
            Toward::Inbound => "inbound",
            Toward::Through => "gateway",
        },
        protocol: "TCP",
        method: None,
        authority: None,
        path: None,
        request_id: None,
        response_code: 0,
        response_flags: course.flags,
        reason: &course.reason,
        failure: course.failure.as_deref(),
        attempts: course.attempts,
        route_name: None,
        upstream_cluster: course.cluster.as_deref(),
        upstream_host: course.address,
        downstream_remote_address: call.source,
        downstream_local_address: call.local,
        requested_server_name: call.server_name.as_deref(),
        upstream_peer: course.upstream_peer.as_deref(),
        downstream_peer: call.peer.as_deref(),
        bytes_received: course.received,
        bytes_sent: course.sent,
        duration: duration.as_millis() as u64,
    });
}
