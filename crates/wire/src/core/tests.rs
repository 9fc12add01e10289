use super::*;

#[test]
fn a_plain_address_goes_there_and_back() {
    for text in ["10.2.0.7:15443", "[2001:db8::1]:5000"] {
        let address: SocketAddr = text.parse().unwrap();
        assert_eq!(Address::from(address).tcp(), Some(address));
    }
}

#[test]
fn an_address_that_says_more_is_not_taken_for_a_plain_one() {
    let mut address = Address::from(SocketAddr::from(([10, 2, 0, 7], 53)));
    let Some(AddressKind::SocketAddress(socket)) = &mut address.address else {
        unreachable!()
    };
    socket.set_protocol(SocketProtocol::Udp);
    assert_eq!(address.tcp(), None);

    let port = PortSpecifier::PortValue(65_536);
    let socket = SocketAddress {
        address: "10.2.0.7".into(),
        port_specifier: Some(port),
        ..Default::default()
    };
    assert_eq!(
        Address {
            address: Some(AddressKind::SocketAddress(socket))
        }
        .tcp(),
        None
    );
}

#[test]
fn inline_content_is_not_printed() {
    let printed = format!("{:?}", DataSource::inline("-----BEGIN PRIVATE KEY-----"));
    assert!(
        printed.contains("InlineBytes(27 bytes)") && !printed.contains("PRIVATE"),
        "{printed}"
    );
}
