//! Text of RPM headers as XML: what is no UTF-8 is taken for Latin-1, as createrepo_c does. What XML has no
//! way to say is left as it is, for who writes to look for.

use std::borrow::Cow;

/// Bytes of a header as text. What is no UTF-8 is Latin-1; its C1 controls are dropped, since they are rather
/// CP-1252 misnamed (createrepo_c, `cr_latin1_to_utf8`).
pub fn decoded(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let kept = bytes.iter().filter(|byte| !(0x80..0xc0).contains(*byte));
    Cow::Owned(kept.map(|byte| char::from(*byte)).collect())
}

/// Content of an element.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    escaped(decoded(bytes), |c| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '\r' => Some("&#13;"),
        _ => None,
    })
}

/// An attribute's value, to stand in double quotes.
pub fn attribute(bytes: &[u8]) -> Cow<'_, str> {
    escaped(decoded(bytes), |c| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '"' => Some("&quot;"),
        // A reader makes blanks of these otherwise.
        '\r' => Some("&#13;"),
        '\n' => Some("&#10;"),
        '\t' => Some("&#9;"),
        _ => None,
    })
}

/// Whether XML 1.0 can hold it (section 2.2, Char).
pub fn is_allowed(c: char) -> bool {
    !matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

fn escaped(text: Cow<'_, str>, escape: fn(char) -> Option<&'static str>) -> Cow<'_, str> {
    if text.chars().all(|c| escape(c).is_none()) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match escape(c) {
            Some(instead) => out.push_str(instead),
            None => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_utf_8_is_latin_1() {
        assert_eq!(text("é<".as_bytes()), "é&lt;");
        assert_eq!(text(b"caf\xe9 & \x93x\x94"), "café &amp; x");
        assert_eq!(attribute(b"a\"b\nc\td\re"), "a&quot;b&#10;c&#9;d&#13;e");
        assert!(!text(b"a\x01b").chars().all(is_allowed));
    }
}
