//! Shows encoded messages as JSON, close to protobuf's own mapping: fields by their names in the `.proto` files, enumerations
//! by name, durations as `1.5s`, what is packed in an `Any` unpacked beside its `@type`. It differs in that bytes are hex
//! and wide numbers are numbers. A field that is not known is shown by its number, and private keys are not shown.

use catamaran_wire::well_known::{Any, Duration, Kind, Struct, Value};
use catamaran_wire::{DecodeError, Message};
use serde_json::{Map, Value as Json, json};

use crate::shapes::{MapValue, SHAPES, Scalar, Shape};

/// Deeper messages are not looked into.
const DEPTH: usize = 64;

/// Fields that hold secrets.
const SECRETS: [&str; 4] = [
    "private_key",
    "password",
    "session_ticket_keys",
    "generic_secret",
];

/// The message of this type URL in these bytes. What cannot be read is said in its place.
pub(crate) fn render(type_url: &str, bytes: &[u8]) -> Json {
    packed(type_url, bytes, 0)
}

fn packed(type_url: &str, bytes: &[u8], depth: usize) -> Json {
    let name = type_url.rsplit('/').next().unwrap_or_default();
    if name == "google.protobuf.Struct" {
        return json!({"@type": type_url, "value": structure(bytes)});
    }
    let mut fields = Map::new();
    fields.insert("@type".into(), type_url.into());
    match message(name, bytes, depth) {
        Json::Object(inner) => fields.extend(inner),
        other => drop(fields.insert("value".into(), other)),
    }
    Json::Object(fields)
}

fn message(name: &str, bytes: &[u8], depth: usize) -> Json {
    let Some(known) = SHAPES.messages.get(name).filter(|_| depth < DEPTH) else {
        return unread(bytes);
    };
    let mut fields = Map::new();
    let mut reader = Reader(bytes);
    while let Some(read) = reader.field() {
        let Some((number, wire)) = read else {
            fields.insert("malformed".into(), true.into());
            break;
        };
        match known.get(&number) {
            None => {
                let value = wire.unknown();
                push(&mut fields, &format!("#{number}"), value, false);
            }
            Some(field) if SECRETS.contains(&field.name) => {
                fields.insert(field.name.into(), "[not shown]".into());
            }
            Some(field) => match (field.shape, wire) {
                (Shape::Map(value), Wire::Bytes(entry)) => {
                    let (key, value) = map_entry(value, entry, depth);
                    let map = fields.entry(field.name).or_insert_with(|| json!({}));
                    if let Json::Object(map) = map {
                        map.insert(key, value);
                    }
                }
                // Numbers of one field may come packed together.
                (shape, Wire::Bytes(many)) if field.several && shape.is_number() => {
                    let mut inner = Reader(many);
                    while !inner.0.is_empty() {
                        let Some(one) = inner.number(shape) else {
                            break;
                        };
                        push(&mut fields, field.name, one.shown(shape, depth), true);
                    }
                }
                (shape, wire) => {
                    push(
                        &mut fields,
                        field.name,
                        wire.shown(shape, depth),
                        field.several,
                    );
                }
            },
        }
    }
    Json::Object(fields)
}

fn push(fields: &mut Map<String, Json>, name: &str, value: Json, several: bool) {
    match fields.get_mut(name) {
        Some(Json::Array(all)) if several => all.push(value),
        _ if several => drop(fields.insert(name.into(), Json::Array(vec![value]))),
        _ => drop(fields.insert(name.into(), value)),
    }
}

fn map_entry(shape: MapValue, entry: &[u8], depth: usize) -> (String, Json) {
    let (mut key, mut value) = (String::new(), Json::Null);
    let mut reader = Reader(entry);
    while let Some(Some((number, wire))) = reader.field() {
        match (number, wire) {
            (1, Wire::Bytes(text)) => key = String::from_utf8_lossy(text).into_owned(),
            (2, wire) => {
                let shape = match shape {
                    MapValue::Text => Shape::Text,
                    MapValue::Bytes => Shape::Bytes,
                    MapValue::Any => Shape::Any,
                    MapValue::Struct => Shape::Struct,
                    MapValue::Message(name) => Shape::Message(name),
                    MapValue::Other => Shape::Unread,
                };
                value = wire.shown(shape, depth);
            }
            _ => {}
        }
    }
    if value.is_null() && matches!(shape, MapValue::Message(_)) {
        value = json!({});
    }
    (key, value)
}

fn unread(bytes: &[u8]) -> Json {
    format!("{} bytes", bytes.len()).into()
}

fn hex(bytes: &[u8]) -> Json {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.into()
}

fn structure(bytes: &[u8]) -> Json {
    match Struct::decode(bytes) {
        Ok(structure) => plain(structure),
        Err(_) => unread(bytes),
    }
}

fn plain(structure: Struct) -> Json {
    let fields = structure.fields.into_iter();
    Json::Object(
        fields
            .map(|(name, value)| (name, plain_value(value)))
            .collect(),
    )
}

fn plain_value(value: Value) -> Json {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Json::Null,
        Some(Kind::NumberValue(number)) => json!(number),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::BoolValue(truth)) => truth.into(),
        Some(Kind::StructValue(structure)) => plain(structure),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(plain_value).collect(),
    }
}

fn duration(bytes: &[u8]) -> Result<Json, DecodeError> {
    let Duration { seconds, nanos } = Duration::decode(bytes)?;
    let sign = if seconds < 0 || nanos < 0 { "-" } else { "" };
    let whole = format!(
        "{sign}{}.{:09}",
        seconds.unsigned_abs(),
        nanos.unsigned_abs()
    );
    let short = whole.trim_end_matches('0').trim_end_matches('.');
    Ok(format!("{short}s").into())
}

/// A value as it is on the wire, before its shape is known.
#[derive(Clone, Copy)]
enum Wire<'a> {
    Varint(u64),
    Eight([u8; 8]),
    Four([u8; 4]),
    Bytes(&'a [u8]),
}

impl Wire<'_> {
    fn unknown(self) -> Json {
        match self {
            Wire::Varint(number) => number.into(),
            Wire::Eight(bytes) => u64::from_le_bytes(bytes).into(),
            Wire::Four(bytes) => u32::from_le_bytes(bytes).into(),
            Wire::Bytes(bytes) => unread(bytes),
        }
    }

    fn shown(self, shape: Shape, depth: usize) -> Json {
        match (shape, self) {
            (Shape::Text, Wire::Bytes(text)) => String::from_utf8_lossy(text).into(),
            (Shape::Bytes, Wire::Bytes(bytes)) => hex(bytes),
            (Shape::Unread, Wire::Bytes(bytes)) => unread(bytes),
            (Shape::Unsigned, Wire::Varint(number)) => number.into(),
            (Shape::Signed, Wire::Varint(number)) => (number as i64).into(),
            (Shape::Truth, Wire::Varint(number)) => (number != 0).into(),
            (Shape::Double, Wire::Eight(bytes)) => json!(f64::from_le_bytes(bytes)),
            (Shape::Float, Wire::Four(bytes)) => json!(f32::from_le_bytes(bytes)),
            (Shape::Enum(name), Wire::Varint(number)) => SHAPES
                .enums
                .get(name)
                .and_then(|values| values.get(&(number as i64)))
                .map_or_else(|| (number as i64).into(), |name| (*name).into()),
            (Shape::Wrapped(scalar), Wire::Bytes(bytes)) => wrapped(scalar, bytes, depth),
            (Shape::Any, Wire::Bytes(bytes)) => match Any::decode(bytes) {
                Ok(any) => packed(&any.type_url, &any.value, depth + 1),
                Err(_) => unread(bytes),
            },
            (Shape::Duration, Wire::Bytes(bytes)) => {
                duration(bytes).unwrap_or_else(|_| unread(bytes))
            }
            (Shape::Struct, Wire::Bytes(bytes)) => structure(bytes),
            (Shape::Message(name), Wire::Bytes(bytes)) => message(name, bytes, depth + 1),
            (_, other) => other.unknown(),
        }
    }
}

/// A wrapper is a message whose field 1 is the value; without it the value is the default.
fn wrapped(scalar: Scalar, bytes: &[u8], depth: usize) -> Json {
    match Reader(bytes).field() {
        Some(Some((1, wire))) => wire.shown(scalar.shape(), depth),
        _ => match scalar {
            Scalar::Text => "".into(),
            Scalar::Truth => false.into(),
            Scalar::Unsigned | Scalar::Signed => 0.into(),
            Scalar::Double | Scalar::Float => json!(0.0),
        },
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next field; `None` at the end, `Some(None)` when the rest cannot be read.
    fn field(&mut self) -> Option<Option<(u32, Wire<'a>)>> {
        (!self.0.is_empty()).then(|| {
            let tag = self.varint()?;
            let number = u32::try_from(tag >> 3).ok()?;
            let wire = match tag & 7 {
                0 => Wire::Varint(self.varint()?),
                1 => Wire::Eight(self.take(8)?.try_into().ok()?),
                2 => {
                    let length = self.varint()?;
                    Wire::Bytes(self.take(usize::try_from(length).ok()?)?)
                }
                5 => Wire::Four(self.take(4)?.try_into().ok()?),
                _ => return None,
            };
            Some((number, wire))
        })
    }

    fn number(&mut self, shape: Shape) -> Option<Wire<'a>> {
        match shape {
            Shape::Double => Some(Wire::Eight(self.take(8)?.try_into().ok()?)),
            Shape::Float => Some(Wire::Four(self.take(4)?.try_into().ok()?)),
            _ => self.varint().map(Wire::Varint),
        }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for at in 0..10 {
            let byte = *self.0.first()?;
            self.0 = &self.0[1..];
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}
