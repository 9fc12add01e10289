//! Base64, both alphabets (RFC 4648 sections 4 and 5).

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The standard alphabet, padded.
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = digits(bytes, STANDARD);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// The alphabet for URLs and file names, not padded.
pub(crate) fn encode_url(bytes: &[u8]) -> String {
    digits(bytes, URL)
}

fn digits(bytes: &[u8], alphabet: &[u8; 64]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let digit = group >> (18 - 6 * place) & 0x3f;
            text.push(char::from(alphabet[digit as usize]));
        }
    }
    text
}

/// Reads 32 bytes from 43 digits of the URL alphabet; a second way to write the same bytes is refused.
pub(crate) fn decode_url_32(text: &str) -> Option<[u8; 32]> {
    if text.len() != 43 {
        return None;
    }
    let mut out = [0u8; 32];
    let (mut group, mut bits, mut filled) = (0u32, 0, 0);
    for byte in text.bytes() {
        let digit = URL.iter().position(|d| *d == byte)? as u32;
        group = group << 6 | digit;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out[filled] = (group >> bits) as u8;
            filled += 1;
            group &= (1 << bits) - 1;
        }
    }
    (group == 0).then_some(out)
}

#[cfg(test)]
mod tests;
