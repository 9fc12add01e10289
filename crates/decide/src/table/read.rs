//! Small readings that several kinds of resource share.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use catamaran_wire::core::{
    Address, AddressKind, CidrRange, Http1ProtocolOptions, Http2ProtocolOptions, PortSpecifier,
    SocketProtocol,
};
use catamaran_wire::well_known::{self, Kind as ValueKind, Struct, Value};

use crate::RetryPolicy;
use crate::refusal::{Fault, refuse_set};

/// Text and lists that many resources repeat, kept once within one update.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    texts: HashSet<Arc<str>>,
    lists: HashSet<Arc<[Arc<str>]>>,
    marks: HashSet<Marks>,
    retries: Vec<Arc<RetryPolicy>>,
}

/// So many different retry policies are shared within an update; there are usually one or two.
const MAX_SHARED_RETRIES: usize = 16;

impl Interner {
    pub(crate) fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(text);
        self.texts.insert(Arc::clone(&new));
        new
    }

    pub(crate) fn list<T: AsRef<str>>(
        &mut self,
        texts: impl IntoIterator<Item = T>,
    ) -> Arc<[Arc<str>]> {
        let list: Arc<[Arc<str>]> = texts
            .into_iter()
            .map(|text| self.text(text.as_ref()))
            .collect();
        if let Some(known) = self.lists.get(&list) {
            return Arc::clone(known);
        }
        self.lists.insert(Arc::clone(&list));
        list
    }

    pub(crate) fn retry(&mut self, policy: RetryPolicy) -> Arc<RetryPolicy> {
        if let Some(known) = self.retries.iter().find(|known| ***known == policy) {
            return Arc::clone(known);
        }
        let new = Arc::new(policy);
        if self.retries.len() < MAX_SHARED_RETRIES {
            self.retries.push(Arc::clone(&new));
        }
        new
    }

    fn marks(&mut self, marks: Marks) -> Marks {
        if let Some(known) = self.marks.get(&marks) {
            return Arc::clone(known);
        }
        self.marks.insert(Arc::clone(&marks));
        marks
    }
}

/// Scalar metadata, by key: what sockets are matched by.
pub(crate) type Marks = Arc<[(Arc<str>, Arc<str>)]>;

/// The scalars of a struct as text; `None` when it holds a list or struct.
pub(crate) fn marks(fields: Option<&Struct>, interner: &mut Interner) -> Option<Marks> {
    let read: Option<Marks> = fields
        .iter()
        .flat_map(|fields| &fields.fields)
        .map(|(key, value)| Some((interner.text(key), interner.text(&scalar(value)?))))
        .collect();
    Some(interner.marks(read?))
}

/// The type is part of the text, so that `"true"` and `true` differ.
fn scalar(value: &Value) -> Option<String> {
    match value.kind.as_ref()? {
        ValueKind::StringValue(text) => Some(format!("s{text}")),
        ValueKind::BoolValue(value) => Some(format!("b{value}")),
        ValueKind::NumberValue(value) => Some(format!("n{value}")),
        ValueKind::NullValue(_) | ValueKind::StructValue(_) | ValueKind::ListValue(_) => None,
    }
}

pub(crate) fn span(
    duration: Option<well_known::Duration>,
    field: &str,
) -> Result<Option<Duration>, Fault> {
    duration
        .map(|duration| {
            Duration::try_from(duration).map_err(|bad| Fault::new(field, bad.to_string()))
        })
        .transpose()
}

/// A span where absence means `default` and zero means "without end".
pub(crate) fn span_or(
    duration: Option<well_known::Duration>,
    field: &str,
    default: Option<Duration>,
) -> Result<Option<Duration>, Fault> {
    Ok(match span(duration, field)? {
        None => default,
        Some(Duration::ZERO) => None,
        some => some,
    })
}

pub(crate) fn socket(address: Option<&Address>) -> Result<SocketAddr, Fault> {
    let Some(kind) = address.and_then(|address| address.address.as_ref()) else {
        return Err(Fault::new("", "is missing"));
    };
    let AddressKind::SocketAddress(socket) = kind else {
        return Err(Fault::new("", "only socket addresses are implemented"));
    };
    let within = |fault: Fault| fault.within("socket_address");
    (|| {
        if socket.protocol != i32::from(SocketProtocol::Tcp) {
            return Err(Fault::new("protocol", "only TCP is implemented"));
        }
        refuse_set!(socket, resolver_name, network_namespace_filepath);
        let ip: IpAddr = socket.address.parse().map_err(|_| {
            let shown: String = socket.address.chars().take(80).collect();
            Fault::new("address", format!("{shown:?} is not an IP address"))
        })?;
        let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else {
            return Err(Fault::new("port_value", "a port number is needed"));
        };
        let port = u16::try_from(port)
            .map_err(|_| Fault::new("port_value", format!("{port} is not a port")))?;
        Ok(SocketAddr::new(ip, port))
    })()
    .map_err(within)
}

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    network: IpAddr,
    pub(crate) length: u8,
}

impl Range {
    pub(crate) fn read(range: &CidrRange) -> Result<Range, Fault> {
        let network: IpAddr = range
            .address_prefix
            .parse()
            .map_err(|_| Fault::new("address_prefix", "is not an IP address"))?;
        let length = range.prefix_len.unwrap_or(0);
        let most = if network.is_ipv4() { 32 } else { 128 };
        if length > most {
            return Err(Fault::new(
                "prefix_len",
                format!("{length} is more than {most}"),
            ));
        }
        Ok(Range {
            network,
            length: length as u8,
        })
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.length);
                let cut = |ip: u32| ip.checked_shr(shift).unwrap_or(0);
                cut(network.to_bits()) == cut(address.to_bits())
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.length);
                let cut = |ip: u128| ip.checked_shr(shift).unwrap_or(0);
                cut(network.to_bits()) == cut(address.to_bits())
            }
            _ => false,
        }
    }
}

/// HTTP/1 options: what only tunes is passed over.
pub(crate) fn http1(options: &Http1ProtocolOptions) -> Result<(), Fault> {
    refuse_set!(
        options,
        default_host_for_http_10,
        header_key_format,
        allow_chunked_length,
        send_fully_qualified_url,
        allow_custom_methods,
        ignore_http_11_upgrade,
    );
    Ok(())
}

/// HTTP/2 options that a connection is opened with; `None` leaves the choice to the one who carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Http2Options {
    /// How many streams the peer may have open.
    pub max_concurrent_streams: Option<u32>,
    /// Bytes a peer may send on one stream before we answer.
    pub initial_stream_window: Option<u32>,
    /// Bytes a peer may send on the connection before we answer.
    pub initial_connection_window: Option<u32>,
}

impl Http2Options {
    pub(crate) fn read(options: &Http2ProtocolOptions) -> Result<Http2Options, Fault> {
        refuse_set!(
            options,
            allow_connect,
            allow_metadata,
            custom_settings_parameters,
        );
        Ok(Http2Options {
            max_concurrent_streams: options.max_concurrent_streams,
            initial_stream_window: options.initial_stream_window_size,
            initial_connection_window: options.initial_connection_window_size,
        })
    }
}

/// `repeated` fields inside another message: the fault of one names its place.
pub(crate) fn each<T, U>(
    items: &[T],
    field: &str,
    mut read: impl FnMut(&T) -> Result<U, Fault>,
) -> Result<Vec<U>, Fault> {
    items
        .iter()
        .enumerate()
        .map(|(at, item)| read(item).map_err(|fault| fault.within(format!("{field}[{at}]"))))
        .collect()
}
