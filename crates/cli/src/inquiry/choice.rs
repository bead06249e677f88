//! What the library would do: the engine's ladder, asked with what the gateway has answered.

use super::Inquiry;
use crate::upnp::parse_bool;
use plum_engine::Reason;
use plum_engine::addresses::{Scope, is_public, scope_of};
use plum_engine::driver::{DeletionOutcome, Rung};
use plum_engine::io::Protocol;
use plum_engine::ladder::{Ladder, NextStep, RungState};
use plum_engine::upnp::{Outcome, Service, code};
use plum_wire::igd::WanService;
use plum_wire::{pcp, soap};
use std::net::IpAddr;
use std::time::Duration;

/// The library forgets an external address of PCP or NAT-PMP later than any question ends.
const ADDRESS_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// What the library would do for a new mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The first rung that nothing speaks against; `None`: there is none.
    pub rung: Option<Rung>,
    /// Why others fail, as far as that is known.
    pub failures: Vec<(Protocol, Reason)>,
}

impl Inquiry {
    /// Asks the ladder of a new mapping that may use these protocols.
    pub fn choose(&mut self, protocols: &[Protocol]) -> Choice {
        let may_be_asked = |protocol| match protocol {
            Protocol::Pcp => self.server.is_some(),
            Protocol::NatPmp => self.server.is_some() && self.asks_natpmp,
            // Firewall control refuses all but global addresses.
            Protocol::UpnpIgd => self.cx.config.source.is_none_or(|source| is_public(source.address.into())),
            _ => false,
        };
        // As it is when all waits are over: what has not come by now comes too late.
        let later = self.cx.now + 2 * self.cx.config.discover_timeout;
        let is_allowed = |protocol| protocols.contains(&protocol) && may_be_asked(protocol);
        let mut rungs = self.drivers.rungs(&self.cx, later, is_allowed);
        rungs.retain(|state| matches!(state, RungState::Open { .. } | RungState::Out { .. }));
        let (mut ladder, mut chosen) = (Ladder::default(), None);
        while let NextStep::Ask(rung) = ladder.next(self.cx.now, &rungs, None) {
            let Some(reason) = self.failure(rung) else {
                chosen = Some(rung);
                break;
            };
            ladder.note_failed(&mut self.cx, rung, reason, None);
        }
        Choice { rung: chosen, failures: ladder.reasons(&rungs) }
    }

    /// Why a rung would fail; `None`: nothing speaks against it.
    pub fn failure(&self, rung: Rung) -> Option<Reason> {
        if let Some((reason, _)) = self.out(rung.protocol()) {
            return Some(reason);
        }
        match rung {
            Rung::Pcp => self.pcp_failure(),
            Rung::NatPmp => self.natpmp_failure(),
            Rung::Upnp(_) => {
                let service = self.drivers.upnp.services().iter().find(|service| service.rung == rung);
                service.map_or(Some(Reason::Silence), |service| self.service_failure(service))
            }
        }
    }

    fn pcp_failure(&self) -> Option<Reason> {
        use pcp::ResultCode::{NoResources, NotAuthorized, Success, UnsuppOpcode};
        let reason_of = |result: pcp::ResultCode| Reason::Result {
            protocol: Protocol::Pcp,
            code: result.number().into(),
        };
        // Servers refuse so what does not exist (miniupnpd does), and say nothing about other requests.
        let is_of_nothing = |reason| [NotAuthorized, NoResources].map(reason_of).contains(&reason);
        match self.map_outcome(Protocol::Pcp) {
            DeletionOutcome::NotConfirmed(reason) if !is_of_nothing(reason) => Some(reason),
            DeletionOutcome::NotConfirmed(_) => match self.pcp_reply {
                // That a server knows no ANNOUNCE says nothing about MAP.
                Some((_, pcp::Reply::Announce(header)))
                    if ![Success, UnsuppOpcode].contains(&header.result) =>
                {
                    Some(reason_of(header.result))
                }
                _ => None,
            },
            DeletionOutcome::Deleted | DeletionOutcome::DeletedIn(_) => None,
        }
    }

    fn natpmp_failure(&self) -> Option<Reason> {
        // RFC 6886 §3.4: so a server refuses to delete what its owner has made.
        let refusal = Reason::Result { protocol: Protocol::NatPmp, code: 2 };
        let address = self.natpmp_address();
        match self.map_outcome(Protocol::NatPmp) {
            DeletionOutcome::NotConfirmed(reason) if reason != refusal => Some(reason),
            _ if address.is_some_and(is_usable) => None,
            _ => Some(Reason::NoAddress { address }),
        }
    }

    /// How the question about MAP has ended: what is open is silent.
    fn map_outcome(&self, protocol: Protocol) -> DeletionOutcome {
        let known = self.map_question.as_ref().and_then(|question| question.outcome(protocol));
        known.unwrap_or(DeletionOutcome::NotConfirmed(Reason::Silence))
    }

    /// The external address by NAT-PMP.
    pub fn natpmp_address(&self) -> Option<IpAddr> {
        self.cx.protocols.address(self.cx.now, ADDRESS_LIFETIME)
    }

    /// Why the library would get nothing of a service, by what that says of itself.
    fn service_failure(&self, service: &Service) -> Option<Reason> {
        let reply = |action| self.replies(service).find(|&(name, _)| name == action)?.1;
        let outcome = |action| reply(action).map(|(_, reply)| Outcome::read(reply));
        if service.named.kind == WanService::Firewall1 {
            let Some(said) = outcome("GetFirewallStatus") else { return Some(Reason::Silence) };
            let Outcome::Done(values) = &said else { return said.reason() };
            let value = |name| parse_bool(soap::get(values, name)?.trim());
            let (enabled, allowed) = (value("FirewallEnabled"), value("InboundPinholeAllowed"));
            let refusal = Reason::Upnp { code: code::PINHOLE_NOT_ALLOWED };
            return (enabled != Some(false) && allowed == Some(false)).then_some(refusal);
        }
        let told = outcome("GetExternalIPAddress");
        let is_answer = |outcome: &Outcome| matches!(outcome, Outcome::Done(_) | Outcome::Fault(_));
        if ![&told, &outcome("GetStatusInfo")].into_iter().flatten().any(is_answer) {
            return Some(told.and_then(|outcome| outcome.reason()).unwrap_or(Reason::Silence));
        }
        let address = told.and_then(|outcome| outcome.external_address());
        // The library takes that of NAT-PMP where the gateway's own device has none.
        let is_borrowed = self.drivers.upnp.is_rung_on_gateway(service.rung)
            && self.natpmp_address().is_some_and(is_usable);
        let is_told = address.is_some_and(is_usable);
        (!is_told && !is_borrowed).then_some(Reason::NoAddress { address })
    }
}

/// Whether an external address is one of use.
pub fn is_usable(address: IpAddr) -> bool {
    scope_of(address) != Scope::Unusable
}
