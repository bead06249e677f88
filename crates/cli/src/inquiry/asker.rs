//! The questions, each waited for.

use super::map_question::MapQuestion;
use super::{ACTION_TIMEOUT, Choice, Goal, Inquiry, Map, Origin, Request, Whom};
use crate::exit::{Exit, Failure};
use crate::upnp::{ActionError, Values, read};
use plum_engine::Reason;
use plum_engine::driver::{DeletionOutcome, Driver, Key, Rung, Slot};
use plum_engine::io::{Protocol, Socket};
use plum_engine::upnp::{Action, Device, ExchangeError, Service};
use plum_runtime::net::clock;
use plum_runtime::worker::Blocking;
use plum_wire::http::Reply;
use plum_wire::{Transport, natpmp, pcp};
use std::io;
use std::num::NonZeroU16;
use std::time::Instant;

/// The questions of a command, each waited for.
pub struct Asker(pub(super) Blocking<Inquiry>);

impl Asker {
    /// Sends nothing yet.
    pub fn new(whom: &Whom, origin: impl Into<Origin>, sockets: &[Socket]) -> io::Result<Asker> {
        let inquiry = Inquiry::new(whom, &origin.into(), sockets)?;
        Ok(Asker(Blocking::new(inquiry, whom.uplink.clone())?))
    }

    /// The answers so far.
    pub fn inquiry(&self) -> &Inquiry {
        &self.0.machine
    }

    /// What the library would do, by the answers so far.
    pub fn choose(&mut self, protocols: &[Protocol]) -> Choice {
        self.0.machine.choose(protocols)
    }

    pub(super) fn run(&mut self, until: Instant, goal: Goal) {
        let its = &mut self.0.machine;
        its.ends_at = clock::now() + until.saturating_duration_since(Instant::now());
        (its.goal, its.is_finished) = (goal, false);
        self.0.run();
    }

    /// Asks all servers and devices about themselves.
    ///
    /// # Errors
    ///
    /// No port is free for the question whether MAP is answered.
    pub fn ask_everybody(&mut self, until: Instant) -> io::Result<()> {
        let its = &mut self.0.machine;
        its.asks_services = true;
        let cx = its.cx.at(clock::now());
        // At a recheck the drivers ask for the epoch and the external address.
        its.drivers.pcp.recheck(cx, true);
        if its.asks_natpmp {
            its.drivers.natpmp.recheck(cx, true);
        }
        its.ask_map(MapQuestion::new(its.cx.config.source.is_some())?);
        self.run(until, Inquiry::await_everybody);
        Ok(())
    }

    /// The device and service that the library would ask first.
    ///
    /// # Errors
    ///
    /// No search could be sent.
    pub fn find_service(&mut self, until: Instant) -> Result<Option<(Device, Service)>, Failure> {
        self.run(until, Inquiry::await_service);
        let its = &mut self.0.machine;
        let found = its.order().next().and_then(|service| {
            let device = its.drivers.upnp.devices().iter().find(|device| device.number == service.device)?;
            Some((device.clone(), service.clone()))
        });
        its.drivers.upnp.rest(&mut its.cx);
        match (its.unsent_search, found) {
            (Some(reason), None) => Err(Failure::new(Exit::Failed, reason.to_string())),
            (_, found) => Ok(found),
        }
    }

    /// Calls an action; returns its out arguments by name.
    pub fn call(&mut self, service: &Service, action: Action, until: Instant) -> Result<Values, ActionError> {
        let name = action.name;
        read(name, service, &self.exchange(service, action, until))
    }

    /// Calls an action; returns the reply as it is.
    pub fn exchange(
        &mut self,
        service: &Service,
        action: Action,
        until: Instant,
    ) -> Result<Reply, ExchangeError> {
        let its = &mut self.0.machine;
        its.cx.now = clock::now();
        let call = its.call(service.rung, action);
        // A service that is gone by now does not answer.
        self.run(until.min(Instant::now() + ACTION_TIMEOUT), Inquiry::await_replies);
        let reply = self.0.machine.calls.remove(&call).and_then(|(_, reply)| reply);
        reply.map_or(Err(ExchangeError::TimedOut), |(_, reply)| reply)
    }

    /// Sends a request by PCP or NAT-PMP until a datagram answers it.
    fn ask(&mut self, request: Request, until: Instant) -> Result<Vec<u8>, Reason> {
        let silence = self.0.machine.silence;
        self.0.machine.request = Some(request);
        self.0.machine.send_request(clock::now());
        self.run(until.min(Instant::now() + silence), Inquiry::await_request);
        let request = self.0.machine.request.take();
        request.and_then(|request| request.outcome).unwrap_or(Err(Reason::Silence))
    }

    /// Sends a MAP request by PCP with a new nonce, or with that of `grant`, whose late copies (of its lifetime) are no answers to a deletion.
    /// Returns the nonce, too.
    ///
    /// # Errors
    ///
    /// There is no answer by PCP.
    pub fn map_by_pcp(
        &mut self,
        map: Map,
        grant: Option<(pcp::Nonce, u32)>,
        until: Instant,
    ) -> Result<(pcp::Header, pcp::Nonce), Reason> {
        let its = &mut self.0.machine;
        let nonce = match grant {
            Some((nonce, _)) => nonce,
            None => its.cx.random.nonce().map(pcp::Nonce).ok_or(Reason::NoRandomness)?,
        };
        let Map { key: Key { transport, internal_port }, external_port, lifetime_secs } = map;
        let request = pcp::MapRequest {
            client: its.local,
            nonce,
            transport,
            internal_port,
            suggested_port: NonZeroU16::new(external_port),
            suggested_address: None,
            lifetime_secs,
        };
        let is_reply = move |bytes: &[u8]| match pcp::parse(bytes) {
            Ok(pcp::Reply::Map(header, map)) => {
                let is_copy = grant.is_some_and(|(_, secs)| header.lifetime_secs == secs);
                let is_its = map.nonce == nonce && map.transport == transport;
                is_its && map.internal_port == internal_port.get() && !is_copy
            }
            Ok(pcp::Reply::UnsuppVersion { .. }) => true,
            _ => false,
        };
        let request = Request::new(Socket::Pcp, request.emit().to_vec(), is_reply);
        match self.ask(request, until).map(|bytes| pcp::parse(&bytes)) {
            Ok(Ok(pcp::Reply::Map(header, _))) => Ok((header, nonce)),
            Ok(_) => Err(Reason::Unsupported),
            Err(reason) => Err(reason),
        }
    }

    /// Deletes all NAT-PMP mappings of a transport to this machine.
    ///
    /// # Errors
    ///
    /// The gateway refuses, or does not answer by NAT-PMP.
    pub fn delete_all(&mut self, transport: Transport, until: Instant) -> Result<(), Reason> {
        let is_reply = move |bytes: &[u8]| match natpmp::parse(bytes) {
            Ok(natpmp::Reply::Map { transport: of, internal_port: 0, .. }) => of == transport,
            Ok(natpmp::Reply::CutMapError { transport: of, .. }) => of == transport,
            Ok(natpmp::Reply::SpeaksPcp) => true,
            _ => false,
        };
        let bytes = natpmp::emit_delete_all(transport).to_vec();
        let reply = self.ask(Request::new(Socket::NatPmp, bytes, is_reply), until)?;
        match natpmp::parse(&reply) {
            Ok(natpmp::Reply::Map { result, .. } | natpmp::Reply::CutMapError { result, .. })
                if result != natpmp::ResultCode::Success =>
            {
                Err(Reason::Result { protocol: Protocol::NatPmp, code: result.number() })
            }
            Ok(natpmp::Reply::Map { .. }) => Ok(()),
            _ => Err(Reason::Unsupported),
        }
    }

    /// Deletes the NAT-PMP mapping of a port of this machine.
    pub fn delete(
        &mut self,
        transport: Transport,
        internal_port: NonZeroU16,
        until: Instant,
    ) -> DeletionOutcome {
        let slot = Slot { rung: Rung::NatPmp, key: Key { transport, internal_port }, port: 0 };
        let silence = DeletionOutcome::NotConfirmed(Reason::Silence);
        let until = until.min(Instant::now() + self.0.machine.silence);
        if self.0.machine.cx.protocols.is_out_for_shortage(Protocol::NatPmp) {
            return DeletionOutcome::NotConfirmed(Reason::Shortage);
        }
        // A program need not wait for a slow gateway at its end, so the library gives up after 0.8 s.
        for _ in 0..5 {
            let its = &mut self.0.machine;
            its.deletion = Some((slot, None));
            its.drivers.natpmp.delete(its.cx.at(clock::now()), slot, true);
            self.run(until, Inquiry::await_deletion);
            let outcome = self.0.machine.deletion.and_then(|(_, outcome)| outcome).unwrap_or(silence);
            if outcome != silence || Instant::now() >= until {
                return outcome;
            }
        }
        silence
    }
}
