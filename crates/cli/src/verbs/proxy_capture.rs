use std::net::IpAddr;

use catamaran_local::netns::capture::{Family, Part, Ports, Ranges, Wanted};

use crate::context::{Context, Failure, Outcome};

/// Lead a pod's connections through its sidecar (an init container's job: root with NET_ADMIN, in the pod's network).
///
/// What is excluded is so before anything is included. A second run replaces what the first one made.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  catamaran proxy capture --address 10.244.0.7
  catamaran proxy capture --exclude-inbound-ports 9090 --exclude-outbound-ports 25,587
  catamaran proxy capture --include-outbound-ranges 10.96.0.0/16 --include-outbound-ports 443
  catamaran proxy capture --print                          shows the rules and changes nothing")]
pub(crate) struct Args {
    /// The pod's address, as its sidecar's: connections of its family are captured; what would be captured of the other one is
    /// refused, since the sidecar has no such address. IPv4 when not said.
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Ports of the workload that are reached through the sidecar: \"*\", a list as 80,8443, or \"\" for none.
    #[arg(long, value_name = "PORTS", default_value = "*")]
    include_inbound_ports: Part<Ports>,
    /// Ports of the workload that are reached directly.
    #[arg(
        long,
        value_name = "PORTS",
        default_value = "",
        hide_default_value = true
    )]
    exclude_inbound_ports: Ports,
    /// Ports to which connections are captured whatever their address.
    #[arg(
        long,
        value_name = "PORTS",
        default_value = "",
        hide_default_value = true
    )]
    include_outbound_ports: Ports,
    /// Ports to which nothing is captured; 53 among them leaves names to the pod's own resolver.
    #[arg(
        long,
        value_name = "PORTS",
        default_value = "",
        hide_default_value = true
    )]
    exclude_outbound_ports: Ports,
    /// Addresses to which connections are captured: \"*\", a list as 10.0.0.0/8,fd00::/8, or \"\" for none.
    #[arg(long, value_name = "RANGES", default_value = "*")]
    include_outbound_ranges: Part<Ranges>,
    /// Addresses to which connections are not captured.
    #[arg(
        long,
        value_name = "RANGES",
        default_value = "",
        hide_default_value = true
    )]
    exclude_outbound_ranges: Ranges,
    /// Show the rules, and change nothing.
    #[arg(long)]
    print: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> Outcome {
    let wanted = Wanted {
        family: args.address.map_or(Family::V4, Family::of),
        inbound_ports: args.include_inbound_ports,
        not_inbound_ports: args.exclude_inbound_ports,
        outbound_ports: args.include_outbound_ports,
        not_outbound_ports: args.exclude_outbound_ports,
        outbound_ranges: args.include_outbound_ranges,
        not_outbound_ranges: args.exclude_outbound_ranges,
    };
    if args.print {
        return context.write(&wanted.rules(wanted.both()));
    }
    wanted
        .install()
        .map_err(|error| Failure::Program(error.to_string()))?;
    context.write("connections are led through the sidecar\n")
}
