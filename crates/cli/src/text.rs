//! Text from the network, made safe for a terminal.

use plum_wire::printable;

/// Longest name or description that is shown, in characters.
const MAX_CHARS: usize = 80;

/// Text from the network without control characters and direction marks, cut to a length.
pub fn clean(text: &str) -> String {
    printable(text, MAX_CHARS)
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
