//! SOAP 1.1 as UPnP control uses it.

#![forbid(unsafe_code)]
use super::Malformed;

/// The body of a call of `action` of `service_type` with `arguments` in order, XML-escaped.
pub fn emit(_service_type: &str, _action: &str, _arguments: &[(&str, &str)]) -> String {
    todo!()
}

/// The value of the SOAPACTION header (without quotes): `TYPE#ACTION`.
pub fn soap_action(service_type: &str, action: &str) -> String {
    format!("{service_type}#{action}")
}

/// A reply's body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The out arguments, in order; see [`get`].
    Response(Vec<(String, String)>),
    /// A UPnP error.
    Fault {
        /// errorCode of the standard, or the vendor's.
        code: u16,
        /// errorDescription, cleaned of control characters, cut to 200 characters.
        description: String,
    },
}

/// The value of an out argument, its name compared without case.
pub fn get<'a>(arguments: &'a [(String, String)], name: &str) -> Option<&'a str> {
    arguments.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
}

/// Reads a reply, however sloppy.
pub fn parse(_bytes: &[u8]) -> Result<Reply, Malformed> {
    todo!()
}
