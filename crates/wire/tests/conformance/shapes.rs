//! The table of shapes that the proxy reads and shows JSON by.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::roster::Specimen;

const HEADER: &str = "\
# The shape of the messages that `catamaran-wire` knows, for showing and reading them: one line a message or enumeration.
# MESSAGE NUMBER field TYPE, ...   TYPE: s text, b bytes, x not looked into, u i numbers, B truth, d f floats, e:ENUM, w:TYPE one of
# Google's wrappers, any, duration, struct, another MESSAGE, {TYPE} a map by text; * after it: several.
# Made from the definitions by catamaran-wire's test of conformance; do not edit.
";

/// The whole table.
pub(crate) fn table(pairs: &[(&'static Specimen, MessageDescriptor)]) -> String {
    let known: BTreeMap<String, &MessageDescriptor> = pairs
        .iter()
        .map(|(_, official)| (official.full_name().to_owned(), official))
        .filter(|(name, _)| !name.starts_with("google.protobuf."))
        .collect();
    let names: BTreeSet<&str> = known.keys().map(String::as_str).collect();
    let mut enums = BTreeMap::new();
    let mut text = HEADER.to_owned();
    for (name, official) in &known {
        let mut fields: Vec<FieldDescriptor> = official.fields().collect();
        fields.sort_by_key(FieldDescriptor::number);
        let fields: Vec<String> = fields
            .iter()
            .map(|field| {
                let shape = shape(field, &names, &mut enums);
                format!("{} {} {shape}", field.number(), field.name())
            })
            .collect();
        text.push_str(&format!("{name} {}\n", fields.join(", ")));
    }
    for (name, values) in enums {
        text.push_str(&format!("enum {name} {values}\n"));
    }
    text
}

fn shape(
    field: &FieldDescriptor,
    names: &BTreeSet<&str>,
    enums: &mut BTreeMap<String, String>,
) -> String {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else {
            unreachable!("a map is a message")
        };
        let by_text = entry.map_entry_key_field().kind() == Kind::String;
        let value = kind(&entry.map_entry_value_field().kind(), names, enums);
        return match by_text {
            true => format!("{{{value}}}"),
            false => "x".into(),
        };
    }
    let several = if field.is_list() { "*" } else { "" };
    format!("{}{several}", kind(&field.kind(), names, enums))
}

fn kind(kind: &Kind, names: &BTreeSet<&str>, enums: &mut BTreeMap<String, String>) -> String {
    match kind {
        Kind::String => "s".into(),
        Kind::Bytes => "b".into(),
        Kind::Bool => "B".into(),
        Kind::Double => "d".into(),
        Kind::Float => "f".into(),
        Kind::Uint32 | Kind::Uint64 => "u".into(),
        Kind::Int32 | Kind::Int64 => "i".into(),
        Kind::Enum(official) => {
            let mut values: Vec<(i32, String)> = official
                .values()
                .map(|value| (value.number(), value.name().to_owned()))
                .collect();
            values.sort();
            values.dedup_by_key(|(number, _)| *number);
            let values: Vec<String> = values
                .into_iter()
                .map(|(number, name)| format!("{number} {name}"))
                .collect();
            enums.insert(official.full_name().to_owned(), values.join(", "));
            format!("e:{}", official.full_name())
        }
        Kind::Message(official) => match official.full_name() {
            "google.protobuf.Any" => "any".into(),
            "google.protobuf.Duration" => "duration".into(),
            "google.protobuf.Struct" => "struct".into(),
            "google.protobuf.StringValue" => "w:s".into(),
            "google.protobuf.BoolValue" => "w:B".into(),
            "google.protobuf.UInt32Value" | "google.protobuf.UInt64Value" => "w:u".into(),
            "google.protobuf.Int32Value" | "google.protobuf.Int64Value" => "w:i".into(),
            "google.protobuf.DoubleValue" => "w:d".into(),
            "google.protobuf.FloatValue" => "w:f".into(),
            name if names.contains(name) => name.into(),
            _ => "x".into(),
        },
        _ => "x".into(),
    }
}
