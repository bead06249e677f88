//! What UPnP entries are called in the gateway's table, and how ours are recognised by that.

use std::fmt;

/// The description of entries that the program gives none.
const USUAL: &str = "libplum";

/// A longer one is cut by some gateways, so that we would not know our entry again.
const MAX_BYTES: usize = 63;

/// Descriptions that the program gave, at most: mappings that come later have the usual one.
const MAX_KNOWN: usize = 1024;

/// The description of an entry: one to 63 bytes of printable text, without white space around it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Description {
    len: u8,
    bytes: [u8; MAX_BYTES],
}

impl Description {
    /// `None`: the text is empty or too long, or has characters that cannot be printed or cannot stand in XML.
    pub fn new(text: &str) -> Option<Description> {
        let text = text.trim();
        let is_bad =
            |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}');
        if text.is_empty() || text.len() > MAX_BYTES || text.contains(is_bad) {
            return None;
        }
        let mut bytes = [0; MAX_BYTES];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(Description { len: text.len() as u8, bytes })
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// The descriptions that the program has given, by number. They stay: entries outlive their mappings.
#[derive(Debug, Default)]
pub struct Descriptions(Vec<Description>);

impl Descriptions {
    /// The number of a description; `None`: that of the usual one.
    pub fn number(&mut self, description: Description) -> Option<u16> {
        let known = self.0.iter().position(|known| *known == description);
        let number = known.or_else(|| {
            let next = self.0.len();
            (next < MAX_KNOWN).then(|| self.0.push(description))?;
            Some(next)
        });
        u16::try_from(number?).ok()
    }

    /// The text of a number.
    pub fn text(&self, number: Option<u16>) -> &str {
        let given = number.and_then(|number| self.0.get(usize::from(number)));
        given.map_or(USUAL, Description::as_str)
    }

    /// Whether an entry that is called so may be ours.
    pub fn are_ours(&self, text: &str) -> bool {
        text == USUAL || self.0.iter().any(|known| known.as_str() == text)
    }
}
