//! A copy of a gateway, which is asked in place of the original: what it grants, deletes and shows now.
//!
//! The requests are encoded independently of libplum, from the standards, so that its mistakes are not mirrored.

use crate::ipv6_homes::is_global;
use crate::traits::Traits;
use plum_gateway::core::{Action, Config, ConnectionId, Faults, Framing, Gateway, Output, Protocol, UdpPort};
use plum_gateway::core::{TableEntry, Transport, WanKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// How long it may take to answer; the mapping timeouts of stories are longer.
const PATIENCE: Duration = Duration::from_millis(4500);

/// The gateway to copy, and how it is asked.
pub struct ReferenceGateway<'a> {
    original: &'a Gateway,
    traits: &'a Traits,
    now: Duration,
    client: IpAddr,
}

/// What a mapping request asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// TCP or UDP.
    pub transport: Transport,
    /// The internal port.
    pub internal_port: u16,
    /// The external port.
    pub external_port: u16,
    /// The lifetime, in seconds.
    pub lifetime: u32,
}

impl Asked {
    /// What is asked for a pinhole.
    pub fn pinhole(transport: Transport, port: u16) -> Asked {
        Asked { transport, internal_port: port, external_port: port, lifetime: 3600 }
    }
}

/// An answer to a PCP MAP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The mapping is made, at this address, which is one.
    Grant(IpAddr),
    /// Refused with this result code, or of no use (0).
    Refusal(u8),
    /// None.
    Nothing,
}

impl<'a> ReferenceGateway<'a> {
    /// A copy of this gateway, with these traits, for requests of a client.
    pub fn of(
        original: &'a Gateway,
        traits: &'a Traits,
        now: Duration,
        client: IpAddr,
    ) -> ReferenceGateway<'a> {
        ReferenceGateway { original, traits, now, client }
    }

    /// A gateway that has answered nothing yet.
    pub(crate) fn fresh(&self) -> Gateway {
        let mut gateway = Gateway::new(Config::clone(self.original.config()), self.now);
        self.traits.give_to(&mut gateway);
        gateway.faults = Faults { reorder: 0.0, ..self.original.faults.clone() };
        // Replies are read as text, which chunks would cut.
        gateway.faults.http.framing = Framing::ContentLength;
        // The traits may have been drawn for a gateway that has got another device since.
        gateway.set_igd(self.original.config().igd.clone());
        *gateway.table_mut() = self.original.table().clone();
        *gateway.pinholes_mut() = self.original.pinholes().clone();
        gateway
    }

    /// After all that a copy is asked for: what ends then does not end meanwhile.
    pub(crate) fn not_soon(&self) -> Duration {
        self.now + Duration::from_secs(60)
    }

    /// The client whose requests are meant.
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// What comes back for a datagram to UDP 5351.
    pub(crate) fn ask(&self, gateway: &mut Gateway, request: &[u8]) -> Vec<Vec<u8>> {
        if gateway.refuses(UdpPort::Pcp, request) {
            return Vec::new();
        }
        gateway.handle_datagram(self.now, UdpPort::Pcp, SocketAddr::new(self.client, 50_000), request);
        let datagram = |output| match output {
            Output::Send { bytes, .. } => Some(bytes),
            _ => None,
        };
        self.drain(gateway).into_iter().filter_map(datagram).collect()
    }

    /// What it does while the client waits.
    fn drain(&self, gateway: &mut Gateway) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(at) = gateway.poll_timeout().filter(|&at| at <= self.now + PATIENCE) {
            outputs.extend(std::iter::from_fn(|| gateway.poll_output(at)));
        }
        outputs
    }

    /// A MAP request (RFC 6887 §7.1 and §11.1).
    pub(crate) fn pcp_request(&self, asked: Asked, nonce: [u8; 12]) -> Vec<u8> {
        let (client, no_address) = match self.client {
            IpAddr::V4(client) => (client.to_ipv6_mapped(), Ipv4Addr::UNSPECIFIED.to_ipv6_mapped()),
            IpAddr::V6(client) => (client, Ipv6Addr::UNSPECIFIED),
        };
        let protocol = if asked.transport == Transport::Tcp { 6 } else { 17 };
        let mut bytes = vec![2, 1, 0, 0];
        bytes.extend(asked.lifetime.to_be_bytes());
        bytes.extend(client.octets());
        bytes.extend(nonce);
        bytes.extend([protocol, 0, 0, 0]);
        bytes.extend(asked.internal_port.to_be_bytes());
        bytes.extend(asked.external_port.to_be_bytes());
        bytes.extend(no_address.octets());
        bytes
    }

    /// A mapping request (RFC 6886 §3.3).
    fn natpmp_request(asked: Asked) -> Vec<u8> {
        let mut bytes = vec![0, if asked.transport == Transport::Tcp { 2 } else { 1 }, 0, 0];
        bytes.extend(asked.internal_port.to_be_bytes());
        bytes.extend(asked.external_port.to_be_bytes());
        bytes.extend(asked.lifetime.to_be_bytes());
        bytes
    }

    /// What it answers to a new mapping by PCP, also when that is asked for again: some answer first what they do not stand by.
    pub fn asks_pcp(&self, asked: Asked) -> Answer {
        let mut gateway = self.fresh();
        match self.map_answer(&mut gateway, asked) {
            Answer::Grant(_) => self.later().map_answer(&mut gateway, asked),
            refusal => refusal,
        }
    }

    /// The same, asked again.
    pub(crate) fn later(&self) -> ReferenceGateway<'a> {
        ReferenceGateway { now: self.now + PATIENCE, ..*self }
    }

    pub(crate) fn map_answer(&self, gateway: &mut Gateway, asked: Asked) -> Answer {
        let answers = self.ask(gateway, &self.pcp_request(asked, NONCE));
        let is_map = |bytes: &&Vec<u8>| bytes.len() >= 24 && bytes[..2] == [2, 0x81];
        let mut results = answers.iter().filter(is_map).map(|bytes| {
            let is_grant = bytes.len() >= 60
                && bytes[3] == 0
                && bytes[4..8] != [0; 4]
                && bytes[24..36] == NONCE
                && bytes[40..42] == asked.internal_port.to_be_bytes()
                && bytes[42..44] != [0; 2];
            let octets = bytes.get(44..60).and_then(|octets| <[u8; 16]>::try_from(octets).ok());
            let address = octets.map(|octets| IpAddr::V6(Ipv6Addr::from(octets)).to_canonical());
            match address.filter(|&address| is_grant && self.is_usable(address)) {
                Some(address) => Answer::Grant(address),
                None => Answer::Refusal(bytes[3]),
            }
        });
        results.next().unwrap_or(Answer::Nothing)
    }

    /// Whether an external address can be that of a mapping of this client.
    fn is_usable(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(_) => self.client.is_ipv4() && is_usable(address),
            IpAddr::V6(address) => self.client.is_ipv6() && is_global(address),
        }
    }

    /// Whether it acts on a request by PCP, or answers it, only after a while: after the deletion that has overtaken the
    /// request, and with an epoch that runs backwards (RFC 6887 §8.5).
    pub fn is_late(&self) -> bool {
        let mut gateway = self.asked_by_pcp();
        let at_once = std::iter::from_fn(|| gateway.poll_output(self.now + Duration::from_secs(1))).count();
        at_once == 0 && !self.drain(&mut gateway).is_empty()
    }

    /// Whether anything comes back for a request for a mapping by PCP.
    pub fn answers_pcp_requests(&self) -> bool {
        !self.drain(&mut self.asked_by_pcp()).is_empty()
    }

    /// A copy with an empty table that has received a PCP request for a mapping.
    fn asked_by_pcp(&self) -> Gateway {
        let mut gateway = self.fresh();
        gateway.forget_mappings();
        let asked = Asked { transport: Transport::Tcp, internal_port: 7, external_port: 7, lifetime: 7200 };
        let request = self.pcp_request(asked, NONCE);
        gateway.handle_datagram(self.now, UdpPort::Pcp, SocketAddr::new(self.client, 50_000), &request);
        gateway
    }

    /// Whether it makes a new mapping by NAT-PMP, and tells its external address. `None`: it does not say for which internal
    /// port.
    pub fn grants_by_natpmp(&self, asked: Asked) -> Option<bool> {
        let mut gateway = self.fresh();
        let answers = self.ask(&mut gateway, &[0, 0]);
        let is_address = |bytes: &Vec<u8>| {
            bytes.len() == 12
                && bytes[..4] == [0, 128, 0, 0]
                && is_usable(IpAddr::from([bytes[8], bytes[9], bytes[10], bytes[11]]))
        };
        if !answers.iter().any(is_address) {
            return Some(false);
        }
        let request = ReferenceGateway::natpmp_request(asked);
        let answers = self.ask(&mut self.fresh(), &request);
        let is_grant = |bytes: &&Vec<u8>| {
            bytes.len() == 16
                && bytes[..4] == [0, 128 + request[1], 0, 0]
                && bytes[10..12] != [0; 2]
                && bytes[12..16] != [0; 4]
        };
        let mut named = answers.iter().filter(is_grant).map(|bytes| [bytes[8], bytes[9]]);
        match named.next() {
            None => Some(false),
            Some(port) if port == asked.internal_port.to_be_bytes() => Some(true),
            Some(_) => None,
        }
    }

    /// Whether it does not say by NAT-PMP for which internal port it makes a mapping.
    pub fn names_no_port(&self) -> bool {
        let port = 45_000;
        let asked =
            Asked { transport: Transport::Tcp, internal_port: port, external_port: port, lifetime: 7200 };
        self.grants_by_natpmp(asked).is_none()
    }

    /// Whether an address is told by the NAT-PMP of this gateway, or could be by its PCP.
    pub fn may_tell_its_address(&self) -> bool {
        !self.ask(&mut self.fresh(), &[0, 0]).is_empty()
            || !self.ask(&mut self.fresh(), &[2, 0, 0, 0]).is_empty()
    }

    /// Whether it answers a search.
    pub fn answers_a_search(&self) -> bool {
        let mut gateway = self.fresh();
        let search =
            b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\n\
            ST: upnp:rootdevice\r\n\r\n";
        if gateway.refuses(UdpPort::Ssdp, search) {
            return false;
        }
        gateway.handle_datagram(self.now, UdpPort::Ssdp, SocketAddr::new(self.client, 50_000), search);
        gateway.poll_output(self.now + PATIENCE).is_some()
    }

    /// Its services that map ports.
    pub fn services(&self) -> Vec<(usize, WanKind)> {
        self.all_services().into_iter().filter(|&(_, kind)| kind != WanKind::Firewall1).collect()
    }

    /// All its services.
    pub(crate) fn all_services(&self) -> Vec<(usize, WanKind)> {
        let igd = self.original.config().igd.as_ref();
        igd.map_or_else(Vec::new, |igd| {
            igd.services.iter().enumerate().map(|(n, service)| (n, service.kind)).collect()
        })
    }

    /// HTTP status and body of the reply to an action of a service.
    pub(crate) fn act(
        &self,
        gateway: &mut Gateway,
        (service, kind): (usize, WanKind),
        action: Action,
        arguments: &[(&str, String)],
    ) -> Option<(u16, String)> {
        if gateway.refuses_tcp() {
            return None;
        }
        let service_type = kind.service_type();
        let arguments: String =
            arguments.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
        let body = format!(
            "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{action:?} xmlns:u=\"{service_type}\">{arguments}</u:{action:?}></s:Body></s:Envelope>"
        );
        let request = format!(
            "POST /ctl/{service} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {}\r\n\
             SOAPAction: \"{service_type}#{action:?}\"\r\n\r\n{body}",
            body.len()
        );
        let connection = ConnectionId(u64::MAX);
        gateway.handle_tcp_open(self.now, connection, SocketAddr::new(self.client, 50_000));
        gateway.handle_tcp_data(self.now, connection, request.as_bytes());
        let written = |output| match output {
            Output::Write { bytes, .. } => Some(bytes),
            _ => None,
        };
        let reply: Vec<u8> = self.drain(gateway).into_iter().filter_map(written).flatten().collect();
        let text = String::from_utf8_lossy(&reply).into_owned();
        let status = text.split(' ').nth(1)?.parse().ok()?;
        Some((status, text))
    }

    /// Whether a service makes a new mapping that is asked for like this.
    pub fn grants_by_upnp(&self, service: (usize, WanKind), asked: Asked) -> bool {
        let reply = self.act(&mut self.fresh(), service, Action::AddPortMapping, &self.addition(asked));
        reply.is_some_and(|(status, _)| status == 200)
    }

    fn addition(&self, asked: Asked) -> [(&'static str, String); 8] {
        [
            ("NewRemoteHost", String::new()),
            ("NewExternalPort", asked.external_port.to_string()),
            ("NewProtocol", asked.transport.name().into()),
            ("NewInternalPort", asked.internal_port.to_string()),
            ("NewInternalClient", self.client.to_string()),
            ("NewEnabled", "1".into()),
            ("NewPortMappingDescription", DESCRIPTION.into()),
            ("NewLeaseDuration", asked.lifetime.to_string()),
        ]
    }

    /// The external address that a service tells, if it can be used.
    pub fn address_of(&self, service: (usize, WanKind)) -> Option<IpAddr> {
        let (status, text) = self.act(&mut self.fresh(), service, Action::GetExternalIPAddress, &[])?;
        let (_, rest) = text.split_once("<NewExternalIPAddress>").filter(|_| status == 200)?;
        let address: IpAddr = rest.split_once('<')?.0.parse().ok()?;
        (address.is_ipv4() && is_usable(address)).then_some(address)
    }

    /// Whether it leaves any action without a reply.
    pub fn hangs_up(&self) -> bool {
        let asked = Asked { transport: Transport::Tcp, internal_port: 7, external_port: 7, lifetime: 0 };
        let key = ReferenceGateway::key(Transport::Tcp, 7);
        self.services().into_iter().any(|service| {
            let is_silent = |action, arguments: &[(&'static str, String)]| {
                self.act(&mut self.fresh(), service, action, arguments).is_none()
            };
            is_silent(Action::GetExternalIPAddress, &[])
                || is_silent(Action::GetSpecificPortMappingEntry, &key)
                || is_silent(Action::DeletePortMapping, &key)
                || [0, 7200].into_iter().any(|lifetime| {
                    is_silent(Action::AddPortMapping, &self.addition(Asked { lifetime, ..asked }))
                })
        })
    }

    /// Whether a service makes an entry at a port of its choice, and does not say which.
    pub fn hides_ports(&self) -> bool {
        let asked =
            Asked { transport: Transport::Tcp, internal_port: 45_000, external_port: 45_000, lifetime: 7200 };
        self.services().into_iter().any(|service| {
            let mut gateway = self.fresh();
            gateway.table_mut().clear();
            let reply = self.act(&mut gateway, service, Action::AddAnyPortMapping, &self.addition(asked));
            let tells = reply.is_some_and(|(_, text)| text.contains("<NewReservedPort>"));
            !tells && !gateway.table().is_empty()
        })
    }

    fn key(transport: Transport, port: u16) -> [(&'static str, String); 3] {
        [
            ("NewRemoteHost", String::new()),
            ("NewExternalPort", port.to_string()),
            ("NewProtocol", transport.name().into()),
        ]
    }

    /// Whether a deletion by the protocol that made an entry takes it out, and one by UPnP or PCP where that has taken it
    /// over: the library deletes it by the protocol that prolonged it last.
    pub fn deletes(&self, entry: &TableEntry) -> bool {
        let is_pcps = entry.nonce.is_some();
        self.deletes_by(entry.made_by, entry)
            && (!is_upnps(entry) || self.deletes_by(Protocol::Upnp, entry))
            && (!is_pcps || self.deletes_by(Protocol::Pcp, entry))
    }

    fn deletes_by(&self, holder: Protocol, entry: &TableEntry) -> bool {
        let mut gateway = self.fresh();
        gateway.table_mut().insert(TableEntry { expires_at: Some(self.not_soon()), ..entry.clone() });
        let (transport, port) = (entry.transport, entry.external_port);
        let asked = Asked { transport, internal_port: entry.internal.port(), external_port: 0, lifetime: 0 };
        match holder {
            Protocol::Pcp => {
                let request = self.pcp_request(asked, entry.nonce.unwrap_or_default());
                self.ask(&mut gateway, &request);
            }
            Protocol::NatPmp => drop(self.ask(&mut gateway, &ReferenceGateway::natpmp_request(asked))),
            Protocol::Upnp => {
                for service in self.services() {
                    self.act(
                        &mut gateway,
                        service,
                        Action::DeletePortMapping,
                        &ReferenceGateway::key(transport, port),
                    );
                }
            }
            Protocol::Script => {}
        }
        gateway.table().get(transport, port).is_none()
    }

    /// Whether it prolongs an entry of ours by the protocol that made it, or has taken it over.
    pub fn renews(&self, entry: &TableEntry) -> bool {
        let mut gateway = self.fresh();
        let ends_at = self.not_soon();
        let entry = TableEntry { expires_at: Some(ends_at), ..entry.clone() };
        gateway.table_mut().insert(entry.clone());
        let (transport, external_port) = (entry.transport, entry.external_port);
        let asked = Asked { transport, internal_port: entry.internal.port(), external_port, lifetime: 7200 };
        if is_upnps(&entry) {
            for service in self.services() {
                self.act(&mut gateway, service, Action::AddPortMapping, &self.addition(asked));
            }
        } else if entry.made_by == Protocol::Pcp {
            let request = self.pcp_request(asked, entry.nonce.unwrap_or_default());
            self.ask(&mut gateway, &request);
            // The second answer is the one that it stands by.
            gateway.table_mut().insert(entry);
            self.later().ask(&mut gateway, &request);
        } else {
            self.ask(&mut gateway, &ReferenceGateway::natpmp_request(asked));
        }
        gateway.table().get(transport, external_port).is_some_and(|entry| entry.expires_at != Some(ends_at))
    }

    /// Whether UPnP prolongs entries of ours.
    pub fn renews_by_upnp(&self) -> bool {
        self.renews(&self.sample(45_000, 45_000))
    }

    /// An entry of ours by UPnP.
    fn sample(&self, internal_port: u16, external_port: u16) -> TableEntry {
        TableEntry {
            transport: Transport::Tcp,
            external_port,
            internal: SocketAddr::new(self.client, internal_port),
            made_by: Protocol::Upnp,
            nonce: None,
            description: DESCRIPTION.into(),
            granted_at: self.now,
            expires_at: None,
        }
    }

    /// What the services show of an external port: of one that we have, or of one that nobody has.
    fn looks(&self, is_there: bool) -> Vec<String> {
        let look = |service| {
            let mut gateway = self.fresh();
            gateway.table_mut().clear();
            if is_there {
                gateway.table_mut().insert(self.sample(7, 9));
            }
            let key = ReferenceGateway::key(Transport::Tcp, 9);
            let reply = self.act(&mut gateway, service, Action::GetSpecificPortMappingEntry, &key);
            reply.unwrap_or_default().1
        };
        self.services().into_iter().map(look).collect()
    }

    /// Whether looks show what is there, and that nothing is there.
    pub fn looks_are_true(&self) -> bool {
        let ours = format!("<NewInternalClient>{}</NewInternalClient>", self.client);
        let is_ours = |text: &String| text.contains("<NewInternalPort>7<") && text.contains(&ours);
        self.looks(true).iter().all(is_ours) && self.looks(false).iter().all(|text| text.contains(NO_ENTRY))
    }

    /// Whether looks say that an entry of ours is none, or another host's: it is believed (docs/protocols.md, the ledger).
    pub fn looks_deny_entries(&self) -> bool {
        let ours = format!("<NewInternalClient>{}</NewInternalClient>", self.client);
        let is_denial = |text: &String| {
            text.contains(NO_ENTRY) || (text.contains("<NewInternalClient>") && !text.contains(&ours))
        };
        self.looks(true).iter().any(is_denial)
    }
}

/// Whether UPnP has made an entry, or has taken it over: it alone tells a description.
pub fn is_upnps(entry: &TableEntry) -> bool {
    entry.made_by == Protocol::Upnp || entry.description == DESCRIPTION
}

/// What the library calls its mappings.
const DESCRIPTION: &str = "libplum";

/// That of a new mapping.
const NONCE: [u8; 12] = *b"a new nonce.";

/// 714 NoSuchEntryInArray.
const NO_ENTRY: &str = "<errorCode>714</errorCode>";

/// Whether an external address can be that of a mapping.
pub fn is_usable(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && !address.is_loopback()
}
