//! Input that arrives in pieces, perhaps a byte at a time: no byte is scanned again because another has arrived.

use super::ReadError;
use crate::append;

#[cfg(test)]
mod tests;

/// The root element is searched for in this many bytes: a declaration and comments may precede it.
const ROOT_SEARCH_BYTES: usize = 4096;

/// The progress of a search in growing input.
#[derive(Debug, Default)]
struct Search {
    looked_at: usize,
}

impl Search {
    /// The position of the first byte for which `wanted` holds. `wanted` and the earlier bytes must be the same in all
    /// calls.
    fn find(&mut self, bytes: &[u8], wanted: impl Fn(u8) -> bool) -> Option<usize> {
        let rest = &bytes[self.looked_at.min(bytes.len())..];
        let here = position(rest, wanted);
        self.looked_at += here.unwrap_or(rest.len());
        here.map(|_| self.looked_at)
    }
}

/// A line that may still be incomplete.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) bytes: Vec<u8>,
    begin: Search,
}

impl Line {
    /// Moves bytes from `input` to the line, up to its LF; returns whether the line is complete.
    ///
    /// # Errors
    ///
    /// The line is over `limit`, or there is no memory for it.
    pub(super) fn take(&mut self, input: &mut &[u8], limit: usize) -> Result<bool, ReadError> {
        let end = position(input, |byte| byte == b'\n').map(|at| at + 1);
        let length = end.unwrap_or(input.len());
        let taken = length.min(limit.saturating_sub(self.bytes.len()));
        append(&mut self.bytes, &input[..taken])?;
        *input = &input[taken..];
        if taken < length { Err(ReadError::TooLong) } else { Ok(end.is_some()) }
    }

    /// The line from the first byte on for which `counts` holds; `counts` must be the same in all calls about one line.
    pub(super) fn text_from(&mut self, counts: impl Fn(u8) -> bool) -> &[u8] {
        let begin = self.begin.find(&self.bytes, counts).unwrap_or(self.bytes.len());
        &self.bytes[begin..]
    }

    /// Takes the line, and starts the next.
    pub(super) fn end(&mut self) -> Vec<u8> {
        std::mem::take(self).bytes
    }
}

/// Whether a body is a complete XML document: some servers send no length and keep the connection open.
#[derive(Debug, Default)]
pub(super) struct Document {
    begin: Search,
    root: Search,
    name: Search,
    /// The length of the body without trailing NULs and white space, and the scanned length of the body.
    trimmed: usize,
    looked_at: usize,
}

impl Document {
    /// `body`: the part received so far.
    pub(super) fn is_whole(&mut self, body: &[u8]) -> bool {
        let new = &body[self.looked_at..];
        let last = new.iter().rposition(|&byte| byte != 0 && !byte.is_ascii_whitespace());
        count_looks(new.len());
        if let Some(last) = last {
            self.trimmed = self.looked_at + last + 1;
        }
        self.looked_at = body.len();
        let body = &body[..self.trimmed];
        body.ends_with(b">") && self.root(body).is_some_and(|root| ends(root, body))
    }

    /// The position of the root element's name.
    fn root(&mut self, body: &[u8]) -> Option<std::ops::Range<usize>> {
        // A byte order mark may precede it. A document that starts in the middle has no root element to wait for.
        let mark = if body.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let head = &body[mark..body.len().min(mark + ROOT_SEARCH_BYTES + 1)];
        let begin = self.begin.find(head, |byte| !byte.is_ascii_whitespace())?;
        if head[begin] != b'<' || *head.get(begin + 1)? == b'/' {
            return None;
        }
        // Where the name would begin: behind a `<`.
        loop {
            let at = self.root.find(head, |byte| byte == b'<')?;
            let next = *head.get(at + 1)?;
            if next.is_ascii_alphabetic() || next == b'_' {
                let start = mark + at + 1;
                let length = self.name.find(&body[start..], |byte| b" \t\r\n/>".contains(&byte))?;
                return Some(start..start + length);
            }
            self.root.looked_at += 1;
        }
    }
}

/// Whether a body ends with the end of the element whose name stands at `name`.
fn ends(name: std::ops::Range<usize>, body: &[u8]) -> bool {
    let Some(start) = body.len().checked_sub(name.len() + 3).filter(|&start| start > name.end) else {
        return false;
    };
    // The name is compared only behind `</`, which it cannot have in it: no byte of the body is in two such comparisons.
    if !body[start..].starts_with(b"</") {
        return false;
    }
    count_looks(name.len());
    body[start + 2..].starts_with(&body[name])
}

/// The position of the first byte for which `wanted` holds.
fn position(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let here = bytes.iter().position(|&byte| wanted(byte));
    count_looks(here.map_or(bytes.len(), |at| at + 1));
    here
}

/// In tests the bytes that are looked at are counted.
fn count_looks(_bytes: usize) {
    #[cfg(test)]
    tests::LOOKS.set(tests::LOOKS.get() + _bytes);
}
