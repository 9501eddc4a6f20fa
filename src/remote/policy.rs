//! Deciding who may have what built.

use crate::config::{Policy, Rule};
use crate::model::Submitter;
use crate::model::request::Request;

/// Fails with the reason where no rule allows the request.
pub fn check(policy: &Policy, who: &Submitter, request: &Request) -> Result<(), String> {
    let own: Vec<&Rule> = policy.rules.iter().filter(|rule| is_about(policy, rule, who)).collect();
    if own.is_empty() {
        return Err(format!(
            "{who} may not have anything built here: no rule of [policy] allow is about them"
        ));
    }
    if own.iter().any(|rule| allows(rule, request)) {
        return Ok(());
    }
    let how = if request.scratch { "a scratch build of" } else { "a build of" };
    Err(format!(
        "{who} may not have {how} {} for {} on {}: no rule of [policy] allow says so",
        request.pkg, request.target, request.arch
    ))
}

fn is_about(policy: &Policy, rule: &Rule, who: &Submitter) -> bool {
    match rule.who.strip_prefix('@') {
        Some(group) => policy
            .groups
            .get(group)
            .is_some_and(|members| members.iter().any(|member| member == who.as_str())),
        None => fits(&rule.who, who.as_str()),
    }
}

fn allows(rule: &Rule, request: &Request) -> bool {
    let any = |patterns: &[String], text: &str| patterns.iter().any(|pattern| fits(pattern, text));
    any(&rule.targets, request.target.as_str())
        && any(&rule.arches, &request.arch)
        && any(&rule.packages, request.pkg.as_str())
        && (request.scratch || !rule.only_scratch)
}

/// Whether a pattern, in which `*` stands for any characters, is about the whole text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(left) = text.strip_prefix(before) else { return false };
    let ends = (0..=left.len()).filter(|at| left.is_char_boundary(*at));
    ends.into_iter().any(|at| fits(rest, &left[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, text) in
            [("*", ""), ("*", "x"), ("a*", "a"), ("*-libs", "bash-libs"), ("a*b*c", "axxbc")]
        {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "x"), ("a", "ab"), ("a*", "ba"), ("*-libs", "libs"), ("a*b*c", "acb")] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_rule_is_about_names_or_groups_and_one_that_allows_is_enough() {
        let text = "[policy]\ngroups =\n    core: bob, Carol Doe\nallow =\n    @core | c9 | x86_64 | * | all\n    \
            * | c9 | * | hello | scratch\n";
        let policy = crate::config::Config::from_text(text, None, None).unwrap().policy;
        let may = |who: &str, arch: &str, pkg: &str, scratch: bool| {
            let asked = serde_json::json!({"pkg": pkg, "git_branch": "c9", "arch": arch, "submitter": who,
                "target": "c9", "scratch": scratch});
            let request: Request = serde_json::from_value(asked).unwrap();
            check(&policy, &who.parse().unwrap(), &request).is_ok()
        };
        assert!(may("bob", "x86_64", "bash", false) && may("Carol Doe", "x86_64", "bash", true));
        assert!(may("bob", "aarch64", "hello", true) && may("alice", "x86_64", "hello", true));
        assert!(!may("bob", "aarch64", "bash", false), "another arch than the group's");
        assert!(!may("alice", "x86_64", "hello", false), "no scratch build");
        assert!(!may("core", "x86_64", "bash", false), "a group's name is nobody's");
    }
}
