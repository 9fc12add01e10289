use super::*;

#[test]
fn the_capture_rules_are_these() {
    let expected = r#"table ip catamaran
delete table ip catamaran
table ip catamaran {
  chain outbound {
    type nat hook output priority -100; policy accept;
    meta skuid 1337 oifname "lo" ip daddr != 127.0.0.0/8 tcp dport != { 15000, 15001, 15006, 15020, 15021, 15053, 15090 } redirect to :15006
    meta skuid 1337 return
    meta skgid 1337 return
    meta l4proto { tcp, udp } th dport 53 redirect to :15053
    oifname "lo" return
    meta l4proto tcp redirect to :15001
  }
  chain inbound {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "lo" return
    tcp dport { 15000, 15001, 15006, 15020, 15021, 15053, 15090 } return
    meta l4proto tcp redirect to :15006
  }
}
"#;
    assert_eq!(capture::rules(), expected);
}
