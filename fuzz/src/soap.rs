//! SOAP replies and calls.

use crate::text::{assert_clean, cleaned, element};
use plum_wire::soap::{self, Reply};

/// The most arguments kept of one response.
const MAX_ARGUMENTS: usize = 32;
/// The longest text kept of one element, in octets.
const MAX_TEXT_BYTES: usize = 4096;
/// The longest error description, in characters.
const MAX_DESCRIPTION_CHARS: usize = 200;

/// Texts are clean and bounded, and a reply reads the same when written as the standard says; arguments of a call arrive
/// as they were given.
pub fn run(data: &[u8]) {
    if let Ok(reply) = soap::parse(data) {
        match &reply {
            Reply::Response(arguments) => {
                assert!(arguments.len() <= MAX_ARGUMENTS);
                for (name, value) in arguments {
                    assert_clean(value);
                    assert!(value.len() <= MAX_TEXT_BYTES);
                    assert!(soap::get(arguments, &name.to_ascii_uppercase()).is_some());
                }
            }
            Reply::Fault { description, .. } => {
                assert_clean(description);
                assert!(description.chars().count() <= MAX_DESCRIPTION_CHARS);
            }
        }
        if let Some(text) = write(&reply) {
            assert_eq!(soap::parse(text.as_bytes()), Ok(reply));
        }
    }
    calls(&String::from_utf8_lossy(data));
}

fn calls(text: &str) {
    let values: Vec<&str> = text.split('|').take(4).collect();
    let arguments: Vec<(&str, &str)> = ["NewA", "NewB", "NewC", "NewD"].into_iter().zip(values).collect();
    // Named like a response, a call can be read back.
    let body = soap::emit(text, "XResponse", &arguments);
    let expected = arguments.iter().map(|(name, value)| {
        let value = cleaned(value);
        // What is longer is cut, wherever that is.
        (value.len() <= MAX_TEXT_BYTES).then_some((name.to_string(), value))
    });
    if let Some(expected) = expected.collect::<Option<Vec<_>>>() {
        assert_eq!(soap::parse(body.as_bytes()), Ok(Reply::Response(expected)));
    }
}

/// As UDA 2.0 §3.2.2 and §3.2.5 write it; `None` where an argument has no name of an XML element.
fn write(reply: &Reply) -> Option<String> {
    let body = match reply {
        Reply::Response(arguments) => {
            let is_name = |name: &str| {
                name != "XResponse"
                    && name.starts_with(|c: char| c.is_ascii_alphabetic())
                    && name.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"_-.".contains(&octet))
            };
            let elements: Option<String> =
                arguments.iter().map(|(name, value)| is_name(name).then(|| element(name, value))).collect();
            format!("<u:XResponse xmlns:u=\"urn:x\">{}</u:XResponse>", elements?)
        }
        Reply::Fault { code, description } => format!(
            "<s:Fault><faultcode>s:Client</faultcode><faultstring>{}</faultstring><detail><UPnPError>{}{}</UPnPError>\
             </detail></s:Fault>",
            // It is taken where the description is empty.
            if description.is_empty() { "" } else { "UPnPError" },
            element("errorCode", &code.to_string()),
            element("errorDescription", description),
        ),
    };
    Some(format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>{body}\
         </s:Body></s:Envelope>"
    ))
}
