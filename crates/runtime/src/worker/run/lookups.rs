//! Lookups of routes and addresses, and the watch for their changes.

use super::{Machine, Request, Run};
use crate::log::log;
use crate::net::{self, Uplink};
use plum_engine::io::{self, EngineId, Source};
use std::net::{IpAddr, Ipv6Addr};

/// That of machines for which none is named.
static BEST_ROUTE: Uplink = Uplink::best_route();

impl<'a, M: Machine> Run<'a, M> {
    /// By which interface gateways are looked for and asked.
    pub(super) fn uplink(&self) -> &'a Uplink {
        // So the compiler sees which machines need no code for it.
        if M::HAS_UPLINK { self.uplink } else { &BEST_ROUTE }
    }

    pub(super) fn look_up_addresses(&mut self, zone: Option<&str>) {
        // As for routes.
        self.open_watch();
        let found = self.uplink().find_ipv6_addresses(zone);
        let what = format_args!("network: cannot look up the IPv6 addresses");
        self.note_result(Request::LookUpRoute, found.as_ref().err(), what);
        if let Ok(found) = &found {
            log!(Debug, "network: {} IPv6 addresses", found.list.len());
        }
        self.machine.handle_addresses(self.now, found.ok());
    }

    pub(super) fn look_up_ipv6_route(&mut self, engine: EngineId, source: Source, toward: Option<Ipv6Addr>) {
        self.open_watch();
        let found = self.uplink().find_ipv6_route(source.address, source.interface, toward);
        let what = format_args!("network: cannot look up the IPv6 route");
        self.note_result(Request::LookUpRoute, found.as_ref().err(), what);
        let Ok(route) = found else {
            return self.machine.handle_route_unknown(self.now, engine);
        };
        let neighbour = route.as_ref().and_then(|route| route.next_hop.router().or(toward));
        let hardware =
            neighbour.and_then(|address| net::find_hardware_address(source.interface, address.into()));
        match &route {
            Some(route) => log!(Debug, "network: IPv6 route from {} {}", source.address, route.next_hop),
            None => log!(Debug, "network: no IPv6 route from {}", source.address),
        }
        self.machine.handle_ipv6_route(self.now, engine, route, hardware);
    }

    /// Opens the watch for network changes, if it is not open.
    pub(super) fn open_watch(&mut self) {
        let result = self.sockets.open_watch();
        self.note_result(
            Request::Watch,
            result.err().as_ref(),
            format_args!("network: cannot watch for changes"),
        );
    }

    pub(super) fn look_up_route(&mut self, engine: EngineId, toward: Option<IpAddr>) {
        // Before the lookup, so that later changes are noticed.
        self.open_watch();
        let found = self.uplink().find_route(toward);
        self.note_result(
            Request::LookUpRoute,
            found.as_ref().err(),
            format_args!("network: cannot look up the route"),
        );
        let Ok(found) = found else {
            self.machine.handle_route_unknown(self.now, engine);
            return;
        };
        let route = match (found, self.route) {
            // The system reports less than before: a sandbox was entered. The old route is kept while our address stays
            // the same.
            (Some(net::Route { gateway: None, interface: 0, local }), Some(old)) if old.local == local => {
                Some(old)
            }
            (found, _) => found,
        };
        self.route = route;
        match route {
            Some(net::Route { gateway: Some(gateway), local, interface }) => {
                log!(Debug, "network: route by {gateway} from {local}, interface {interface}");
            }
            Some(net::Route { gateway: None, local, interface: 0 }) => {
                log!(Debug, "network: route from {local}, next hop and interface unknown");
            }
            Some(net::Route { gateway: None, local, interface }) => {
                log!(Debug, "network: route on-link from {local}, interface {interface}");
            }
            None => log!(Debug, "network: no route"),
        }
        let hardware = route.and_then(|route| {
            // The neighbour is the next hop, or the target on the link.
            let neighbour = route.gateway.or(toward)?;
            net::find_hardware_address(route.interface, neighbour)
        });
        let route =
            route.map(|net::Route { gateway, local, interface }| io::Route { gateway, local, interface });
        self.machine.handle_route(self.now, engine, route, hardware);
    }
}
