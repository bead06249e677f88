//! Lines of a certain width, and spans of time.

use std::time::Duration;

/// What stands at the end of a text that was cut.
const ELLIPSIS: &str = "...";

/// A text of `width` characters at most, with an ellipsis where more was cut.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(ELLIPSIS.len());
    let start: String = text.chars().take(kept).collect();
    start.trim_end().chars().chain(ELLIPSIS.chars()).take(width).collect()
}

/// The lines of a text, each of `width` characters at most; longer words are cut.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word = cut(word, width);
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// A span as people read it, in whole seconds.
pub fn span(span: Duration) -> String {
    let secs = span.as_secs();
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs} s"),
        (0, 0, minutes) => format!("{minutes} min {:02} s", secs % 60),
        (0, hours, minutes) => format!("{hours} h {minutes:02} min"),
        (1, hours, _) => format!("1 day {hours} h"),
        (days, hours, _) => format!("{days} days {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_spans_as_people_read_them() {
        let texts =
            [0, 59, 60, 3599, 3600, 86_399, 86_400, 604_740].map(|secs| span(Duration::from_secs(secs)));
        assert_eq!(
            texts,
            [
                "0 s",
                "59 s",
                "1 min 00 s",
                "59 min 59 s",
                "1 h 00 min",
                "23 h 59 min",
                "1 day 0 h",
                "6 days 23 h"
            ]
        );
    }

    #[test]
    fn what_is_cut_says_so_and_is_not_too_long() {
        assert_eq!(cut("the gateway", 11), "the gateway");
        assert_eq!(cut("the gateway", 8), "the g...");
        assert_eq!(cut("the gateway", 7), "the...");
        for width in 0..20 {
            assert!(cut("the gateway", width).chars().count() <= width, "{width}");
        }
    }

    #[test]
    fn wrapped_lines_have_all_words_and_fit() {
        let text = "switch on UPnP, NAT-PMP or PCP in its settings";
        for width in 8..60 {
            let lines = wrap(text, width);
            assert_eq!(lines.join(" "), text);
            assert!(lines.iter().all(|line| line.len() <= width), "{width}");
        }
        assert_eq!(wrap("switch on", 5), ["sw...", "on"]);
    }
}
