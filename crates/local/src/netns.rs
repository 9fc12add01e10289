//! Network namespaces of a fleet: a namespace for each pod, one for each physical network with its bridge and router, and one
//! for the WAN on which only routers and gateways stand.
//!
//! The machine's own namespace gets names under `/run/netns` and nothing else: every link is made inside.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::address::Addresses;
use crate::fleet::{Cluster, Fleet};
use crate::launch::NETNS_FOLDER;

pub mod capture;

/// Why a namespace could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// A tool said no.
    #[error("`{command}` failed: {said}")]
    Tool {
        /// What was run.
        command: String,
        /// What it said.
        said: String,
    },
    /// A tool could not be run.
    #[error("`{command}` cannot be run: {source}; --isolation netns needs the programs ip and nft")]
    NoTool {
        /// What was to be run.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// A process in it does not end.
    #[error("a process in the namespace {0} was killed and does not end")]
    Remains(String),
}

/// Whether this machine and user can run a fleet with network namespaces, and if not, why.
pub fn supported() -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("network namespaces need root".into());
    }
    for tool in [["ip", "-V"], ["nft", "-v"]] {
        run(&tool, None).map_err(|e| e.to_string())?;
    }
    static PROBES: AtomicU64 = AtomicU64::new(0);
    let number = PROBES.fetch_add(1, Ordering::Relaxed);
    let probe = format!("ctm-probe-{}-{number}", std::process::id());
    run(&["ip", "netns", "add", &probe], None).map_err(|e| e.to_string())?;
    let works = [gateway_rules(), capture::rules()]
        .iter()
        .try_for_each(|rules| in_netns(&probe, &["nft", "-f", "-"], Some(rules)).map(|_| ()));
    run(&["ip", "netns", "del", &probe], None).map_err(|e| e.to_string())?;
    works.map_err(|e| e.to_string())
}

/// The names of a fleet's namespaces, and what is in them.
#[derive(Debug, Clone)]
pub struct Network {
    fleet: String,
    cluster: u8,
    network: u8,
    addresses: Addresses,
}

/// What stands in a namespace of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A pod with this number.
    Pod(u8),
    /// The cluster's control plane.
    ControlPlane,
    /// The cluster's east-west gateway.
    Gateway,
}

impl Network {
    /// The networks of `cluster` in `fleet`.
    pub fn of(fleet: &Fleet, cluster: &Cluster) -> Network {
        Network {
            fleet: fleet.id.clone(),
            cluster: cluster.index,
            network: cluster.network_index,
            addresses: Addresses::of(fleet, cluster),
        }
    }

    /// The WAN's namespace.
    pub fn wan(&self) -> String {
        format!("ctm-{}-wan", self.fleet)
    }

    /// The namespace of the cluster's physical network, with its bridge and router.
    pub fn network(&self) -> String {
        format!("ctm-{}-net{}", self.fleet, self.network)
    }

    /// The namespace of something in the cluster; `name` is a pod's, for people.
    pub fn name(&self, place: Place, name: &str) -> String {
        let prefix = cluster_prefix(&self.fleet, self.cluster);
        match place {
            Place::Pod(number) => format!("{prefix}{number}-{name}"),
            Place::ControlPlane => format!("{prefix}control-plane"),
            Place::Gateway => format!("{prefix}gateway"),
        }
    }

    /// Makes the physical network and the WAN when they are not there; says whether something was made. The caller holds the
    /// fleet's lock.
    pub fn ensure_network(&self) -> Result<bool, NetnsError> {
        let (wan, network) = (self.wan(), self.network());
        if !works(&wan, "br0", None) {
            remove(&wan)?;
            add(&wan)?;
            let batch = format!("link set lo up\n{BRIDGE}link set br0 up\n");
            in_ip(&wan, &batch)?;
        }
        let router = self.addresses.router();
        if works(&network, "br0", Some(router))
            && works(&network, "wan0", Some(self.addresses.router_wan()))
        {
            return Ok(false);
        }
        remove(&network)?;
        add(&network)?;
        let mut batch = format!("link set lo up\n{BRIDGE}");
        let _ = writeln!(batch, "addr add {router}/16 dev br0\nlink set br0 up");
        let _ = writeln!(
            batch,
            "link add wan0 address {} type veth peer name net{} netns {wan}",
            hardware(self.addresses.router_wan()),
            self.network
        );
        let _ = writeln!(
            batch,
            "addr add {}/16 dev wan0\nlink set wan0 up\nroute add default dev wan0",
            self.addresses.router_wan()
        );
        in_ip(&network, &batch)?;
        in_ip(
            &wan,
            &format!(
                "link set net{0} master br0\nlink set net{0} up\n",
                self.network
            ),
        )?;
        in_netns(&network, &["nft", "-f", "-"], Some(&router_rules()))?;
        sysctl(&network, &[("net/ipv4/ip_forward", "1")])?;
        Ok(true)
    }

    /// Makes the namespace of something in the cluster, or uses the one that is there when it is whole. Says whether it was
    /// made: then nothing that ran in an earlier one of this name is in it.
    pub fn ensure(
        &self,
        place: Place,
        name: &str,
        capture: bool,
    ) -> Result<(String, bool), NetnsError> {
        let netns = self.name(place, name);
        let (inside, port) = match place {
            Place::Pod(number) => (
                self.addresses.pod(number),
                format!("c{}p{number}", self.cluster),
            ),
            Place::ControlPlane => (
                self.addresses.control_plane(),
                format!("c{}cp", self.cluster),
            ),
            Place::Gateway => (
                self.addresses.gateway_inside(),
                format!("c{}gw", self.cluster),
            ),
        };
        let whole = works(&netns, "eth0", Some(inside))
            && (place != Place::Gateway || works(&netns, "wan0", Some(self.addresses.gateway())));
        if whole {
            return Ok((netns, false));
        }
        remove(&netns)?;
        add(&netns)?;
        let (network, wan) = (self.network(), self.wan());
        attach(&network, &port, &netns, "eth0", inside)?;
        let mut batch = String::from("link set lo up\n");
        let _ = writeln!(batch, "addr add {inside}/16 dev eth0\nlink set eth0 up");
        if place != Place::Gateway {
            let _ = writeln!(batch, "route add default via {}", self.addresses.router());
        }
        in_ip(&netns, &batch)?;
        if place == Place::Gateway {
            let address = self.addresses.gateway();
            attach(&wan, &port, &netns, "wan0", address)?;
            in_ip(
                &netns,
                &format!("addr add {address}/16 dev wan0\nlink set wan0 up\n"),
            )?;
            in_netns(&netns, &["nft", "-f", "-"], Some(&gateway_rules()))?;
        }
        if capture {
            in_netns(&netns, &["nft", "-f", "-"], Some(&capture::rules()))?;
        }
        Ok((netns, true))
    }
}

/// What the router of a physical network lets through: its pods reach gateways on the WAN, and nothing else leaves or enters.
/// What is not let through is refused at once, so that nobody waits for it: by a reset, since the system sends only few refusals
/// of other kinds a second. For that it needs a route for everything, on which these rules then let nothing go.
pub fn router_rules() -> String {
    "table ip catamaran {
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname \"br0\" oifname \"br0\" accept
    iifname \"br0\" oifname \"wan0\" ip daddr 198.18.1.0/24 tcp dport 15443 accept
    meta l4proto tcp reject with tcp reset
    reject with icmp admin-prohibited
  }
  chain input {
    type filter hook input priority filter; policy drop;
    iifname \"lo\" accept
    ct state established,related accept
    iifname \"br0\" icmp type echo-request accept
    meta l4proto tcp reject with tcp reset
    reject with icmp admin-prohibited
  }
  chain outward {
    type nat hook postrouting priority srcnat; policy accept;
    oifname \"wan0\" masquerade
  }
}
"
    .to_owned()
}

/// What a gateway lets through: from the WAN to its own port only, and to the WAN only answers. It never forwards.
pub fn gateway_rules() -> String {
    "table ip catamaran {
  chain input {
    type filter hook input priority filter; policy accept;
    iifname \"wan0\" ct state established,related accept
    iifname \"wan0\" tcp dport 15443 accept
    iifname \"wan0\" meta l4proto tcp reject with tcp reset
    iifname \"wan0\" reject with icmp admin-prohibited
  }
  chain output {
    type filter hook output priority filter; policy accept;
    oifname \"wan0\" ct state established,related accept
    oifname \"wan0\" meta l4proto tcp reject with tcp reset
    oifname \"wan0\" reject with icmp admin-prohibited
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
  }
}
"
    .to_owned()
}

/// The names of all namespaces of a fleet that are there, pods first.
pub fn of_fleet(fleet: &Fleet) -> Vec<String> {
    let mut names = with_prefix(&format!("ctm-{}-", fleet.id));
    let pods_first = |name: &String| !name.starts_with(&format!("ctm-{}-c", fleet.id));
    names.sort_by_key(pods_first);
    names
}

/// The names of all namespaces of a cluster's pods, gateway and control plane that are there.
pub fn of_cluster(fleet: &Fleet, cluster: &Cluster) -> Vec<String> {
    with_prefix(&cluster_prefix(&fleet.id, cluster.index))
}

fn cluster_prefix(fleet: &str, cluster: u8) -> String {
    format!("ctm-{fleet}-c{cluster}-")
}

fn with_prefix(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(NETNS_FOLDER).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    names
}

/// How long killed processes may take to leave a namespace.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// Kills what runs in a namespace.
pub fn kill_all(netns: &str) -> Result<(), NetnsError> {
    let deadline = Instant::now() + KILL_WAIT;
    loop {
        let pids = run(&["ip", "netns", "pids", netns], None)?;
        let pids: Vec<i32> = pids
            .lines()
            .filter_map(|pid| pid.trim().parse().ok())
            .collect();
        let living: Vec<i32> = pids.into_iter().filter(|pid| !dead(*pid)).collect();
        if living.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(NetnsError::Remains(netns.into()));
        }
        for pid in living {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn dead(pid: i32) -> bool {
    crate::running::Running::of(pid).is_none_or(|running| !running.alive())
}

/// Removes a namespace and kills what runs in it. One that is not there is removed already.
pub fn remove(netns: &str) -> Result<(), NetnsError> {
    let path = Path::new(NETNS_FOLDER).join(netns);
    if !path.exists() {
        return Ok(());
    }
    // After a restart of the machine the name is a plain file, in which nothing runs.
    if exists(netns) {
        kill_all(netns)?;
    }
    run(&["ip", "netns", "del", netns], None)?;
    Ok(())
}

fn exists(netns: &str) -> bool {
    run(&["ip", "-n", netns, "link", "show", "lo"], None).is_ok()
}

fn works(netns: &str, link: &str, address: Option<Ipv4Addr>) -> bool {
    if !Path::new(NETNS_FOLDER).join(netns).exists() {
        return false;
    }
    let Ok(shown) = run(&["ip", "-n", netns, "-o", "addr", "show", link], None) else {
        return false;
    };
    match address {
        Some(address) => shown.contains(&format!(" {address}/")),
        None => run(&["ip", "-n", netns, "link", "show", link], None).is_ok(),
    }
}

fn add(netns: &str) -> Result<(), NetnsError> {
    run(&["ip", "netns", "add", netns], None)?;
    let (v4, v6) = ("net/ipv4/ip_forward", "net/ipv6/conf/all/disable_ipv6");
    sysctl(
        netns,
        &[
            (v6, "1"),
            ("net/ipv6/conf/default/disable_ipv6", "1"),
            (v4, "0"),
        ],
    )
}

/// Sets what `/proc/sys` shows in a namespace. A setting that this kernel does not have is set already.
fn sysctl(netns: &str, settings: &[(&str, &str)]) -> Result<(), NetnsError> {
    let path = Path::new(NETNS_FOLDER).join(netns);
    let set = || {
        crate::launch::enter(&path)?;
        settings.iter().try_for_each(|(name, value)| {
            let path = Path::new("/proc/sys").join(name);
            if path.exists() {
                fs::write(path, value)
            } else {
                Ok(())
            }
        })
    };
    // A thread of its own, since it stays where it entered.
    let done = std::thread::scope(|scope| scope.spawn(set).join());
    let done = done.unwrap_or_else(|_| Err(io::Error::other("it panicked")));
    done.map_err(|error| NetnsError::Tool {
        command: format!("set {settings:?} in {netns}"),
        said: error.to_string(),
    })
}

/// A bridge with an address of its own. Without one it takes the lowest of its ports', so it would change when a pod comes,
/// and everybody would talk to an address that nobody has until they ask again.
const BRIDGE: &str = "link add br0 address 02:00:5e:10:00:01 type bridge\n";

/// The hardware address that goes with an address: whoever comes back with the one is known by the other, so that neighbours
/// who remember it reach it at once.
fn hardware(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Links a namespace to the bridge in another one, for one address.
fn attach(
    bridge: &str,
    port: &str,
    netns: &str,
    name: &str,
    address: Ipv4Addr,
) -> Result<(), NetnsError> {
    let hardware = hardware(address);
    let add =
        format!("link add {port} type veth peer name {name} address {hardware} netns {netns}\n");
    let batch = format!("{add}link set {port} master br0\nlink set {port} up\n");
    if in_ip(bridge, &batch).is_err() {
        // The port of an earlier namespace goes with that namespace, but not at once.
        let _ = in_ip(bridge, &format!("link del {port}\n"));
        in_ip(bridge, &batch)?;
    }
    Ok(())
}

fn in_ip(netns: &str, batch: &str) -> Result<String, NetnsError> {
    run(&["ip", "-n", netns, "-batch", "-"], Some(batch))
}

/// Runs a tool in a namespace.
pub fn in_netns(netns: &str, command: &[&str], input: Option<&str>) -> Result<String, NetnsError> {
    let mut whole = vec!["ip", "netns", "exec", netns];
    whole.extend(command);
    run(&whole, input)
}

fn run(command: &[&str], input: Option<&str>) -> Result<String, NetnsError> {
    let words = || match input {
        Some(input) => format!("{} <<< {:?}", command.join(" "), input),
        None => command.join(" "),
    };
    let cannot = |source| NetnsError::NoTool {
        command: words(),
        source,
    };
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .env("LC_ALL", "C")
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
        // A tool that ends early says why itself.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(cannot)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(NetnsError::Tool {
            command: words(),
            said: String::from_utf8_lossy(&output.stderr)
                .trim()
                .chars()
                .take(500)
                .collect(),
        }),
    }
}
