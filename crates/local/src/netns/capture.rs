//! How a pod's connections get into its sidecar: one set of rules, for pods of local clusters and of Kubernetes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::{NetnsError, run};

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

/// The rules of a local pod, for `nft -f -`, which takes all of them or none: everything is captured. It has no IPv6.
pub fn rules() -> String {
    Wanted::default().table(Family::V4)
}

/// The two kinds of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Of an address.
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    fn other(self) -> Family {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }

    /// As nft calls it.
    fn word(self) -> &'static str {
        match self {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    fn loopback(self) -> &'static str {
        match self {
            Family::V4 => "127.0.0.0/8",
            Family::V6 => "::1",
        }
    }

    fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

/// Ports as annotations list them, `80,8443`; empty for none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ports(BTreeSet<u16>);

/// A part of what there is, or all of it (`*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<T> {
    /// All.
    All,
    /// These only.
    Only(T),
}

/// Addresses that begin alike, `10.0.0.0/8`; one address is `10.0.0.1` or `10.0.0.1/32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    prefix: u8,
    first: IpAddr,
}

/// Ranges as annotations list them, `10.0.0.0/8,fd00::/8`; empty for none. None is within another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges(Vec<Range>);

/// Why a text is no ports or ranges.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WantedError {
    /// Not a port.
    #[error("{0:?} is no port: a number from 1 to 65535 is, or several with commas between them")]
    Port(String),
    /// Not a range.
    #[error(
        "{0:?} is no range of addresses: as 10.0.0.0/8 or fd00::/8 it is, or several with commas between them"
    )]
    Range(String),
    /// `*` where it has no sense.
    #[error("\"*\" cannot be excluded; include nothing (\"\") instead")]
    All,
}

fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
}

fn cut(word: &str) -> String {
    word.chars().take(100).collect()
}

impl FromStr for Ports {
    type Err = WantedError;

    fn from_str(text: &str) -> Result<Ports, WantedError> {
        let port = |word: &str| match word.parse() {
            _ if word == "*" => Err(WantedError::All),
            Ok(port) if port != 0 && !word.starts_with('+') => Ok(port),
            _ => Err(WantedError::Port(cut(word))),
        };
        Ok(Ports(listed(text).map(port).collect::<Result<_, _>>()?))
    }
}

impl FromStr for Ranges {
    type Err = WantedError;

    fn from_str(text: &str) -> Result<Ranges, WantedError> {
        let range = |word: &str| match word {
            "*" => Err(WantedError::All),
            word => word.parse::<Range>(),
        };
        let mut all: Vec<Range> = listed(text).map(range).collect::<Result<_, _>>()?;
        // the widest first: ranges overlap only when one is within the other, and nft wants neither
        all.sort();
        let mut kept: Vec<Range> = Vec::new();
        for range in all {
            if !kept.iter().any(|wider| wider.has(range.first)) {
                kept.push(range);
            }
        }
        Ok(Ranges(kept))
    }
}

impl<T: FromStr> FromStr for Part<T> {
    type Err = T::Err;

    fn from_str(text: &str) -> Result<Self, T::Err> {
        match text.trim() {
            "*" => Ok(Part::All),
            text => Ok(Part::Only(text.parse()?)),
        }
    }
}

impl FromStr for Range {
    type Err = WantedError;

    fn from_str(text: &str) -> Result<Range, WantedError> {
        let wrong = || WantedError::Range(cut(text));
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = Family::of(address).bits();
        let prefix = match prefix {
            Some(prefix) if prefix.starts_with('+') => return Err(wrong()),
            Some(prefix) => prefix.parse().map_err(|_| wrong())?,
            None => bits,
        };
        if prefix > bits {
            return Err(wrong());
        }
        Ok(Range {
            prefix,
            first: first(address, prefix),
        })
    }
}

/// The first of the addresses that share so many bits with one.
fn first(address: IpAddr, prefix: u8) -> IpAddr {
    let rest = u32::from(Family::of(address).bits() - prefix);
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(rest).unwrap_or(0);
            Ipv4Addr::from(u32::from(ip) & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(rest).unwrap_or(0);
            Ipv6Addr::from(u128::from(ip) & mask).into()
        }
    }
}

impl Range {
    fn has(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && first(address, self.prefix) == self.first
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Family::of(self.first).bits() == self.prefix {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}/{}", self.first, self.prefix),
        }
    }
}

impl Ranges {
    fn of(&self, family: Family) -> Part<Vec<Range>> {
        let all = self.0.iter().copied();
        let own: Vec<Range> = all
            .filter(|range| Family::of(range.first) == family)
            .collect();
        match own.iter().any(|range| range.prefix == 0) {
            true => Part::All,
            false => Part::Only(own),
        }
    }
}

/// A set, as nft writes it; `None` when it is empty, which nft does not take.
fn set<T: ToString>(of: impl IntoIterator<Item = T>) -> Option<String> {
    let words: Vec<String> = of.into_iter().map(|word| word.to_string()).collect();
    (!words.is_empty()).then(|| format!("{{ {} }}", words.join(", ")))
}

/// What of a pod's connections is led through its sidecar. The names and the meaning are those of Istio's annotations
/// (`traffic.sidecar.istio.io/includeInboundPorts` and so on); what is excluded is so before anything is included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The family of the sidecar's address. It takes no others, so what would be captured of the other family is refused:
    /// else it would go past the sidecar.
    pub family: Family,
    /// Ports of the workload that are reached through the sidecar.
    pub inbound_ports: Part<Ports>,
    /// Ports of the workload that are reached directly.
    pub not_inbound_ports: Ports,
    /// Connections to these ports are captured whatever their address.
    pub outbound_ports: Ports,
    /// Nothing that goes to these ports is captured, names (53) neither.
    pub not_outbound_ports: Ports,
    /// Connections to these addresses are captured.
    pub outbound_ranges: Part<Ranges>,
    /// Connections to these addresses are not captured.
    pub not_outbound_ranges: Ranges,
}

impl Default for Wanted {
    /// Everything.
    fn default() -> Wanted {
        Wanted {
            family: Family::V4,
            inbound_ports: Part::All,
            not_inbound_ports: Ports::default(),
            outbound_ports: Ports::default(),
            not_outbound_ports: Ports::default(),
            outbound_ranges: Part::All,
            not_outbound_ranges: Ranges::default(),
        }
    }
}

impl Wanted {
    /// All rules, for `nft -f -`, which takes all of them or none; those of an earlier run are replaced. With `both`, they
    /// also say what becomes of the other family.
    pub fn rules(&self, both: bool) -> String {
        let mut text = self.table(self.family);
        if both {
            text.push_str(&self.table(self.family.other()));
        }
        text
    }

    fn table(&self, family: Family) -> String {
        let (outbound, inbound) = match family == self.family {
            true => (self.outbound(family), self.inbound()),
            false => (self.outbound_refused(family), self.inbound_refused()),
        };
        let word = family.word();
        format!(
            "table {word} catamaran
delete table {word} catamaran
table {word} catamaran {{
  chain outbound {{
    {}
  }}
  chain inbound {{
    {}
  }}
}}
",
            outbound.join("\n    "),
            inbound.join("\n    "),
        )
    }

    /// A pod that calls its own service meets its own sidecar on both ways, so what the sidecar sends to the pod's own address
    /// goes in through its inbound port; to the program itself it speaks over loopback.
    fn outbound(&self, family: Family) -> Vec<String> {
        let mut rules = vec!["type nat hook output priority -100; policy accept;".to_owned()];
        if let Some(ports) = self.inbound_match() {
            rules.push(format!(
                "meta skuid {PROXY_USER} oifname \"lo\" {} daddr != {} {ports}redirect to :{INBOUND_PORT}",
                family.word(),
                family.loopback(),
            ));
        }
        let dns = format!("redirect to :{DNS_PORT}");
        let redirect = format!("redirect to :{OUTBOUND_PORT}");
        self.outbound_rules(family, &dns, &redirect, &mut rules);
        rules
    }

    fn outbound_refused(&self, family: Family) -> Vec<String> {
        let mut rules = vec![
            "type filter hook output priority filter; policy accept;".to_owned(),
            "ct state established,related return".into(),
        ];
        // Names may be asked for this way too: a pod that has only such a resolver would be without any.
        self.outbound_rules(family, "return", REFUSE, &mut rules);
        rules
    }

    fn outbound_rules(&self, family: Family, dns: &str, take: &str, rules: &mut Vec<String>) {
        let word = family.word();
        rules.push(format!("meta skuid {PROXY_USER} return"));
        rules.push(format!("meta skgid {PROXY_USER} return"));
        if let Some(ports) = set(&self.not_outbound_ports.0) {
            rules.push(format!(
                "meta l4proto {{ tcp, udp }} th dport {ports} return"
            ));
        }
        rules.push(format!("meta l4proto {{ tcp, udp }} th dport 53 {dns}"));
        rules.push("oifname \"lo\" return".into());
        match self.not_outbound_ranges.of(family) {
            Part::All => rules.push("return".into()),
            Part::Only(ranges) => {
                if let Some(ranges) = set(ranges) {
                    rules.push(format!("{word} daddr {ranges} return"));
                }
            }
        }
        let ranges = match &self.outbound_ranges {
            Part::All => Part::All,
            Part::Only(ranges) => ranges.of(family),
        };
        match ranges {
            Part::All => rules.push(format!("meta l4proto tcp {take}")),
            Part::Only(ranges) => {
                if let Some(ports) = set(&self.outbound_ports.0) {
                    rules.push(format!("tcp dport {ports} {take}"));
                }
                if let Some(ranges) = set(ranges) {
                    rules.push(format!("{word} daddr {ranges} meta l4proto tcp {take}"));
                }
            }
        }
    }

    fn inbound(&self) -> Vec<String> {
        let mut rules = vec![
            "type nat hook prerouting priority dstnat; policy accept;".to_owned(),
            "iifname \"lo\" return".into(),
        ];
        self.inbound_rules(&format!("redirect to :{INBOUND_PORT}"), &mut rules);
        rules
    }

    fn inbound_refused(&self) -> Vec<String> {
        let mut rules = vec![
            "type filter hook input priority filter; policy accept;".to_owned(),
            "iifname \"lo\" return".into(),
            "ct state established,related return".into(),
        ];
        self.inbound_rules(REFUSE, &mut rules);
        rules
    }

    fn inbound_rules(&self, take: &str, rules: &mut Vec<String>) {
        if let Some(ports) = set(self.direct()) {
            rules.push(format!("tcp dport {ports} return"));
        }
        match &self.inbound_ports {
            Part::All => rules.push(format!("meta l4proto tcp {take}")),
            Part::Only(_) => {
                if let Some(ports) = set(self.through()) {
                    rules.push(format!("tcp dport {ports} {take}"));
                }
            }
        }
    }

    /// Ports that are reached directly.
    fn direct(&self) -> BTreeSet<u16> {
        let own = OWN_PORTS.into_iter();
        own.chain(self.not_inbound_ports.0.iter().copied())
            .collect()
    }

    /// Ports that are reached through the sidecar, where they are listed.
    fn through(&self) -> BTreeSet<u16> {
        match &self.inbound_ports {
            Part::All => BTreeSet::new(),
            Part::Only(ports) => ports.0.difference(&self.direct()).copied().collect(),
        }
    }

    /// Those ports as nft matches them; `None` when there are none.
    fn inbound_match(&self) -> Option<String> {
        match &self.inbound_ports {
            Part::All => set(self.direct()).map(|ports| format!("tcp dport != {ports} ")),
            Part::Only(_) => set(self.through()).map(|ports| format!("tcp dport {ports} ")),
        }
    }

    /// Gives this network namespace the rules, in one transaction, and looks whether they are there.
    ///
    /// # Errors
    /// nft is not there, says no, or does not show afterwards what it took.
    pub fn install(&self) -> Result<(), CaptureError> {
        let both = self.both();
        let text = self.rules(both);
        run(&["nft", "-f", "-"], Some(&text)).map_err(refused)?;
        for family in [self.family, self.family.other()] {
            if family == self.family || both {
                self.check(family)?;
            }
        }
        Ok(())
    }

    /// Whether the other family is there to be refused.
    pub fn both(&self) -> bool {
        self.family == Family::V6 || has_ipv6()
    }

    fn check(&self, family: Family) -> Result<(), CaptureError> {
        let word = family.word();
        let shown = run(&["nft", "list", "table", word, "catamaran"], None);
        let shown = shown.map_err(refused)?;
        let (wanted, found) = (chains(&self.table(family)), chains(&shown));
        match wanted == found {
            true => Ok(()),
            false => Err(CaptureError::Missing {
                family: word,
                wanted: told(&wanted),
                found: told(&found),
            }),
        }
    }
}

const REFUSE: &str = "reject with tcp reset";

/// Whether this network namespace has any IPv6.
fn has_ipv6() -> bool {
    std::fs::read_to_string("/proc/net/if_inet6").is_ok_and(|lines| !lines.trim().is_empty())
}

/// How many rules each chain has. nft words them anew, so their text cannot be compared.
fn chains(text: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let mut chain: Option<String> = None;
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("chain ") {
            let name = name.trim_end_matches([' ', '{']).to_owned();
            found.insert(name.clone(), 0);
            chain = Some(name);
        } else if line == "}" {
            chain = None;
        } else if let Some(rules) = chain.as_ref().and_then(|name| found.get_mut(name))
            && !line.is_empty()
            && !line.starts_with("type ")
        {
            *rules += 1;
        }
    }
    found
}

fn told(chains: &BTreeMap<String, usize>) -> String {
    let words = chains.iter().map(|(name, rules)| format!("{name} {rules}"));
    words.collect::<Vec<_>>().join(", ")
}

/// Why connections are not captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// nft cannot be run.
    #[error("nft cannot be run: {0}; the image needs the package nftables")]
    NoTool(io::Error),
    /// nft says no.
    #[error(
        "nft refused: {said}; it needs root with the capability NET_ADMIN, and the kernel's nf_tables with nat"
    )]
    Refused {
        /// What it said.
        said: String,
    },
    /// nft said yes, but it is not so.
    #[error(
        "nft took the rules, but table {family} catamaran has {found} rules in place of {wanted}"
    )]
    Missing {
        /// The table's family.
        family: &'static str,
        /// Chains and their numbers of rules.
        wanted: String,
        /// The same, of what is there.
        found: String,
    },
}

fn refused(error: NetnsError) -> CaptureError {
    match error {
        NetnsError::NoTool { source, .. } => CaptureError::NoTool(source),
        NetnsError::Tool { said, .. } => CaptureError::Refused { said },
        NetnsError::Remains(said) => CaptureError::Refused { said },
    }
}

#[cfg(test)]
mod tests;
