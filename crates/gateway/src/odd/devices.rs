//! Descriptions, services, and how a device makes itself known.

use super::{Replies, on, set_element};
use crate::core::{Action, Gateway, Igd, Kind, Reply, Request, WanKind};
use std::time::Duration;

/// Has the DSL forum's WAN services alone, on a device of the DSL forum: the Huawei HG531.
pub fn dsl_forum_only(gateway: &mut Gateway) {
    super::closes_pcp_port(gateway);
    gateway.set_igd(Some(Igd { domain: "urn:dslforum-org".into(), ..Igd::with(1, &[WanKind::DslForumIp1]) }));
}

/// Where the first of two descriptions is.
const FIRST: &str = "/first.xml";

/// The unique part of the first device's names.
const OTHER_UUID: &str = "7d1f2a60-0000-4000-8000-00c0ffee0099";

fn add_first(gateway: &mut Gateway) {
    let (address, port) = (gateway.config().address, gateway.config().http_port);
    gateway.faults.extra_locations = vec![format!("http://{address}:{port}{FIRST}")];
}

/// Names two descriptions, of which the first is answered so: the second daemon of a router (TR-064 with a password, a print
/// server, a media server).
pub fn first_description_gets(gateway: &mut Gateway, reply: Replies) {
    add_first(gateway);
    gateway.add_script(move |request| if request.path == FIRST { reply() } else { Reply::usual() });
}

/// Names two descriptions; the first is of a service whose control URL answers so.
pub fn first_device_gets(gateway: &mut Gateway, reply: Replies) {
    add_first_device(gateway, move |_| reply());
}

/// Names two descriptions; the first is of a connection that is down: Disconnected, 0.0.0.0, and error 501 to what maps.
pub fn first_device_is_down(gateway: &mut Gateway) {
    add_first_device(gateway, down);
}

fn add_first_device(gateway: &mut Gateway, mut reply: impl FnMut(&Request) -> Reply + Send + 'static) {
    add_first(gateway);
    let mut igd = Igd::with(1, &[WanKind::Ip1]);
    igd.uuid = OTHER_UUID.into();
    igd.services[0].control_url = Some("/first/ctl/0".into());
    let description = igd.description();
    gateway.add_script(move |request| match request.path.as_str() {
        FIRST => Reply::http(200, description.clone()),
        path if path.starts_with("/first/") => reply(request),
        _ => Reply::usual(),
    });
}

/// What the service of a connection that is down says.
fn down(request: &Request) -> Reply {
    match request.kind {
        Kind::Soap(Action::GetStatusInfo) => {
            Reply::edited(|body| set_element(body, "NewConnectionStatus", "Disconnected"))
        }
        Kind::Soap(Action::GetExternalIPAddress) => {
            Reply::edited(|body| set_element(body, "NewExternalIPAddress", "0.0.0.0"))
        }
        _ => Reply::code(501),
    }
}

/// Has two services in one description; the first is of a connection that is down, and maps nothing: DSL routers with a
/// WANPPPConnection for a modem that nobody dials with.
pub fn first_service_is_down(gateway: &mut Gateway) {
    gateway.set_igd(Some(Igd::with(1, &[WanKind::Ip1, WanKind::Ip1])));
    gateway.add_script(|request| if request.path == "/ctl/0" { down(request) } else { Reply::usual() });
}

/// Has two services in one description; the first one's control URL answers so.
pub fn first_service_gets(gateway: &mut Gateway, reply: Replies) {
    gateway.set_igd(Some(Igd::with(1, &[WanKind::Ip1, WanKind::Ip1])));
    gateway.add_script(move |request| if request.path == "/ctl/0" { reply() } else { Reply::usual() });
}

/// Its first service says that it is connected, and makes nothing.
pub fn first_service_makes_nothing(gateway: &mut Gateway) {
    gateway.add_script(|request| match (request.path.as_str(), request.kind) {
        ("/ctl/0", Kind::Soap(Action::AddPortMapping | Action::AddAnyPortMapping)) => Reply::code(501),
        _ => Reply::usual(),
    });
}

/// The first of two devices has a name of its own in answers to searches. (Else both have one name: two daemons with one
/// configuration.)
pub fn first_device_has_its_own_name(gateway: &mut Gateway) {
    gateway.faults.extra_uuid = Some(OTHER_UUID.into());
}

/// The answer with the gateway's own description comes this much later than those of its others.
pub fn own_description_comes_late(gateway: &mut Gateway, delay: Duration) {
    on(gateway, Kind::SsdpSearch, move |_| Reply::usual().after(delay));
}

/// Answers no search, and announces itself alone: routers whose firewall drops multicast from the LAN.
pub fn answers_no_search(gateway: &mut Gateway) {
    on(gateway, Kind::SsdpSearch, |_| Reply::nothing());
}

/// Names this host and port in its LOCATION, in place of its own: a name that nobody resolves, `[::1]`, an address of before a
/// renumbering, one with zeros in front.
pub fn location_names(gateway: &mut Gateway, host: &str) {
    let port = gateway.config().http_port;
    gateway.faults.location = Some(format!("http://{host}:{port}/rootDesc.xml"));
}

/// Has this URLBase in its description.
pub fn url_base_is(gateway: &mut Gateway, url: &str) {
    gateway.set_igd(Some(Igd { url_base: Some(url.into()), ..Igd::default() }));
}

/// Names an absolute control URL.
pub fn control_url_is(gateway: &mut Gateway, url: &str) {
    let mut igd = Igd::default();
    igd.services[0].control_url = Some(url.into());
    gateway.set_igd(Some(igd));
}

/// Gives no BOOTID, as libupnp of before 2013 does: a restart shows in a goodbye alone.
pub fn gives_no_boot_id(gateway: &mut Gateway) {
    super::closes_pcp_port(gateway);
    gateway.faults.no_boot_id = true;
}
