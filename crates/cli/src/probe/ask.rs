//! Asks all servers and devices, and turns the answers into findings.

use super::{
    Device, Finding, Findings, Natpmp, Pcp, Service, Surroundings, Tried, Upnp, Way, ipv6, surroundings,
};
use crate::exit::Failure;
use crate::inquiry::{self, Asker, Inquiry, Whom};
use crate::text::clean;
use crate::upnp::{ActionError, Values, parse_bool, service_name, url_text};
use plum::{Builder, Request};
use plum_engine::Reason;
use plum_engine::addresses::is_public;
use plum_engine::driver::Rung;
use plum_engine::io::{Protocol, Socket};
use plum_engine::time::Time;
use plum_engine::upnp::{Device as Heard, DeviceState, Outcome, Service as Known};
use plum_wire::{natpmp, pcp, soap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::panic::resume_unwind;
use std::thread;
use std::time::Instant;

/// Asks all servers and devices, by both IP versions at the same time.
pub fn look_around(whom: &Whom) -> Result<Findings, Failure> {
    thread::scope(|scope| {
        let by_ipv6 = scope.spawn(|| ipv6::look_around(whom));
        let findings = look_around_by_ipv4(whom);
        // A panic goes on here.
        let by_ipv6 = by_ipv6.join().unwrap_or_else(|panic| resume_unwind(panic));
        let uplink = whom.uplink.name().map(str::to_owned);
        Ok(Findings { ipv6: ipv6::Ipv6 { uplink, ..by_ipv6? }, ..findings? })
    })
}

/// The name of an interface.
pub fn interface_name(index: u32) -> Option<String> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let found = interfaces.iter().find(|interface| interface.index == Some(index));
    found.map(|interface| clean(&interface.name))
}

fn look_around_by_ipv4(whom: &Whom) -> Result<Findings, Failure> {
    let named = whom.named.as_ref().map(|gateway| gateway.address);
    let Some(route) = whom.route() else {
        return Ok(Findings { surroundings: Surroundings::of(None), ..Findings::default() });
    };
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let has_address = |interface: &&if_addrs::Interface| interface.ip() == route.local;
    let interface = interface_name(route.interface)
        .or_else(|| interfaces.iter().find(has_address).map(|interface| clean(&interface.name)));
    let public_ipv6 = interfaces.iter().find_map(|interface| match interface.ip() {
        IpAddr::V6(address) if is_public(address.into()) => Some(address),
        _ => None,
    });
    let mut asker = Asker::new(whom, route, &[Socket::Pcp, Socket::NatPmp, Socket::Ssdp])?;
    asker.ask_everybody(whom.until.min(Instant::now() + whom.patience))?;
    let choice = asker.choose(&Protocol::ASKING);
    let service = asker.choose(&[Protocol::UpnpIgd]).rung;
    let inquiry = asker.inquiry();
    let gateway = inquiry.gateway();
    let (pcp, natpmp) = at_one_port(read_pcp(inquiry), read_natpmp(inquiry));
    Ok(Findings {
        surroundings: Surroundings::of(interface.as_deref()),
        way: Some(Way {
            interface_index: route.interface,
            internal_address: route.local,
            // The library asks a gateway that was named, whatever the address.
            is_public: is_public(route.local) && named.is_none(),
            gateway,
            // The gateway was asked for its hardware address, if it is on this link.
            gateway_is_absent: gateway.is_some_and(surroundings::is_absent),
            gateway_is_named: named.is_some(),
            interface,
        }),
        public_ipv6,
        pcp,
        natpmp,
        upnp: read_upnp(inquiry, service),
        choice: choice.into(),
        unfinished: inquiry.is_cut().then_some("all UPnP devices had answered"),
        ..Findings::default()
    })
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

/// The outcome of a question by PCP or NAT-PMP.
fn finding<T>(inquiry: &Inquiry, protocol: Protocol, answer: Option<(Time, T)>) -> Finding<T> {
    if let Some((at, answer)) = answer {
        return Finding::Answered { took: inquiry.took(at), answer };
    }
    match inquiry.out(protocol) {
        _ if inquiry.gateway().is_none() => Finding::NotAsked,
        Some((Reason::PortClosed, at)) => Finding::Closed { took: inquiry.took(at) },
        Some((reason @ (Reason::Firewall | Reason::Unreachable | Reason::Shortage), _)) => {
            Finding::NotSent { reason }
        }
        _ => Finding::Silent,
    }
}

/// RFC 6887 §14.1: an ANNOUNCE request asks for the epoch and changes nothing.
pub fn read_pcp(inquiry: &Inquiry) -> Finding<Pcp> {
    let announce = inquiry.pcp_reply.and_then(|(at, reply)| match reply {
        pcp::Reply::Announce(header) => Some((at, header.result, 2, Some(header.epoch_secs))),
        pcp::Reply::UnsuppVersion { version } => Some((at, pcp::ResultCode::UnsuppVersion, version, None)),
        pcp::Reply::Map(..) => None,
    });
    let map = inquiry.pcp_map_reply().map(|(at, header)| (at, header.result, 2, Some(header.epoch_secs)));
    let is_mismatch = |reply: Option<(_, pcp::ResultCode, _, _)>| {
        reply.is_some_and(|(_, result, ..)| result == pcp::ResultCode::AddressMismatch)
    };
    let word = |reply: Option<(_, pcp::ResultCode, _, _)>| reply.map(|(_, result, ..)| format!("{result:?}"));
    let answer = announce.or(map).map(|(at, _, version, epoch_secs)| {
        let pcp = Pcp {
            version,
            result: word(announce),
            map_result: word(map),
            is_usable: inquiry.failure(Rung::Pcp).is_none(),
            is_address_mismatch: is_mismatch(announce) || is_mismatch(map),
            epoch_secs,
        };
        (at, pcp)
    });
    finding(inquiry, Protocol::Pcp, answer)
}

fn read_natpmp(inquiry: &Inquiry) -> Finding<Natpmp> {
    let map_result = inquiry.natpmp_map_reply().map(|(_, result)| format!("{result:?}"));
    let is_usable = inquiry.failure(Rung::NatPmp).is_none();
    let answer = inquiry.natpmp_reply.and_then(|(at, reply)| match reply {
        natpmp::Reply::SpeaksPcp => {
            let (result, external_address, epoch_secs, is_network_failure) = (None, None, None, false);
            let natpmp =
                Natpmp { result, map_result, is_usable, external_address, is_network_failure, epoch_secs };
            Some((at, natpmp))
        }
        natpmp::Reply::Address { result, address, epoch_secs } => {
            let is_success = result == natpmp::ResultCode::Success;
            let has_address = is_success && inquiry::is_usable(address.into());
            let natpmp = Natpmp {
                result: Some(format!("{result:?}")),
                map_result,
                is_usable,
                external_address: has_address.then_some(address),
                is_network_failure: result == natpmp::ResultCode::NetworkFailure
                    || (is_success && !has_address),
                epoch_secs: Some(epoch_secs),
            };
            Some((at, natpmp))
        }
        natpmp::Reply::Map { .. } | natpmp::Reply::CutMapError { .. } => None,
    });
    finding(inquiry, Protocol::NatPmp, answer)
}

/// `chosen`: the service that the library would use.
fn read_upnp(inquiry: &Inquiry, chosen: Option<Rung>) -> Finding<Upnp> {
    let mut upnp = Upnp::default();
    for (heard, at) in inquiry.devices() {
        let known = inquiry.services(heard);
        if !known.is_empty() {
            upnp.devices.push(describe_device(inquiry, heard, at, &known, chosen));
        } else if heard.about.is_none() && Some(heard.location.address.ip()) == inquiry.gateway() {
            upnp.unreadable.push(format!("{}: {}", url_text(&heard.location), why_unreadable(heard)));
        }
    }
    if upnp.devices.is_empty() && upnp.unreadable.is_empty() {
        return inquiry.unsent_search.map_or(Finding::Silent, |reason| Finding::NotSent { reason });
    }
    // The time of UPnP is that of the service that would be used.
    let took = upnp.chosen().map_or_else(|| inquiry.elapsed(), |(_, service)| service.took);
    Finding::Answered { took, answer: upnp }
}

fn why_unreadable(heard: &Heard) -> String {
    match heard.trouble {
        Some(Reason::Http { status }) => format!("the answer is status {status}"),
        Some(reason) if reason != Reason::Silence => reason.to_string(),
        None if heard.state != DeviceState::Fetching => "what is there is no device description".to_owned(),
        _ => "no answer in time".to_owned(),
    }
}

/// A device with what its services say.
fn describe_device(
    inquiry: &Inquiry,
    heard: &Heard,
    at: Time,
    known: &[&Known],
    chosen: Option<Rung>,
) -> Device {
    let about = heard.about.clone().unwrap_or_default();
    Device {
        address: heard.location.address.ip(),
        location: url_text(&heard.location),
        friendly_name: clean(&about.friendly_name),
        manufacturer: clean(&about.manufacturer),
        model_name: clean(&about.model_name),
        igd_version: about.igd_version(),
        found: inquiry.took(at),
        services: known.iter().map(|service| describe_service(inquiry, service, chosen)).collect(),
    }
}

fn describe_service(inquiry: &Inquiry, service: &Known, chosen: Option<Rung>) -> Service {
    let [address, status, nat] = ["GetExternalIPAddress", "GetStatusInfo", "GetNATRSIPStatus"]
        .map(|action| inquiry.said(service, action));
    let is_answer = |values: &Result<Values, ActionError>| !matches!(values, Err(ActionError::NoAnswer(_)));
    let is_alive = is_answer(&address) || is_answer(&status);
    let told = address.as_ref().ok().and_then(|values| Outcome::Done(values.clone()).external_address());
    let external_address = told.filter(|&address| inquiry::is_usable(address));
    let external_address_error = match (external_address, &address) {
        (Some(_), _) => None,
        (None, _) if !is_alive => Some("no answer".to_owned()),
        (None, Err(error)) => Some(clean(&error.to_string())),
        (None, Ok(_)) => Some(match told {
            Some(address) => format!("{address} is no address of use"),
            None => "it says that it has none".to_owned(),
        }),
    };
    let word = |values: &Values, name| clean(soap::get(values, name).unwrap_or_default());
    let is_connected = status.as_ref().is_ok_and(|values| Outcome::Done(values.clone()).is_connected());
    let connection_status = match &status {
        Ok(values) => word(values, "NewConnectionStatus"),
        Err(error) => clean(&error.to_string()),
    };
    Service {
        name: service_name(service),
        control_url: url_text(&service.named.url),
        is_alive,
        connection_status: is_alive.then_some(connection_status),
        is_connected,
        external_address,
        is_without_address: external_address.is_none() && address.is_ok(),
        external_address_error,
        nat_enabled: nat.ok().and_then(|values| parse_bool(&word(&values, "NewNATEnabled"))),
        took: inquiry.told_at(service).map_or_else(|| inquiry.elapsed(), |at| inquiry.took(at)),
        is_chosen: chosen == Some(service.rung),
    }
}

/// Makes a mapping, by IPv6 a pinhole, with the library, and removes it, which is waited for. Of a port that no program uses: it is
/// taken for that time.
pub fn try_mapping(whom: &Whom, is_ipv6: bool) -> Result<Tried, Failure> {
    let any: IpAddr = if is_ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    let port = socket.local_addr()?.port();
    let left = whom.until.saturating_duration_since(Instant::now());
    // Twice: to find the gateway, and to make the mapping.
    let patience = whom.patience.min(left / 2);
    let mut builder = Builder::new().discover_timeout(patience).mapping_timeout(patience);
    if let Some(gateway) = &whom.named {
        builder = builder.gateway(gateway.clone());
    }
    if let Some(name) = whom.uplink.name() {
        builder = builder.interface(name);
    }
    let begun = Instant::now();
    let session = builder.start()?;
    let request = Request::udp(port);
    let mapping = session.map(if is_ipv6 { request.ipv6() } else { request })?;
    let tried = match mapping.wait(2 * patience) {
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
    };
    // What it has to delete besides is waited for; it is told of nowhere.
    let _ = session.close();
    Ok(tried)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
