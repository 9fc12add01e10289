//! Holds our messages against Envoy's own `.proto` files, and against Istio's and our own definitions.
//!
//! Each field of each official message is set, encoded by its descriptor and decoded as our type. Then nothing may be
//! lost, and the one field that changed must have the official name and print what was sent; an enumeration, the name of
//! its value. So a wrong tag, a wrong type, a swapped pair and a missing field all fail here, and so does the field that
//! a newer Envoy adds.

mod descriptors;
mod roster;
mod samples;
mod shapes;

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::prost::Message;
use prost_reflect::prost::bytes::Bytes;
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Value,
};

use roster::Specimen;

#[test]
fn every_official_field_arrives_under_its_name() {
    let mut faults = Vec::new();
    for (specimen, official) in pairs() {
        for field in official.fields() {
            for value in samples::of_field(&field) {
                if let Err(fault) = arrives(specimen, &official, &field, &value) {
                    faults.push(format!(
                        "{}.{}: {fault}",
                        official.full_name(),
                        field.name()
                    ));
                }
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults\n{}",
        faults.len(),
        faults.join("\n")
    );
}

#[test]
fn a_message_with_everything_set_loses_nothing() {
    for (specimen, official) in pairs() {
        let sent = samples::filled(&official, 3);
        let reading = (specimen.read)(&sent.encode_to_vec()).unwrap();
        let received = DynamicMessage::decode(official.clone(), reading.bytes.as_slice()).unwrap();
        assert_eq!(received, sent, "{}", official.full_name());
    }
}

#[test]
fn equal_messages_are_equal_bytes() {
    let mut maps = 0;
    for (specimen, official) in pairs() {
        for field in official.fields().filter(FieldDescriptor::is_map) {
            maps += 1;
            let encodings: BTreeSet<Vec<u8>> = (0..8)
                .map(|_| {
                    // The descriptors' own maps are unordered, so each of these is sent in another order.
                    let mut sent = DynamicMessage::new(official.clone());
                    sent.set_field(&field, samples::map_of(&field, 24));
                    (specimen.read)(&sent.encode_to_vec()).unwrap().bytes
                })
                .collect();
            assert_eq!(
                encodings.len(),
                1,
                "{}.{}",
                official.full_name(),
                field.name()
            );
        }
    }
    assert!(maps > 10, "only {maps} maps were tried");
}

#[test]
fn no_message_of_the_crate_escapes_these_tests() {
    let written: BTreeSet<String> = roster::full_names().keys().cloned().collect();
    let tested: BTreeSet<String> = roster::SPECIMENS
        .iter()
        .map(|specimen| specimen.path.to_owned())
        .collect();
    assert_eq!(written, tested);
}

/// Each of our messages with the official one that the first line of its documentation names.
fn pairs() -> Vec<(&'static Specimen, MessageDescriptor)> {
    let names = roster::full_names();
    let pool = descriptors::pool();
    roster::SPECIMENS
        .iter()
        .map(|specimen| {
            let name = names.get(specimen.path).expect(specimen.path);
            let official = pool
                .get_message_by_name(name)
                .unwrap_or_else(|| panic!("there is no {name}"));
            (specimen, official)
        })
        .collect()
}

/// The proxy shows and reads messages as JSON by a table of their shapes: it says of every message here what its definition says.
/// `CATAMARAN_WRITE_SHAPES=1` writes it anew.
#[test]
fn the_table_of_shapes_is_that_of_the_definitions() {
    let table = shapes::table(&pairs());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../proxy/src/messages.txt");
    if std::env::var_os("CATAMARAN_WRITE_SHAPES").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    for (at, (wanted, found)) in table.lines().zip(written.lines()).enumerate() {
        assert_eq!(
            found,
            wanted,
            "line {}; write it anew with CATAMARAN_WRITE_SHAPES=1",
            at + 1
        );
    }
    assert_eq!(written.lines().count(), table.lines().count());
}

fn arrives(
    specimen: &Specimen,
    official: &MessageDescriptor,
    field: &FieldDescriptor,
    value: &Value,
) -> Result<(), String> {
    let mut sent = DynamicMessage::new(official.clone());
    sent.set_field(field, value.clone());
    let reading =
        (specimen.read)(&sent.encode_to_vec()).map_err(|error| format!("{value:?}: {error}"))?;
    let received = DynamicMessage::decode(official.clone(), reading.bytes.as_slice())
        .map_err(|e| e.to_string())?;
    if received != sent {
        return Err(format!("sent {sent}, received {received}"));
    }

    let empty = (specimen.read)(&[]).unwrap();
    let (empty, printed) = (fields_of(&empty.printed), fields_of(&reading.printed));
    let changed: Vec<_> = printed
        .iter()
        .filter(|(name, text)| empty.get(*name) != Some(text))
        .collect();
    let [(name, text)] = changed.as_slice() else {
        return Err(format!(
            "changed {:?}",
            changed.iter().map(|(name, _)| name).collect::<Vec<_>>()
        ));
    };
    let choice = field
        .containing_oneof()
        .filter(|choice| choice.fields().len() > 1);
    let expected = choice.as_ref().map_or(field.name(), |choice| choice.name());
    if *name != expected {
        return Err(format!("is called {name}"));
    }
    if choice.is_some()
        && !text
            .replace(char::is_whitespace, "")
            .starts_with(&format!("Some({}(", variant(field.name())))
    {
        return Err(format!(
            "is not the variant {}: {text}",
            variant(field.name())
        ));
    }
    if let Kind::Enum(kind) = field.kind() {
        let number = match value {
            Value::EnumNumber(number) => *number,
            Value::List(list) => list[0].as_enum_number().unwrap(),
            other => return Err(format!("is not an enumeration: {other:?}")),
        };
        let official = squeezed(kind.get_value(number).unwrap().name());
        let prefixed = |ours: &str| squeezed(kind.name()) + &squeezed(ours);
        if !words(text).any(|ours| squeezed(ours) == official || prefixed(ours) == official) {
            return Err(format!("{number} is not {official}: {text}"));
        }
    } else {
        let wanted = if HIDDEN.contains(&field.full_name()) {
            "bytes".to_owned()
        } else {
            print_of(value)
        };
        if !text.contains(&wanted) {
            return Err(format!("{wanted} is not in {text}"));
        }
    }
    Ok(())
}

/// Printed by their size, since they may be keys.
const HIDDEN: &[&str] = &[
    "envoy.config.core.v3.DataSource.inline_bytes",
    "envoy.config.core.v3.DataSource.inline_string",
    "google.protobuf.Any.value",
];

/// What must be seen of a value where it is printed: of numbers and texts all, since the bytes of an `int64` are also
/// those of a `sint64`; of a message its type; of an unread message, that it is bytes.
fn print_of(value: &Value) -> String {
    match value {
        Value::Bool(value) => value.to_string(),
        Value::I32(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::U32(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::F32(value) => value.to_string(),
        Value::F64(value) => value.to_string(),
        Value::String(value) => format!("{value:?}"),
        Value::Bytes(value) => format!("{value:?}"),
        Value::EnumNumber(_) => String::new(),
        Value::List(values) => print_of(&values[0]),
        Value::Map(values) => print_of(values.values().next().unwrap()),
        Value::Message(message) => match message.descriptor().full_name() {
            "google.protobuf.Empty" => "()".to_owned(),
            "google.protobuf.BoolValue"
            | "google.protobuf.UInt32Value"
            | "google.protobuf.UInt64Value"
            | "google.protobuf.DoubleValue"
            | "google.protobuf.StringValue" => {
                print_of(&message.get_field_by_name("value").unwrap())
            }
            name => match roster::full_names()
                .iter()
                .find(|(_, known)| *known == name)
            {
                Some((path, _)) => path.split("::").last().unwrap().to_owned(),
                None => format!("{:?}", Bytes::from(message.encode_to_vec())),
            },
        },
    }
}

/// The fields of a struct printed with `{:#?}`, each with the text of its value.
fn fields_of(printed: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::<String, String>::new();
    let mut current = String::new();
    for line in printed.lines().filter(|line| line.starts_with("    ")) {
        let rest = &line[4..];
        match rest.split_once(": ") {
            Some((name, value)) if !rest.starts_with(' ') => {
                current = name.trim_start_matches("r#").to_owned();
                fields.insert(current.clone(), value.to_owned());
            }
            _ => fields.entry(current.clone()).or_default().push_str(rest),
        }
    }
    fields
}

/// `self` cannot name a variant in Rust.
fn variant(field: &str) -> String {
    match field {
        "self" => "SelfSource".to_owned(),
        _ => field
            .split('_')
            .map(|word| word[..1].to_uppercase() + &word[1..])
            .collect(),
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

fn squeezed(name: &str) -> String {
    name.replace('_', "").to_lowercase()
}
