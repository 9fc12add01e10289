//! The shape of Envoy's messages that `catamaran-wire` knows: for showing encoded ones as JSON, and for reading JSON into them.

use std::collections::HashMap;
use std::sync::LazyLock;

pub(crate) static SHAPES: LazyLock<Shapes> =
    LazyLock::new(|| Shapes::parse(include_str!("messages.txt")));

#[derive(Default)]
pub(crate) struct Shapes {
    pub(crate) messages: HashMap<&'static str, HashMap<u32, Field>>,
    pub(crate) enums: HashMap<&'static str, HashMap<i64, &'static str>>,
}

pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) several: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Shape {
    Text,
    Bytes,
    Unread,
    Unsigned,
    Signed,
    Truth,
    Double,
    Float,
    Enum(&'static str),
    Wrapped(Scalar),
    Any,
    Duration,
    Struct,
    Message(&'static str),
    Map(MapValue),
}

#[derive(Clone, Copy)]
pub(crate) enum Scalar {
    Text,
    Unsigned,
    Signed,
    Truth,
    Double,
    Float,
}

#[derive(Clone, Copy)]
pub(crate) enum MapValue {
    Text,
    Bytes,
    Any,
    Struct,
    Message(&'static str),
    Other,
}

impl Shapes {
    fn parse(text: &'static str) -> Shapes {
        let mut shapes = Shapes::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
            if first == "enum" {
                let (name, values) = rest.split_once(' ').unwrap_or((rest, ""));
                let values = values.split(", ").filter_map(|value| {
                    let (number, name) = value.split_once(' ')?;
                    Some((number.parse().ok()?, name))
                });
                shapes.enums.insert(name, values.collect());
            } else {
                let fields = rest.split(", ").filter_map(|field| {
                    let mut parts = field.split(' ');
                    let number = parts.next()?.parse().ok()?;
                    let (name, shape) = (parts.next()?, parts.next()?);
                    let (shape, several) = match shape.strip_suffix('*') {
                        Some(shape) => (shape, true),
                        None => (shape, false),
                    };
                    let shape = Shape::parse(shape);
                    Some((
                        number,
                        Field {
                            name,
                            shape,
                            several,
                        },
                    ))
                });
                shapes.messages.insert(first, fields.collect());
            }
        }
        shapes
    }
}

impl Shape {
    fn parse(text: &'static str) -> Shape {
        match text {
            "s" => Shape::Text,
            "b" => Shape::Bytes,
            "x" => Shape::Unread,
            "u" => Shape::Unsigned,
            "i" => Shape::Signed,
            "B" => Shape::Truth,
            "d" => Shape::Double,
            "f" => Shape::Float,
            "any" => Shape::Any,
            "duration" => Shape::Duration,
            "struct" => Shape::Struct,
            _ => {
                if let Some(name) = text.strip_prefix("e:") {
                    Shape::Enum(name)
                } else if let Some(scalar) = text.strip_prefix("w:") {
                    Shape::Wrapped(match scalar {
                        "u" => Scalar::Unsigned,
                        "i" => Scalar::Signed,
                        "B" => Scalar::Truth,
                        "d" => Scalar::Double,
                        "f" => Scalar::Float,
                        _ => Scalar::Text,
                    })
                } else if let Some(value) = text.strip_prefix('{') {
                    Shape::Map(match value.trim_end_matches('}') {
                        "s" => MapValue::Text,
                        "b" => MapValue::Bytes,
                        "any" => MapValue::Any,
                        "struct" => MapValue::Struct,
                        "u" | "i" | "B" | "d" | "f" | "x" | "duration" => MapValue::Other,
                        message => MapValue::Message(message),
                    })
                } else {
                    Shape::Message(text)
                }
            }
        }
    }
}

impl Scalar {
    pub(crate) fn shape(self) -> Shape {
        match self {
            Scalar::Text => Shape::Text,
            Scalar::Unsigned => Shape::Unsigned,
            Scalar::Signed => Shape::Signed,
            Scalar::Truth => Shape::Truth,
            Scalar::Double => Shape::Double,
            Scalar::Float => Shape::Float,
        }
    }
}

impl Shape {
    pub(crate) fn is_number(self) -> bool {
        matches!(
            self,
            Shape::Unsigned
                | Shape::Signed
                | Shape::Truth
                | Shape::Enum(_)
                | Shape::Double
                | Shape::Float
        )
    }
}
