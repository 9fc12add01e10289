//! The little DER that requests and certificates need: a writer, and a reader that accepts nothing but DER.
//!
//! Source: ITU-T X.690 sections 8 and 10.

use time::OffsetDateTime;

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// Deeper nesting than any certificate or request has.
const MAX_DEPTH: usize = 16;

/// One element: tag, length, content.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = content.len();
    match length {
        0..=0x7f => out.push(length as u8),
        0x80..=0xff => out.extend([0x81, length as u8]),
        0x100..=0xffff => out.extend([0x82, (length >> 8) as u8, length as u8]),
        _ => out.extend([
            0x83,
            (length >> 16) as u8,
            (length >> 8) as u8,
            length as u8,
        ]),
    }
    out.extend_from_slice(content);
    out
}

/// An element around others.
pub(crate) fn nest(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    tlv(tag, &parts.concat())
}

/// A positive INTEGER from big-endian bytes.
pub(crate) fn positive_integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    let mut content = bytes[zeros.min(bytes.len().saturating_sub(1))..].to_vec();
    if content.first().is_none_or(|b| b & 0x80 != 0) {
        content.insert(0, 0);
    }
    tlv(INTEGER, &content)
}

/// A BIT STRING of whole bytes.
pub(crate) fn bit_string(bytes: &[u8]) -> Vec<u8> {
    nest(BIT_STRING, &[&[0], bytes])
}

/// A validity time: UTCTime until 2049, GeneralizedTime from then on (RFC 5280 section 4.1.2.5).
pub(crate) fn time(seconds: u64) -> Vec<u8> {
    let t = OffsetDateTime::from_unix_timestamp(seconds.min(MAX_SECONDS) as i64)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month) = (t.year(), u8::from(t.month()));
    let rest = format!(
        "{month:02}{:02}{:02}{:02}{:02}Z",
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    );
    if (1950..2050).contains(&year) {
        tlv(UTC_TIME, format!("{:02}{rest}", year % 100).as_bytes())
    } else {
        tlv(GENERALIZED_TIME, format!("{year:04}{rest}").as_bytes())
    }
}

/// 31 December 9999, the last time a certificate can say.
const MAX_SECONDS: u64 = 253_402_300_799;

/// Why bytes are not DER, or not the structure that was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DerError {
    /// The bytes end inside an element.
    #[error("it ends inside an element")]
    Truncated,
    /// Bytes follow the end of the structure.
    #[error("bytes follow its end")]
    Trailing,
    /// A length that DER does not allow: indefinite, or longer than needed.
    #[error("a length is not written as DER demands")]
    Length,
    /// A tag, a number, a boolean or a string that DER does not allow.
    #[error("a value is not written as DER demands")]
    Value,
    /// Another element was expected here.
    #[error("an element is not the one that belongs there")]
    Unexpected,
    /// The structure is nested deeper than any request.
    #[error("it is nested too deeply")]
    Depth,
}

/// One element that was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// Tag, length and content.
    pub(crate) whole: &'a [u8],
}

/// Reads elements one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next element, whatever it is.
    pub(crate) fn any(&mut self) -> Result<Element<'a>, DerError> {
        let bytes = self.rest;
        let (&tag, after_tag) = bytes.split_first().ok_or(DerError::Truncated)?;
        if tag & 0x1f == 0x1f {
            return Err(DerError::Value);
        }
        let (&first, after_first) = after_tag.split_first().ok_or(DerError::Truncated)?;
        let (length, body) = match first {
            0..=0x7f => (usize::from(first), after_first),
            0x81..=0x83 => {
                let count = usize::from(first & 0x7f);
                let digits = after_first.get(..count).ok_or(DerError::Truncated)?;
                let length = digits.iter().fold(0, |n, d| n << 8 | usize::from(*d));
                if digits[0] == 0 || length < 0x80 {
                    return Err(DerError::Length);
                }
                (length, &after_first[count..])
            }
            _ => return Err(DerError::Length),
        };
        let content = body.get(..length).ok_or(DerError::Truncated)?;
        let size = bytes.len() - body.len() + length;
        self.rest = &bytes[size..];
        Ok(Element {
            tag,
            content,
            whole: &bytes[..size],
        })
    }

    /// The next element, which must have this tag.
    pub(crate) fn expect(&mut self, tag: u8) -> Result<Element<'a>, DerError> {
        let element = self.any()?;
        (element.tag == tag)
            .then_some(element)
            .ok_or(DerError::Unexpected)
    }

    /// The next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, DerError> {
        match self.rest.first() {
            Some(first) if *first == tag => self.any().map(Some),
            _ => Ok(None),
        }
    }

    /// Nothing may follow.
    pub(crate) fn end(self) -> Result<(), DerError> {
        self.is_empty().then_some(()).ok_or(DerError::Trailing)
    }
}

impl<'a> Element<'a> {
    pub(crate) fn inside(&self) -> Reader<'a> {
        Reader::new(self.content)
    }

    /// The bytes of a BIT STRING without unused bits.
    pub(crate) fn bits(&self) -> Result<&'a [u8], DerError> {
        match self.content.split_first() {
            Some((0, bytes)) if self.tag == BIT_STRING => Ok(bytes),
            _ => Err(DerError::Value),
        }
    }
}

/// Walks one structure and refuses every encoding that DER does not allow.
pub(crate) fn check(bytes: &[u8]) -> Result<(), DerError> {
    let mut reader = Reader::new(bytes);
    let element = reader.any()?;
    reader.end()?;
    check_element(&element, 0)
}

fn check_element(element: &Element<'_>, depth: usize) -> Result<(), DerError> {
    if depth > MAX_DEPTH {
        return Err(DerError::Depth);
    }
    let content = element.content;
    let holds = match element.tag {
        BOOLEAN => matches!(content, [0] | [0xff]),
        INTEGER => match content {
            [] => false,
            [0, next, ..] => next & 0x80 != 0,
            [0xff, next, ..] => next & 0x80 == 0,
            _ => true,
        },
        NULL => content.is_empty(),
        OID => {
            content.last().is_some_and(|b| b & 0x80 == 0)
                && content
                    .split_inclusive(|b| b & 0x80 == 0)
                    .all(|arc| arc[0] != 0x80)
        }
        BIT_STRING => match content {
            [0] => true,
            [unused @ 0..=7, .., last] => last.trailing_zeros() >= u32::from(*unused),
            _ => false,
        },
        // A primitive SEQUENCE or SET, or a string in pieces.
        0x10 | 0x11 | 0x23 | 0x24 | 0x2c => false,
        _ => true,
    };
    if !holds {
        return Err(DerError::Value);
    }
    if element.tag & 0x20 != 0 {
        let mut inside = element.inside();
        while !inside.is_empty() {
            check_element(&inside.any()?, depth + 1)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
