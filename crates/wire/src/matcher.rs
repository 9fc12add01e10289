//! How a text or a number is compared.

use prost::{Message, Oneof};

use crate::well_known::Unread;

/// `envoy.type.matcher.v3.StringMatcher`
#[derive(Clone, PartialEq, Message)]
pub struct StringMatcher {
    #[prost(oneof = "MatchPattern", tags = "1, 2, 3, 5, 7, 8")]
    pub match_pattern: Option<MatchPattern>,
    #[prost(bool, tag = "6")]
    pub ignore_case: bool,
}

impl StringMatcher {
    pub fn exact(text: impl Into<String>) -> Self {
        MatchPattern::Exact(text.into()).into()
    }

    pub fn prefix(text: impl Into<String>) -> Self {
        MatchPattern::Prefix(text.into()).into()
    }
}

impl From<MatchPattern> for StringMatcher {
    fn from(pattern: MatchPattern) -> Self {
        Self {
            match_pattern: Some(pattern),
            ignore_case: false,
        }
    }
}

/// `envoy.type.matcher.v3.StringMatcher.match_pattern`
#[derive(Clone, PartialEq, Oneof)]
pub enum MatchPattern {
    #[prost(string, tag = "1")]
    Exact(String),
    #[prost(string, tag = "2")]
    Prefix(String),
    #[prost(string, tag = "3")]
    Suffix(String),
    #[prost(message, tag = "5")]
    SafeRegex(RegexMatcher),
    #[prost(string, tag = "7")]
    Contains(String),
    #[prost(bytes = "bytes", tag = "8")]
    Custom(Unread),
}

/// `envoy.type.matcher.v3.ListStringMatcher`
#[derive(Clone, PartialEq, Message)]
pub struct ListStringMatcher {
    #[prost(message, repeated, tag = "1")]
    pub patterns: Vec<StringMatcher>,
}

/// `envoy.type.matcher.v3.RegexMatcher`
#[derive(Clone, PartialEq, Message)]
pub struct RegexMatcher {
    #[prost(message, optional, tag = "1")]
    pub google_re2: Option<GoogleRE2>,
    #[prost(string, tag = "2")]
    pub regex: String,
}

/// `envoy.type.matcher.v3.RegexMatcher.GoogleRE2`
#[derive(Clone, PartialEq, Message)]
pub struct GoogleRE2 {
    #[prost(message, optional, tag = "1")]
    pub max_program_size: Option<u32>,
}

/// `envoy.type.matcher.v3.RegexMatchAndSubstitute`
#[derive(Clone, PartialEq, Message)]
pub struct RegexMatchAndSubstitute {
    #[prost(message, optional, tag = "1")]
    pub pattern: Option<RegexMatcher>,
    #[prost(string, tag = "2")]
    pub substitution: String,
}

/// `envoy.type.v3.Int32Range`
#[derive(Clone, PartialEq, Message)]
pub struct Int32Range {
    #[prost(int32, tag = "1")]
    pub start: i32,
    #[prost(int32, tag = "2")]
    pub end: i32,
}

/// `envoy.type.v3.Int64Range`
#[derive(Clone, PartialEq, Message)]
pub struct Int64Range {
    #[prost(int64, tag = "1")]
    pub start: i64,
    #[prost(int64, tag = "2")]
    pub end: i64,
}
