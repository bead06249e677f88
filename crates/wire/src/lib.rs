//! Wire formats: parsing and emitting messages, and their limits.
//!
//! Nothing here does I/O, reads a clock or logs, and no parser panics on any input: unreadable input is [`Malformed`],
//! and the caller drops it.

#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

mod head;
pub mod http;
pub mod igd;
pub mod listing;
pub mod natpmp;
pub mod pcp;
pub mod soap;
pub mod ssdp;
mod xml;

use std::borrow::Cow;
use std::collections::TryReserveError;

/// The bytes are not a message of this format, or one that is not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The transport whose port is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Transport {
    /// IP protocol 6.
    #[cfg_attr(feature = "serde", serde(rename = "TCP"))]
    Tcp,
    /// IP protocol 17.
    #[cfg_attr(feature = "serde", serde(rename = "UDP"))]
    Udp,
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        })
    }
}

/// A text that names no transport or protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownName;

impl std::fmt::Display for UnknownName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "not a known name: transports are TCP and UDP, protocols PCP, NAT-PMP, UPnP-IGD and direct",
        )
    }
}

impl std::error::Error for UnknownName {}

impl std::str::FromStr for Transport {
    type Err = UnknownName;

    /// Reads what `Display` writes, in upper or lower case.
    fn from_str(text: &str) -> Result<Transport, UnknownName> {
        let mut all = [Transport::Tcp, Transport::Udp].into_iter();
        all.find(|transport| transport.to_string().eq_ignore_ascii_case(text)).ok_or(UnknownName)
    }
}

/// Whether a character affects the text around it: controls, line separators, and changes of text direction (Unicode
/// Standard Annex #9 §2), which make a line read differently.
pub fn is_disruptive(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// Appends bytes from the network, if there is memory for them.
fn append(bytes: &mut Vec<u8>, more: &[u8]) -> Result<(), TryReserveError> {
    bytes.try_reserve(more.len())?;
    bytes.extend_from_slice(more);
    Ok(())
}

/// Bytes from the network as text. Invalid UTF-8 becomes U+FFFD: then the text is a copy, up to three times as long, if
/// there is memory for it.
fn lossy_text(bytes: &[u8]) -> Result<Cow<'_, str>, Malformed> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Ok(Cow::Borrowed(text));
    }
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.try_reserve(chunk.valid().len() + char::REPLACEMENT_CHARACTER.len_utf8())
            .map_err(|_| Malformed)?;
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    Ok(Cow::Owned(text))
}

/// `text` without disruptive characters (each becomes a space), trimmed and cut to `max_chars` characters: safe for a
/// terminal, a log line or a request. All text from the network that a parser here returns has passed through it.
pub fn printable(text: &str, max_chars: usize) -> String {
    let spaced = |c: char| if is_disruptive(c) { ' ' } else { c };
    let cleaned: String = text.trim().chars().take(max_chars).map(spaced).collect();
    // Disruptive characters at the ends have become spaces.
    if cleaned.starts_with(' ') || cleaned.ends_with(' ') { cleaned.trim().to_owned() } else { cleaned }
}

#[cfg(test)]
mod tests {
    use super::{Transport, lossy_text, printable};

    #[test]
    fn transports_have_their_names_and_keep_the_width() {
        assert_eq!(format!("{} {:>5}", Transport::Tcp, Transport::Udp), "TCP   UDP");
    }

    #[test]
    fn printable_text_has_no_disruptive_characters_and_no_spaces_at_its_ends() {
        assert_eq!(printable("\r\n two\nlines\t\u{1b}[31m\u{85}x \0", 100), "two lines  [31m x");
        assert_eq!(printable("\u{2067}a \u{202e}txet\u{2066} \u{2028}b\u{200f}", 100), "a  txet   b");
        assert_eq!(printable("Gerät \u{fffd}", 100), "Gerät \u{fffd}");
    }

    #[test]
    fn text_of_any_bytes_is_that_of_the_standard_library() {
        for bytes in
            [&b""[..], b"plain", "Gerät".as_bytes(), b"a\xffb\xe2\x82", b"\xf0\x9f\x98x\xc0\x80", &[0x80; 50]]
        {
            assert_eq!(lossy_text(bytes).as_deref(), Ok(&*String::from_utf8_lossy(bytes)), "{bytes:?}");
        }
    }

    #[test]
    fn printable_text_is_cut_by_characters() {
        assert_eq!(printable("äöü", 2), "äö");
        assert_eq!(printable("a b", 2), "a");
        assert_eq!(printable("a", 0), "");
    }
}
