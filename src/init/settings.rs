//! A site's own settings, put into the configuration that a role comes with.

use std::collections::BTreeMap;

/// Keys with their values, by section.
pub type Settings = BTreeMap<String, BTreeMap<String, String>>;

/// The configuration with these settings, its comments kept. Each takes the place of its key's line, be that commented
/// out or not; one that has none comes last in its section.
pub(super) fn merged(text: &str, settings: &Settings) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (section, keys) in settings {
        for (key, value) in keys {
            set(&mut lines, section, key, value);
        }
    }
    lines.join("\n") + "\n"
}

fn set(lines: &mut Vec<String>, section: &str, key: &str, value: &str) {
    // What is indented goes on with the value before.
    let line = format!("{key} = {}", value.replace('\n', "\n    ")).trim_end().to_owned();
    let heading = format!("[{section}]");
    let Some(begin) = lines.iter().position(|line| *line == heading) else {
        return lines.extend([String::new(), heading, line]);
    };
    let next = lines[begin + 1..].iter().position(|line| line.starts_with('['));
    let within = begin + 1..next.map_or(lines.len(), |next| begin + 1 + next);
    let is_it = |line: &str| line.split_once('=').is_some_and(|(name, _)| name.trim() == key);
    let set = within.clone().find(|&at| is_it(&lines[at]));
    let unset = || within.clone().find(|&at| lines[at].strip_prefix("# ").is_some_and(is_it));
    if let Some(at) = set.or_else(unset) {
        let more = lines[at + 1..].iter().take_while(|line| line.starts_with([' ', '\t'])).count();
        lines.splice(at..=at + more, [line]);
    } else {
        let last = within.rev().find(|&at| !lines[at].trim().is_empty()).unwrap_or(begin);
        lines.insert(last + 1, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str =
        "# A role.\n\n[worker]\n# How many.\nslots = 1\n\n[history]\n# Unset: a file.\n# url = x\n";

    fn with(settings: &[(&str, &str, &str)]) -> String {
        let mut all = Settings::new();
        for (section, key, value) in settings {
            all.entry((*section).into()).or_default().insert((*key).into(), (*value).into());
        }
        let text = merged(ROLE, &all);
        assert_eq!(merged(&text, &all), text, "a second time changes nothing");
        text
    }

    #[test]
    fn a_setting_takes_the_place_of_its_keys_line() {
        assert_eq!(with(&[]), ROLE);
        assert_eq!(with(&[("worker", "slots", "4")]), ROLE.replace("slots = 1", "slots = 4"));
        assert_eq!(with(&[("history", "url", "y")]), ROLE.replace("# url = x", "url = y"));
    }

    #[test]
    fn what_has_no_line_comes_last_in_its_section() {
        let text = with(&[("worker", "memory", "8G"), ("worker", "disk", "9G")]);
        assert_eq!(text, ROLE.replace("slots = 1\n", "slots = 1\ndisk = 9G\nmemory = 8G\n"));
        assert_eq!(with(&[("mail", "mail_from", "")]), format!("{ROLE}\n[mail]\nmail_from =\n"));
        let lists = with(&[("mail_rcpts", "x86_64", "a@b,\nc@d")]);
        assert_eq!(lists, format!("{ROLE}\n[mail_rcpts]\nx86_64 = a@b,\n    c@d\n"));
    }
}
