//! Reads replies from bytes in pieces of any size.

use super::pieces::{Document, Line};
use crate::append;
use crate::head::{Head, is_blank, status};
use std::collections::TryReserveError;
use std::fmt;

/// Longest head, in bytes; a gateway's takes some 300.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Longest line with a chunk's size, in bytes: extensions are allowed, but rare and short.
const MAX_CHUNK_LINE_BYTES: usize = 1024;

/// A complete reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// The Location header, for redirects.
    pub location: Option<String>,
    /// The body, decoded if it was chunked.
    pub body: Vec<u8>,
}

/// Why a reply cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// Not HTTP, or cut off before the body.
    Malformed,
    /// Over the limit.
    TooLong,
    /// There is no memory for it.
    NoMemory,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReadError::Malformed => "malformed",
            ReadError::TooLong => "too long",
            ReadError::NoMemory => "larger than the memory that is left",
        })
    }
}

impl From<TryReserveError> for ReadError {
    fn from(_: TryReserveError) -> ReadError {
        ReadError::NoMemory
    }
}

/// What may be missing from a reply that may be complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// The body is a complete document, but shorter than Content-Length.
    Promised,
    /// There is no body yet, and the header does not say whether there will be one.
    Body,
}

/// The kind of the next bytes.
#[derive(Debug)]
enum ReadState {
    /// Lines of the head; the complete ones are in `head`.
    Head,
    /// Body until the connection is closed.
    UntilClose,
    /// This many bytes of body.
    Length(u64),
    /// A line with a chunk's size. In front of the first one, `first` holds what the body is taken for if
    /// there is no size: some devices promise chunks and send none.
    ChunkSize { first: Option<Box<ReadState>> },
    /// This many bytes of a chunk.
    Chunk(u64),
    /// The reply was returned, or there is none.
    Done,
}

/// Reads one reply from bytes as they come, at most `limit` bytes in all.
#[derive(Debug)]
pub struct ReplyReader {
    /// How many more bytes may come.
    room: usize,
    state: ReadState,
    line: Line,
    head: Vec<u8>,
    reply: Reply,
    /// The state of the body as a document.
    document: Document,
}

impl ReplyReader {
    /// A reader for a reply of at most `limit` bytes, head and body together.
    pub fn new(limit: usize) -> ReplyReader {
        ReplyReader {
            room: limit,
            state: ReadState::Head,
            line: Line::default(),
            head: Vec::new(),
            reply: Reply { status: 0, location: None, body: Vec::new() },
            document: Document::default(),
        }
    }

    /// Takes more bytes; returns the reply once its own length is reached (Content-Length, last chunk). Interim replies
    /// (1xx) are skipped.
    ///
    /// Bytes received together with the last byte of Content-Length count as body, too: some gateways state too small a
    /// length. More are not waited for. After the reply or an error, further bytes are ignored.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Reply>, ReadError> {
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        let result = match self.read(&bytes[..taken]) {
            Ok(false) if taken < bytes.len() && !matches!(self.state, ReadState::Done) => {
                Err(ReadError::TooLong)
            }
            Ok(complete) => Ok(complete.then(|| self.take_reply())),
            Err(error) => Err(error),
        };
        if !matches!(result, Ok(None)) {
            self.state = ReadState::Done;
        }
        result
    }

    /// Ends the reply when the gateway has closed the connection: the received part counts, even if Content-Length is
    /// larger.
    pub fn finish(mut self) -> Result<Reply, ReadError> {
        match self.state {
            ReadState::Head | ReadState::Done => Err(ReadError::Malformed),
            ReadState::UntilClose
            | ReadState::Length(_)
            | ReadState::ChunkSize { .. }
            | ReadState::Chunk(_) => Ok(self.take_reply()),
        }
    }

    /// Whether the end of the connection cuts the reply off: Content-Length or the last chunk is still to come.
    pub fn is_cut(&self) -> bool {
        !matches!(self.state, ReadState::UntilClose | ReadState::Done)
    }

    /// What may be missing, if the received part may be all although the connection stays open.
    pub fn may_be_all(&mut self) -> Option<Rest> {
        match self.state {
            // Some servers state too large a length.
            ReadState::Length(_) if self.document.is_whole(&self.reply.body) => Some(Rest::Promised),
            // Some send no body without saying so.
            ReadState::UntilClose if self.reply.body.is_empty() => Some(Rest::Body),
            _ => None,
        }
    }

    fn take_reply(&mut self) -> Reply {
        std::mem::replace(&mut self.reply, Reply { status: 0, location: None, body: Vec::new() })
    }

    /// Consumes `input`; returns whether the reply is complete.
    fn read(&mut self, mut input: &[u8]) -> Result<bool, ReadError> {
        loop {
            match &mut self.state {
                ReadState::Done => return Ok(false),
                ReadState::Head => {
                    if !self.line.take(&mut input, MAX_HEAD_BYTES)? {
                        // Input that does not start like HTTP is refused at once. (Control characters may still turn
                        // out to be a blank line, see `is_blank`.)
                        return match self.line.text_from(|byte| !is_blank(&[byte])).get(..5) {
                            Some(word) if self.head.is_empty() && !word.eq_ignore_ascii_case(b"HTTP/") => {
                                Err(ReadError::Malformed)
                            }
                            _ => Ok(false),
                        };
                    }
                    self.read_head_line()?;
                }
                ReadState::UntilClose => {
                    append(&mut self.reply.body, input)?;
                    return Ok(self.document.is_whole(&self.reply.body));
                }
                ReadState::Length(left) => {
                    *left = left.saturating_sub(input.len() as u64);
                    let complete = *left == 0;
                    append(&mut self.reply.body, input)?;
                    return Ok(complete);
                }
                ReadState::Chunk(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    let (data, rest) = input.split_at(here);
                    append(&mut self.reply.body, data)?;
                    input = rest;
                    *left -= here as u64;
                    if *left > 0 {
                        return Ok(false);
                    }
                    self.state = ReadState::ChunkSize { first: None };
                }
                ReadState::ChunkSize { first } => {
                    let got_line = self.line.take(&mut input, MAX_CHUNK_LINE_BYTES);
                    let begins = self.line.text_from(|byte| !byte.is_ascii_whitespace()).first();
                    if let Some(plain) = first.take_if(|_| begins.is_some_and(|b| !b.is_ascii_hexdigit())) {
                        self.state = *plain;
                        let line = self.line.end();
                        // The next round, with the rest of the input, shows whether that was all.
                        self.read(&line)?;
                        continue;
                    }
                    let too_long =
                        |error| if error == ReadError::TooLong { ReadError::Malformed } else { error };
                    if !got_line.map_err(too_long)? {
                        return Ok(false);
                    }
                    let line = self.line.end();
                    // The line end behind a chunk is a blank line here.
                    if is_blank(&line) {
                        continue;
                    }
                    match chunk_size(&line).ok_or(ReadError::Malformed)? {
                        // RFC 9112 §7.1: trailers follow the last chunk; nothing in them is for us, and some
                        // devices forget even the line that ends them.
                        0 => return Ok(true),
                        size => self.state = ReadState::Chunk(size),
                    }
                }
            }
        }
    }

    /// Takes the line of the head that is complete in `line`.
    fn read_head_line(&mut self) -> Result<(), ReadError> {
        let line = self.line.end();
        if !is_blank(&line) {
            if self.head.is_empty() && status(&String::from_utf8_lossy(&line)).is_none() {
                return Err(ReadError::Malformed);
            }
            if self.head.len() + line.len() > MAX_HEAD_BYTES {
                return Err(ReadError::TooLong);
            }
            append(&mut self.head, &line)?;
            return Ok(());
        }
        if self.head.is_empty() {
            // RFC 9112 §2.2 forgives empty lines before a message.
            return Ok(());
        }
        let head = Head::parse(&self.head).map_err(|_| ReadError::Malformed)?;
        self.head.clear();
        let status = status(&head.start_line).ok_or(ReadError::Malformed)?;
        if (100..200).contains(&status) {
            return Ok(());
        }
        self.reply.status = status;
        self.reply.location = Some(head.get("Location").to_owned()).filter(|location| !location.is_empty());
        self.state = framing(status, &head);
        Ok(())
    }
}

/// How the end of the body is recognised. RFC 9112 §6.3, but an invalid length is ignored.
fn framing(status: u16, head: &Head) -> ReadState {
    let length =
        head.all("Content-Length").flat_map(|value| value.split(',')).find_map(|n| n.trim().parse().ok());
    let plain = match length {
        _ if matches!(status, 204 | 304) => ReadState::Length(0),
        Some(length) => ReadState::Length(length),
        None => ReadState::UntilClose,
    };
    let is_chunked = head
        .all("Transfer-Encoding")
        .flat_map(|value| value.split([',', ';']))
        .any(|coding| coding.trim().eq_ignore_ascii_case("chunked"));
    if is_chunked { ReadState::ChunkSize { first: Some(Box::new(plain)) } } else { plain }
}

/// RFC 9112 §7.1: hexadecimal digits, then perhaps extensions.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let line = line.trim_ascii();
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at(digits);
    let rest_fits = rest.first().is_none_or(|b| *b == b';' || b.is_ascii_whitespace());
    let size = std::str::from_utf8(size).ok()?;
    if rest_fits { u64::from_str_radix(size, 16).ok() } else { None }
}
