//! What the gateway says of its connection to the internet, by all protocols.

use super::{ACTION_TIMEOUT, Asker, Inquiry};
use crate::upnp::{ActionError, Values, read};
use plum_engine::driver::{Driver, Rung};
use plum_engine::time::Time;
use plum_engine::upnp::{Action, ExchangeError, Service};
use plum_runtime::net::clock;
use plum_wire::{natpmp, pcp};
use std::time::{Duration, Instant};

/// The actions by which a service is asked about its connection.
pub const CONNECTION_QUESTIONS: &[&str] = &["GetStatusInfo", "GetConnectionTypeInfo", "GetExternalIPAddress"];

/// The actions of WANCommonInterfaceConfig.
const LINK_QUESTIONS: [&str; 5] = [
    "GetCommonLinkProperties",
    "GetTotalBytesSent",
    "GetTotalBytesReceived",
    "GetTotalPacketsSent",
    "GetTotalPacketsReceived",
];

/// How long PCP and NAT-PMP are waited for where UPnP has answered.
const PATIENCE: Duration = Duration::from_millis(1000);

impl Asker {
    /// Asks all servers and devices about the connection. The service that the library would use.
    pub fn ask_for_status(&mut self, until: Instant) -> Option<Service> {
        let its = &mut self.0.machine;
        (its.asks_services, its.self_questions) = (true, CONNECTION_QUESTIONS);
        let cx = its.cx.at(clock::now());
        // At a recheck the drivers ask for the epoch and the external address.
        its.drivers.pcp.recheck(cx, true);
        its.drivers.natpmp.recheck(cx, true);
        self.run(until, Inquiry::await_status);
        let its = &self.0.machine;
        let first = || its.devices().iter().find_map(|(device, _)| its.services(device).first().copied());
        its.order().next().or_else(first).cloned()
    }

    /// Asks the device of a service about the link and its traffic: the out arguments of all actions together. Those that fail are
    /// left out.
    pub fn ask_for_link(&mut self, service: &Service, until: Instant) -> Values {
        let its = &mut self.0.machine;
        its.cx.now = clock::now();
        let calls = LINK_QUESTIONS.map(|name| (name, its.call_common(service.rung, Action::new(name, None))));
        self.run(until.min(Instant::now() + ACTION_TIMEOUT), Inquiry::await_replies);
        let its = &mut self.0.machine;
        let mut answer = |(name, call): (&str, Option<u32>)| -> Result<Values, ActionError> {
            let reply = its.calls.remove(&call.unwrap_or_default()).and_then(|(_, reply)| reply);
            read(name, service, &reply.map_or(Err(ExchangeError::TimedOut), |(_, reply)| reply))
        };
        calls.into_iter().filter_map(|call| answer(call).ok()).flatten().collect()
    }
}

impl Inquiry {
    /// Goal: the services have answered, and the servers too, or they are late.
    fn await_status(&self) -> Option<Time> {
        let at = self.await_everybody()?;
        let is_enough = !self.drivers.upnp.services().is_empty() && !self.is_anyone_asked();
        let latest = if is_enough { at.min(self.begun_at + PATIENCE) } else { at };
        Some(latest).filter(|&at| self.settled_at < at)
    }

    /// The number of a call of an action of WANCommonInterfaceConfig; `None`: the device has none.
    fn call_common(&mut self, rung: Rung, action: Action) -> Option<u32> {
        let number = self.last_call + 1;
        let is_there = self.drivers.upnp.call_common(&mut self.cx, rung, number, action, ACTION_TIMEOUT);
        is_there.then(|| {
            self.last_call = number;
            self.calls.insert(number, (rung, None));
            number
        })
    }

    /// The epoch by PCP.
    pub fn pcp_epoch_secs(&self) -> Option<u32> {
        match self.pcp_reply {
            Some((_, pcp::Reply::Announce(header))) => Some(header.epoch_secs),
            _ => None,
        }
    }

    /// The epoch by NAT-PMP, and whether it says that there is no connection.
    pub fn natpmp_status(&self) -> Option<(u32, bool)> {
        match self.natpmp_reply {
            Some((_, natpmp::Reply::Address { result, epoch_secs, .. })) => {
                Some((epoch_secs, result == natpmp::ResultCode::NetworkFailure))
            }
            _ => None,
        }
    }
}
