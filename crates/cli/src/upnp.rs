//! Calls of UPnP actions, and their outcomes in words.

use plum_engine::upnp::{ExchangeError, Outcome, Service};
use plum_wire::http::{Reply, Url};
use plum_wire::igd::WanService;
use plum_wire::{printable, soap};
use std::fmt;

/// The out arguments of an action, by name (see [`soap::get`]).
pub type Values = Vec<(String, String)>;

/// The reason why an action failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionError {
    /// The gateway refuses.
    Refused {
        /// UPnP's error code; some devices send negative ones.
        code: i64,
        /// The gateway's words for it.
        description: String,
    },
    /// There is no readable answer; the reason.
    NoAnswer(String),
}

impl fmt::Display for ActionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ActionError::Refused { code, description } if description.is_empty() => write!(f, "error {code}"),
            ActionError::Refused { code, description } => write!(f, "error {code}: {description}"),
            ActionError::NoAnswer(reason) => f.write_str(reason),
        }
    }
}

/// The outcome of an action.
pub fn read(
    action: &str,
    service: &Service,
    reply: &Result<Reply, ExchangeError>,
) -> Result<Values, ActionError> {
    let status = reply.as_ref().map_or(0, |reply| reply.status);
    let description = match reply.as_ref().map(|reply| soap::parse(&reply.body)) {
        Ok(Ok(soap::Reply::Fault { description, .. })) => printable(&description, 200),
        _ => String::new(),
    };
    let outcome = Outcome::read(reply);
    let reason = match (outcome.reason(), outcome) {
        (_, Outcome::Fault(code)) => return Err(ActionError::Refused { code, description }),
        // A reply without the expected argument is no answer.
        (_, Outcome::Done(values)) if !values.is_empty() || !action.starts_with("Get") => return Ok(values),
        (Some(reason), Outcome::Failed(trouble)) if trouble != ExchangeError::TimedOut => {
            format!(" at {}: {reason}", service.named.url.address)
        }
        (_, Outcome::Failed(_)) => format!(" at {}: no answer in time", service.named.url.address),
        _ => format!(": the gateway answers with status {status}"),
    };
    Err(ActionError::NoAnswer(format!("{action}{reason}")))
}

/// A boolean of a reply. UDA 2.0 §2.5: how one is written.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" => Some(true),
        "0" | "false" | "no" => Some(false),
        _ => None,
    }
}

/// A URL as it is written.
pub fn url_text(url: &Url) -> String {
    printable(&format!("http://{}{}", url.address, url.path), 200)
}

/// The name of a service in the standard.
pub fn service_name(service: &Service) -> &'static str {
    match service.named.kind {
        WanService::Ip2 => "WANIPConnection:2",
        WanService::Ip1 => "WANIPConnection:1",
        WanService::Ppp1 => "WANPPPConnection:1",
        WanService::Firewall1 => "WANIPv6FirewallControl:1",
    }
}
