//! What a reference gateway does for IPv6: pinholes by PCP and by WANIPv6FirewallControl.

use crate::reference::{Answer, Asked, ReferenceGateway};
use plum_gateway::core::{Action, Gateway, Pinhole, Protocol, Transport, WanKind};
use std::net::IpAddr;

/// An answer of WANIPv6FirewallControl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirewallAnswer {
    /// A pinhole is made.
    Grant,
    /// The firewall is off: no pinhole is needed.
    Off,
    /// Refused, or not answered.
    Refusal,
}

fn protocol_number(transport: Transport) -> String {
    if transport == Transport::Tcp { "6".into() } else { "17".into() }
}

impl ReferenceGateway<'_> {
    /// Whether PCP may grant this address for a port of the client, at first or when it is asked again.
    pub fn may_grant(&self, transport: Transport, port: u16, address: IpAddr) -> bool {
        let asked = Asked::pinhole(transport, port);
        let mut gateway = self.fresh();
        gateway.forget_mappings();
        let first = self.map_answer(&mut gateway, asked);
        first == Answer::Grant(address)
            || self.later().map_answer(&mut gateway, asked) == Answer::Grant(address)
    }

    fn firewall(&self) -> Option<(usize, WanKind)> {
        let services = self.all_services().into_iter();
        services.into_iter().find(|&(_, kind)| kind == WanKind::Firewall1)
    }

    /// Its answer to a new pinhole for a port of the client.
    pub fn adds_pinhole(&self, transport: Transport, port: u16) -> FirewallAnswer {
        let Some(service) = self.firewall() else { return FirewallAnswer::Refusal };
        let arguments = [
            ("RemoteHost", String::new()),
            ("RemotePort", "0".into()),
            ("InternalClient", self.client().to_string()),
            ("InternalPort", port.to_string()),
            ("Protocol", protocol_number(transport)),
            ("LeaseTime", "3600".into()),
        ];
        match self.act(&mut self.fresh(), service, Action::AddPinhole, &arguments) {
            Some((200, text)) if text.contains("<UniqueID>") => FirewallAnswer::Grant,
            Some((_, text)) if text.contains("<errorCode>702</errorCode>") => FirewallAnswer::Off,
            _ => FirewallAnswer::Refusal,
        }
    }

    /// Whether a deletion by PCP, with its nonce, closes a pinhole that has one, and one by its UniqueID a pinhole that
    /// firewall control has made: who holds it is not known.
    pub fn closes(&self, pinhole: &Pinhole) -> bool {
        let by_pcp = pinhole.nonce.is_none_or(|nonce| {
            let mut gateway = self.with_lasting(pinhole);
            let (transport, internal_port) = (pinhole.key.transport, pinhole.key.port);
            let asked = Asked { transport, internal_port, external_port: 0, lifetime: 0 };
            self.ask(&mut gateway, &self.pcp_request(asked, nonce));
            gateway.pinholes().get(&pinhole.key).is_none()
        });
        by_pcp && (pinhole.made_by == Protocol::Pcp || self.closes_by_id(pinhole))
    }

    /// A copy in which a pinhole does not end by itself.
    fn with_lasting(&self, pinhole: &Pinhole) -> Gateway {
        let mut gateway = self.fresh();
        let Pinhole { key, made_by, nonce, granted_at, .. } = pinhole.clone();
        gateway.pinholes_mut().open(key, made_by, nonce, granted_at, self.not_soon());
        gateway
    }

    fn closes_by_id(&self, pinhole: &Pinhole) -> bool {
        let mut gateway = self.with_lasting(pinhole);
        if let Some(service) = self.firewall() {
            let id = [("UniqueID", pinhole.id.to_string())];
            self.act(&mut gateway, service, Action::DeletePinhole, &id);
        }
        gateway.pinholes().get(&pinhole.key).is_none()
    }
}
