use super::*;

#[test]
fn the_vectors_of_rfc_4648_hold() {
    for (bytes, text) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ] {
        assert_eq!(encode(bytes.as_bytes()), text);
        assert_eq!(encode_url(bytes.as_bytes()), text.trim_end_matches('='));
    }
    assert_eq!(encode(&[0xfb, 0xff]), "+/8=");
    assert_eq!(encode_url(&[0xfb, 0xff]), "-_8");
}

#[test]
fn thirty_two_bytes_have_one_text_only() {
    let bytes: [u8; 32] = std::array::from_fn(|i| (i * 37 + 200) as u8);
    let text = encode_url(&bytes);
    assert_eq!(text.len(), 43);
    assert_eq!(decode_url_32(&text), Some(bytes));
    let last = text.pop_last();
    assert_eq!(
        decode_url_32(&format!("{}{}", last.0, bump(last.1))),
        None,
        "unused bits are set"
    );
    assert_eq!(decode_url_32(&text[1..]), None);
    assert_eq!(decode_url_32(&format!("{text}=")), None);
    assert_eq!(decode_url_32(&text.replace(&text[..1], "+")), None);
}

trait PopLast {
    fn pop_last(&self) -> (&str, char);
}

impl PopLast for String {
    fn pop_last(&self) -> (&str, char) {
        let (rest, last) = self.split_at(self.len() - 1);
        (rest, last.chars().next().unwrap())
    }
}

/// The next digit: it differs in the lowest bit, which no byte uses.
fn bump(digit: char) -> char {
    let place = URL.iter().position(|d| char::from(*d) == digit).unwrap();
    char::from(URL[place ^ 1])
}
