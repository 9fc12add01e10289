//! What is compared: one row for each kind of work, each with its figures and how far below Envoy they should be.

use super::Speaks;

/// One comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// A pair of sidecars, HTTP/1.1 between them, as fast as it goes.
    Http1,
    /// The same with HTTP/2 between them.
    Http2,
    /// HTTP/1.1 at a fixed rate.
    Http1Rate,
    /// HTTP/2 at a fixed rate.
    Http2Rate,
    /// A pair that carries bytes, as fast as it goes.
    Tcp,
    /// The same at a fixed rate.
    TcpRate,
    /// A gateway between the two, of which only the gateway counts.
    Gateway,
    /// A new mTLS connection for each request; sessions may be resumed.
    Connections,
    /// A new mTLS connection for each request, each a whole handshake.
    WholeHandshakes,
    /// Bodies of 1 MiB through a pair that carries bytes.
    BulkTcp,
    /// Bodies of 1 MiB through a pair with HTTP/2.
    BulkHttp2,
    /// One sidecar that nobody calls.
    Idle,
    /// One sidecar that knows 5,000 clusters.
    Clusters,
    /// mTLS connections that were used once and are kept, bytes.
    IdleTcp,
    /// mTLS connections that were used once and are kept, HTTP/1.1.
    IdleHttp1,
    /// Ours on one side and Envoy on the other.
    Mixed,
}

/// One measured thing of a row.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// Its name in records.
    pub key: &'static str,
    /// What it is, in a table.
    pub what: &'static str,
    /// Decimals in a table.
    pub decimals: usize,
    /// The ratio to Envoy that is demanded and the one aimed at; `None` is only shown.
    pub aims: Option<(f64, f64)>,
    /// Whether more is better.
    pub more: bool,
}

const fn figure(
    key: &'static str,
    what: &'static str,
    decimals: usize,
    least: f64,
    aim: f64,
) -> Figure {
    Figure {
        key,
        what,
        decimals,
        aims: Some((least, aim)),
        more: false,
    }
}

const fn shown(key: &'static str, what: &'static str, decimals: usize) -> Figure {
    Figure {
        key,
        what,
        decimals,
        aims: None,
        more: false,
    }
}

const CPU: &str = "CPU, us a request";
const ANSWERS: Figure = Figure {
    key: "per_second",
    what: "requests a CPU second",
    decimals: 0,
    aims: None,
    more: true,
};

impl Row {
    /// All of them, in the tables' order.
    pub const ALL: [Row; 16] = [
        Row::Http1,
        Row::Http2,
        Row::Http1Rate,
        Row::Http2Rate,
        Row::Tcp,
        Row::TcpRate,
        Row::Gateway,
        Row::Connections,
        Row::WholeHandshakes,
        Row::BulkTcp,
        Row::BulkHttp2,
        Row::Idle,
        Row::Clusters,
        Row::IdleTcp,
        Row::IdleHttp1,
        Row::Mixed,
    ];

    /// Its name on the command line and in records.
    pub fn word(self) -> &'static str {
        match self {
            Row::Http1 => "h1",
            Row::Http2 => "h2",
            Row::Http1Rate => "h1-rate",
            Row::Http2Rate => "h2-rate",
            Row::Tcp => "tcp",
            Row::TcpRate => "tcp-rate",
            Row::Gateway => "gateway",
            Row::Connections => "connections",
            Row::WholeHandshakes => "handshakes",
            Row::BulkTcp => "bulk-tcp",
            Row::BulkHttp2 => "bulk-h2",
            Row::Idle => "idle",
            Row::Clusters => "clusters",
            Row::IdleTcp => "idle-tcp",
            Row::IdleHttp1 => "idle-h1",
            Row::Mixed => "mixed",
        }
    }

    /// What is done, in a table.
    pub fn work(self) -> &'static str {
        match self {
            Row::Http1 => "pair, mTLS, HTTP/1.1, saturated",
            Row::Http2 => "pair, mTLS, HTTP/2, saturated",
            Row::Http1Rate => "pair, mTLS, HTTP/1.1, 3,000 requests/s",
            Row::Http2Rate => "pair, mTLS, HTTP/2, 3,000 requests/s",
            Row::Tcp => "pair, mTLS, TCP, saturated",
            Row::TcpRate => "pair, mTLS, TCP, 3,000 requests/s",
            Row::Gateway => "gateway hop, SNI passthrough",
            Row::Connections => "new mTLS connections, resumption allowed",
            Row::WholeHandshakes => "new mTLS connections, no resumption",
            Row::BulkTcp => "1 MiB bodies, pair, mTLS, TCP",
            Row::BulkHttp2 => "1 MiB bodies, pair, mTLS, HTTP/2",
            Row::Idle => "one idle sidecar",
            Row::Clusters => "a sidecar with 5,000 clusters",
            Row::IdleTcp => "an idle mTLS connection, TCP",
            Row::IdleHttp1 => "an idle mTLS connection, HTTP/1.1",
            Row::Mixed => "mixed pairs",
        }
    }

    /// What the sidecars speak.
    pub fn speaks(self) -> Speaks {
        match self {
            Row::Http1 | Row::Http1Rate | Row::IdleHttp1 => Speaks::Http1,
            Row::Http2
            | Row::Http2Rate
            | Row::BulkHttp2
            | Row::Idle
            | Row::Clusters
            | Row::Mixed => Speaks::Http2,
            Row::Tcp
            | Row::TcpRate
            | Row::Gateway
            | Row::Connections
            | Row::WholeHandshakes
            | Row::BulkTcp
            | Row::IdleTcp => Speaks::Tcp,
        }
    }

    /// What is measured, with issue 3's aims.
    pub fn figures(self) -> Vec<Figure> {
        let rate = vec![
            figure("cpu_us", CPU, 1, 0.65, 0.50),
            figure("p99_us", "p99, us", 0, 0.7, 0.4),
            shown("p50_us", "p50, us", 0),
        ];
        let bulk = vec![
            figure("cpu_s_per_gb", "CPU, s a GB", 3, 0.85, 0.70),
            shown("gbit", "Gbit/s", 1),
        ];
        let idle = vec![
            figure("client_kib", "KiB, caller's side", 1, 0.6, 0.3),
            figure("server_kib", "KiB, backend's side", 1, 0.6, 0.3),
        ];
        match self {
            Row::Http1 => vec![figure("cpu_us", CPU, 1, 0.45, 0.30), ANSWERS],
            Row::Http2 => vec![figure("cpu_us", CPU, 1, 0.55, 0.43), ANSWERS],
            Row::Http1Rate | Row::Http2Rate => rate,
            Row::Tcp => vec![figure("cpu_us", CPU, 1, 0.80, 0.68), ANSWERS],
            Row::TcpRate => rate
                .into_iter()
                .map(|figure| Figure {
                    aims: None,
                    ..figure
                })
                .collect(),
            Row::Gateway => vec![figure(
                "cpu_us",
                "CPU of the gateway, us a request",
                1,
                0.80,
                0.60,
            )],
            Row::Connections | Row::WholeHandshakes => vec![Figure {
                more: true,
                ..figure(
                    "per_cpu_s",
                    "connections a CPU second, both sides",
                    0,
                    1.6,
                    2.5,
                )
            }],
            Row::BulkTcp | Row::BulkHttp2 => bulk,
            Row::Idle => vec![
                figure("rss_mib", "resident memory, MiB", 1, 0.25, 0.16),
                shown("anonymous_mib", "of it anonymous, MiB", 1),
                shown("ready_ms", "start to ready, ms", 0),
            ],
            Row::Clusters => vec![
                figure("rss_mib", "resident memory, MiB", 1, 0.1, 0.05),
                figure("ready_ms", "start to ready, ms", 0, 0.1, 0.05),
                shown("cpu_s", "CPU until ready, s", 2),
            ],
            Row::IdleTcp | Row::IdleHttp1 => idle,
            Row::Mixed => vec![
                shown("h1_cpu_us", "HTTP/1.1: CPU, us a request", 1),
                shown("h2_cpu_us", "HTTP/2: CPU, us a request", 1),
                shown("tcp_cpu_us", "TCP: CPU, us a request", 1),
            ],
        }
    }
}
