//! Reads protobuf's JSON into the bytes of a message: the other way of `admin/render.rs`, from the same shapes.
//!
//! Fields go by the names of the `.proto` file or in lowerCamelCase, enumerations by name or number, durations as `1.5s`, bytes in
//! base64, wide numbers as numbers or text, `null` as not given; what is packed in an `Any` stands beside its `@type`. A field
//! that the message does not have is an error, with its path. A message behind an `@type` that we do not know is handed on
//! empty under its type: whoever reads it refuses it by that type, or does not care.
//!
//! Source: <https://protobuf.dev/programming-guides/json/>.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use catamaran_wire::Message;
use catamaran_wire::well_known::{Any, Duration, Kind, ListValue, Struct, Value};
use serde_json::{Map, Value as Json};

use crate::shapes::{MapValue, SHAPES, Scalar, Shape};

/// Deeper JSON is refused.
const DEPTH: usize = 64;

/// What cannot be read, and where: `filter_chains[0].filters[1].typed_config.stat_prefix`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub(crate) struct JsonError {
    pub(crate) path: String,
    pub(crate) reason: String,
}

impl JsonError {
    fn new(reason: impl Into<String>) -> JsonError {
        JsonError {
            path: String::new(),
            reason: reason.into(),
        }
    }

    pub(crate) fn within(mut self, outer: &str) -> JsonError {
        self.path = match self.path.as_str() {
            "" => outer.to_owned(),
            inner if inner.starts_with('[') => format!("{outer}{inner}"),
            inner => format!("{outer}.{inner}"),
        };
        self
    }
}

/// A message's fields by both of their names.
type ByName = HashMap<&'static str, HashMap<String, u32>>;

static BY_NAME: LazyLock<ByName> = LazyLock::new(|| {
    let both = |fields: &HashMap<u32, crate::shapes::Field>| {
        let names = fields.iter().flat_map(|(number, field)| {
            [
                (field.name.to_owned(), *number),
                (lower_camel(field.name), *number),
            ]
        });
        names.collect()
    };
    let messages = SHAPES.messages.iter();
    messages
        .map(|(name, fields)| (*name, both(fields)))
        .collect()
});

fn lower_camel(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut parts = name.split('_');
    camel.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let mut letters = part.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

/// The bytes of a message, `envoy.config.cluster.v3.Cluster`.
///
/// # Errors
/// The first thing that is not as the message wants it.
pub(crate) fn encode(name: &str, json: &Json) -> Result<Vec<u8>, JsonError> {
    let mut bytes = Vec::new();
    message(name, json, 0, &mut bytes)?;
    bytes.shrink_to_fit();
    Ok(bytes)
}

fn object(json: &Json) -> Result<&Map<String, Json>, JsonError> {
    let object = json.as_object();
    object.ok_or_else(|| JsonError::new(format!("an object is wanted, not {}", word(json))))
}

fn word(json: &Json) -> String {
    match json {
        Json::Null => "null".into(),
        Json::Bool(truth) => truth.to_string(),
        Json::Number(number) => number.to_string(),
        Json::String(text) => format!("{:?}", text.chars().take(64).collect::<String>()),
        Json::Array(_) => "a list".into(),
        Json::Object(_) => "an object".into(),
    }
}

fn message(name: &str, json: &Json, depth: usize, out: &mut Vec<u8>) -> Result<(), JsonError> {
    if depth > DEPTH {
        return Err(JsonError::new(format!("is deeper than {DEPTH} levels")));
    }
    fields(name, object(json)?.iter(), depth, out)
}

/// Fields in the order of their numbers, so that equal JSON becomes equal bytes.
fn fields<'a>(
    name: &str,
    given: impl Iterator<Item = (&'a String, &'a Json)>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), JsonError> {
    let (Some(shapes), Some(names)) = (SHAPES.messages.get(name), BY_NAME.get(name)) else {
        return Err(JsonError::new(format!("{name} is not implemented")));
    };
    let mut wanted = BTreeMap::new();
    for (key, value) in given {
        let number = names.get(key).ok_or_else(|| {
            JsonError::new(format!("{name} has no such field; take it out")).within(key)
        })?;
        if !value.is_null() && wanted.insert(*number, (key, value)).is_some() {
            return Err(JsonError::new("is given twice, under both of its names").within(key));
        }
    }
    for (number, (key, value)) in wanted {
        let field = &shapes[&number];
        let within = |error: JsonError| error.within(key);
        match (field.shape, value) {
            (Shape::Map(shape), _) => map(number, shape, value, depth, out).map_err(within)?,
            (shape, Json::Array(all)) if field.several => {
                for (at, one) in all.iter().enumerate() {
                    single(number, shape, one, depth, out)
                        .map_err(|error| error.within(&format!("[{at}]")))
                        .map_err(within)?;
                }
            }
            (_, other) if field.several => {
                return Err(within(JsonError::new(format!(
                    "a list is wanted, not {}",
                    word(other)
                ))));
            }
            (shape, one) => single(number, shape, one, depth, out).map_err(within)?,
        }
    }
    Ok(())
}

fn map(
    number: u32,
    shape: MapValue,
    json: &Json,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), JsonError> {
    let shape = match shape {
        MapValue::Text => Shape::Text,
        MapValue::Bytes => Shape::Bytes,
        MapValue::Any => Shape::Any,
        MapValue::Struct => Shape::Struct,
        MapValue::Message(name) => Shape::Message(name),
        MapValue::Other => Shape::Unread,
    };
    let sorted: BTreeMap<&String, &Json> = object(json)?.iter().collect();
    for (key, value) in sorted {
        let mut entry = Vec::new();
        length_delimited(1, key.as_bytes(), &mut entry);
        single(2, shape, value, depth, &mut entry).map_err(|error| error.within(key))?;
        length_delimited(number, &entry, out);
    }
    Ok(())
}

fn single(
    number: u32,
    shape: Shape,
    json: &Json,
    depth: usize,
    out: &mut Vec<u8>,
) -> Result<(), JsonError> {
    let wanted = |what: &str| JsonError::new(format!("{what} is wanted, not {}", word(json)));
    match shape {
        Shape::Text => {
            let text = json.as_str().ok_or_else(|| wanted("text"))?;
            length_delimited(number, text.as_bytes(), out);
        }
        Shape::Bytes => {
            let text = json.as_str().ok_or_else(|| wanted("base64"))?;
            let bytes = base64(text).ok_or_else(|| wanted("base64"))?;
            length_delimited(number, &bytes, out);
        }
        // Given, and that is all that is known of it: who reads the message refuses it where it matters.
        Shape::Unread => length_delimited(number, &[], out),
        Shape::Unsigned => varint_field(
            number,
            unsigned(json).ok_or_else(|| wanted("a number"))?,
            out,
        ),
        Shape::Signed => {
            let value = signed(json).ok_or_else(|| wanted("a number"))?;
            varint_field(number, value as u64, out);
        }
        Shape::Truth => {
            let truth = json.as_bool().ok_or_else(|| wanted("true or false"))?;
            varint_field(number, truth.into(), out);
        }
        Shape::Double => {
            let value = double(json).ok_or_else(|| wanted("a number"))?;
            varint(u64::from(number) << 3 | 1, out);
            out.extend_from_slice(&value.to_le_bytes());
        }
        Shape::Float => {
            let value = double(json).ok_or_else(|| wanted("a number"))?;
            varint(u64::from(number) << 3 | 5, out);
            out.extend_from_slice(&(value as f32).to_le_bytes());
        }
        Shape::Enum(name) => varint_field(number, enumerated(name, json)? as u64, out),
        Shape::Wrapped(scalar) => {
            let mut inner = Vec::new();
            wrapped(scalar, json, depth, &mut inner)?;
            length_delimited(number, &inner, out);
        }
        Shape::Any => {
            let any = any(json, depth)?;
            length_delimited(number, &any.encode_to_vec(), out);
        }
        Shape::Duration => {
            let text = json
                .as_str()
                .ok_or_else(|| wanted("a duration like \"1.5s\""))?;
            let duration = duration(text).ok_or_else(|| wanted("a duration like \"1.5s\""))?;
            length_delimited(number, &duration.encode_to_vec(), out);
        }
        Shape::Struct => {
            let structure = structure(object(json)?, depth)?;
            length_delimited(number, &structure.encode_to_vec(), out);
        }
        Shape::Message(name) => {
            let mut inner = Vec::new();
            message(name, json, depth + 1, &mut inner)?;
            length_delimited(number, &inner, out);
        }
        Shape::Map(_) => return Err(JsonError::new("a map cannot stand here")),
    }
    Ok(())
}

/// A wrapper has its value in field 1.
fn wrapped(scalar: Scalar, json: &Json, depth: usize, out: &mut Vec<u8>) -> Result<(), JsonError> {
    single(1, scalar.shape(), json, depth, out)
}

fn any(json: &Json, depth: usize) -> Result<Any, JsonError> {
    let given = object(json)?;
    let Some(Json::String(type_url)) = given.get("@type") else {
        return Err(JsonError::new("names no type").within("@type"));
    };
    let name = type_url.rsplit('/').next().unwrap_or_default();
    if depth > DEPTH {
        return Err(JsonError::new(format!("is deeper than {DEPTH} levels")));
    }
    let mut value = Vec::new();
    if name == "google.protobuf.Struct" {
        let inner = given.get("value").unwrap_or(&Json::Null);
        if !inner.is_null() {
            let structure = structure(object(inner)?, depth).map_err(|e| e.within("value"))?;
            value = structure.encode_to_vec();
        }
    } else if SHAPES.messages.contains_key(name) {
        let rest = given.iter().filter(|(key, _)| *key != "@type");
        fields(name, rest, depth + 1, &mut value)?;
    }
    Ok(Any {
        type_url: type_url.clone(),
        value: value.into(),
    })
}

fn enumerated(name: &str, json: &Json) -> Result<i64, JsonError> {
    if let Some(number) = json.as_i64() {
        return Ok(number);
    }
    let values = SHAPES.enums.get(name);
    let found = json.as_str().and_then(|text| {
        let mut values = values?.iter();
        values.find_map(|(number, value)| (*value == text).then_some(*number))
    });
    found.ok_or_else(|| {
        let mut known: Vec<_> = values.into_iter().flatten().collect();
        known.sort();
        let known: Vec<&str> = known.into_iter().map(|(_, name)| *name).collect();
        JsonError::new(format!("{} is none of {}", word(json), known.join(", ")))
    })
}

fn unsigned(json: &Json) -> Option<u64> {
    match json {
        Json::String(text) => text.parse().ok(),
        _ => json.as_u64(),
    }
}

fn signed(json: &Json) -> Option<i64> {
    match json {
        Json::String(text) => text.parse().ok(),
        _ => json.as_i64(),
    }
}

fn double(json: &Json) -> Option<f64> {
    match json {
        Json::String(text) => text.parse().ok(),
        _ => json.as_f64(),
    }
}

/// `1.5s`, `-0.25s`, `3600s`.
fn duration(text: &str) -> Option<Duration> {
    let (sign, digits) = match text.strip_suffix('s')?.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_suffix('s')?),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let nanos: i32 = format!("{fraction:0<9}").parse().ok()?;
    Some(Duration {
        seconds: sign * whole.parse::<i64>().ok()?,
        nanos: sign as i32 * nanos,
    })
}

fn structure(given: &Map<String, Json>, depth: usize) -> Result<Struct, JsonError> {
    let fields = given.iter().map(|(key, value)| {
        let value = any_value(value, depth + 1).map_err(|error| error.within(key))?;
        Ok((key.clone(), value))
    });
    Ok(Struct {
        fields: fields.collect::<Result<_, JsonError>>()?,
    })
}

fn any_value(json: &Json, depth: usize) -> Result<Value, JsonError> {
    if depth > DEPTH {
        return Err(JsonError::new(format!("is deeper than {DEPTH} levels")));
    }
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(truth) => Kind::BoolValue(*truth),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(all) => Kind::ListValue(ListValue {
            values: all
                .iter()
                .map(|one| any_value(one, depth + 1))
                .collect::<Result<_, _>>()?,
        }),
        Json::Object(given) => Kind::StructValue(structure(given, depth)?),
    };
    Ok(Value { kind: Some(kind) })
}

/// Base64 of either alphabet, with or without padding (RFC 4648).
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').bytes().map(|byte| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    });
    let digits: Vec<u8> = digits.collect::<Option<_>>()?;
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for four in digits.chunks(4) {
        let bits = four
            .iter()
            .fold(0u32, |bits, digit| bits << 6 | u32::from(*digit));
        match four.len() {
            4 => bytes.extend_from_slice(&bits.to_be_bytes()[1..]),
            3 => bytes.extend_from_slice(&(bits << 6).to_be_bytes()[1..3]),
            2 => bytes.extend_from_slice(&(bits << 12).to_be_bytes()[1..2]),
            _ => return None,
        }
    }
    Some(bytes)
}

fn varint_field(number: u32, value: u64, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3, out);
    varint(value, out);
}

fn length_delimited(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests;
