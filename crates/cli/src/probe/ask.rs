//! The questions.

use super::{Device, Finding, Findings, Natpmp, Pcp, Service, Surroundings, Tried, Upnp, Way, surroundings};
use crate::datagram::{Reaction, ask};
use crate::exit::Failure;
use crate::natpmp::{self, Address};
use crate::text::clean;
use crate::upnp::{self, Found, Search, Undescribed};
use plum::{Builder, Gateway, Request};
use plum_engine::addresses::{Scope, is_public, scope_of};
use plum_engine::upnp::preference;
use plum_wire::igd::WanService;
use plum_wire::{natpmp as natpmp_wire, pcp, printable};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Services of one device that are asked at the same time: the library's own number, as small servers lose more.
const SERVICES_AT_ONCE: usize = 4;

/// Who is asked, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Whom {
    /// In place of the gateway of the default route.
    pub named: Option<Gateway>,
    /// How long nobody may answer.
    pub silence: Duration,
    /// How long finding everybody may take.
    pub patience: Duration,
    /// When all of it is to be over.
    pub until: Instant,
}

/// Asks everybody.
pub fn look_around(whom: Whom) -> Findings {
    let begun = Instant::now();
    let named = whom.named.map(|gateway| gateway.address);
    let Some(route) = plum_runtime::net::look_up_route(named) else {
        return Findings { surroundings: Surroundings::of(None), ..Findings::default() };
    };
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let is_that = |interface: &&if_addrs::Interface| {
        interface.index == Some(route.interface) || interface.ip() == route.local
    };
    let interface = interfaces.iter().find(is_that).map(|interface| clean(&interface.name));
    let mut way = Way {
        interface_index: route.interface,
        internal_address: route.local,
        // The library asks a gateway that was named, whatever the address.
        is_public: is_public(route.local) && named.is_none(),
        gateway: named.or(route.gateway),
        gateway_is_absent: false,
        gateway_is_named: named.is_some(),
        interface,
    };
    let public_ipv6 = interfaces.iter().find_map(|interface| match interface.ip() {
        IpAddr::V6(address) if is_public(address.into()) => Some(address),
        _ => None,
    });
    let server = way.gateway.map(|address| {
        SocketAddr::new(address, whom.named.and_then(|gateway| gateway.port).unwrap_or(pcp::SERVER_PORT))
    });
    let silent_at = begun + whom.silence;
    let search = Search {
        only: named,
        gateway: way.gateway,
        local: route.local,
        interface: route.interface,
        silence: whom.silence,
        everybody: true,
    };
    let (pcp, natpmp, (upnp, is_cut)) = thread::scope(|scope| {
        let pcp = server.map(|server| scope.spawn(move || ask_pcp(route.local, server, begun, silent_at)));
        let natpmp =
            server.map(|server| scope.spawn(move || ask_natpmp(route.local, server, begun, silent_at)));
        let upnp = ask_upnp(search, begun, whom.until.min(begun + whom.patience));
        // Their threads do not panic; if one did, nothing was heard of it.
        let pcp = pcp.map(|thread| thread.join().unwrap_or_default()).unwrap_or_default();
        let natpmp = natpmp.map(|thread| thread.join().unwrap_or_default()).unwrap_or_default();
        let (pcp, natpmp) = at_one_port(pcp, natpmp);
        (pcp, natpmp, upnp)
    });
    // It was asked for its hardware address, if it is on this link.
    way.gateway_is_absent = way.gateway.is_some_and(surroundings::is_absent);
    Findings {
        surroundings: Surroundings::of(way.interface.as_deref()),
        way: Some(way),
        public_ipv6,
        pcp,
        natpmp,
        upnp,
        mapping: None,
        unfinished: is_cut.then_some("all UPnP devices had answered"),
    }
}

/// Both were asked at one UDP port (RFC 6887 Appendix A): closed for one it is so for the other. Systems limit how often they say so
/// (RFC 1812 §4.3.2.8), and the second may have heard nothing.
fn at_one_port(pcp: Finding<Pcp>, natpmp: Finding<Natpmp>) -> (Finding<Pcp>, Finding<Natpmp>) {
    match (pcp, natpmp) {
        (Finding::Closed { took }, Finding::Silent) | (Finding::Silent, Finding::Closed { took }) => {
            (Finding::Closed { took }, Finding::Closed { took })
        }
        findings => findings,
    }
}

fn finding<T>(result: io::Result<Reaction<T>>, begun: Instant) -> Finding<T> {
    let took = begun.elapsed();
    match result {
        Ok(Reaction::Answer(answer)) => Finding::Answered { took, answer },
        Ok(Reaction::Closed) => Finding::Closed { took },
        Ok(Reaction::Silent) => Finding::Silent,
        Err(error) => Finding::NotSent { reason: error.to_string(), kind: error.kind() },
    }
}

/// RFC 6887 §14.1: an ANNOUNCE request asks for the epoch and changes nothing.
fn ask_pcp(local: IpAddr, server: SocketAddr, begun: Instant, until: Instant) -> Finding<Pcp> {
    let read = |bytes: &[u8]| match pcp::parse(bytes) {
        Ok(pcp::Reply::Announce(header)) => Some(Pcp {
            version: 2,
            result: format!("{:?}", header.result),
            // That a server knows no ANNOUNCE says nothing about MAP.
            is_usable: matches!(header.result, pcp::ResultCode::Success | pcp::ResultCode::UnsuppOpcode),
            is_address_mismatch: header.result == pcp::ResultCode::AddressMismatch,
            epoch_secs: Some(header.epoch_secs),
        }),
        Ok(pcp::Reply::UnsuppVersion { version }) => Some(Pcp {
            version,
            result: format!("{:?}", pcp::ResultCode::UnsuppVersion),
            is_usable: false,
            is_address_mismatch: false,
            epoch_secs: None,
        }),
        Ok(_) | Err(_) => None,
    };
    let request = |local| pcp::emit_announce_request(local).to_vec();
    finding(ask(Some(local), server, request, until, read), begun)
}

fn ask_natpmp(local: IpAddr, server: SocketAddr, begun: Instant, until: Instant) -> Finding<Natpmp> {
    let result = natpmp::external_address(local, server, until);
    let answer = |answer| match answer {
        Address::SpeaksPcp => {
            Natpmp { result: None, external_address: None, is_network_failure: false, epoch_secs: None }
        }
        Address::Answer { result, address, epoch_secs } => {
            let is_success = result == natpmp_wire::ResultCode::Success;
            let has_address = is_success && scope_of(address.into()) != Scope::Unusable;
            Natpmp {
                result: Some(format!("{result:?}")),
                external_address: has_address.then_some(address),
                is_network_failure: result == natpmp_wire::ResultCode::NetworkFailure
                    || (is_success && !has_address),
                epoch_secs: Some(epoch_secs),
            }
        }
    };
    match finding(result, begun) {
        Finding::Answered { took, answer: address } => Finding::Answered { took, answer: answer(address) },
        Finding::Closed { took } => Finding::Closed { took },
        Finding::Silent => Finding::Silent,
        Finding::NotSent { reason, kind } => Finding::NotSent { reason, kind },
        Finding::NotAsked => Finding::NotAsked,
    }
}

/// Asks UPnP devices: the finding, and whether the time was over while some were being asked.
fn ask_upnp(search: Search, begun: Instant, until: Instant) -> (Finding<Upnp>, bool) {
    let is_cut = Arc::new(AtomicBool::new(false));
    let finding = ask_devices(search, begun, until, Arc::clone(&is_cut));
    (finding, is_cut.load(Ordering::Relaxed))
}

fn ask_devices(search: Search, begun: Instant, until: Instant, is_cut: Arc<AtomicBool>) -> Finding<Upnp> {
    let unreadable = Arc::new(Mutex::new(Vec::new()));
    let gateway = search.gateway;
    let read = {
        let unreadable = Arc::clone(&unreadable);
        move |found: &Found| {
            let device = match upnp::describe(found.from, &found.location, until) {
                Ok(device) => Some(ask_device(device, found.at, begun, until)),
                Err(Undescribed::Unreadable(reason)) if Some(found.from) == gateway => {
                    unreadable.lock().unwrap_or_else(PoisonError::into_inner).push(reason);
                    None
                }
                Err(Undescribed::Unreadable(_) | Undescribed::NoGateway) => None,
            };
            is_cut.fetch_or(until <= Instant::now(), Ordering::Relaxed);
            device
        }
    };
    let mut devices = match upnp::each(search, until, read) {
        Ok(devices) => devices,
        Err(error) => return Finding::NotSent { reason: error.to_string(), kind: error.kind() },
    };
    let unreadable = unreadable.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if devices.is_empty() && unreadable.is_empty() {
        return Finding::Silent;
    }
    devices.sort_by_key(|(device, _)| Some(device.address) != gateway);
    let best = devices
        .iter_mut()
        .flat_map(|(device, kinds)| {
            let on_gateway = Some(device.address) == gateway;
            device.services.iter_mut().zip(kinds).map(move |(service, kind)| (on_gateway, *kind, service))
        })
        .filter(|(_, _, service)| service.is_alive)
        .min_by_key(|(on_gateway, kind, service)| {
            preference(*on_gateway, *kind, service.is_connected, service.external_address)
        });
    if let Some((_, _, service)) = best {
        service.is_chosen = true;
    }
    let devices = devices.into_iter().map(|(device, _)| device).collect();
    let upnp = Upnp { devices, unreadable };
    // It is as fast as what would be used.
    let took = upnp.chosen().map_or_else(|| begun.elapsed(), |(_, service)| service.took);
    Finding::Answered { took, answer: upnp }
}

/// A device with what its services say.
fn ask_device(
    device: upnp::Device,
    found_at: Instant,
    begun: Instant,
    until: Instant,
) -> (Device, Vec<WanService>) {
    let mut services = Vec::new();
    for some in device.services.chunks(SERVICES_AT_ONCE) {
        thread::scope(|scope| {
            let threads: Vec<_> = some
                .iter()
                .map(|service| scope.spawn(move || (service.standing(until), begun.elapsed())))
                .collect();
            for (service, thread) in some.iter().zip(threads) {
                let (standing, took) = thread.join().unwrap_or_else(|_| (None, begun.elapsed()));
                services.push(describe_service(service, standing.as_ref(), took));
            }
        });
    }
    let kinds = device.services.iter().map(|service| service.kind).collect();
    let device = Device {
        address: device.address,
        location: printable(&device.location(), 200),
        friendly_name: clean(&device.friendly_name),
        manufacturer: clean(&device.manufacturer),
        model_name: clean(&device.model_name),
        igd_version: device.igd_version,
        found: found_at.saturating_duration_since(begun),
        services,
    };
    (device, kinds)
}

fn describe_service(service: &upnp::Service, standing: Option<&upnp::Standing>, took: Duration) -> Service {
    let address = standing.and_then(upnp::Standing::address);
    let external_address = address.filter(|&address| scope_of(address) != Scope::Unusable);
    let external_address_error = match (external_address, standing.map(|standing| &standing.external_address))
    {
        (Some(_), _) => None,
        (None, None) => Some("no answer".to_owned()),
        (None, Some(Err(error))) => Some(clean(&error.to_string())),
        (None, Some(Ok(Some(address)))) => Some(format!("{address} is no address of use")),
        (None, Some(Ok(None))) => Some("it says that it has none".to_owned()),
    };
    Service {
        name: service.name(),
        control_url: printable(&service.control_url(), 200),
        is_alive: standing.is_some(),
        connection_status: standing.map(|standing| match &standing.status {
            Ok(status) => clean(status),
            Err(error) => clean(&error.to_string()),
        }),
        is_connected: standing.is_some_and(upnp::Standing::is_connected),
        external_address,
        is_without_address: external_address.is_none()
            && standing.is_some_and(|standing| standing.external_address.is_ok()),
        external_address_error,
        nat_enabled: standing.and_then(|standing| standing.nat_enabled),
        took,
        is_chosen: false,
    }
}

/// Makes a mapping with the library, and removes it, which is waited for. Of a port that no program uses: it is taken for that time.
pub fn try_mapping(whom: Whom) -> Result<Tried, Failure> {
    let any: SocketAddr = ([0; 4], 0).into();
    let socket = UdpSocket::bind(any)?;
    let port = socket.local_addr()?.port();
    let left = whom.until.saturating_duration_since(Instant::now());
    // Twice: to find the gateway, and to have it done.
    let patience = whom.patience.min(left / 2);
    let mut builder = Builder::new().discover_timeout(patience).mapping_timeout(patience);
    if let Some(gateway) = whom.named {
        builder = builder.gateway(gateway);
    }
    let begun = Instant::now();
    let session = builder.start()?;
    let mapping = session.map(Request::udp(port))?;
    Ok(match mapping.wait(2 * patience) {
        Ok(external) => Tried::Made {
            protocol: external.protocol.to_string(),
            external_address: external.address.ip(),
            external_port: external.address.port(),
            took: begun.elapsed(),
            removed: mapping.remove(),
        },
        Err(error) => {
            mapping.remove();
            Tried::Failed { reason: error.to_string() }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_closed_for_one_protocol_is_closed_for_the_other() {
        let took = Duration::from_millis(1);
        let is_closed = |findings| matches!(findings, (Finding::Closed { .. }, Finding::Closed { .. }));
        assert!(is_closed(at_one_port(Finding::Closed { took }, Finding::Silent)));
        assert!(is_closed(at_one_port(Finding::Silent, Finding::Closed { took })));
        let silent = at_one_port(Finding::Silent, Finding::Silent);
        assert!(matches!(silent, (Finding::Silent, Finding::Silent)));
    }
}
