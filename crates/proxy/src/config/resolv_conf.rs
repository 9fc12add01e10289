//! Who answers names on this machine, as resolvers read it from `/etc/resolv.conf` (resolv.conf(5)).

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// What comes after the third is not asked, as with glibc and musl.
const MOST: usize = 3;
const PORT: u16 = 53;

/// The resolvers that such a file names, in its order. A line that cannot be read is as if it were not there.
pub fn resolvers(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        // The word stands at the very start; what stands before it makes it another line.
        let rest = line.strip_prefix("nameserver")?;
        let word = rest.strip_prefix([' ', '\t'])?.split_whitespace().next()?;
        address(word)
    });
    named.take(MOST).collect()
}

fn address(word: &str) -> Option<SocketAddr> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, PORT));
    }
    // `fe80::1%eth0`: an address that is one only together with a link.
    let (address, link) = word.split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = match link.parse() {
        Ok(number) => number,
        Err(_) => nix::net::if_::if_nametoindex(link).ok()?,
    };
    Some(SocketAddrV6::new(address, PORT, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_resolvers_do() {
        let text = "# nameserver 192.0.2.1\n; nameserver 192.0.2.2\nsearch default.svc.cluster.local\n\
                    nameserver 10.96.0.10\n nameserver 192.0.2.3\nnameserver\nnameserver192.0.2.4\n\
                    nameserver 10.96.0\nnameserver \t fd00::a   # kube-dns\r\noptions ndots:5\n\
                    nameserver 192.0.2.5:53\nnameserver dns.example\nnameserver fe80::1%nowhere\n\
                    nameserver fe80::1%lo\nnameserver 192.0.2.6\n";
        let found = resolvers(text);
        let lo = nix::net::if_::if_nametoindex("lo").unwrap();
        let expected = [
            "10.96.0.10:53".parse().unwrap(),
            "[fd00::a]:53".parse().unwrap(),
            SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, lo).into(),
        ];
        assert_eq!(found, expected, "and not a fourth one");
        assert_eq!(
            resolvers("nameserver ::1%2"),
            [SocketAddrV6::new(Ipv6Addr::LOCALHOST, 53, 0, 2).into()]
        );
        assert_eq!(resolvers(""), []);
        assert_eq!(resolvers("\u{0}\u{fffd}\nnameserver \u{fffd}"), []);
    }
}
