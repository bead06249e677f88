//! Odd gateways: behaviour of real ones that no standard foresees, each as a script.
//!
//! Each function makes a gateway odd in one way; several may be applied to one. The comment names the class of device that
//! was seen to be so. [`LIST`] has them by name, for the command line; [`traits`] in groups, to be drawn from.

mod additions;
mod addresses;
mod connections;
mod devices;
mod leases;
mod looks;
mod natpmp;
mod pcp;
mod ports;
mod removals;
pub mod traits;

pub use additions::*;
pub use addresses::*;
pub use connections::*;
pub use devices::*;
pub use leases::*;
pub use looks::*;
pub use natpmp::*;
pub use pcp::*;
pub use ports::*;
pub use removals::*;

use crate::core::{Action, Gateway, Kind, Reply, Request};

/// An oddity with a name.
pub type Named = (&'static str, fn(&mut Gateway));

/// The odd gateways, by name. Where one comes in many variants, the most common stands for all.
pub const LIST: &[Named] = &[
    ("natpmp-maps-nothing", natpmp_maps_nothing),
    ("natpmp-refuses", |gateway| natpmp_refuses(gateway, 3)),
    ("natpmp-cuts-ports", natpmp_cuts_ports),
    ("natpmp-grants-nothing", natpmp_grants_nothing),
    ("natpmp-names-no-internal-port", |gateway| vpn_provider(gateway, InternalPort::Zero)),
    ("natpmp-names-the-external-port-twice", |gateway| vpn_provider(gateway, InternalPort::External)),
    ("pcp-refuses", |gateway| pcp_refuses(gateway, 8)),
    ("pcp-grants-no-lifetime", pcp_grants_no_lifetime),
    ("pcp-grants-no-port", pcp_grants_no_port),
    ("pcp-grants-no-address", |gateway| pcp_grants_address(gateway, [0, 0, 0, 0])),
    ("pcp-denies-itself-in-8-octets", |gateway| pcp_denies_itself(gateway, 2, 8)),
    ("pcp-answers-late", |gateway| pcp_answers_late(gateway, std::time::Duration::from_secs(3), 120)),
    ("pcp-keeps-busy-ports", |gateway| keeps_busy_ports(gateway, 120)),
    ("looks-are-hung-up-on", |gateway| looks_get(gateway, Reply::close)),
    ("looks-show-internal-port-0", |gateway| looks_show(gateway, InternalPort::Zero)),
    ("looks-show-the-external-port-twice", |gateway| looks_show(gateway, InternalPort::External)),
    ("address-is-not-there", |gateway| address_gets(gateway, || Reply::http(404, ""))),
    ("removal-is-not-there", |gateway| removal_gets(gateway, None, || Reply::http(404, ""))),
    ("addition-is-answered-in-html", |gateway| addition_says(gateway, HTML)),
    ("addition-is-cut-off", addition_is_cut_off),
    ("leases-are-refused", |gateway| leases_are_refused(gateway, || Reply::code(402))),
    ("leases-up-to-an-hour", |gateway| leases_up_to_an_hour(gateway, 402)),
    ("leases-vanish", leases_vanish),
    ("leases-are-not-made", leases_are_not_made),
    ("leases-are-not-extended", leases_are_not_extended),
    ("ports-below-1024-are-not-for-you", |gateway| ports_are_refused(gateway, 1..=1023, 606)),
    ("ports-outside-40000-to-49999-are-not-for-you", |gateway| only_ports_of(gateway, 40_000..=49_999, 606)),
    ("one-connection-at-a-time", one_connection_at_a_time),
    ("connection-stays-open", connection_stays_open),
    ("dsl-forum-only", dsl_forum_only),
    ("first-description-is-of-no-use", |gateway| first_description_gets(gateway, || Reply::http(404, ""))),
    ("first-service-is-down", first_service_is_down),
    ("answers-no-search", answers_no_search),
    ("add-any-hangs", add_any_hangs),
    ("refuses-everything", refuses_everything),
];

/// The oddity of this name.
pub fn find(name: &str) -> Option<fn(&mut Gateway)> {
    LIST.iter().find(|(known, _)| *known == name).map(|&(_, odd)| odd)
}

/// A reply that a script gives each time anew.
pub type Replies = fn() -> Reply;

/// A page of a web server that knows nothing of SOAP.
pub const HTML: &str = "<html><head><title>Router</title></head><body>OK</body></html>";

/// The known replies of control URLs to unknown requests, with a name each.
pub const UNKNOWN: &[(&str, Replies)] = &[
    ("closed", Reply::close),
    ("reset", Reply::reset),
    ("hanging", Reply::nothing),
    ("404", || Reply::http(404, "")),
    ("405", || Reply::http(405, "")),
    ("500 with HTML", || Reply::http(500, HTML)),
    ("501 with HTML", || Reply::http(501, HTML)),
    ("401 Invalid Action", || Reply::code(401)),
    ("402 Invalid Args", || Reply::code(402)),
    ("501 Action Failed", || Reply::code(501)),
    ("602 Optional Action Not Implemented", || Reply::code(602)),
    ("606 Not Authorized", || Reply::code(606)),
    ("713 SpecifiedArrayIndexInvalid", || Reply::code(713)),
    ("714 NoSuchEntryInArray", || Reply::code(714)),
    ("-1", || Reply::code(-1)),
];

/// Gives this reply to one kind of request.
fn on(gateway: &mut Gateway, kind: Kind, mut reply: impl FnMut(&Request) -> Reply + Send + 'static) {
    gateway.add_script(move |request| if request.kind == kind { reply(request) } else { Reply::usual() });
}

/// Gives this reply to one action.
fn on_action(gateway: &mut Gateway, action: Action, reply: impl FnMut(&Request) -> Reply + Send + 'static) {
    on(gateway, Kind::Soap(action), reply);
}

/// Gives this reply to requests that add an entry.
fn on_additions(gateway: &mut Gateway, reply: impl FnMut(&Request) -> Reply + Send + 'static) {
    let mut reply = reply;
    gateway.add_script(move |request| match request.kind {
        Kind::Soap(Action::AddPortMapping | Action::AddAnyPortMapping) => reply(request),
        _ => Reply::usual(),
    });
}

/// The text of an element, replaced in a body.
fn set_element(body: &mut Vec<u8>, name: &str, value: &str) {
    let text = String::from_utf8_lossy(body).into_owned();
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = text.split_once(&open).and_then(|(head, rest)| Some((head, rest.split_once(&close)?.1)));
    if let Some((head, tail)) = parts {
        *body = format!("{head}{open}{value}{close}{tail}").into_bytes();
    }
}
