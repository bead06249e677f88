//! UPnP device descriptions of Internet gateway devices.

#![forbid(unsafe_code)]
use super::xml::{Tag, Tags};
use super::{Malformed, lossy_text, printable};

#[cfg(test)]
mod tests;

/// Services kept of one description, at most. Real gateways list one to four; more would only cost requests.
const MAX_SERVICES: usize = 32;

/// UDNs kept of one description, at most.
const MAX_UDNS: usize = 16;

/// Longer UDNs are ignored, in characters.
const MAX_UDN_CHARS: usize = 128;

/// Characters kept of each part of a device's name, at most.
const MAX_NAME_CHARS: usize = 64;

/// The relevant content of a device description.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// URLBase, trimmed, when present and not empty.
    pub url_base: Option<String>,
    /// deviceType of the root device, cleaned of control characters and cut, as the next three are; empty when missing.
    pub root_device_type: String,
    /// Its friendlyName.
    pub friendly_name: String,
    /// Its manufacturer.
    pub manufacturer: String,
    /// Its modelName.
    pub model_name: String,
    /// UDN (`uuid:...`) of the root device, then of its embedded devices, 16 at most.
    pub udns: Vec<String>,
    /// The services named WANIPConnection, WANPPPConnection or WANIPv6FirewallControl (any vendor), in document order,
    /// 32 at most.
    pub services: Vec<Service>,
    /// The first WANCommonInterfaceConfig (any vendor) with a control URL. This service reports the link and its traffic.
    pub common_interface: Option<Service>,
}

impl Description {
    /// friendlyName / modelName, for the log.
    pub fn name(&self) -> String {
        match (self.friendly_name.as_str(), self.model_name.as_str()) {
            ("", name) | (name, "") => name.to_owned(),
            (friendly_name, model_name) => format!("{friendly_name} / {model_name}"),
        }
    }

    /// Whether it is of a device with this UDN, or one of its embedded devices has it.
    pub fn is_named(&self, udn: &str) -> bool {
        self.udns.iter().any(|known| known.eq_ignore_ascii_case(udn))
    }

    /// The version of InternetGatewayDevice; `None`: the root device is something else.
    pub fn igd_version(&self) -> Option<u32> {
        let version =
            self.root_device_type.strip_prefix("urn:schemas-upnp-org:device:InternetGatewayDevice:")?;
        version.parse().ok()
    }
}

/// A service of a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// serviceType as written, trimmed.
    pub service_type: String,
    /// controlURL as written, trimmed, entities resolved; empty when missing.
    pub control_url: String,
}

/// The services that can map ports, best first, and the one that opens pinholes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WanService {
    /// WANIPConnection:2
    Ip2,
    /// WANIPConnection:1
    Ip1,
    /// WANPPPConnection:1
    Ppp1,
    /// WANIPv6FirewallControl:1: pinholes for IPv6.
    Firewall1,
}

/// Vendor, name and version of `urn:VENDOR:service:NAME:VERSION`.
fn split_type(service_type: &str) -> Option<(&str, &str, &str)> {
    let mut parts = service_type.split(':');
    let urn = parts.next()?;
    let (vendor, kind, name, version) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let fits =
        urn.eq_ignore_ascii_case("urn") && kind.eq_ignore_ascii_case("service") && parts.next().is_none();
    fits.then_some((vendor, name, version))
}

impl Service {
    /// The kind of a service type of the DSL Forum, used only on devices without services of the UPnP Forum.
    pub fn dsl_forum_kind(&self) -> Option<WanService> {
        let (vendor, name, _) = split_type(&self.service_type)?;
        if !vendor.eq_ignore_ascii_case("dslforum-org") || self.control_url.is_empty() {
            return None;
        }
        match name {
            name if name.eq_ignore_ascii_case("WANIPConnection") => Some(WanService::Ip1),
            name if name.eq_ignore_ascii_case("WANPPPConnection") => Some(WanService::Ppp1),
            _ => None,
        }
    }

    /// The kind of a service that maps ports: only for `urn:schemas-upnp-org`, and only with a control URL.
    pub fn kind(&self) -> Option<WanService> {
        match self.forum_name()? {
            (name, _) if name.eq_ignore_ascii_case("WANPPPConnection") => Some(WanService::Ppp1),
            (name, version) if name.eq_ignore_ascii_case("WANIPConnection") => {
                Some(if version == 1 { WanService::Ip1 } else { WanService::Ip2 })
            }
            _ => None,
        }
    }

    /// The kind of a service that opens pinholes for IPv6, likewise.
    pub fn firewall_kind(&self) -> Option<WanService> {
        let (name, _) = self.forum_name()?;
        name.eq_ignore_ascii_case("WANIPv6FirewallControl").then_some(WanService::Firewall1)
    }

    /// Name and version of a service of the UPnP Forum with a control URL. UDA 2.0 §2.3: a higher version does all that
    /// the lower ones do.
    fn forum_name(&self) -> Option<(&str, u32)> {
        let (vendor, name, version) = split_type(&self.service_type)?;
        let is_forums = vendor.eq_ignore_ascii_case("schemas-upnp-org") && !self.control_url.is_empty();
        let version = version.parse().ok().filter(|&version| version > 0 && is_forums)?;
        Some((name, version))
    }

    /// Whether its name, of any vendor, is one of these.
    fn is_one_of(&self, names: &[&str]) -> bool {
        split_type(&self.service_type)
            .is_some_and(|(_, name, _)| names.iter().any(|known| name.eq_ignore_ascii_case(known)))
    }
}

/// Reads a description, tolerating errors; `Malformed`: it has no element of a device description.
pub fn parse(bytes: &[u8]) -> Result<Description, Malformed> {
    let text = lossy_text(bytes)?;
    let (mut url_base, mut root_device_type) = (None, None);
    let (mut friendly_name, mut manufacturer, mut model_name) = (None, None, None);
    let (mut service_type, mut control_url) = (None, None);
    let (mut services, mut common_interface, mut udns) = (Vec::new(), None, Vec::new());
    let mut keep = |service_type: Option<String>, control_url: Option<String>| {
        let (service_type, control_url) = (service_type.unwrap_or_default(), control_url.unwrap_or_default());
        let service = Service { service_type, control_url };
        if service.is_one_of(&["WANIPConnection", "WANPPPConnection", "WANIPv6FirewallControl"]) {
            if services.len() < MAX_SERVICES {
                services.push(service);
            }
        } else if service.is_one_of(&["WANCommonInterfaceConfig"]) && !service.control_url.is_empty() {
            common_interface.get_or_insert(service);
        }
    };
    // Nesting is ignored: the root device is the first, and the parts of a service lie between two tags that are not
    // its own. So cut and misnested descriptions can be read.
    for tag in Tags::new(&text) {
        let name = match &tag {
            Tag::Open(name) | Tag::Close(name) | Tag::Leaf(name, _) => name.to_ascii_lowercase(),
        };
        if ["service", "servicelist", "device", "devicelist"].contains(&name.as_str()) {
            keep(service_type.take(), control_url.take());
        }
        let Tag::Leaf(_, value) = tag else { continue };
        let is_udn = name == "udn" && (1..=MAX_UDN_CHARS).contains(&value.chars().count());
        if is_udn && udns.len() < MAX_UDNS {
            udns.push(printable(&value, MAX_UDN_CHARS));
        }
        let slot = match name.as_str() {
            "urlbase" => &mut url_base,
            "devicetype" => &mut root_device_type,
            "friendlyname" => &mut friendly_name,
            "manufacturer" => &mut manufacturer,
            "modelname" => &mut model_name,
            "servicetype" => &mut service_type,
            "controlurl" => &mut control_url,
            _ => continue,
        };
        slot.get_or_insert(value);
    }
    // A description cut behind the last control URL.
    keep(service_type, control_url);

    let name = |text: Option<String>| printable(&text.unwrap_or_default(), MAX_NAME_CHARS);
    let description = Description {
        url_base: url_base.filter(|base: &String| !base.is_empty()),
        root_device_type: name(root_device_type),
        friendly_name: name(friendly_name),
        manufacturer: name(manufacturer),
        model_name: name(model_name),
        udns,
        services,
        common_interface,
    };
    if description.root_device_type.is_empty() && description.services.is_empty() {
        return Err(Malformed);
    }
    Ok(description)
}
