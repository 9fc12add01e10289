//! Values that cannot be taken for defaults.

use std::collections::HashMap;

use bytes::Bytes;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

/// One value to set the field to, or for an enumeration each of its values that would be sent.
pub(crate) fn of_field(field: &FieldDescriptor) -> Vec<Value> {
    match field.kind() {
        Kind::Enum(kind) if !field.is_map() => kind
            .values()
            .map(|value| Value::EnumNumber(value.number()))
            .filter(|value| {
                field.is_list() || field.supports_presence() || *value != Value::EnumNumber(0)
            })
            .map(|value| {
                if field.is_list() {
                    Value::List(vec![value])
                } else {
                    value
                }
            })
            .collect(),
        _ => vec![value_of(field, 2)],
    }
}

/// Every field set, to the given depth; of a choice the last.
pub(crate) fn filled(official: &MessageDescriptor, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(official.clone());
    for field in official.fields() {
        let is_nested = field.is_map() || matches!(field.kind(), Kind::Message(_));
        if depth > 0 || !is_nested {
            message.set_field(&field, value_of(&field, depth.saturating_sub(1)));
        }
    }
    message
}

pub(crate) fn map_of(field: &FieldDescriptor, count: usize) -> Value {
    map(field, count, 1)
}

fn value_of(field: &FieldDescriptor, depth: usize) -> Value {
    if field.is_map() {
        map(field, 1, depth)
    } else if field.is_list() {
        Value::List(vec![
            single(&field.kind(), field.number(), depth),
            single(&field.kind(), 7, depth),
        ])
    } else {
        single(&field.kind(), field.number(), depth)
    }
}

fn map(field: &FieldDescriptor, count: usize, depth: usize) -> Value {
    let kind = field.kind();
    let entry = kind
        .as_message()
        .expect("a map's field is a message of its entries");
    let entries = (0..count).map(|index| {
        let key = MapKey::String(format!("key {index}"));
        (
            key,
            single(
                &entry.map_entry_value_field().kind(),
                index as u32 + 1,
                depth,
            ),
        )
    });
    Value::Map(entries.collect::<HashMap<_, _>>())
}

/// Numbers are below zero where they can be, which tells `int32` from `sint32` and `uint32`.
fn single(kind: &Kind, seed: u32, depth: usize) -> Value {
    match kind {
        Kind::Double => Value::F64(f64::from(seed) + 0.5),
        Kind::Float => Value::F32(seed as f32 + 0.5),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(-(seed as i32)),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(-i64::from(seed) - (1 << 40)),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(seed + (1 << 31)),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(u64::from(seed) + (1 << 63)),
        Kind::Bool => Value::Bool(true),
        Kind::String => Value::String(format!("text {seed}")),
        Kind::Bytes => Value::Bytes(Bytes::from(vec![0xff, seed as u8])),
        Kind::Message(official) => Value::Message(filled(official, depth)),
        Kind::Enum(kind) => Value::EnumNumber(kind.values().last().unwrap().number()),
    }
}
