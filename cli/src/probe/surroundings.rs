//! Where this machine stands, if its gateway may not be the router that counts.

use serde::Serialize;
use std::path::Path;

/// What stands between this machine and the home's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
        if interface.is_some_and(is_tunnel) {
            return Some(Surroundings::Vpn);
        }
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        if release.to_ascii_lowercase().contains("microsoft") {
            return Some(Surroundings::Wsl);
        }
        CONTAINER_MARKS.iter().any(|mark| Path::new(mark).exists()).then_some(Surroundings::Container)
    }
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
    use super::is_tunnel;

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
