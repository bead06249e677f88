//! The external address: NAT-PMP and UPnP are asked at the same time, and the first that tells it is believed.

use super::{Asker, Inquiry, is_usable};
use plum_engine::driver::Driver;
use plum_engine::io::Protocol;
use plum_engine::time::Time;
use plum_engine::upnp::Outcome;
use plum_runtime::net::clock;
use plum_wire::{natpmp, pcp};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The actions by which a service is asked for the address.
const ADDRESS_QUESTIONS: &[&str] = &["GetExternalIPAddress"];

/// How long a gateway that has answered without an address has, from that answer on, for an answer by another protocol: UPnP devices
/// wait for up to a second (MX 1) before they answer a search.
const PATIENCE: Duration = Duration::from_millis(1200);

/// How the question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The address, and what has told it.
    Address { address: IpAddr, protocol: Protocol, took: Duration },
    /// The gateway has none.
    None,
    /// PCP alone is spoken, which tells the address only with a mapping.
    OnlyWithMapping,
    /// Nobody has answered.
    Silence,
}

impl Asker {
    /// Asks for the external address.
    pub fn find_address(&mut self, until: Instant) -> Told {
        let its = &mut self.0.machine;
        (its.asks_services, its.self_questions) = (true, ADDRESS_QUESTIONS);
        let cx = its.cx.at(clock::now());
        // At a recheck the drivers ask for the external address and the epoch.
        its.drivers.natpmp.recheck(cx, true);
        its.drivers.pcp.recheck(cx, true);
        self.run(until, Inquiry::await_address);
        let its = &self.0.machine;
        if let Some((address, protocol)) = its.external_address() {
            return Told::Address { address, protocol, took: its.elapsed() };
        }
        let has_natpmp_answered =
            its.natpmp_reply.is_some_and(|(_, reply)| reply != natpmp::Reply::SpeaksPcp);
        match its.is_pcp_spoken() {
            _ if has_natpmp_answered || !its.drivers.upnp.services().is_empty() => Told::None,
            true => Told::OnlyWithMapping,
            false => Told::Silence,
        }
    }
}

impl Inquiry {
    fn external_address(&self) -> Option<(IpAddr, Protocol)> {
        if let Some(address) = self.natpmp_address().filter(|&address| is_usable(address)) {
            return Some((address, Protocol::NatPmp));
        }
        // In the library's order.
        self.order().find_map(|service| {
            let (_, (_, reply)) = self.replies(service).find_map(|(name, reply)| Some((name, reply?)))?;
            let address = Outcome::read(reply).external_address().filter(|&address| is_usable(address))?;
            Some((address, Protocol::UpnpIgd))
        })
    }

    fn is_pcp_spoken(&self) -> bool {
        use pcp::ResultCode::{Success, UnsuppOpcode};
        matches!(
            self.pcp_reply,
            Some((_, pcp::Reply::Announce(header))) if [Success, UnsuppOpcode].contains(&header.result)
        )
    }

    /// Goal: the external address is known, or that nobody tells it.
    fn await_address(&self) -> Option<Time> {
        if self.external_address().is_some() {
            return None;
        }
        if self.is_anyone_asked() {
            return Some(self.ends_at);
        }
        let is_natpmp_done = self.natpmp_reply.is_some() || self.out(Protocol::NatPmp).is_some();
        let is_upnp_done = !self.drivers.upnp.services().is_empty();
        if is_natpmp_done && is_upnp_done {
            return None;
        }
        let pcp_at = self.pcp_reply.map(|(at, _)| at).filter(|_| self.is_pcp_spoken());
        let natpmp_at = self.natpmp_reply.map(|(at, _)| at);
        let first_at = pcp_at.into_iter().chain(natpmp_at).min();
        let wait_until = first_at.map_or(self.silent_at, |at| (at + PATIENCE).min(self.silent_at));
        Some(wait_until).filter(|&at| self.settled_at < at)
    }
}
