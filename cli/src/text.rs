//! What others wrote, fit for a terminal.

use plum::wire::printable;

/// Longest name or description that is shown, in characters.
const MAX_CHARS: usize = 80;

/// Text of the network without anything that a terminal obeys: no control characters, and none that turn the direction of
/// what follows.
pub fn clean(text: &str) -> String {
    let shown: String = text.chars().map(|c| if turns(c) { ' ' } else { c }).collect();
    printable(&shown, MAX_CHARS)
}

/// Unicode's bidirectional controls (UAX #9 §2) and line separators, which count as no control characters.
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn what_a_terminal_obeys_is_gone() {
        assert_eq!(clean("\u{1b}[31mred\u{7}\u{9b}2J \u{202e}txet\u{2066}"), "[31mred  2J  txet");
        assert_eq!(clean("Gerät ü"), "Gerät ü");
        assert_eq!(clean(&"x".repeat(500)).len(), 80);
    }
}
