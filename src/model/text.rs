//! Text of others, made fit to be shown: builds print whatever they like, and a terminal obeys it.

/// One line, without escape sequences, control characters, and marks that turn the writing direction round.
pub fn plain(text: &str) -> String {
    let blank = |c: char| if c.is_whitespace() { ' ' } else { c };
    console::strip_ansi_codes(text).chars().map(blank).filter(|c| is_plain(*c)).collect()
}

/// The same of several lines, which stay lines, with their tabs.
pub fn plain_lines(text: &str) -> String {
    console::strip_ansi_codes(text).chars().filter(|c| is_plain(*c) || matches!(c, '\n' | '\t')).collect()
}

/// Whether a terminal shows it, and does nothing else.
pub fn is_plain(c: char) -> bool {
    // Unicode Standard Annex #9, explicit directional formatting characters.
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let hostile = "a\x1b[31mred\x1b]0;title\x07\u{9b}2J\rb\x08\x7f\u{202e}c\tä\nd";
        assert!(plain(hostile).chars().all(is_plain), "{:?}", plain(hostile));
        assert_eq!(plain("\x1b[1mbold\x1b[0m ä\tb"), "bold ä b");
        assert_eq!(plain_lines("\x1b[1ma\x1b[0m\n\tb\x07\r\n"), "a\n\tb\n");
        // However it is cut.
        assert!(plain("\x1b").is_empty() && plain("\x1b[").chars().all(is_plain));
    }
}
