//! Device descriptions.

use crate::text::{assert_clean, element};
use plum_wire::igd::{self, Description};

/// The most services kept of one description.
const MAX_SERVICES: usize = 32;
/// The longest text kept of one element, in octets.
const MAX_TEXT_BYTES: usize = 4096;
/// The longest name of a device or of its maker, in characters.
const MAX_NAME_CHARS: usize = 64;
/// The most UDNs kept of one description, and the longest, in characters.
const MAX_UDNS: (usize, usize) = (16, 128);

/// Texts are clean and bounded, and a description reads the same when written as the standard says.
pub fn run(data: &[u8]) {
    let Ok(description) = igd::parse(data) else { return };
    let Description {
        url_base,
        root_device_type,
        friendly_name,
        manufacturer,
        model_name,
        udns,
        services,
        common_interface,
    } = &description;
    let names = [friendly_name, manufacturer, model_name];
    for text in names.into_iter().chain([root_device_type]).chain(url_base).chain(udns) {
        assert_clean(text);
        assert!(text.len() <= MAX_TEXT_BYTES);
    }
    assert!(url_base.as_ref().is_none_or(|base| !base.is_empty()));
    assert!(names.iter().all(|name| name.chars().count() <= MAX_NAME_CHARS));
    assert!(description.name().chars().count() <= 2 * MAX_NAME_CHARS + " / ".len());
    assert!(udns.len() <= MAX_UDNS.0 && udns.iter().all(|udn| udn.chars().count() <= MAX_UDNS.1));
    assert!(services.len() <= MAX_SERVICES);
    for service in services.iter().chain(common_interface) {
        assert_clean(&service.service_type);
        assert_clean(&service.control_url);
        assert!(service.service_type.len() <= MAX_TEXT_BYTES && service.control_url.len() <= MAX_TEXT_BYTES);
        assert!(service.kind().is_none() || !service.control_url.is_empty());
        assert!(service.kind().is_none() || service.firewall_kind().is_none());
    }
    assert_eq!(igd::parse(write(&description).as_bytes()), Ok(description));
}

/// As UDA 2.0 §2.3 writes it.
fn write(description: &Description) -> String {
    let mut text = "<?xml version=\"1.0\"?>\n<root xmlns=\"urn:schemas-upnp-org:device-1-0\">\n".to_owned();
    if let Some(base) = &description.url_base {
        text += &element("URLBase", base);
    }
    text += "<device>";
    text += &element("deviceType", &description.root_device_type);
    text += &element("friendlyName", &description.friendly_name);
    text += &element("manufacturer", &description.manufacturer);
    text += &element("modelName", &description.model_name);
    for udn in &description.udns {
        text += &element("UDN", udn);
    }
    text += "<serviceList>";
    for service in description.services.iter().chain(&description.common_interface) {
        text += "<service>\r\n";
        text += &element("serviceType", &service.service_type);
        text += &element("controlURL", &service.control_url);
        text += "</service>\t";
    }
    text + "</serviceList></device></root>\n"
}
