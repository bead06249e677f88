//! The actions of WANIPConnection and WANPPPConnection: SOAP in, SOAP out.
//!
//! It is strict where gateways are: SOAPAction and body must agree, and arguments come in the order of the
//! standard.

use super::description::escape;
use super::{
    Action, AssignedPort, Gateway, Kind, Protocol, TableEntry, Transport, WanKind, firewall, interface,
};
use std::net::{IpAddr, SocketAddr};

// WANIPConnection:2 §2.5, UDA 1.1 §3.2.5
pub(super) const INVALID_ACTION: i32 = 401;
pub(super) const INVALID_ARGS: i32 = 402;
pub(super) const NOT_AUTHORIZED: i32 = 606;
const ARRAY_INDEX_INVALID: i32 = 713;
const NO_SUCH_ENTRY: i32 = 714;
const WILDCARD_NOT_PERMITTED: i32 = 716;
const CONFLICT: i32 = 718;
const SAME_PORT_VALUES_REQUIRED: i32 = 724;
const ONLY_PERMANENT_LEASES: i32 = 725;
const NO_PORT_MAPS_AVAILABLE: i32 = 728;
const PORT_MAPPING_NOT_FOUND: i32 = 730;
const INCONSISTENT_PARAMETERS: i32 = 733;

/// The number of WANCommonInterfaceConfig, which is none of the services that map ports.
pub(super) const COMMON: usize = usize::MAX;

/// An action that was asked for.
pub(super) struct Request {
    pub action: Action,
    service: usize,
    /// The action's name as it came.
    name: String,
    service_type: String,
    arguments: Vec<(String, String)>,
    is_quoted: bool,
    flaw: Option<&'static str>,
}

impl Request {
    pub(super) fn parse(service: usize, soap_action: Option<&str>, body: &[u8]) -> Request {
        // SOAPAction: "urn:...:service:WANIPConnection:1#AddPortMapping". Gateways take it without the quotes, too.
        let soap_action = soap_action.unwrap_or_default();
        let quoted = soap_action.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let (service_type, name) = quoted.unwrap_or(soap_action).split_once('#').unwrap_or_default();
        let mut request = Request {
            action: Action::parse(name).unwrap_or(Action::Unknown),
            service,
            name: name.into(),
            service_type: service_type.into(),
            arguments: Vec::new(),
            is_quoted: quoted.is_some(),
            flaw: None,
        };
        let text = String::from_utf8_lossy(body);
        match arguments(&text, name, service_type) {
            _ if name.is_empty() => request.flaw = Some("no SOAPAction"),
            Ok(arguments) => request.arguments = arguments,
            Err(flaw) => request.flaw = Some(flaw),
        }
        request
    }

    pub(super) fn argument(&self, name: &str) -> Option<&str> {
        self.arguments.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, i32> {
        self.argument(name).and_then(|text| text.parse().ok()).ok_or(INVALID_ARGS)
    }

    pub(super) fn transport(&self) -> Result<Transport, i32> {
        let by_number = || self.argument("Protocol").and_then(firewall::transport);
        self.argument("NewProtocol").and_then(Transport::parse).or_else(by_number).ok_or(INVALID_ARGS)
    }

    /// The port it names: the internal one where there is one.
    pub(super) fn port(&self) -> Option<u16> {
        self.internal_port().or_else(|| self.external_port())
    }

    /// The internal port it names.
    pub(super) fn internal_port(&self) -> Option<u16> {
        self.number("NewInternalPort").or_else(|_| self.number("InternalPort")).ok()
    }

    /// The external port it names.
    pub(super) fn external_port(&self) -> Option<u16> {
        self.number("NewExternalPort").ok()
    }

    /// The lease it asks for.
    pub(super) fn lease(&self) -> Option<u32> {
        let names = ["NewLeaseDuration", "LeaseTime", "NewLeaseTime"];
        names.into_iter().find_map(|name| self.number(name).ok())
    }
}

/// HTTP status and body of the answer; `code`: it is this error.
pub(super) fn carry_out(
    gateway: &mut Gateway,
    from: SocketAddr,
    request: &Request,
    code: Option<i32>,
) -> (u16, String) {
    let service = gateway.config().igd.as_ref().and_then(|igd| igd.services.get(request.service)).cloned();
    if !request.is_quoted {
        gateway.complain(format!("SOAP: SOAPAction without quotes in the request of {from}"));
    }
    let result = match (service, request.flaw) {
        _ if code.is_some() => Err(code.unwrap_or_default()),
        (_, Some(flaw)) => {
            gateway.complain(format!("SOAP: {flaw} in the request of {from}"));
            Err(if flaw == WRONG_BODY { INVALID_ARGS } else { INVALID_ACTION })
        }
        (None, None) if request.service == COMMON => act_on_interface(gateway, request),
        (None, None) => Err(INVALID_ACTION),
        (Some(service), None) => {
            if request.service_type == service.kind.service_type() {
                act(gateway, from, service.kind, &service.status, request)
            } else {
                gateway.complain(format!("SOAP: no {} at this control URL", request.service_type));
                Err(INVALID_ACTION)
            }
        }
    };
    let content = match &result {
        Ok(arguments) => {
            let arguments: String =
                arguments.iter().map(|(n, v)| format!("<{n}>{}</{n}>\r\n", escape(v))).collect();
            let (name, service_type) = (&request.name, escape(&request.service_type));
            format!("<u:{name}Response xmlns:u=\"{service_type}\">\r\n{arguments}</u:{name}Response>")
        }
        Err(code) => {
            gateway.complain(format!("SOAP: error {code} to {} from {from}", request.name));
            format!(
                "<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>\
                 <UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\"><errorCode>{code}</errorCode>\
                 <errorDescription>Error {code}</errorDescription></UPnPError></detail></s:Fault>"
            )
        }
    };
    let status = if result.is_ok() { 200 } else { 500 };
    let body = format!(
        "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>{content}</s:Body></s:Envelope>\r\n"
    );
    (status, body)
}

fn act_on_interface(gateway: &mut Gateway, request: &Request) -> Result<Arguments, i32> {
    if let Some((code, _)) = gateway.faults.refusal(Kind::Soap(request.action), None) {
        return Err(code.into());
    }
    if request.service_type != interface::SERVICE_TYPE {
        gateway.complain(format!("SOAP: no {} at this control URL", request.service_type));
        return Err(INVALID_ACTION);
    }
    check_order(gateway, request)?;
    interface::act(gateway, request)
}

pub(super) type Arguments = Vec<(&'static str, String)>;

fn act(
    gateway: &mut Gateway,
    from: SocketAddr,
    kind: WanKind,
    status: &str,
    request: &Request,
) -> Result<Arguments, i32> {
    if let Some((code, _)) = gateway.faults.refusal(Kind::Soap(request.action), request.port()) {
        return Err(code.into());
    }
    let is_of_version_2 = matches!(request.action, Action::AddAnyPortMapping | Action::GetListOfPortMappings);
    let is_missing = request.action == Action::AddAnyPortMapping && gateway.faults.no_add_any;
    if is_of_version_2 && kind != WanKind::Ip2 || is_missing {
        return Err(INVALID_ACTION);
    }
    let is_of_firewall = request.action.is_of_firewall();
    if request.action.is_of_interface() || is_of_firewall != (kind == WanKind::Firewall1) {
        return Err(INVALID_ACTION);
    }
    check_order(gateway, request)?;
    match kind {
        WanKind::Firewall1 => firewall::act(gateway, from, request),
        _ => act_on_mappings(gateway, from, status, request),
    }
}

fn act_on_mappings(
    gateway: &mut Gateway,
    from: SocketAddr,
    status: &str,
    request: &Request,
) -> Result<Arguments, i32> {
    match request.action {
        Action::GetExternalIPAddress => {
            let text = match &gateway.faults.external_address_text {
                Some(text) => text.clone(),
                None if status == "Connected" || status == "Up" => {
                    gateway.config().external_address.to_string()
                }
                None => String::new(),
            };
            Ok(vec![("NewExternalIPAddress", text)])
        }
        Action::GetStatusInfo => Ok(vec![
            ("NewConnectionStatus", status.into()),
            ("NewLastConnectionError", "ERROR_NONE".into()),
            ("NewUptime", gateway.epoch().to_string()),
        ]),
        Action::GetConnectionTypeInfo => Ok(vec![
            ("NewConnectionType", "IP_Routed".into()),
            ("NewPossibleConnectionTypes", "IP_Routed".into()),
        ]),
        Action::GetNATRSIPStatus => Ok(vec![("NewRSIPAvailable", "0".into()), ("NewNATEnabled", "1".into())]),
        Action::GetSpecificPortMappingEntry => {
            let (transport, port) = (request.transport()?, request.number("NewExternalPort")?);
            let mapping = gateway.table().get(transport, port).ok_or(NO_SUCH_ENTRY)?;
            if !gateway.is_seen_by(mapping, Protocol::Upnp) {
                return Err(NO_SUCH_ENTRY);
            }
            Ok(entry(gateway, mapping))
        }
        Action::GetGenericPortMappingEntry => {
            let index: usize = request.number("NewPortMappingIndex")?;
            let mut seen = gateway.table().iter().filter(|m| gateway.is_seen_by(m, Protocol::Upnp));
            let mapping = seen.nth(index).ok_or(ARRAY_INDEX_INVALID)?;
            let mut arguments = vec![
                ("NewRemoteHost", String::new()),
                ("NewExternalPort", mapping.external_port.to_string()),
                ("NewProtocol", mapping.transport.name().to_string()),
            ];
            arguments.extend(entry(gateway, mapping));
            Ok(arguments)
        }
        Action::GetListOfPortMappings => Ok(vec![("NewPortListing", list(gateway, request)?)]),
        Action::AddPortMapping => add(gateway, from, false, request),
        Action::AddAnyPortMapping => add(gateway, from, true, request),
        Action::DeletePortMapping => {
            let (transport, port) = (request.transport()?, request.number("NewExternalPort")?);
            let mapping = gateway.table().get(transport, port).ok_or(NO_SUCH_ENTRY)?;
            if mapping.internal.ip() != from.ip() {
                return Err(NOT_AUTHORIZED);
            }
            if !gateway.is_seen_by(mapping, Protocol::Upnp) {
                return Err(NO_SUCH_ENTRY);
            }
            gateway.table_mut().remove(transport, port);
            Ok(Vec::new())
        }
        _ => Err(INVALID_ACTION),
    }
}

fn add(gateway: &mut Gateway, from: SocketAddr, any: bool, request: &Request) -> Result<Arguments, i32> {
    let transport = request.transport()?;
    let wanted: u16 = request.number("NewExternalPort")?;
    let internal_port: u16 = request.number("NewInternalPort")?;
    let client: IpAddr = request.number("NewInternalClient")?;
    let lease: u32 = request.number("NewLeaseDuration")?;
    let description = request.argument("NewPortMappingDescription").unwrap_or_default().to_string();
    if request.argument("NewEnabled") != Some("1") || internal_port == 0 {
        return Err(INVALID_ARGS);
    }
    if wanted == 0 && !any {
        return Err(WILDCARD_NOT_PERMITTED);
    }
    // Gateways in secure mode let a client map to itself only.
    if client != from.ip() {
        return Err(NOT_AUTHORIZED);
    }
    if gateway.faults.permanent_leases_only && lease != 0 {
        return Err(ONLY_PERMANENT_LEASES);
    }
    if gateway.faults.same_ports_only && wanted != internal_port {
        return Err(SAME_PORT_VALUES_REQUIRED);
    }
    let mut external_port = wanted;
    let mut old = gateway.table().get(transport, wanted).cloned();
    if any {
        let internal = SocketAddr::new(client, internal_port);
        let ours =
            old.as_ref().is_some_and(|m| m.internal == internal && gateway.is_seen_by(m, Protocol::Upnp));
        if !ours {
            let wanted = if wanted == 0 { internal_port } else { wanted };
            let assigned = match gateway.faults.assigned_port {
                AssignedPort::Exactly(0) => return Ok(vec![("NewReservedPort", "0".into())]),
                assigned => assigned,
            };
            external_port = gateway.assigned(transport, wanted, assigned).ok_or(NO_PORT_MAPS_AVAILABLE)?;
            old = None;
            if gateway.faults.same_ports_only && external_port != internal_port {
                return Err(NO_PORT_MAPS_AVAILABLE);
            }
        }
    } else if old.as_ref().is_some_and(|m| {
        m.internal.ip() != client || !gateway.is_seen_by(m, Protocol::Upnp) || gateway.faults.no_replacement
    }) {
        // An entry of the same client is overwritten, whatever its internal port.
        return Err(CONFLICT);
    }
    if old.is_none() && gateway.table().len() >= gateway.config().max_mappings {
        return Err(NO_PORT_MAPS_AVAILABLE);
    }
    let lease = gateway.faults.lifetime.unwrap_or(lease);
    let internal = SocketAddr::new(client, internal_port);
    let old = old.filter(|old| old.internal == internal);
    let expires_at = gateway.upnp_lease_end(lease, old.as_ref().and_then(|old| old.expires_at));
    let made_by = old.as_ref().map_or(Protocol::Upnp, |old| old.made_by);
    let nonce = old.and_then(|old| old.nonce);
    let granted_at = gateway.now;
    gateway.table_mut().insert(TableEntry {
        transport,
        external_port,
        internal,
        made_by,
        nonce,
        description,
        granted_at,
        expires_at,
    });
    Ok(if any { vec![("NewReservedPort", external_port.to_string())] } else { Vec::new() })
}

fn entry(gateway: &Gateway, mapping: &TableEntry) -> Arguments {
    let left = mapping.expires_at.map_or(0, |at| at.saturating_sub(gateway.now).as_secs());
    vec![
        ("NewInternalPort", mapping.internal.port().to_string()),
        ("NewInternalClient", mapping.internal.ip().to_string()),
        ("NewEnabled", "1".into()),
        ("NewPortMappingDescription", mapping.description.clone()),
        ("NewLeaseDuration", left.to_string()),
    ]
}

/// WANIPConnection:2 §2.5.21: the entries of a range of external ports, as XML in a text.
fn list(gateway: &Gateway, request: &Request) -> Result<String, i32> {
    let transport = request.transport()?;
    let (start, end): (u16, u16) = (request.number("NewStartPort")?, request.number("NewEndPort")?);
    let most: usize = request.number("NewNumberOfPorts")?;
    if !["0", "1"].contains(&request.argument("NewManage").unwrap_or_default()) {
        return Err(INVALID_ARGS);
    }
    if start > end {
        return Err(INCONSISTENT_PARAMETERS);
    }
    let is_listed = |m: &&TableEntry| {
        m.transport == transport
            && (start..=end).contains(&m.external_port)
            && gateway.is_seen_by(m, Protocol::Upnp)
    };
    let listed = gateway.table().iter().filter(is_listed).take(if most == 0 { usize::MAX } else { most });
    let text: String = listed.map(|mapping| listing(gateway, mapping)).collect();
    if text.is_empty() {
        return Err(PORT_MAPPING_NOT_FOUND);
    }
    let namespace = "urn:schemas-upnp-org:gw:WANIPConnection";
    Ok(format!("<p:PortMappingList xmlns:p=\"{namespace}\">{text}</p:PortMappingList>"))
}

fn listing(gateway: &Gateway, mapping: &TableEntry) -> String {
    let names = ["NewInternalPort", "NewInternalClient", "NewEnabled", "NewDescription", "NewLeaseTime"];
    let named = names.into_iter().zip(entry(gateway, mapping)).map(|(name, (_, value))| (name, value));
    let key = [
        ("NewRemoteHost", String::new()),
        ("NewExternalPort", mapping.external_port.to_string()),
        ("NewProtocol", mapping.transport.name().to_owned()),
    ];
    let elements: String = key
        .into_iter()
        .chain(named)
        .map(|(name, value)| format!("<p:{name}>{}</p:{name}>", escape(&value)))
        .collect();
    format!("<p:PortMappingEntry>{elements}</p:PortMappingEntry>")
}

/// UDA 1.1 §3.2.1: all input arguments, in the order of the service description.
fn check_order(gateway: &mut Gateway, request: &Request) -> Result<(), i32> {
    const KEY: [&str; 3] = ["NewRemoteHost", "NewExternalPort", "NewProtocol"];
    let expected: &[&str] = match request.action {
        Action::GetExternalIPAddress
        | Action::GetStatusInfo
        | Action::GetNATRSIPStatus
        | Action::GetConnectionTypeInfo => &[],
        action if action.is_of_interface() => &[],
        Action::GetSpecificPortMappingEntry | Action::DeletePortMapping => &KEY,
        Action::GetGenericPortMappingEntry => &["NewPortMappingIndex"],
        Action::GetListOfPortMappings => {
            &["NewStartPort", "NewEndPort", "NewProtocol", "NewManage", "NewNumberOfPorts"]
        }
        Action::AddPortMapping | Action::AddAnyPortMapping => &[
            KEY[0],
            KEY[1],
            KEY[2],
            "NewInternalPort",
            "NewInternalClient",
            "NewEnabled",
            "NewPortMappingDescription",
            "NewLeaseDuration",
        ],
        action => firewall::arguments(action),
    };
    if request.arguments.iter().map(|(name, _)| name.as_str()).eq(expected.iter().copied()) {
        return Ok(());
    }
    gateway.complain(format!("SOAP: arguments of {} missing or out of order", request.name));
    Err(INVALID_ARGS)
}

const WRONG_BODY: &str = "a body that is no such action";

/// The arguments of action `name` in a SOAP envelope. Requests are to be well-formed: no tolerance here.
fn arguments(text: &str, name: &str, service_type: &str) -> Result<Vec<(String, String)>, &'static str> {
    let start = text.find(&format!(":{name} ")).ok_or(WRONG_BODY)?;
    let prefix_at = text[..start].rfind('<').ok_or(WRONG_BODY)? + 1;
    let prefix = &text[prefix_at..start];
    let rest = &text[start..];
    let (tag, rest) = rest.split_once('>').ok_or(WRONG_BODY)?;
    if !tag.contains(&format!("xmlns:{prefix}=\"{service_type}\"")) {
        return Err("a body whose namespace is not SOAPAction's");
    }
    if tag.ends_with('/') {
        return Ok(Vec::new());
    }
    let (content, _) = rest.split_once(&format!("</{prefix}:{name}>")).ok_or(WRONG_BODY)?;
    let mut arguments = Vec::new();
    let mut rest = content.trim_start();
    while !rest.is_empty() {
        let (open, after) = rest.strip_prefix('<').and_then(|r| r.split_once('>')).ok_or(WRONG_BODY)?;
        if let Some(empty) = open.strip_suffix('/') {
            arguments.push((empty.trim_end().to_string(), String::new()));
            rest = after.trim_start();
            continue;
        }
        let (value, after) = after.split_once(&format!("</{open}>")).ok_or(WRONG_BODY)?;
        if value.contains('<') {
            return Err(WRONG_BODY);
        }
        arguments.push((open.to_string(), unescape(value)));
        rest = after.trim_start();
    }
    Ok(arguments)
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}
