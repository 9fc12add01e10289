//! Google's messages that everyone else builds on.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use prost::{Enumeration, Message, Oneof};

pub use crate::any::Any;

/// A message whose field we name but whose content we do not read: its bytes as they came, sent on unchanged.
///
/// On the wire a message and bytes look alike, so nothing is lost. `Some` of no bytes is a message that is there and says
/// nothing else. Whoever acts on the message around it refuses one that is set, unless ignoring it is harmless.
pub type Unread = Bytes;

/// `google.protobuf.Duration`
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Duration {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Of the same sign as `seconds`, less than a second in size.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

const NANOS_PER_SECOND: i32 = 1_000_000_000;

/// More than `i64::MAX` seconds is written as that.
impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        match i64::try_from(duration.as_secs()) {
            Ok(seconds) => Self {
                seconds,
                nanos: duration.subsec_nanos() as i32,
            },
            Err(_) => Self {
                seconds: i64::MAX,
                nanos: NANOS_PER_SECOND - 1,
            },
        }
    }
}

impl TryFrom<Duration> for std::time::Duration {
    type Error = BadDuration;

    fn try_from(duration: Duration) -> Result<Self, BadDuration> {
        let bad = || BadDuration(duration);
        let seconds = u64::try_from(duration.seconds).map_err(|_| bad())?;
        if !(0..NANOS_PER_SECOND).contains(&duration.nanos) {
            return Err(bad());
        }
        Ok(Self::new(seconds, duration.nanos as u32))
    }
}

/// A duration below zero, or with nanoseconds that make a second or more. The sender must change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadDuration(pub Duration);

impl fmt::Display for BadDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "not a time span: {} s and {} ns",
            self.0.seconds, self.0.nanos
        )
    }
}

impl std::error::Error for BadDuration {}

/// `google.protobuf.Timestamp`
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Timestamp {
    /// Since 1970-01-01T00:00:00Z.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Never negative: they count forward, also before 1970.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// `google.protobuf.Struct`
#[derive(Clone, PartialEq, Message)]
pub struct Struct {
    #[prost(btree_map = "string, message", tag = "1")]
    pub fields: BTreeMap<String, Value>,
}

impl Struct {
    pub fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field)
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Struct {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(fields: I) -> Self {
        Self {
            fields: fields
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
        }
    }
}

/// `google.protobuf.Value`
#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6")]
    pub kind: Option<Kind>,
}

/// `google.protobuf.Value.kind`
#[derive(Clone, PartialEq, Oneof)]
pub enum Kind {
    #[prost(enumeration = "NullValue", tag = "1")]
    NullValue(i32),
    #[prost(double, tag = "2")]
    NumberValue(f64),
    #[prost(string, tag = "3")]
    StringValue(String),
    #[prost(bool, tag = "4")]
    BoolValue(bool),
    #[prost(message, tag = "5")]
    StructValue(Struct),
    #[prost(message, tag = "6")]
    ListValue(ListValue),
}

impl Value {
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Some(Kind::StringValue(text)) => Some(text),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self.kind {
            Some(Kind::BoolValue(value)) => Some(value),
            _ => None,
        }
    }

    pub fn as_number(&self) -> Option<f64> {
        match self.kind {
            Some(Kind::NumberValue(value)) => Some(value),
            _ => None,
        }
    }

    pub fn as_struct(&self) -> Option<&Struct> {
        match &self.kind {
            Some(Kind::StructValue(value)) => Some(value),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&[Value]> {
        match &self.kind {
            Some(Kind::ListValue(list)) => Some(&list.values),
            _ => None,
        }
    }
}

impl From<Kind> for Value {
    fn from(kind: Kind) -> Self {
        Self { kind: Some(kind) }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Kind::StringValue(text.to_owned()).into()
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Kind::StringValue(text).into()
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Kind::BoolValue(value).into()
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Kind::NumberValue(value).into()
    }
}

impl From<Struct> for Value {
    fn from(value: Struct) -> Self {
        Kind::StructValue(value).into()
    }
}

impl<V: Into<Value>> FromIterator<V> for Value {
    fn from_iter<I: IntoIterator<Item = V>>(values: I) -> Self {
        Kind::ListValue(ListValue {
            values: values.into_iter().map(Into::into).collect(),
        })
        .into()
    }
}

/// `google.protobuf.NullValue`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum NullValue {
    NullValue = 0,
}

/// `google.protobuf.ListValue`
#[derive(Clone, PartialEq, Message)]
pub struct ListValue {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<Value>,
}

/// `google.rpc.Status`
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// A gRPC status code; 3 is "invalid argument", the usual one of a NACK.
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

#[cfg(test)]
mod tests;
