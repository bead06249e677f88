//! SSDP, the device's side (UDA 1.1 §1): searches and notifications.
//!
//! It is strict, as some gateways are: a search without MX, MAN or HOST gets no answer.

use super::script::Content;
use super::{Gateway, Igd, Kind, Request, UdpPort};
use std::net::SocketAddr;
use std::time::Duration;

pub(super) fn handle(gateway: &mut Gateway, from: SocketAddr, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default();
    if !first.starts_with("M-SEARCH ") {
        gateway.count(Kind::Other, from, None, None);
        return gateway.complain(format!("SSDP: no search from {from}: {first:?}"));
    }
    gateway.count(Kind::SsdpSearch, from, None, None);
    let request = Request::of(gateway, Kind::SsdpSearch, from);
    let mut script = gateway.ask_scripts(&request);
    let is_silent = matches!(script.content(), Content::Nothing);
    if is_silent || gateway.faults.silence.ssdp.strike() || gateway.config().igd.is_none() {
        return;
    }
    let headers: Vec<(&str, &str)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim(), value.trim()))
        .collect();
    let header = |wanted: &str| {
        headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|&(_, value)| value)
    };
    let flaw = if first != "M-SEARCH * HTTP/1.1" {
        Some("its first line is wrong")
    } else if !text.ends_with("\r\n\r\n") {
        Some("it does not end in an empty line")
    } else if header("HOST").is_none() {
        Some("it has no HOST")
    } else if header("MAN") != Some("\"ssdp:discover\"") {
        Some("it has no MAN: \"ssdp:discover\"")
    } else if header("MX").and_then(|mx| mx.parse::<u32>().ok()).is_none_or(|mx| mx < 1) {
        Some("it has no MX of at least 1")
    } else {
        None
    };
    if let Some(flaw) = flaw {
        return gateway.complain(format!("SSDP: search from {from} dropped, {flaw}"));
    }
    let wanted = header("ST").unwrap_or_default();
    let Some(igd) = &gateway.config().igd else { return };
    let targets: Vec<String> =
        igd.targets().into_iter().filter(|target| wanted == "ssdp:all" || wanted == target).collect();
    let extra = match &gateway.faults.extra_uuid {
        Some(uuid) => Igd { uuid: uuid.clone(), ..igd.clone() },
        None => igd.clone(),
    };
    let mut answers = Vec::new();
    for target in targets {
        for location in &gateway.faults.extra_locations {
            answers.push((Duration::ZERO, answer(gateway, &extra, &target, location)));
        }
        answers.push((script.delay(), answer(gateway, igd, &target, &location(gateway, from))));
    }
    for (delay, bytes) in answers {
        gateway.reply_after(delay, UdpPort::Ssdp, from, bytes);
    }
}

/// NOTIFY messages to a group for every target: the device is there, or leaves.
pub(super) fn notifications(gateway: &Gateway, group: SocketAddr, alive: bool) -> Vec<Vec<u8>> {
    let Some(igd) = &gateway.config().igd else { return Vec::new() };
    let message = |target: &String| {
        let life = if alive {
            format!(
                "CACHE-CONTROL: max-age=1800\r\nLOCATION: {}\r\nSERVER: {SERVER}\r\nNTS: ssdp:alive\r\n",
                location(gateway, group)
            )
        } else {
            "NTS: ssdp:byebye\r\n".into()
        };
        format!(
            "NOTIFY * HTTP/1.1\r\nHOST: {group}\r\n{life}NT: {target}\r\nUSN: {}\r\n{}\r\n",
            usn(igd, target),
            boot(gateway),
        )
        .into_bytes()
    };
    igd.targets().iter().map(message).collect()
}

const SERVER: &str = "Simulated/1.0 UPnP/1.1 plum-gateway/1.0";

fn answer(gateway: &Gateway, igd: &Igd, target: &str, location: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nST: {target}\r\nUSN: {}\r\nEXT:\r\nSERVER: {SERVER}\r\n\
         LOCATION: {location}\r\n{}\r\n",
        usn(igd, target),
        boot(gateway),
    )
    .into_bytes()
}

/// The headers that tell one run of the device from the next, since UDA 1.1.
fn boot(gateway: &Gateway) -> String {
    match gateway.faults.no_boot_id {
        true => String::new(),
        false => format!("BOOTID.UPNP.ORG: {}\r\nCONFIGID.UPNP.ORG: 1\r\n", gateway.boot_id),
    }
}

/// Where the description is, for a client or a group.
fn location(gateway: &Gateway, client: SocketAddr) -> String {
    let http = SocketAddr::new(gateway.config().address_for(client.ip()), gateway.config().http_port);
    gateway.faults.location.clone().unwrap_or_else(|| format!("http://{http}/rootDesc.xml"))
}

fn usn(igd: &Igd, target: &str) -> String {
    let uuid = format!("uuid:{}", igd.uuid);
    if target == uuid { uuid } else { format!("{uuid}::{target}") }
}
