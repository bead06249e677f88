//! What arrives at the machine and at the gateways, and what it does there.

use super::*;

impl Network {
    pub(super) fn arrive(&mut self, now: Time, what: Travelling) -> Option<Input> {
        if let Some(held) = &mut self.held {
            match what {
                Travelling::ToMachine { .. } | Travelling::Refusal { .. } => return None,
                Travelling::Accepted { .. }
                | Travelling::SegmentToMachine { .. }
                | Travelling::EndToMachine { .. } => {
                    held.push(what);
                    return None;
                }
                Travelling::ToGateway { .. }
                | Travelling::Syn { .. }
                | Travelling::SegmentToGateway { .. }
                | Travelling::EndToGateway { .. } => {}
            }
        }
        match what {
            Travelling::ToGateway { from, to, bytes, interface } => {
                if !self.cut {
                    self.arrive_at_gateways(now, from, to, &bytes, interface);
                }
                None
            }
            Travelling::ToMachine { from, to, bytes, interface } => {
                let ours = to.ip().is_multicast() || self.has_address(to.ip());
                let (&socket, _) = self.sockets.iter().find(|(_, open)| {
                    let linked = !to.ip().is_multicast() || open.interface == interface;
                    // The kernel drops what a connected socket's peer did not send.
                    open.local == to && linked && open.remote.is_none_or(|remote| remote == from)
                })?;
                (ours && !self.cut).then_some(Input::Datagram { socket, from, bytes })
            }
            Travelling::Refusal { local } => {
                let connected = |open: &OpenSocket| open.local == local && open.remote.is_some();
                let (&socket, _) = self.sockets.iter().find(|(_, open)| connected(open))?;
                (!self.cut).then_some(Input::Refused { socket })
            }
            Travelling::Syn { exchange } => self.arrive_syn(now, exchange),
            Travelling::Accepted { exchange } => {
                let cut = self.cut;
                let tcp = self.connections.get_mut(&exchange)?;
                tcp.stalled |= cut;
                if tcp.stalled {
                    return None;
                }
                tcp.established = true;
                Some(Input::TcpConnected { exchange, local: tcp.local })
            }
            Travelling::SegmentToGateway { exchange, bytes } => {
                let cut = self.cut;
                let tcp = self.connections.get_mut(&exchange)?;
                tcp.stalled |= cut;
                let node = tcp.node.filter(|_| !tcp.stalled)?;
                if self.nodes[node].power == Power::On {
                    let connection = ConnectionId(exchange.0);
                    self.nodes[node].gateway.handle_tcp_data(gateway_time(now), connection, &bytes);
                }
                None
            }
            Travelling::SegmentToMachine { exchange, bytes } => {
                let cut = self.cut;
                let tcp = self.connections.get_mut(&exchange)?;
                tcp.stalled |= cut;
                (!tcp.stalled).then_some(Input::TcpData { exchange, bytes })
            }
            Travelling::EndToMachine { exchange, end } => {
                let cut = self.cut;
                let tcp = self.connections.get_mut(&exchange)?;
                tcp.stalled |= cut;
                if tcp.stalled {
                    return None;
                }
                self.connections.remove(&exchange);
                Some(Input::TcpEnd { exchange, end })
            }
            Travelling::EndToGateway { node, connection } => {
                if self.nodes[node].power == Power::On {
                    self.nodes[node].gateway.handle_tcp_end(gateway_time(now), connection);
                }
                None
            }
        }
    }

    fn arrive_at_gateways(
        &mut self,
        now: Time,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
        interface: u32,
    ) {
        if to.ip().is_multicast() {
            let home = self.home;
            for node in self.nodes.iter_mut().filter(|node| node.home == home) {
                let is_group =
                    to == SSDP_GROUP || SSDP_GROUPS_V6.contains(&to) && node.gateway.config().ipv6.is_some();
                if is_group && node.interface == interface && node.power == Power::On {
                    let refused = node.gateway.refuses(UdpPort::Ssdp, bytes);
                    if !refused {
                        node.gateway.handle_datagram(gateway_time(now), UdpPort::Ssdp, from, bytes);
                    }
                }
            }
            return;
        }
        let node = if to.is_ipv6() { self.node_on(to.ip(), interface) } else { self.node_of(to.ip()) };
        let Some(node) = node else { return };
        let node = &mut self.nodes[node];
        let config = node.gateway.config();
        let port = if to.port() == config.pcp_port {
            Some(UdpPort::Pcp)
        } else if to.port() == config.ssdp_port {
            Some(UdpPort::Ssdp)
        } else {
            None
        };
        match (node.power, port) {
            (Power::Off, _) => {}
            (Power::On, Some(port)) if !node.gateway.refuses(port, bytes) => {
                node.gateway.handle_datagram(gateway_time(now), port, from, bytes);
            }
            _ => self.push(now + self.latency, Travelling::Refusal { local: from }),
        }
    }

    fn arrive_syn(&mut self, now: Time, exchange: ExchangeId) -> Option<Input> {
        let (cut, latency) = (self.cut, self.latency);
        let tcp = self.connections.get_mut(&exchange)?;
        tcp.stalled |= cut;
        let node = &mut self.nodes[tcp.node.filter(|_| !tcp.stalled)?];
        match node.power {
            Power::Off => {}
            Power::On if tcp.to.port() == node.gateway.config().http_port && !node.gateway.refuses_tcp() => {
                node.gateway.handle_tcp_open(gateway_time(now), ConnectionId(exchange.0), tcp.local);
                self.push(now + latency, Travelling::Accepted { exchange });
            }
            _ => {
                let end = Travelling::EndToMachine { exchange, end: TcpEnd::Refused };
                self.push(now + latency, end);
            }
        }
        None
    }
}
