//! Replies to AddPortMapping and AddAnyPortMapping.

use super::{on_action, on_additions};
use crate::core::{Action, Gateway, Kind, Reply};
use std::time::Duration;

/// A SOAP reply whose element is not named after the action.
pub const OTHER_ELEMENT: &str = "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\">\
    <s:Body><u:Ok xmlns:u=\"urn:schemas-upnp-org:service:WANIPConnection:1\"/></s:Body></s:Envelope>";

/// A SOAP reply that ends in the middle.
pub const HALF_ENVELOPE: &str =
    "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Bo";

/// Makes the entry and answers 200 with this body: routers whose web server adds its own page, or nothing.
pub fn addition_says(gateway: &mut Gateway, body: &'static str) {
    on_additions(gateway, move |_| Reply::bytes(body));
}

/// Makes the entry, answers 200 and closes before the body is whole.
pub fn addition_is_cut_off(gateway: &mut Gateway) {
    on_additions(gateway, |_| Reply::cut_off(200));
}

/// Makes the entry and closes without a reply: daemons that restart their firewall, and themselves with it.
pub fn addition_is_not_answered(gateway: &mut Gateway) {
    on_additions(gateway, |_| Reply::close().with_effect());
}

/// Makes entries at once, and takes its time to say so.
pub fn additions_take_time(gateway: &mut Gateway, delay: Duration) {
    on_additions(gateway, move |_| Reply::usual().after(delay));
}

/// AddAnyPortMapping hangs: WANIPConnection:2 in the description, :1 in the code.
pub fn add_any_hangs(gateway: &mut Gateway) {
    gateway.set_igd(Some(crate::core::Igd::v2()));
    on_action(gateway, Action::AddAnyPortMapping, |_| Reply::nothing());
}

/// AddAnyPortMapping makes the entry, and its reply never comes.
pub fn add_any_makes_and_hangs(gateway: &mut Gateway) {
    gateway.set_igd(Some(crate::core::Igd::v2()));
    on_action(gateway, Action::AddAnyPortMapping, |_| Reply::nothing().with_effect());
}

/// AddAnyPortMapping makes the entry at a port of its own, and its reply comes this late.
pub fn add_any_is_late(gateway: &mut Gateway, delay: Duration) {
    gateway.set_igd(Some(crate::core::Igd::v2()));
    on_action(gateway, Action::AddAnyPortMapping, move |_| Reply::usual().after(delay));
}

/// Refuses every action with error 501: a service that is described and not there.
pub fn refuses_everything(gateway: &mut Gateway) {
    answers_everything(gateway, || Reply::code(501));
}

/// Answers every action so, and has nothing but UPnP.
pub fn answers_everything(gateway: &mut Gateway, reply: super::Replies) {
    super::closes_pcp_port(gateway);
    gateway.add_script(move |request| match request.kind {
        Kind::Soap(_) => reply(),
        _ => Reply::usual(),
    });
}
