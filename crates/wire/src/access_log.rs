//! Where a line about a request or a connection is written.

use prost::{Message, Oneof};

use crate::core::SubstitutionFormatString;
use crate::well_known::{Any, Struct, Unread};

/// `envoy.config.accesslog.v3.AccessLog`
#[derive(Clone, PartialEq, Message)]
pub struct AccessLog {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub filter: Option<Unread>,
    #[prost(message, optional, tag = "4")]
    pub typed_config: Option<Any>,
}

/// `envoy.extensions.access_loggers.file.v3.FileAccessLog`
#[derive(Clone, PartialEq, Message)]
pub struct FileAccessLog {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(oneof = "AccessLogFormat", tags = "2, 3, 4, 5")]
    pub access_log_format: Option<AccessLogFormat>,
}

/// `envoy.extensions.access_loggers.file.v3.FileAccessLog.access_log_format`
#[derive(Clone, PartialEq, Oneof)]
pub enum AccessLogFormat {
    #[prost(string, tag = "2")]
    Format(String),
    #[prost(message, tag = "3")]
    JsonFormat(Struct),
    #[prost(message, tag = "4")]
    TypedJsonFormat(Struct),
    #[prost(message, tag = "5")]
    LogFormat(SubstitutionFormatString),
}

/// `envoy.extensions.access_loggers.stream.v3.StdoutAccessLog`
#[derive(Clone, PartialEq, Message)]
pub struct StdoutAccessLog {
    #[prost(message, optional, tag = "1")]
    pub log_format: Option<SubstitutionFormatString>,
}

/// `envoy.extensions.access_loggers.stream.v3.StderrAccessLog`
#[derive(Clone, PartialEq, Message)]
pub struct StderrAccessLog {
    #[prost(message, optional, tag = "1")]
    pub log_format: Option<SubstitutionFormatString>,
}
