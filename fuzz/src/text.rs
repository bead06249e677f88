//! What must hold of text that came from the network, and how it is written down again.

use plum_wire::is_disruptive;
use std::fmt::Write;

/// Fit for a line of a log or of a request: no control characters, none that turn the direction of text, no white space at the ends.
#[track_caller]
pub fn assert_clean(text: &str) {
    assert!(!text.contains(is_disruptive), "disruptive characters in {text:?}");
    assert!(text.trim() == text, "white space at the ends of {text:?}");
}

/// What cleaning leaves of a text.
pub fn cleaned(text: &str) -> String {
    text.replace(is_disruptive, " ").trim().to_owned()
}

/// As the text of an XML element.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// `<name>text</name>`, escaped.
pub fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escaped(text))
}

/// A field of an HTTP-like head, if there is something to say.
pub fn field(head: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(head, "{name}: {value}\r\n");
    }
}
