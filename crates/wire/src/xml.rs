//! Reads the XML of gateways, tolerating errors, as a flat sequence of tags and leaf texts.
//!
//! Nesting is not checked and not kept, so no depth is too deep: a forgotten, doubled or misspelt end tag costs
//! one element, not the document. No entities but the five predefined ones and character references are resolved.

#![forbid(unsafe_code)]
use super::printable;
use quick_xml::events::Event;
use quick_xml::reader::Reader;

#[cfg(test)]
mod tests;

/// Bytes of text kept of one element, at most: more than any URL or value that is used.
const MAX_TEXT_BYTES: usize = 4096;

/// How many bytes may be read once more, in all, after broken tags: a missing bracket or quote can make a tag of
/// the whole rest of a document. As much again as the largest document that is fetched keeps the time linear.
const MAX_RESCANNED_BYTES: usize = 1 << 20;

/// A document is read up to a tag with a name longer than this, in bytes.
const MAX_NAME_BYTES: usize = 4096;

/// Start tags, and bytes of them, after which their names are forgotten.
const MAX_OPENED: usize = 1024;
const MAX_NAMES_BYTES: usize = 16 * 1024;

/// A part of a document, in order. Names are without their namespace prefix.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tag<'a> {
    /// A start tag.
    Open(&'a str),
    /// An element without child elements has ended: its text, trimmed and free of control characters.
    /// (Its `Open` came before, unless it was a self-closed tag.)
    Leaf(&'a str, String),
    /// An end tag of an element that had child elements.
    Close(&'a str),
}

/// Iterates over the tags of a document.
pub(super) struct Tags<'a> {
    text: &'a str,
    /// Reads `text` from `start` on.
    reader: Reader<&'a [u8]>,
    start: usize,
    rescanned: usize,
    /// The element just opened and the text collected since, until the next tag.
    leaf: Option<(&'a str, String)>,
    /// Bytes of names, and start tags, since the reader was made.
    names: usize,
    opened: usize,
}

/// The part before the first tag with a name that is too long.
fn before_long_name(text: &str) -> &str {
    let mut end = 0;
    for (number, piece) in text.split('<').enumerate() {
        // As quick-xml takes it.
        let is_name_end = |byte: &u8| b" \t\r\n>".contains(byte);
        let is_tag = number > 0 && !piece.starts_with(['!', '?']);
        // Of an end tag the name begins behind its slash.
        let name = piece.strip_prefix('/').unwrap_or(piece).as_bytes();
        let is_short = name.len() <= MAX_NAME_BYTES || name[..MAX_NAME_BYTES].iter().any(is_name_end);
        if is_tag && !is_short {
            return &text[..end];
        }
        end += piece.len() + usize::from(number > 0);
    }
    text
}

fn reader_of(text: &str) -> Reader<&[u8]> {
    let mut reader = Reader::from_str(text);
    let config = reader.config_mut();
    config.check_end_names = false;
    config.allow_unmatched_ends = true;
    config.allow_dangling_amp = true;
    reader
}

impl<'a> Tags<'a> {
    pub(super) fn new(text: &'a str) -> Tags<'a> {
        // quick-xml would remove it too, but not count it in its position.
        let text = before_long_name(text.trim_start_matches('\u{feff}'));
        Tags { text, reader: reader_of(text), start: 0, rescanned: 0, leaf: None, names: 0, opened: 0 }
    }

    /// How far `text` has been read.
    fn offset(&self) -> usize {
        self.start.saturating_add(usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX))
    }

    /// Goes on at the first `<` at or after `from`, where reading has come to `to` already.
    fn restart(&mut self, from: usize, to: usize) -> Option<()> {
        self.start = from + self.text.get(from..)?.find('<')?;
        self.rescanned = self.rescanned.saturating_add(to.saturating_sub(self.start));
        if self.rescanned > MAX_RESCANNED_BYTES {
            return None;
        }
        self.reader = reader_of(&self.text[self.start..]);
        (self.names, self.opened) = (0, 0);
        Some(())
    }

    /// quick-xml stores the names of all open elements, without a limit. They are not needed: beyond a certain number,
    /// a new reader continues.
    fn forget_names(&mut self, name: &str) {
        self.names += name.len();
        self.opened += 1;
        let to = self.offset();
        // It would remove a byte order mark at its beginning, and not count it.
        let rest = self.text.get(to..).filter(|rest| !rest.starts_with('\u{feff}'));
        if let Some(rest) = rest
            && (self.names > MAX_NAMES_BYTES || self.opened > MAX_OPENED)
        {
            (self.start, self.reader) = (to, reader_of(rest));
            (self.names, self.opened) = (0, 0);
        }
    }

    fn collect(&mut self, piece: &str) {
        if let Some((_, text)) = &mut self.leaf
            && text.len() < MAX_TEXT_BYTES
        {
            let mut end = piece.len().min(MAX_TEXT_BYTES - text.len());
            while !piece.is_char_boundary(end) {
                end -= 1;
            }
            text.push_str(&piece[..end]);
        }
    }
}

/// The name in a tag, from its `<` on: without slash, namespace prefix and attributes.
fn local_name(tag: &str) -> &str {
    let name = tag.trim_start_matches(['<', '/']);
    let end = name.find(|c: char| c.is_ascii_whitespace() || matches!(c, '<' | '>' | '/'));
    let name = &name[..end.unwrap_or(name.len())];
    name.rsplit(':').next().unwrap_or(name)
}

/// The meaning of `&name;`.
fn resolve(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        loop {
            let from = self.offset();
            let event = self.reader.read_event();
            let text = self.text;
            let to = self.offset();
            let raw = text.get(from..to).unwrap_or_default();
            let event = match event {
                Ok(event) => event,
                // Mostly a tag that never ends: what follows its `<` may still make sense.
                Err(_) => {
                    self.restart(from + 1, text.len())?;
                    continue;
                }
            };
            // XML 1.0 §2.4, §3.1: no `<` inside a tag. So a bracket or a quote is missing, and what quick-xml took
            // for one tag are several.
            if matches!(
                event,
                Event::Start(_) | Event::Empty(_) | Event::End(_) | Event::PI(_) | Event::Decl(_)
            ) && let Some(inside) = raw.get(1..).and_then(|rest| rest.find('<'))
            {
                self.restart(from + 1 + inside, to)?;
            }
            match event {
                Event::Start(_) => {
                    let name = local_name(raw);
                    self.forget_names(raw);
                    if !name.is_empty() {
                        self.leaf = Some((name, String::new()));
                        return Some(Tag::Open(name));
                    }
                }
                Event::Empty(_) => {
                    self.leaf = None;
                    return Some(Tag::Leaf(local_name(raw), String::new()));
                }
                Event::End(_) => {
                    return Some(match self.leaf.take() {
                        Some((name, text)) => Tag::Leaf(name, printable(&text, MAX_TEXT_BYTES)),
                        None => Tag::Close(local_name(raw)),
                    });
                }
                Event::Text(_) => self.collect(raw),
                Event::CData(data) => self.collect(&data),
                Event::GeneralRef(name) => match resolve(&name) {
                    Some(c) => self.collect(c.encode_utf8(&mut [0; 4])),
                    None => self.collect(raw),
                },
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
                Event::Eof => return None,
            }
        }
    }
}
