//! From where an external address can be reached, and the sentence about it.

use plum::{External, Protocol};
use plum_engine::addresses::{Scope, scope_of};
use serde::Serialize;
use std::net::IpAddr;

/// From where hosts reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// From the internet, as far as the address shows.
    Internet,
    /// From the provider's network: carrier-grade NAT (RFC 6598, RFC 6333).
    CarrierNat,
    /// From the network between two NATs (RFC 1918).
    Private,
    /// From the local networks of IPv6 (RFC 4193).
    UniqueLocal,
    /// From one link (RFC 3927, RFC 4291 §2.5.6).
    LinkLocal,
}

impl Reach {
    pub fn of(address: IpAddr) -> Reach {
        match (scope_of(address), address.to_canonical()) {
            (Scope::CarrierNat, _) => Reach::CarrierNat,
            (Scope::Public, _) => Reach::Internet,
            (_, IpAddr::V4(v4)) if v4.is_private() => Reach::Private,
            (_, IpAddr::V6(v6)) if v6.is_unique_local() => Reach::UniqueLocal,
            // The engine takes no other address for an external one.
            _ => Reach::LinkLocal,
        }
    }

    /// Why hosts on the internet do not reach the address, and what to do; `None`: they do.
    fn caveat(self, address: IpAddr) -> Option<String> {
        let text = match self {
            Reach::Internet => return None,
            Reach::CarrierNat => format!(
                "{address} belongs to the provider's carrier-grade NAT, so nobody on the internet reaches it: ask the provider for a \
                 public IPv4 address, or use IPv6 or a relay"
            ),
            Reach::Private => format!(
                "{address} is a private address, so another NAT stands between the gateway and the internet: make the outer box a \
                 bridge, or forward the port to {address} there"
            ),
            Reach::UniqueLocal => format!(
                "{address} is a unique local address, so nobody on the internet reaches it: look whether the gateway announces a \
                 global prefix"
            ),
            Reach::LinkLocal => format!(
                "{address} is a link-local address, so nobody beyond that link reaches it: look at the gateway's connection, which \
                 has got no other"
            ),
        };
        Some(text)
    }
}

/// What is remarkable about an external address and port, a sentence each; `suggested`: the external port that was asked for.
pub fn remarks(external: External, suggested: u16) -> Vec<String> {
    let address = external.address;
    let mut remarks = Vec::new();
    if external.protocol == Protocol::Direct {
        remarks.push(format!(
            "this machine has the address {} itself, so no gateway has to map the port: its own firewall has to let it in",
            address.ip()
        ));
    }
    remarks.extend(Reach::of(address.ip()).caveat(address.ip()));
    if suggested != 0 && address.port() != suggested {
        remarks
            .push(format!("the external port is {}, because {suggested} was not to be had", address.port()));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_address_has_its_sentence() {
        for (address, reach, says) in [
            ("203.0.113.7", Reach::Internet, None),
            ("2600::1", Reach::Internet, None),
            ("100.64.0.0", Reach::CarrierNat, Some("carrier-grade NAT")),
            ("100.127.255.255", Reach::CarrierNat, Some("carrier-grade NAT")),
            ("100.128.0.0", Reach::Internet, None),
            ("192.0.0.2", Reach::CarrierNat, Some("carrier-grade NAT")),
            ("10.0.0.1", Reach::Private, Some("another NAT")),
            ("172.16.0.1", Reach::Private, Some("another NAT")),
            ("::ffff:192.168.1.1", Reach::Private, Some("another NAT")),
            ("169.254.1.1", Reach::LinkLocal, Some("link-local")),
            ("fe80::1", Reach::LinkLocal, Some("link-local")),
            ("fd00::1", Reach::UniqueLocal, Some("unique local")),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(Reach::of(address), reach, "{address}");
            let caveat = reach.caveat(address);
            assert_eq!(caveat.is_some(), says.is_some(), "{address}");
            assert!(caveat.unwrap_or_default().contains(says.unwrap_or_default()), "{address}");
        }
    }
}
