//! A table that is redrawn in place, on a terminal.

use super::{Row, Status, View, reason};
use anstyle::{AnsiColor, Style};
use std::io::{self, Write};
use std::time::Duration;
use terminal_size::{Height, Width};

/// A terminal that does not tell its size has this one.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// ECMA-48: to the start of the line so many lines up; clear to the end of the line, of the screen.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// The table.
#[derive(Debug)]
pub struct Live {
    coloured: bool,
    /// Lines that were drawn, and stand above the cursor.
    drawn: usize,
    left: Option<Duration>,
}

impl Live {
    /// A table that begins where the cursor is.
    pub fn new(coloured: bool) -> Live {
        Live { coloured, drawn: 0, left: None }
    }

    fn draw(&mut self, rows: &[Row]) -> io::Result<()> {
        let (width, height) = terminal_size::terminal_size()
            .map_or(USUAL_SIZE, |(Width(width), Height(height))| (width.into(), height.into()));
        let lines = lines(rows, self.left, width, height);
        let mut frame = String::new();
        if self.drawn > 0 {
            frame.push_str(&format!("\x1b[{}F", self.drawn));
        }
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
        self.drawn = lines.len();
        let mut out = io::stdout().lock();
        out.write_all(frame.as_bytes())?;
        out.flush()
    }
}

impl View for Live {
    fn change(&mut self, rows: &[Row], _changed: usize) -> io::Result<()> {
        self.draw(rows)
    }

    fn tick(&mut self, rows: &[Row], left: Option<Duration>) -> io::Result<()> {
        self.left = left;
        self.draw(rows)
    }

    fn wants_ticks(&self) -> bool {
        true
    }
}

/// What is drawn, each line no longer than `width`, all of them fewer than `height` (else the terminal scrolls, and the
/// first lines are out of reach).
fn lines(rows: &[Row], left: Option<Duration>, width: usize, height: usize) -> Vec<(Style, String)> {
    // The head, the foot, and the line of the cursor.
    let room = height.saturating_sub(3).max(1);
    let shown = if rows.len() <= room { rows.len() } else { room.saturating_sub(1) };
    let mut lines = vec![(
        Style::new().bold(),
        format!("{:<11} {:<8} {:<21} {:<8} {}", "PORT", "STATE", "EXTERNAL", "BY", "RENEWS IN"),
    )];
    lines.extend(rows[..shown].iter().map(line));
    if shown < rows.len() {
        let rest = &rows[shown..];
        let mapped = rest.iter().filter(|row| matches!(row.status, Status::Mapped(_))).count();
        lines.push((Style::new(), format!("... and {} more, {mapped} of them mapped", rest.len())));
    }
    let is_over = rows.iter().all(|row| matches!(row.status, Status::Removed { .. }));
    if !is_over {
        let foot = match left {
            // Rounded up: a renewal due within a second is not past.
            Some(left) => {
                let left = left.saturating_add(Duration::from_nanos(999_999_999));
                format!("They are removed in {}, or by Ctrl-C.", span(left))
            }
            None => "Ctrl-C removes them.".to_owned(),
        };
        lines.push((Style::new().dimmed(), foot));
    }
    for (_, text) in &mut lines {
        // All of it is ASCII, a column each.
        text.truncate(width.saturating_sub(1));
        text.truncate(text.trim_end().len());
    }
    lines
}

fn line(row: &Row) -> (Style, String) {
    let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
    let port = row.port;
    match &row.status {
        Status::Pending => (colour(AnsiColor::Yellow), format!("{port:<11} pending")),
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
            let protocol = external.protocol;
            (
                colour(AnsiColor::Green),
                format!("{port:<11} mapped   {external_text:<21} {protocol:<8} {renews}"),
            )
        }
        Status::Failed(obstacle) => {
            (colour(AnsiColor::Red), format!("{port:<11} failed   {}", reason(obstacle.as_ref())))
        }
        Status::Removed { confirmed } => {
            let rest = if *confirmed { "" } else { ", not confirmed by the gateway" };
            (Style::new().dimmed(), format!("{port:<11} removed{rest}"))
        }
    }
}

/// A span as people read it, in whole seconds.
pub fn span(span: Duration) -> String {
    let secs = span.as_secs();
    match (secs / 3600, secs / 60 % 60, secs % 60) {
        (0, 0, secs) => format!("{secs} s"),
        (0, minutes, secs) => format!("{minutes} min {secs:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Port;
    use plum::{External, Protocol, Renewal, Transport};

    fn row(status: Status, secs: u64) -> Row {
        let renewal = Renewal::new(Some(Duration::from_secs(secs)), Some(Duration::from_secs(secs + 1)));
        let port = Port { transport: Transport::Tcp, internal: 8080, external: None };
        Row { port, status, renewal: Some(renewal) }
    }

    fn mapped() -> Status {
        let address = "203.0.113.7:8080".parse().expect("an address");
        Status::Mapped(External::new(address, Protocol::Pcp))
    }

    fn texts(rows: &[Row], width: usize, height: usize) -> Vec<String> {
        lines(rows, None, width, height).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn shows_state_external_address_protocol_and_time_to_renewal() {
        assert_eq!(
            texts(&[row(mapped(), 3725), row(Status::Pending, 0)], 80, 24),
            [
                "PORT        STATE    EXTERNAL              BY       RENEWS IN",
                "8080/tcp    mapped   203.0.113.7:8080      PCP      1 h 02 min",
                "8080/tcp    pending",
                "Ctrl-C removes them.",
            ]
        );
    }

    #[test]
    fn the_time_that_is_left_is_rounded_up() {
        let last = |left| lines(&[row(mapped(), 1)], Some(left), 80, 24).pop().expect("the foot").1;
        assert_eq!(last(Duration::from_millis(999)), "They are removed in 1 s, or by Ctrl-C.");
        assert_eq!(last(Duration::from_secs(60)), "They are removed in 1 min 00 s, or by Ctrl-C.");
        assert_eq!(last(Duration::ZERO), "They are removed in 0 s, or by Ctrl-C.");
    }

    #[test]
    fn no_line_is_as_long_as_the_terminal_is_wide() {
        let rows = [row(Status::Failed(None), 0), row(mapped(), 61)];
        for width in 1..100 {
            assert!(texts(&rows, width, 24).iter().all(|line| line.chars().count() < width), "{width}");
        }
    }

    #[test]
    fn no_frame_is_as_high_as_the_terminal() {
        let rows = vec![row(mapped(), 1); 100];
        for height in 5..40 {
            assert!(texts(&rows, 80, height).len() < height, "{height}");
        }
        assert_eq!(texts(&rows, 80, 24)[21], "... and 80 more, 80 of them mapped");
        assert_eq!(texts(&rows[..21], 80, 24).len(), 23, "as many as there is room for are all shown");
    }

    #[test]
    fn writes_spans_as_people_read_them() {
        let texts = [0, 59, 60, 3599, 3600, 90_061].map(|secs| span(Duration::from_secs(secs)));
        assert_eq!(texts, ["0 s", "59 s", "1 min 00 s", "59 min 59 s", "1 h 00 min", "25 h 01 min"]);
    }
}
