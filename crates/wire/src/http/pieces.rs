//! What comes in pieces, perhaps a byte at a time: no byte is looked at again because another one has come.

use super::ReadError;
use crate::append;

#[cfg(test)]
mod tests;

/// A document's root element is looked for in so many bytes: a declaration and comments may stand before it.
const ROOT_SEARCH_BYTES: usize = 4096;

/// How far a search has come in bytes that still come.
#[derive(Debug, Default)]
struct Search {
    looked_at: usize,
}

impl Search {
    /// Where the first byte is for which `wanted` holds; it is the same for all calls, and so are the bytes that were there.
    fn find(&mut self, bytes: &[u8], wanted: impl Fn(u8) -> bool) -> Option<usize> {
        let rest = &bytes[self.looked_at.min(bytes.len())..];
        let here = position(rest, wanted);
        self.looked_at += here.unwrap_or(rest.len());
        here.map(|_| self.looked_at)
    }
}

/// A line whose end may not have come yet.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) bytes: Vec<u8>,
    begin: Search,
}

impl Line {
    /// Moves bytes from `input` to the line, up to its LF: whether that has come.
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

    /// The line from its first byte on for which `counts` holds; the same for all calls about one line.
    pub(super) fn text_from(&mut self, counts: impl Fn(u8) -> bool) -> &[u8] {
        let begin = self.begin.find(&self.bytes, counts).unwrap_or(self.bytes.len());
        &self.bytes[begin..]
    }

    /// The line; the next one begins.
    pub(super) fn end(&mut self) -> Vec<u8> {
        std::mem::take(self).bytes
    }
}

/// Whether a body is an XML document that has come to its end: some servers give no length and keep the connection open.
#[derive(Debug, Default)]
pub(super) struct Document {
    begin: Search,
    root: Search,
    name: Search,
    /// The body without the NULs and the white space that it ends with: how long it is, and what was looked at of the body.
    trimmed: usize,
    looked_at: usize,
}

impl Document {
    /// `body` is what has come by now.
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

    /// Where the name of the root element stands.
    fn root(&mut self, body: &[u8]) -> Option<std::ops::Range<usize>> {
        // A byte order mark may stand before it. What begins in the middle has no root whose end could be waited for.
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

/// Where the first byte is for which `wanted` holds.
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
