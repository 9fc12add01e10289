use super::*;

#[test]
fn everything_is_captured_when_nothing_is_said() {
    assert_eq!(
        rules(),
        r#"table ip catamaran
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
"#
    );
}

/// All that annotations can say, at once.
fn picky() -> Wanted {
    Wanted {
        family: Family::V4,
        inbound_ports: "80, 443,80,22,15020".parse().unwrap(),
        not_inbound_ports: "22".parse().unwrap(),
        outbound_ports: "9000".parse().unwrap(),
        not_outbound_ports: "25,587".parse().unwrap(),
        outbound_ranges: "10.96.0.1/16,fd00:96::/112".parse().unwrap(),
        not_outbound_ranges: "10.96.7.0/24,10.96.7.9,fd00:96::7".parse().unwrap(),
    }
}

#[test]
fn what_is_excluded_is_left_alone_before_what_is_included_is_taken() {
    assert_eq!(
        picky().rules(false),
        r#"table ip catamaran
delete table ip catamaran
table ip catamaran {
  chain outbound {
    type nat hook output priority -100; policy accept;
    meta skuid 1337 oifname "lo" ip daddr != 127.0.0.0/8 tcp dport { 80, 443 } redirect to :15006
    meta skuid 1337 return
    meta skgid 1337 return
    meta l4proto { tcp, udp } th dport { 25, 587 } return
    meta l4proto { tcp, udp } th dport 53 redirect to :15053
    oifname "lo" return
    ip daddr { 10.96.7.0/24 } return
    tcp dport { 9000 } redirect to :15001
    ip daddr { 10.96.0.0/16 } meta l4proto tcp redirect to :15001
  }
  chain inbound {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "lo" return
    tcp dport { 22, 15000, 15001, 15006, 15020, 15021, 15053, 15090 } return
    tcp dport { 80, 443 } redirect to :15006
  }
}
"#
    );
}

#[test]
fn what_would_be_captured_of_the_other_family_is_refused() {
    let rules = picky().rules(true);
    let (_, other) = rules.split_once("table ip6 catamaran\ndelete").unwrap();
    assert_eq!(
        other,
        r#" table ip6 catamaran
table ip6 catamaran {
  chain outbound {
    type filter hook output priority filter; policy accept;
    ct state established,related return
    meta skuid 1337 return
    meta skgid 1337 return
    meta l4proto { tcp, udp } th dport { 25, 587 } return
    meta l4proto { tcp, udp } th dport 53 return
    oifname "lo" return
    ip6 daddr { fd00:96::7 } return
    tcp dport { 9000 } reject with tcp reset
    ip6 daddr { fd00:96::/112 } meta l4proto tcp reject with tcp reset
  }
  chain inbound {
    type filter hook input priority filter; policy accept;
    iifname "lo" return
    ct state established,related return
    tcp dport { 22, 15000, 15001, 15006, 15020, 15021, 15053, 15090 } return
    tcp dport { 80, 443 } reject with tcp reset
  }
}
"#
    );
}

#[test]
fn a_sidecar_with_an_ipv6_address_captures_ipv6() {
    let wanted = Wanted {
        family: Family::V6,
        ..Wanted::default()
    };
    let rules = wanted.rules(true);
    let line = "meta skuid 1337 oifname \"lo\" ip6 daddr != ::1 tcp dport != {";
    assert!(rules.contains(line), "{rules}");
    let (captured, other) = rules.split_once("table ip catamaran\n").unwrap();
    assert!(
        captured.contains("redirect to :15001") && !captured.contains("reject"),
        "{captured}"
    );
    assert!(
        other.contains("meta l4proto tcp reject with tcp reset") && !other.contains("redirect"),
        "{other}"
    );
}

#[test]
fn nothing_is_captured_of_what_is_included_nowhere() {
    let wanted = Wanted {
        inbound_ports: "".parse().unwrap(),
        outbound_ranges: " ".parse().unwrap(),
        ..Wanted::default()
    };
    let rules = wanted.rules(false);
    assert!(
        !rules.contains(":15006") && !rules.contains(":15001"),
        "{rules}"
    );
    assert!(rules.contains("redirect to :15053"), "names are ours");
    let all = Wanted {
        outbound_ranges: "0.0.0.0/0".parse().unwrap(),
        ..Wanted::default()
    };
    assert_eq!(all.rules(false), super::rules(), "that is all of IPv4");
    let none = Wanted {
        not_outbound_ranges: "0.0.0.0/0".parse().unwrap(),
        ..Wanted::default()
    };
    let line = "    oifname \"lo\" return\n    return\n";
    assert!(none.rules(false).contains(line), "{}", none.rules(false));
}

#[test]
fn a_bad_word_is_named() {
    for word in ["0", "65536", "http", "-1", "+80", "80-90", "8 0"] {
        let error = format!("1,{word}").parse::<Ports>().unwrap_err();
        assert_eq!(error, WantedError::Port(word.into()));
    }
    for word in [
        "10.0.0.0/33",
        "10.0.0/8",
        "fd00::/129",
        "10.0.0.0/+8",
        "10.0.0.0/",
        "a",
        "10.0.0.0/8/8",
    ] {
        let error = format!("10.0.0.0/8,{word}").parse::<Ranges>().unwrap_err();
        assert_eq!(error, WantedError::Range(word.into()));
    }
    assert_eq!("*".parse::<Ports>(), Err(WantedError::All));
    assert_eq!("*".parse::<Ranges>(), Err(WantedError::All));
    assert_eq!("*".parse::<Part<Ports>>(), Ok(Part::All));
    let long = "9".repeat(1000).parse::<Ports>().unwrap_err().to_string();
    assert!(long.len() < 250, "{long}");
}

#[test]
fn ranges_are_rounded_and_none_is_within_another() {
    let ranges: Ranges = "10.1.2.3/8, 10.2.0.0/16,192.0.2.1,::/0,2001:db8::1/32,192.0.2.1/32"
        .parse()
        .unwrap();
    let words: Vec<String> = ranges.0.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["::/0", "10.0.0.0/8", "192.0.2.1"]);
    assert_eq!(ranges.of(Family::V6), Part::All);
}

#[test]
fn what_nft_shows_is_counted() {
    let ours = chains(&rules());
    assert_eq!(told(&ours), "inbound 3, outbound 6");
    let shown = "table ip catamaran {\n\tchain outbound {\n\t\ttype nat hook output priority dstnat; policy accept;\n\t\ttcp dport { 1,\n\t}\n}\n";
    assert_eq!(told(&chains(shown)), "outbound 1");
}
