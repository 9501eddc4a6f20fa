//! What is kept, and for how long: sections [prune] and [keep].

use std::time::Duration;

use super::{ConfigError, Values};
use crate::model::Target;

const DAY: u64 = 86_400;
const LONGEST: usize = 36_500;

/// What is kept of a target's builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// So many versions of each package and arch stay in the repository, however old.
    pub newest: usize,
    /// And everything that is younger than so many days.
    pub days: u64,
    /// Logs and `build.json` of what has no RPMs (any more) stay for so many days.
    pub log_days: u64,
}

/// What is pruned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneOptions {
    /// Where no pattern of [keep] matches the target.
    pub policy: Keep,
    /// The patterns of [keep] and their policies. Of several that match a target the longest counts.
    pub keep: Vec<(String, Keep)>,
    /// Scratch builds.
    pub scratch_days: u64,
    /// Source RPMs in `incoming/` that no job in the queue names.
    pub source_days: u64,
    /// What was left in `upload/` and `results/`.
    pub leftover_days: u64,
    /// How long an RPM's file stays after the first state of the repository without it was published.
    pub grace: Duration,
}

impl Default for PruneOptions {
    fn default() -> PruneOptions {
        PruneOptions {
            policy: Keep { newest: 3, days: 30, log_days: 365 },
            keep: Vec::new(),
            scratch_days: 14,
            source_days: 30,
            leftover_days: 7,
            grace: Duration::from_secs(DAY),
        }
    }
}

impl PruneOptions {
    pub fn policy(&self, target: &Target) -> Keep {
        let name = target.as_str().to_ascii_lowercase();
        let matching = self.keep.iter().filter(|(pattern, _)| matches(pattern, &name));
        matching.max_by_key(|(pattern, _)| pattern.len()).map_or(self.policy, |(_, policy)| *policy)
    }
}

/// Whether `text` is the pattern, each `*` of which stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|text| {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| matches(rest, &text[at..]))
        }),
    }
}

impl Values<'_> {
    pub(super) fn prune(&self) -> Result<PruneOptions, ConfigError> {
        let usual = PruneOptions::default();
        let days = |key, usual: u64| {
            let usual = usize::try_from(usual).unwrap_or(LONGEST);
            self.number("prune", key, usual, 0..=LONGEST).map(|days| days as u64)
        };
        let policy = Keep {
            newest: self.number("prune", "newest", usual.policy.newest, 1..=1_000_000)?,
            days: days("days", usual.policy.days)?,
            log_days: days("log_days", usual.policy.log_days)?,
        };
        let grace = self.number("prune", "grace", usize::try_from(DAY).unwrap_or(LONGEST), 0..=31_536_000)?;
        Ok(PruneOptions {
            policy,
            keep: self.keep(policy)?,
            scratch_days: days("scratch_days", usual.scratch_days)?,
            source_days: days("source_days", usual.source_days)?,
            leftover_days: days("leftover_days", usual.leftover_days)?,
            grace: Duration::from_secs(grace as u64),
        })
    }

    fn keep(&self, usual: Keep) -> Result<Vec<(String, Keep)>, ConfigError> {
        let mut keep = Vec::new();
        for (pattern, text) in self.sections.get("keep").into_iter().flatten() {
            let policy = policy(text, usual).ok_or_else(|| {
                let wanted = format!(
                    "such as 'newest 5, days 90, log_days 800' (each can be left out) for the target {pattern}"
                );
                self.bad("keep", "a target's line", text, wanted)
            })?;
            keep.push((pattern.clone(), policy));
        }
        Ok(keep)
    }
}

/// `newest 5, days 90`: what is not said is as usual.
fn policy(text: &str, usual: Keep) -> Option<Keep> {
    let mut policy = usual;
    for part in text.split(',') {
        let (what, number) = part.trim().split_once(' ')?;
        let number: u64 = number.trim().parse().ok()?;
        match what {
            "newest" if number > 0 => policy.newest = usize::try_from(number).ok()?,
            "days" if number <= LONGEST as u64 => policy.days = number,
            "log_days" if number <= LONGEST as u64 => policy.log_days = number,
            _ => return None,
        }
    }
    Some(policy)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn prune(text: &str) -> Result<PruneOptions, String> {
        let config = Config::from_text(text, Some(Path::new("test.ini")), Some(Path::new("/r")));
        config.map(|config| config.prune).map_err(|error| error.to_string())
    }

    #[test]
    fn a_target_may_have_a_policy_of_its_own() {
        let options =
            prune("[prune]\ndays = 10\n[keep]\nC7.* = newest 9\nc7.u.* = newest 5, days 90, log_days 800\n")
                .unwrap();
        let of = |target: &str| options.policy(&target.parse().unwrap());
        assert_eq!(of("mini.x86_64"), Keep { newest: 3, days: 10, log_days: 365 });
        assert_eq!(of("c7.x86_64"), Keep { newest: 9, days: 10, log_days: 365 });
        assert_eq!(of("c7.u.x86_64"), Keep { newest: 5, days: 90, log_days: 800 });
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, is_one) in [
            ("c7.*", "c7.x", true),
            ("c7.*", "c8.x", false),
            ("*", "", true),
            ("*.x86_64", "c7.x86_64", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("c7", "c7.x", false),
        ] {
            assert_eq!(matches(pattern, text), is_one, "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for bad in ["newest 0", "newest", "days x", "nevest 3", "days 90 newest 3", "days -1"] {
            let said = prune(&format!("[keep]\nc7.* = {bad}\n")).unwrap_err();
            assert!(said.contains("but must be such as 'newest 5"), "{said}");
        }
        assert!(prune("[prune]\nnewest = 0\n").is_err());
    }
}
