//! The one form of a path that routes are matched against.

use std::borrow::Cow;

/// A path in the form in which `normalize_path` asks for it, query and all: `\` becomes `/`, escapes of unreserved
/// characters are undone, and `.` and `..` are gone (RFC 3986, 6.2.2). What does not begin with `/` (`*` of OPTIONS) stays
/// as it is. Normalising twice changes nothing more.
///
/// ```
/// use catamaran_decide::normalize_path;
/// assert_eq!(normalize_path("/a/%2e%2E/b/./c?x=/../y"), "/b/c?x=/../y");
/// assert_eq!(normalize_path("/../../etc"), "/etc");
/// ```
pub fn normalize_path(path: &str) -> Cow<'_, str> {
    let end = path.find(['?', '#']).unwrap_or(path.len());
    let (plain, rest) = path.split_at(end);
    if !plain.starts_with('/') || is_normal(plain) {
        return Cow::Borrowed(path);
    }
    let decoded = decode(plain);
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in decoded.split('/').skip(1) {
        ends_open = matches!(segment, "" | "." | "..");
        match segment {
            "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    // An empty last segment is the slash at the end; one that was a dot leaves such a slash.
    let mut normal = String::with_capacity(path.len());
    for segment in &segments {
        normal.push('/');
        normal.push_str(segment);
    }
    let last_is_dot = ends_open && !decoded.ends_with('/');
    if normal.is_empty() || last_is_dot && !normal.ends_with('/') {
        normal.push('/');
    }
    normal.push_str(rest);
    Cow::Owned(normal)
}

fn is_normal(path: &str) -> bool {
    let bytes = path.as_bytes();
    let mut windows = bytes.windows(2);
    !bytes.contains(&b'\\') && !bytes.contains(&b'%') && !windows.any(|pair| pair == b"/.")
}

/// Undoes escapes of unreserved characters, also those that come about by undoing others (`%%32e`), so that a second round
/// finds nothing more.
fn decode(path: &str) -> String {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    for byte in path.bytes() {
        out.push(if byte == b'\\' { b'/' } else { byte });
        while let [.., b'%', high, low] = out[..]
            && let Some(byte) = unreserved(high, low)
        {
            out.truncate(out.len() - 3);
            out.push(byte);
        }
    }
    // Only ASCII was put in place of ASCII.
    String::from_utf8(out).unwrap_or_else(|_| path.to_owned())
}

fn unreserved(high: u8, low: u8) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let byte = (digit(high)? * 16 + digit(low)?) as u8;
    (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)).then_some(byte)
}

#[cfg(test)]
mod tests;
