//! How this machine is connected, if its gateway may not be the home router: container, WSL, tunnel.

use serde::Serialize;
use std::net::IpAddr;
use std::path::Path;

/// What stands between this machine and the home's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Surroundings {
    /// A container with a network of its own.
    Container,
    /// Windows' subsystem for Linux.
    Wsl,
    /// The way to the internet leads through a tunnel.
    Vpn,
}

/// How the interfaces of tunnels are named: OpenVPN and others, WireGuard, macOS, Tailscale, ZeroTier, Nebula, NordVPN,
/// ProtonVPN.
const TUNNELS: [&str; 9] = ["tun", "tap", "wg", "utun", "tailscale", "zt", "nebula", "nordlynx", "proton"];

/// What Docker, Podman and systemd-nspawn leave in a container.
const CONTAINER_MARKS: [&str; 3] = ["/.dockerenv", "/run/.containerenv", "/run/systemd/container"];

impl Surroundings {
    /// By the interface that leads to the internet, and by what else there is to see.
    pub fn of(interface: Option<&str>) -> Option<Surroundings> {
        let interface = interface?;
        if CONTAINER_MARKS.iter().any(|mark| Path::new(mark).exists()) && is_made_for_containers(interface) {
            return Some(Surroundings::Container);
        }
        if is_tunnel(interface) {
            return Some(Surroundings::Vpn);
        }
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        release.to_ascii_lowercase().contains("microsoft").then_some(Surroundings::Wsl)
    }
}

/// Whether an interface is one end of a pair, or of a tunnel to a program: a container on the host's network has neither.
fn is_made_for_containers(interface: &str) -> bool {
    let read = |name: &str| std::fs::read_to_string(format!("/sys/class/net/{interface}/{name}")).ok();
    // sysfs-class-net: the interface at the other end, or itself.
    read("tun_flags").is_some() || read("iflink") != read("ifindex")
}

/// Whether no host has answered ARP for an address, where the system shows it: Linux, for IPv4.
pub fn is_absent(address: IpAddr) -> bool {
    std::fs::read_to_string("/proc/net/arp").is_ok_and(|table| is_incomplete(&table, address))
}

/// Whether a table like /proc/net/arp (proc(5)) has the address without its hardware address, which flag 2 says.
fn is_incomplete(table: &str, address: IpAddr) -> bool {
    table.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace();
        let is_that = words.next().and_then(|word| word.parse().ok()) == Some(address);
        let flags = words.nth(1).and_then(|flags| u32::from_str_radix(flags.strip_prefix("0x")?, 16).ok());
        is_that && flags.is_some_and(|flags| flags & 2 == 0)
    })
}

/// Whether an interface is called as tunnels are: with a number behind it, or a name of its own behind a dash.
fn is_tunnel(interface: &str) -> bool {
    TUNNELS.iter().any(|name| {
        interface.strip_prefix(name).is_some_and(|rest| {
            *name == "zt" || rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit() || c == '-')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{is_incomplete, is_tunnel};

    #[test]
    fn an_address_that_nobody_has_is_told_by_its_flags() {
        let table = "IP address       HW type     Flags       HW address            Mask     Device\n\
                     192.168.1.1      0x1         0x2         00:11:22:33:44:55     *        eth0\n\
                     192.168.1.99     0x1         0x0         00:00:00:00:00:00     *        eth0\n\
                     192.168.1.98     0x1\n";
        for (address, expected) in
            [("192.168.1.1", false), ("192.168.1.99", true), ("192.168.1.98", false), ("::1", false)]
        {
            assert_eq!(is_incomplete(table, address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn tunnels_are_told_by_their_names() {
        for name in ["tun0", "wg0", "wg-home", "utun4", "tailscale0", "ztabc123", "nordlynx"] {
            assert!(is_tunnel(name), "{name}");
        }
        for name in ["eth0", "enp3s0", "wlan0", "wlp2s0", "en0", "ppp0", "tunnel", "br-1234", "docker0"] {
            assert!(!is_tunnel(name), "{name}");
        }
    }
}
