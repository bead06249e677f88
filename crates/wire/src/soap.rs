//! SOAP 1.1 as UPnP control uses it.

#![forbid(unsafe_code)]
use super::xml::{Tag, Tags};
use super::{Malformed, lossy_text, printable};
use quick_xml::escape::escape;
use std::fmt::Write;

#[cfg(test)]
mod tests;

/// Out arguments kept of one response, at most: an action of WANIPConnection has eight at most.
const MAX_ARGUMENTS: usize = 32;

/// Characters kept of an error description.
const MAX_DESCRIPTION_CHARS: usize = 200;

/// The body of a call of `action` of `service_type` with `arguments` in order, XML-escaped. Control characters,
/// which XML cannot hold, become spaces; spaces at the ends are cut.
pub fn emit(service_type: &str, action: &str, arguments: &[(&str, &str)]) -> String {
    // UDA 2.0 §3.2.1: the envelope, body and action elements with exactly these attributes.
    let mut body = format!(
        "<?xml version=\"1.0\"?>\r\n\
         <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\">\
         <s:Body><u:{action} xmlns:u=\"{}\">",
        escape(printable(service_type, usize::MAX)),
    );
    for (name, value) in arguments {
        // Writing to a String cannot fail.
        let _ = write!(body, "<{name}>{}</{name}>", escape(printable(value, usize::MAX)));
    }
    let _ = write!(body, "</u:{action}></s:Body></s:Envelope>\r\n");
    body
}

/// The value of the SOAPACTION header (without quotes): `TYPE#ACTION`.
pub fn soap_action(service_type: &str, action: &str) -> String {
    format!("{service_type}#{action}")
}

/// A reply's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The out arguments, in order, trimmed and free of control characters; see [`get`].
    Response(Vec<(String, String)>),
    /// A UPnP error.
    Fault {
        /// errorCode, of the standard or the vendor; 0: missing, or not a 16-bit number.
        code: i64,
        /// errorDescription, else faultstring; cleaned of control characters, cut to 200 characters.
        description: String,
    },
}

/// The value of an out argument, its name compared without case.
pub fn get<'a>(arguments: &'a [(String, String)], name: &str) -> Option<&'a str> {
    arguments.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
}

/// The value of a boolean argument. UDA 2.0 §2.5: 0 and 1; for UPnP 1.0 true, false, yes and no as well.
pub fn boolean(text: &str) -> Option<bool> {
    let is_one_of = |names: [&str; 3]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
    match text {
        _ if is_one_of(["1", "true", "yes"]) => Some(true),
        _ if is_one_of(["0", "false", "no"]) => Some(false),
        _ => None,
    }
}

/// Reads a reply, tolerating errors. An empty envelope is a response without arguments (some gateways answer
/// AddPortMapping like this).
pub fn parse(bytes: &[u8]) -> Result<Reply, Malformed> {
    let text = lossy_text(bytes)?;
    let mut arguments = Vec::new();
    let mut response: Option<&str> = None;
    let (mut is_envelope, mut is_fault) = (false, false);
    let (mut code, mut description, mut fault_string) = (None, String::new(), String::new());
    for tag in Tags::new(&text) {
        if let Some(response) = response {
            match tag {
                Tag::Leaf(name, _) | Tag::Close(name) if name == response => break,
                Tag::Leaf(name, value) if arguments.len() < MAX_ARGUMENTS => {
                    arguments.push((name.to_owned(), value));
                }
                _ => {}
            }
            continue;
        }
        match tag {
            Tag::Open(name) if is_response(name) && !is_fault => response = Some(name),
            Tag::Leaf(name, _) if is_response(name) && !is_fault => {
                response = Some(name);
                break;
            }
            Tag::Open(name) => {
                is_envelope |= name.eq_ignore_ascii_case("Envelope");
                is_fault |= ["Fault", "UPnPError"].iter().any(|fault| name.eq_ignore_ascii_case(fault));
            }
            Tag::Leaf(name, value) => match name.to_ascii_lowercase().as_str() {
                "errorcode" => {
                    is_fault = true;
                    code = code.or(value.parse().ok());
                }
                "errordescription" if description.is_empty() => description = value,
                "faultstring" if fault_string.is_empty() => fault_string = value,
                "envelope" => is_envelope = true,
                "fault" => is_fault = true,
                _ => {}
            },
            Tag::Close(_) => {}
        }
    }
    if response.is_some() {
        return Ok(Reply::Response(arguments));
    }
    if is_fault {
        let description = if description.is_empty() { fault_string } else { description };
        let description = printable(&description, MAX_DESCRIPTION_CHARS);
        return Ok(Reply::Fault { code: code.unwrap_or(0), description });
    }
    if is_envelope { Ok(Reply::Response(arguments)) } else { Err(Malformed) }
}

/// UDA 2.0 §3.2.2: the name of the response element is that of the action followed by "Response".
fn is_response(name: &str) -> bool {
    name.len() > "Response".len() && name.ends_with("Response")
}
