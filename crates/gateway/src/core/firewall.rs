//! The firewall for IPv6: what PCP opens in it, and the actions of WANIPv6FirewallControl:1.

use super::soap::{Arguments, INVALID_ACTION, INVALID_ARGS, NOT_AUTHORIZED, Request};
use super::{Action, Gateway, Pinhole, PinholeKey, Pinholes, Protocol, Transport};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

// WANIPv6FirewallControl:1 §2.5
const PINHOLE_SPACE_EXHAUSTED: i32 = 701;
const FIREWALL_DISABLED: i32 = 702;
const INBOUND_PINHOLE_NOT_ALLOWED: i32 = 703;
const NO_SUCH_ENTRY: i32 = 704;
const PROTOCOL_NOT_SUPPORTED: i32 = 705;
const INTERNAL_PORT_WILDCARDING_NOT_ALLOWED: i32 = 706;
const PROTOCOL_WILDCARDING_NOT_ALLOWED: i32 = 707;
const WILDCARD_NOT_PERMITTED_IN_SOURCE: i32 = 708;
const NO_TRAFFIC_RECEIVED: i32 = 709;

/// The longest lease, in seconds.
const MAX_LEASE: u32 = 86_400;
/// Clients may have no port below opened by UPnP.
const FIRST_FREE_PORT: u16 = 1024;
/// The protocol number that stands for every protocol.
const ANY_PROTOCOL: u16 = 65_535;

impl Gateway {
    /// Its pinholes.
    pub const fn pinholes(&self) -> &Pinholes {
        &self.pinholes
    }

    /// Its pinholes, for the script to open and close what it likes, and to send packets through them.
    pub const fn pinholes_mut(&mut self) -> &mut Pinholes {
        &mut self.pinholes
    }

    /// The pinhole that PCP opens for this client; `None`: the client gets a mapping.
    pub(super) fn pinhole_key(&self, transport: Transport, internal: SocketAddr) -> Option<PinholeKey> {
        self.config.ipv6?;
        let IpAddr::V6(client) = internal.ip() else { return None };
        Some(PinholeKey::for_all(transport, client, internal.port()))
    }

    /// Makes or renews a pinhole that PCP asks for: its lifetime, or `None` where there is no room.
    pub(super) fn grant_pinhole(&mut self, key: PinholeKey, lifetime: u32, nonce: [u8; 12]) -> Option<u32> {
        let lifetime = self.granted_lifetime(lifetime);
        if lifetime == 0 {
            self.pinholes.remove(&key);
            return Some(0);
        }
        if !self.has_room_for(&key) {
            return None;
        }
        let ends_at = self.now + Duration::from_secs(lifetime.into());
        self.pinholes.open(key, Protocol::Pcp, Some(nonce), self.now, ends_at);
        Some(lifetime)
    }

    fn has_room_for(&self, key: &PinholeKey) -> bool {
        self.pinholes.len() < self.config.max_mappings || self.pinholes.get(key).is_some()
    }

    /// Makes or renews a pinhole by UPnP; its UniqueID.
    fn lease_pinhole(&mut self, key: PinholeKey, lease: u32) -> u16 {
        let lease = self.faults.lifetime.unwrap_or(lease);
        let old_end = self.pinholes.get(&key).map(|pinhole| pinhole.expires_at);
        // Lease 0, a fault: it has ended at once.
        let ends_at = self.upnp_lease_end(lease, old_end).unwrap_or(self.now);
        self.pinholes.open(key, Protocol::Upnp, None, self.now, ends_at)
    }
}

/// TCP or UDP by its protocol number.
pub(super) fn transport(number: &str) -> Option<Transport> {
    match number {
        "6" => Some(Transport::Tcp),
        "17" => Some(Transport::Udp),
        _ => None,
    }
}

/// The input arguments of an action, in the order of the standard.
pub(super) fn arguments(action: Action) -> &'static [&'static str] {
    match action {
        Action::AddPinhole => {
            &["RemoteHost", "RemotePort", "InternalClient", "InternalPort", "Protocol", "LeaseTime"]
        }
        Action::UpdatePinhole => &["UniqueID", "NewLeaseTime"],
        Action::DeletePinhole | Action::CheckPinholeWorking | Action::GetPinholePackets => &["UniqueID"],
        _ => &[],
    }
}

pub(super) fn act(gateway: &mut Gateway, from: SocketAddr, request: &Request) -> Result<Arguments, i32> {
    let (disabled, forbidden) = (gateway.faults.firewall_disabled, gateway.faults.inbound_pinholes_forbidden);
    if request.action == Action::GetFirewallStatus {
        let flag = |value: bool| u8::from(value).to_string();
        return Ok(vec![("FirewallEnabled", flag(!disabled)), ("InboundPinholeAllowed", flag(!forbidden))]);
    }
    if disabled {
        return Err(FIREWALL_DISABLED);
    }
    if forbidden {
        return Err(INBOUND_PINHOLE_NOT_ALLOWED);
    }
    match request.action {
        Action::AddPinhole => add(gateway, from, request),
        Action::UpdatePinhole => {
            let lease = lease(request, "NewLeaseTime")?;
            let key = named(gateway, from, request)?.key.clone();
            gateway.lease_pinhole(key, lease);
            Ok(Vec::new())
        }
        Action::DeletePinhole => {
            let key = named(gateway, from, request)?.key.clone();
            gateway.pinholes.remove(&key);
            Ok(Vec::new())
        }
        Action::CheckPinholeWorking => match named(gateway, from, request)?.packets {
            0 => Err(NO_TRAFFIC_RECEIVED),
            _ => Ok(vec![("IsWorking", "1".into())]),
        },
        Action::GetPinholePackets => {
            Ok(vec![("PinholePackets", named(gateway, from, request)?.packets.to_string())])
        }
        _ => Err(INVALID_ACTION),
    }
}

fn add(gateway: &mut Gateway, from: SocketAddr, request: &Request) -> Result<Arguments, i32> {
    let client = request.argument("InternalClient").unwrap_or_default();
    if client.is_empty() {
        return Err(WILDCARD_NOT_PERMITTED_IN_SOURCE);
    }
    let client: Ipv6Addr = client.parse().map_err(|_| INVALID_ARGS)?;
    let transport = match request.number("Protocol")? {
        ANY_PROTOCOL => return Err(PROTOCOL_WILDCARDING_NOT_ALLOWED),
        number => transport(&number.to_string()).ok_or(PROTOCOL_NOT_SUPPORTED)?,
    };
    let key = PinholeKey {
        transport,
        client,
        port: request.number("InternalPort")?,
        remote_host: request.argument("RemoteHost").unwrap_or_default().into(),
        remote_port: request.number("RemotePort")?,
    };
    let lease = lease(request, "LeaseTime")?;
    if key.port == 0 {
        return Err(INTERNAL_PORT_WILDCARDING_NOT_ALLOWED);
    }
    if IpAddr::V6(client) != from.ip() || key.port < FIRST_FREE_PORT {
        return Err(NOT_AUTHORIZED);
    }
    if !gateway.has_room_for(&key) {
        return Err(PINHOLE_SPACE_EXHAUSTED);
    }
    Ok(vec![("UniqueID", gateway.lease_pinhole(key, lease).to_string())])
}

fn lease(request: &Request, name: &str) -> Result<u32, i32> {
    request.number(name).ok().filter(|lease| (1..=MAX_LEASE).contains(lease)).ok_or(INVALID_ARGS)
}

/// The pinhole that the request names by its UniqueID, if it is the sender's.
fn named<'a>(gateway: &'a Gateway, from: SocketAddr, request: &Request) -> Result<&'a Pinhole, i32> {
    let pinhole = gateway.pinholes.of_id(request.number("UniqueID")?).ok_or(NO_SUCH_ENTRY)?;
    if IpAddr::V6(pinhole.key.client) != from.ip() {
        return Err(NOT_AUTHORIZED);
    }
    Ok(pinhole)
}
