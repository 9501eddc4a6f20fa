//! Who may ask for which builds by MQTT: `[policy]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ConfigError, Values};

/// See `[policy]` in the sample configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The CAs that requesters' certificates are of; none: the broker's.
    pub ca_cert: Option<PathBuf>,
    /// One that allows is enough.
    pub rules: Vec<Rule>,
    /// Names by group.
    pub groups: BTreeMap<String, Vec<String>>,
    pub allow_unsigned: bool,
    /// How old a new request may be.
    pub max_age: Duration,
    pub audit_log: PathBuf,
}

/// What some may build. `*` in a pattern stands for any characters, none included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// A certificate's CN, `@` and a group, or a pattern.
    pub who: String,
    pub targets: Vec<String>,
    pub arches: Vec<String>,
    pub packages: Vec<String>,
    /// Scratch builds only.
    pub only_scratch: bool,
}

impl Rule {
    fn parse(line: &str) -> Option<Rule> {
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        let [who, targets, arches, packages, builds] = columns.as_slice() else { return None };
        let words = |text: &str| -> Vec<String> {
            text.split([' ', ',', '\t']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        };
        let only_scratch = match *builds {
            "all" => false,
            "scratch" => true,
            _ => return None,
        };
        let rule = Rule {
            who: (*who).to_owned(),
            targets: words(targets),
            arches: words(arches),
            packages: words(packages),
            only_scratch,
        };
        let full = [&rule.targets, &rule.arches, &rule.packages].iter().all(|words| !words.is_empty());
        (full && !rule.who.is_empty()).then_some(rule)
    }
}

impl Values<'_> {
    pub(super) fn policy(&self, root: &Path, logfile: &Path) -> Result<Policy, ConfigError> {
        let lines = |key| {
            let text = self.get("policy", key).unwrap_or_default();
            text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']))
        };
        let mut rules = Vec::new();
        for line in lines("allow") {
            let wanted = "a line 'WHO | TARGETS | ARCHES | PACKAGES | all' (or 'scratch') for each rule";
            rules.push(Rule::parse(line).ok_or_else(|| self.bad("policy", "allow", line, wanted))?);
        }
        let mut groups = BTreeMap::new();
        for line in lines("groups") {
            let (name, members) = line.split_once(':').ok_or_else(|| {
                self.bad("policy", "groups", line, "a line 'NAME: CN, CN, …' for each group")
            })?;
            let members = members.split(',').map(|member| member.trim().to_owned());
            groups.insert(name.trim().to_owned(), members.filter(|member| !member.is_empty()).collect());
        }
        for rule in &rules {
            if let Some(group) = rule.who.strip_prefix('@').filter(|group| !groups.contains_key(*group)) {
                return Err(self.bad("policy", "allow", group, "a group that groups has a line for"));
            }
        }
        Ok(Policy {
            ca_cert: self.folder("policy", "ca_cert", root),
            rules,
            groups,
            allow_unsigned: self.boolean("policy", "allow_unsigned", false)?,
            max_age: Duration::from_secs(self.number("policy", "max_age", 86_400, 10..=604_800)? as u64),
            audit_log: self
                .folder("policy", "audit_log", root)
                .unwrap_or_else(|| logfile.with_file_name("requests.log")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn policy(text: &str) -> Result<Policy, String> {
        let text = format!("[policy]\n{text}\n");
        let config = Config::from_text(&text, Some(Path::new("t.ini")), Some(Path::new("/r")));
        config.map(|config| config.policy).map_err(|error| error.to_string())
    }

    #[test]
    fn rules_are_a_line_each() {
        let found = policy(
            "groups =\n    core: Alice Doe, bob\nallow =\n    # who | …\n    \
             @core | * | * | * | all\n    kb | c9 c10-* | x86_64,aarch64 | bash | scratch",
        )
        .unwrap();
        assert_eq!(found.groups["core"], ["Alice Doe", "bob"]);
        assert_eq!(found.rules.len(), 2, "{:?}", found.rules);
        assert_eq!(found.rules[1].arches, ["x86_64", "aarch64"]);
        assert!(found.rules[1].only_scratch);
        assert_eq!(found.audit_log, Path::new("/r/log/requests.log"));
        for bad in [
            "allow = kb",
            "allow = kb | * | * | * | some",
            "allow = @none | * | * | * | all",
            "allow = | a | b | c | all",
        ] {
            assert!(policy(bad).is_err(), "{bad}");
        }
    }
}
