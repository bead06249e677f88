//! Wire formats: bytes to meaning and back, and their limits.
//!
//! Nothing here does I/O, reads a clock or logs, and no parser panics, whatever the bytes: what it
//! cannot make sense of is [`Malformed`], and the caller drops it.

#![forbid(unsafe_code)]

mod head;
pub mod http;
pub mod igd;
pub mod natpmp;
pub mod pcp;
pub mod soap;
pub mod ssdp;
mod xml;

/// The bytes are not a message of this format, or one that is not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// The transport whose port is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
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

/// `text` without control characters (each becomes a space), trimmed and cut to `max_chars` characters: what
/// came from the network, made fit for a line of a log or of a request.
pub fn printable(text: &str, max_chars: usize) -> String {
    let spaced = |c: char| if c.is_control() { ' ' } else { c };
    let cleaned: String = text.trim().chars().take(max_chars).map(spaced).collect();
    // Control characters at the ends have become spaces only now.
    if cleaned.starts_with(' ') || cleaned.ends_with(' ') { cleaned.trim().to_owned() } else { cleaned }
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn printable_text_has_no_control_characters_and_no_spaces_at_its_ends() {
        assert_eq!(printable("\r\n two\nlines\t\u{1b}[31m\u{85}x \0", 100), "two lines  [31m x");
        assert_eq!(printable("Gerät \u{fffd}", 100), "Gerät \u{fffd}");
    }

    #[test]
    fn printable_text_is_cut_by_characters() {
        assert_eq!(printable("äöü", 2), "äö");
        assert_eq!(printable("a b", 2), "a");
        assert_eq!(printable("a", 0), "");
    }
}
