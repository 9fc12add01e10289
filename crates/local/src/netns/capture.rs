//! How a pod's connections get into its sidecar.

/// The user and group of sidecars; what they send is not captured (Istio's number).
pub const PROXY_USER: u32 = 1337;
/// Where outgoing connections are led.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where incoming connections are led.
pub const INBOUND_PORT: u16 = 15006;
/// Where DNS questions are led.
pub const DNS_PORT: u16 = 15053;
/// The sidecar's own ports, which are reached directly.
pub const OWN_PORTS: [u16; 7] = [15000, 15001, 15006, 15020, 15021, 15053, 15090];

/// The rules, for `nft -f -`, which takes all of them or none.
///
/// A pod that calls its own service meets its own sidecar on both ways, so what the sidecar sends to the pod's own address goes
/// in through its inbound port; to the program itself it speaks over 127.0.0.1.
pub fn rules() -> String {
    let own = OWN_PORTS.map(|port| port.to_string()).join(", ");
    format!(
        "table ip catamaran
delete table ip catamaran
table ip catamaran {{
  chain outbound {{
    type nat hook output priority -100; policy accept;
    meta skuid {PROXY_USER} oifname \"lo\" ip daddr != 127.0.0.0/8 tcp dport != {{ {own} }} redirect to :{INBOUND_PORT}
    meta skuid {PROXY_USER} return
    meta skgid {PROXY_USER} return
    meta l4proto {{ tcp, udp }} th dport 53 redirect to :{DNS_PORT}
    oifname \"lo\" return
    meta l4proto tcp redirect to :{OUTBOUND_PORT}
  }}
  chain inbound {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname \"lo\" return
    tcp dport {{ {own} }} return
    meta l4proto tcp redirect to :{INBOUND_PORT}
  }}
}}
"
    )
}
