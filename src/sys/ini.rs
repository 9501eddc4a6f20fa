//! INI files as people write them: read with what editors add to them, and looked through for what parsers pass over.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::Path;

use super::fs::open_regular;

/// Far larger than any configuration. A parser's time grows with the length of a line.
const LARGEST: u64 = 1 << 20;

/// The text of a regular file in UTF-8, without a byte order mark, its lines ended by `\n`.
pub fn read(path: &Path) -> io::Result<String> {
    let file = open_regular(path).map_err(|error| error.source)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than 1 MiB, which no configuration is"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|byte| *byte == b'\n').count();
        io::Error::other(format!("line {line} is not UTF-8 text"))
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(&text).replace("\r\n", "\n"))
}

/// What stands in a file twice. Names as they are compared: in small letters.
#[derive(Debug, PartialEq, Eq)]
pub enum Double {
    Section(String),
    Key { section: String, key: String },
}

/// The first section or key that stands there a second time.
pub fn first_double(text: &str) -> Option<Double> {
    let (mut sections, mut keys, mut section) = (HashSet::new(), HashSet::new(), String::new());
    for line in text.lines() {
        // What is indented goes on with the value before.
        if line.starts_with([' ', '\t', '#', ';']) || line.trim().is_empty() {
            continue;
        }
        if let Some(name) = line.trim_end().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim().to_lowercase();
            keys.clear();
            if !sections.insert(section.clone()) {
                return Some(Double::Section(section));
            }
            continue;
        }
        let key = line.split(['=', ':']).next().unwrap_or_default().trim().to_lowercase();
        if !keys.insert(key.clone()) {
            return Some(Double::Key { section, key });
        }
    }
    None
}

/// The known name that was most likely meant, if one is near.
pub fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let best = known.map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
    best.filter(|(distance, known)| *distance <= 1 + known.len() / 3).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_twice_is_found() {
        let key = |section: &str, key: &str| Some(Double::Key { section: section.into(), key: key.into() });
        assert_eq!(first_double("[a]\nx = 1\ny = 1\n[b]\nx = 1\n"), None);
        assert_eq!(first_double("[a]\nx = 1\n X\n x\n#x\n"), None, "the rest goes on with x");
        assert_eq!(first_double("[a]\nx = 1\nX: 2\n"), key("a", "x"));
        assert_eq!(first_double("[a]\n[b]\n[A]\n"), Some(Double::Section("a".into())));
    }
}
