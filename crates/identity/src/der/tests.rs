use super::*;

#[test]
fn lengths_are_as_short_as_can_be() {
    for (length, head) in [
        (0usize, vec![4u8, 0]),
        (127, vec![4, 127]),
        (128, vec![4, 0x81, 128]),
        (256, vec![4, 0x82, 1, 0]),
        (70_000, vec![4, 0x83, 1, 0x11, 0x70]),
    ] {
        let written = tlv(OCTET_STRING, &vec![7; length]);
        assert!(written.starts_with(&head));
        assert_eq!(check(&written), Ok(()));
        assert_eq!(Reader::new(&written).any().unwrap().content.len(), length);
    }
}

#[test]
fn numbers_are_positive_and_minimal() {
    assert_eq!(positive_integer(&[]), [2, 1, 0]);
    assert_eq!(positive_integer(&[0]), [2, 1, 0]);
    assert_eq!(positive_integer(&[0, 0, 5]), [2, 1, 5]);
    assert_eq!(positive_integer(&[0x80]), [2, 2, 0, 0x80]);
}

#[test]
fn times_change_their_form_in_2050() {
    assert_eq!(&time(1_795_478_400)[2..], b"261124000000Z");
    assert_eq!(&time(2_524_607_999)[2..], b"491231235959Z");
    assert_eq!(&time(2_524_608_000)[2..], b"20500101000000Z");
    assert_eq!(&time(u64::MAX)[2..], b"99991231235959Z");
}

#[test]
fn what_is_not_der_is_refused_with_its_reason() {
    let deep = (0..20).fold(tlv(NULL, &[]), |inner, _| tlv(SEQUENCE, &inner));
    for (bytes, reason) in [
        (vec![], DerError::Truncated),
        (vec![0x30], DerError::Truncated),
        (vec![0x04, 5, 1], DerError::Truncated),
        (vec![0x04, 0x82, 1], DerError::Truncated),
        (vec![0x05, 0, 0], DerError::Trailing),
        (vec![0x30, 0x80, 0, 0], DerError::Length),
        (vec![0x04, 0x81, 1, 7], DerError::Length),
        (vec![0x04, 0x82, 0, 1, 7], DerError::Length),
        (vec![0x04, 0x84, 0, 0, 0, 1, 7], DerError::Length),
        (vec![0x04, 0xff], DerError::Length),
        (vec![0x1f, 0x81, 0x01, 0], DerError::Value),
        (vec![BOOLEAN, 1, 1], DerError::Value),
        (vec![INTEGER, 0], DerError::Value),
        (vec![INTEGER, 2, 0, 1], DerError::Value),
        (vec![INTEGER, 2, 0xff, 0x80], DerError::Value),
        (vec![NULL, 1, 0], DerError::Value),
        (vec![OID, 1, 0x80], DerError::Value),
        (vec![OID, 3, 0x55, 0x80, 0x01], DerError::Value),
        (vec![BIT_STRING, 0], DerError::Value),
        (vec![BIT_STRING, 1, 1], DerError::Value),
        (vec![BIT_STRING, 2, 8, 0], DerError::Value),
        (vec![BIT_STRING, 2, 1, 1], DerError::Value),
        (vec![0x24, 3, 4, 1, 0], DerError::Value),
        (vec![0x10, 0], DerError::Value),
        (deep, DerError::Depth),
    ] {
        assert_eq!(check(&bytes), Err(reason), "{bytes:02x?}");
    }
}
