//! What the worker's loop carries for the questions.

use super::{Inquiry, Request};
use plum_engine::Reason;
use plum_engine::io::{Arrival, EngineId, ExchangeId, Output, Protocol, Route, Socket, SocketId, TcpEnd};
use plum_engine::ledger::HardwareAddress;
use plum_engine::time::Time;
use plum_runtime::worker::{Command, Machine};
use std::net::SocketAddr;

impl Machine for Inquiry {
    const HAS_UPLINK: bool = true;

    fn handle_command(&mut self, _now: Time, _command: Command) {}

    fn handle_route(
        &mut self,
        _now: Time,
        _: EngineId,
        _route: Option<Route>,
        _hardware: Option<HardwareAddress>,
    ) {
    }

    fn handle_network_changed(&mut self, _now: Time) {}

    fn handle_opened(&mut self, now: Time, SocketId { socket, .. }: SocketId, local: Option<SocketAddr>) {
        self.drivers.handle_opened(self.cx.at(now), socket, local);
        if socket == Socket::Ssdp && local.is_none() {
            self.unsent_search = Some(Reason::Shortage);
        }
        self.settle();
    }

    fn handle_datagram(&mut self, now: Time, SocketId { socket, .. }: SocketId, by: Arrival, bytes: &[u8]) {
        if self.take_reply(socket, bytes) {
            return self.settle();
        }
        let counts = self.drivers.handle_datagram(self.cx.at(now), socket, by, bytes);
        if counts && socket == Socket::Pcp {
            self.note_pcp_reply(now, bytes);
        } else if counts {
            self.note_natpmp_reply(now, bytes);
        } else if socket == Socket::NatPmp {
            self.note_shortened(bytes);
        }
        self.settle();
    }

    fn handle_refused(&mut self, now: Time, SocketId { socket, .. }: SocketId) {
        self.handle_unsent(now, socket.into(), Reason::PortClosed);
    }

    fn handle_unsent(&mut self, now: Time, SocketId { socket, .. }: SocketId, reason: Reason) {
        self.drivers.handle_unsent(self.cx.at(now), socket, reason);
        self.fail_request(socket, reason);
        self.unsent_search = self.unsent_search.or((socket == Socket::Ssdp).then_some(reason));
        self.settle();
    }

    fn handle_tcp_connected(&mut self, now: Time, exchange: ExchangeId, local: SocketAddr) {
        self.drivers.upnp.handle_tcp_connected(self.cx.at(now), exchange, local);
        self.settle();
    }

    fn handle_tcp_data(&mut self, now: Time, exchange: ExchangeId, bytes: &[u8]) {
        self.drivers.upnp.handle_tcp_data(self.cx.at(now), exchange, bytes);
        self.settle();
    }

    fn handle_tcp_end(&mut self, now: Time, exchange: ExchangeId, end: TcpEnd) {
        self.drivers.upnp.handle_tcp_end(self.cx.at(now), exchange, end);
        self.settle();
    }

    fn handle_timeout(&mut self, now: Time) {
        for protocol in Protocol::ASKING {
            if let Some(driver) = self.drivers.of(protocol) {
                driver.handle_timeout(self.cx.at(now));
            }
        }
        self.send_request(now);
        self.settle();
        // The worker's loop reads all sockets before it handles timers.
        self.settled_at = now;
    }

    fn poll_output(&mut self) -> Option<(EngineId, Output)> {
        let is_over = |its: &Inquiry| its.settled_at >= its.ends_at || (its.goal)(its).is_none();
        let output = self.cx.outputs.pop_front().or_else(|| {
            let is_news = !self.is_finished && is_over(self);
            self.is_finished |= is_news;
            is_news.then_some(Output::Finished)
        });
        output.map(|output| (EngineId::IPV4, output))
    }

    fn poll_timeout(&self) -> Option<Time> {
        if !self.cx.outputs.is_empty() {
            return Some(Time::ZERO);
        }
        let goal_at = (self.goal)(self).unwrap_or(Time::ZERO).min(self.ends_at);
        let request_at = self.request.as_ref().and_then(Request::due_at);
        [self.drivers.poll_timeout(), request_at, Some(goal_at)].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inquiry::{Origin, Whom};
    use plum_runtime::net::Uplink;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    #[test]
    fn time_is_up_only_after_all_sockets_were_read() {
        let until = Instant::now() + Duration::from_secs(1);
        let times = Duration::from_secs(1);
        let uplink = Uplink::default();
        let whom = Whom { named: None, uplink, silence: times, patience: times, until };
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        let origin = Origin::from(Route { gateway: Some(local), local, interface: 1 });
        let mut inquiry = Inquiry::new(&whom, &origin, &[Socket::Pcp]).expect("randomness");
        inquiry.goal = Inquiry::await_everybody;
        (inquiry.ends_at, inquiry.is_finished) = (inquiry.begun_at + times, false);
        let mut is_finished = |late: fn(&mut Inquiry, Time)| {
            let now = inquiry.ends_at + times;
            late(&mut inquiry, now);
            std::iter::from_fn(|| inquiry.poll_output()).any(|(_, output)| output == Output::Finished)
        };
        // The first of several datagrams that waited, one for each socket.
        let read = |its: &mut Inquiry, now| {
            let by = SocketAddr::from((Ipv4Addr::LOCALHOST, 5351)).into();
            its.handle_datagram(now, Socket::Pcp.into(), by, &[]);
        };
        assert!(!is_finished(read));
        assert!(is_finished(|its, now| its.handle_timeout(now)));
    }
}
