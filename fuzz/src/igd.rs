//! Device descriptions.

use crate::text::{assert_clean, element};
use plum::wire::igd::{self, Description};

/// The most services kept of one description.
const MAX_SERVICES: usize = 32;
/// The longest text kept of one element, in octets.
const MAX_TEXT_BYTES: usize = 4096;
/// The longest part of a device's name, in characters.
const MAX_NAME_CHARS: usize = 64;

/// Texts are clean and bounded, and a description reads the same when written as the standard says.
pub fn run(data: &[u8]) {
    let Ok(description) = igd::parse(data) else { return };
    let Description { url_base, root_device_type, name, services } = &description;
    for text in [name, root_device_type].into_iter().chain(url_base) {
        assert_clean(text);
        assert!(text.len() <= MAX_TEXT_BYTES);
    }
    assert!(url_base.as_ref().is_none_or(|base| !base.is_empty()));
    assert!(name.chars().count() <= 2 * MAX_NAME_CHARS + " / ".len());
    assert!(services.len() <= MAX_SERVICES);
    for service in services {
        assert_clean(&service.service_type);
        assert_clean(&service.control_url);
        assert!(service.service_type.len() <= MAX_TEXT_BYTES && service.control_url.len() <= MAX_TEXT_BYTES);
        assert!(service.kind().is_none() || !service.control_url.is_empty());
    }
    // Two names make one; which part was which is not to be seen any more.
    let mut expected = description.clone();
    if name.chars().count() > MAX_NAME_CHARS {
        expected.name = String::new();
    }
    assert_eq!(igd::parse(write(&expected).as_bytes()), Ok(expected));
}

/// As UPnP Device Architecture 2.0 §2.3 writes it.
fn write(description: &Description) -> String {
    let mut text = "<?xml version=\"1.0\"?>\n<root xmlns=\"urn:schemas-upnp-org:device-1-0\">\n".to_owned();
    if let Some(base) = &description.url_base {
        text += &element("URLBase", base);
    }
    text += "<device>";
    text += &element("deviceType", &description.root_device_type);
    text += &element("friendlyName", &description.name);
    text += "<serviceList>";
    for service in &description.services {
        text += "<service>\r\n";
        text += &element("serviceType", &service.service_type);
        text += &element("controlURL", &service.control_url);
        text += "</service>\t";
    }
    text + "</serviceList></device></root>\n"
}
