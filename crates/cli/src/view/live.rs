//! A table that is redrawn in place, on a terminal.

use super::text::{cut, span, wrap};
use super::{Row, Status, View, by_family};
use anstyle::{AnsiColor, Style};
use plum::Protocol;
use std::env;
use std::io::{self, Write};
use std::time::Duration;
use terminal_size::{Height, Width};

/// A terminal that does not tell its size has this one.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// The width of the longest IPv4 address and port.
const IPV4_WIDTH: usize = 21;

/// ECMA-48: clear to the end of the line, of the screen.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// The table.
#[derive(Debug)]
pub struct Live {
    coloured: bool,
    /// The lengths of the lines that were drawn, and stand above the cursor.
    drawn: Vec<usize>,
    end: End,
}

/// When the mappings are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    ByCtrlC,
    /// After this time at the latest.
    In(Duration),
    /// The gateway's answers to the removal are waited for.
    Removing,
    /// All mappings are removed.
    Past,
}

impl Live {
    /// A table that begins where the cursor is.
    pub fn new(coloured: bool) -> Live {
        Live { coloured, drawn: Vec::new(), end: End::ByCtrlC }
    }

    /// Draws it anew: a second has passed, or the terminal has another size. `left`: the rest of the time of `--for`.
    pub fn tick(&mut self, rows: &[Row], left: Option<Duration>) -> io::Result<()> {
        self.end = left.map_or(End::ByCtrlC, End::In);
        self.draw(rows)
    }

    /// Draws it while the mappings are being removed.
    pub fn begin_removal(&mut self, rows: &[Row]) -> io::Result<()> {
        let is_any_mapped = rows.iter().any(|row| matches!(row.status, Status::Mapped(_)));
        self.end = if is_any_mapped { End::Removing } else { End::Past };
        self.draw(rows)
    }

    /// Draws it for the last time.
    pub fn finish(&mut self, rows: &[Row]) -> io::Result<()> {
        self.end = End::Past;
        self.draw(rows)
    }

    /// Takes it from the terminal, so that others can write there; the next frame begins where the cursor is then.
    pub fn erase(&mut self) -> io::Result<()> {
        let frame = self.to_start(size().0) + CLEAR_BELOW;
        self.drawn.clear();
        write(&frame)
    }

    /// Begins a new table on the line of the cursor, and leaves the old one where it is.
    pub fn restart(&mut self) -> io::Result<()> {
        self.drawn.clear();
        self.erase()
    }

    /// What moves the cursor to the start of the last frame (ECMA-48: so many lines up), on a terminal of this width.
    fn to_start(&self, width: usize) -> String {
        match height(&self.drawn, if wraps_anew() { width } else { usize::MAX }) {
            0 => "\r".to_owned(),
            height => format!("\x1b[{height}F"),
        }
    }

    fn draw(&mut self, rows: &[Row]) -> io::Result<()> {
        let (width, height) = size();
        let lines = lines(rows, self.end, width, height);
        let mut frame = if self.drawn.is_empty() { String::new() } else { self.to_start(width) };
        for (style, text) in &lines {
            if self.coloured && *style != Style::new() {
                frame.push_str(&format!("{style}{text}{style:#}"));
            } else {
                frame.push_str(text);
            }
            frame.push_str(CLEAR_LINE);
            frame.push('\n');
        }
        frame.push_str(CLEAR_BELOW);
        self.drawn = lines.iter().map(|(_, text)| text.chars().count()).collect();
        write(&frame)
    }
}

impl View for Live {
    fn change(&mut self, rows: &[Row], _changed: usize) -> io::Result<()> {
        self.draw(rows)
    }

    fn warn(&mut self, rows: &[Row], _concerned: usize) -> io::Result<()> {
        self.draw(rows)
    }

    fn as_live(&mut self) -> Option<&mut Live> {
        Some(self)
    }
}

fn write(frame: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(frame.as_bytes())?;
    out.flush()
}

fn size() -> (usize, usize) {
    terminal_size::terminal_size()
        .map_or(USUAL_SIZE, |(Width(width), Height(height))| (width.into(), height.into()))
}

/// Whether the terminal breaks lines anew that are longer than it has become wide. Of those in use, these cut them off.
fn wraps_anew() -> bool {
    let has = |name| env::var_os(name).is_some();
    !(has("XTERM_VERSION") || has("STY") || env::var_os("TERM").is_some_and(|term| term == "linux"))
}

/// How many lines of the terminal are taken by lines of these lengths.
fn height(lengths: &[usize], width: usize) -> usize {
    lengths.iter().map(|length| length.div_ceil(width.max(1)).max(1)).sum()
}

/// What is drawn, each line no longer than `width`, all of them fewer than `height` (else the terminal scrolls, and the
/// first lines are out of reach).
fn lines(rows: &[Row], end: End, width: usize, height: usize) -> Vec<(Style, String)> {
    let width = width.saturating_sub(1);
    let notes = notes(rows, width);
    // The head, the foot, and the line of the cursor.
    let room = height.saturating_sub(3).max(1);
    // Rows come first, but for what the first notes need.
    let for_rows = room - notes.len().min(room / 3);
    let shown = if rows.len() <= for_rows { rows.len() } else { for_rows.saturating_sub(1) };
    let external_len = |row: &Row| match &row.status {
        Status::Mapped(external) => external.to_string().len(),
        _ => 0,
    };
    let external_width = rows.iter().map(external_len).max().unwrap_or(0).max(IPV4_WIDTH);
    let mut lines = vec![(
        Style::new().bold(),
        format!("{:<11} {:<8} {:<external_width$} {:<8} {}", "PORT", "STATE", "EXTERNAL", "BY", "RENEWS IN"),
    )];
    lines.extend(rows[..shown].iter().map(|row| line(row, external_width, width)));
    if shown < rows.len() {
        let rest = &rows[shown..];
        let mapped = rest.iter().filter(|row| matches!(row.status, Status::Mapped(_))).count();
        lines.push((Style::new(), format!("... and {} more, {mapped} of them mapped", rest.len())));
    }
    let room_for_notes = room + 1 - lines.len();
    lines.extend(shortened(notes, room_for_notes).into_iter().map(|text| (Style::new(), text)));
    let foot = match end {
        // Rounded up: a renewal due within a second is not past.
        End::In(left) => {
            let left = left.saturating_add(Duration::from_nanos(999_999_999));
            Some(format!("They are removed in {}, or by Ctrl-C.", span(left)))
        }
        End::ByCtrlC => Some("Ctrl-C removes them.".to_owned()),
        End::Removing => {
            Some("The gateway is asked to remove them; Ctrl-C ends the wait for its answer.".to_owned())
        }
        End::Past => None,
    };
    lines.extend(foot.map(|foot| (Style::new().dimmed(), foot)));
    for (_, text) in &mut lines {
        *text = cut(text.trim_end(), width);
    }
    lines
}

/// The first lines of some, with an ellipsis in the last if others are left out.
fn shortened(mut lines: Vec<String>, count: usize) -> Vec<String> {
    if lines.len() > count {
        lines.truncate(count);
        if let Some(last) = lines.last_mut() {
            *last += " ...";
        }
    }
    lines
}

/// What is said of the rows below them: each sentence once, with the rows that it is about.
fn notes(rows: &[Row], width: usize) -> Vec<String> {
    let mut notes: Vec<(String, Vec<&Row>)> = Vec::new();
    for row in rows {
        let failure = row.failure().map(ToString::to_string);
        for text in row.remarks().into_iter().chain(failure).chain(row.warning.clone()) {
            match notes.iter_mut().find(|(known, _)| *known == text) {
                Some((_, concerned)) => concerned.push(row),
                None => notes.push((text, vec![row])),
            }
        }
    }
    let paragraph = |(text, concerned): (String, Vec<&Row>)| {
        let first = concerned[0].port;
        let whom = match concerned.len() {
            1 => format!("{first}{}", by_family(first)),
            count if count == rows.len() => "All".to_owned(),
            count => format!("{first}{} and {} more", by_family(first), count - 1),
        };
        wrap(&format!("{whom}: {text}."), width)
    };
    notes.into_iter().flat_map(paragraph).collect()
}

fn line(row: &Row, external_width: usize, width: usize) -> (Style, String) {
    let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
    let port = row.port;
    let family = by_family(port);
    match &row.status {
        Status::Pending => (colour(AnsiColor::Yellow), format!("{port:<11} pending{family}")),
        Status::Lost => (colour(AnsiColor::Yellow), format!("{port:<11} lost{family}, is being made again")),
        Status::Mapped(external) => {
            let renews = match row.renewal {
                None => String::new(),
                Some(renewal) => match (renewal.renews_in, renewal.expires_in) {
                    (Some(left), _) => span(left),
                    (None, Some(left)) => format!("unanswered, ends in {}", span(left)),
                    (None, None) => "never".to_owned(),
                },
            };
            let external_text = external.to_string();
            let by = match external.protocol {
                Protocol::Direct => "itself".to_owned(),
                protocol => protocol.to_string(),
            };
            (
                colour(AnsiColor::Green),
                format!("{port:<11} mapped   {external_text:<external_width$} {by:<8} {renews}"),
            )
        }
        Status::Failed(failure) => {
            let family = if port.is_ipv6() { "by IPv6: " } else { "" };
            let start = format!("{port:<11} failed   {family}");
            let next_try =
                row.next_try.map_or_else(String::new, |left| format!(", next try in {}", span(left)));
            let room = width.saturating_sub(start.len() + next_try.len());
            (colour(AnsiColor::Red), format!("{start}{}{next_try}", cut(&failure.words, room)))
        }
        Status::Removed { confirmed } => {
            let rest = if *confirmed { "" } else { ", not confirmed by the gateway" };
            (Style::new().dimmed(), format!("{port:<11} removed{family}{rest}"))
        }
    }
}

#[cfg(test)]
mod tests;
