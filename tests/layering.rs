//! Who may know whom: the invariants of the architecture, read off the sources.
//!
//! A break is told as `file:line: what is wrong`, all of them at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What each layer may use, besides itself and what the standard library and other crates offer.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("shutdown", &[]),
    ("sys", &["model"]),
    ("config", &["model", "sys"]),
    ("stamp", &["model", "sys", "config"]),
    ("targets", &["model"]),
    ("init", &["model", "sys"]),
    ("metadata", &["model", "sys", "config"]),
    ("queue", &["model", "sys", "config"]),
    ("history", &["model", "sys", "config"]),
    // A result is put into place only under a lease, so the lease is part of the interface.
    ("upload", &["model", "sys", "config", "queue"]),
    ("consumer", &["model", "sys", "config", "queue", "shutdown"]),
];

/// The stages of the flow. They never know one another; what they share is below them.
const STAGES: &[&str] = &["submit", "remote", "build", "repo", "sign", "notify", "web"];
const BELOW_STAGES: &[&str] = &[
    "model", "shutdown", "sys", "config", "stamp", "targets", "metadata", "queue", "history", "upload",
    "consumer",
];
/// Two stages take submissions in, by the same door as the command line.
const STAGE_MAY_USE: &[(&str, &str)] = &[("remote", "submit"), ("web", "submit")];

/// These put the stages together.
const TOP: &[&str] = &["role", "cli", "main", "lib"];

#[test]
fn every_module_uses_only_what_stands_below_it() {
    let mut breaks = Vec::new();
    for file in sources() {
        for (number, used) in uses(&file.code) {
            if let Some(why) = forbidden(&file.module, &used) {
                breaks.push(format!("{}:{number}: {why}", file.path.display()));
            }
        }
    }
    assert!(breaks.is_empty(), "\n{}\n", breaks.join("\n"));
}

#[test]
fn only_sys_process_and_the_sandbox_start_programs() {
    let allowed = |file: &Source| {
        file.path.starts_with("src/sys/process.rs")
            || file.path.to_string_lossy().starts_with("src/sys/sandbox")
    };
    let spawns = ["Command::new", "process::Command", "libc::fork", "unistd::fork", "fork()", "execve"];
    assert_only(allowed, &spawns, "starts a program; let sys::process do it");
}

#[test]
fn only_the_consumer_acknowledges_jobs() {
    let allowed = |file: &Source| file.path.ends_with("src/consumer.rs") || file.module == "queue";
    assert_only(allowed, &["give_up(", "GiveUp::"], "acknowledges a job; return a Verdict instead");
}

#[test]
fn no_shell_is_ever_given_a_string() {
    let mut breaks = Vec::new();
    for file in sources() {
        // However the arguments are laid out over lines.
        let code: String = file.code.split_whitespace().collect();
        for shell in ["sh", "bash", "dash", "/bin/sh", "/bin/bash", "/usr/bin/sh", "/usr/bin/bash"] {
            let ways =
                [format!("\"{shell}\",\"-c\""), format!("new(\"{shell}\")"), format!("\"{shell}\",\"-lc\"")];
            if ways.iter().any(|way| code.contains(way)) {
                breaks.push(format!("{}: {shell} is given a string", file.path.display()));
            }
        }
    }
    assert!(breaks.is_empty(), "\n{}\n", breaks.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent: Vec<String> = paths(Path::new("src"))
        .into_iter()
        .filter(|path| !read(path).starts_with("//!"))
        .map(|path| path.display().to_string())
        .collect();
    assert!(silent.is_empty(), "these begin without a //! paragraph: {}", silent.join(", "));
}

/// The reader itself: a test that finds nothing because it reads nothing would be no test.
#[test]
fn the_reader_sees_every_way_to_name_a_module() {
    let code = "use crate::model::Arch;\nuse crate::{queue, sys::fs};\nlet x = crate::build::run();\n";
    let found: Vec<String> = uses(code).into_iter().map(|(_, module)| module).collect();
    assert_eq!(found, ["model", "queue", "sys", "build"]);
    assert_eq!(forbidden("model", "sys"), Some("model must not use sys".into()));
    assert_eq!(forbidden("repo", "sign"), Some("repo must not use sign".into()));
    assert_eq!(forbidden("web", "submit"), None);
    assert!(forbidden("nonsense", "model").unwrap().contains("say in tests/layering.rs"));
    let modules: BTreeMap<String, usize> = sources().into_iter().fold(BTreeMap::new(), |mut map, file| {
        *map.entry(file.module).or_default() += uses(&file.code).len();
        map
    });
    assert!(modules["build"] > 5 && modules["cli"] > 10, "{modules:?}");
}

/// Why `module` must not use `used`; nothing where it may.
fn forbidden(module: &str, used: &str) -> Option<String> {
    let rule = MAY_USE.iter().find(|(name, _)| *name == module);
    let allowed = if module == used {
        true
    } else if TOP.contains(&module) {
        // role knows the stages, but not who starts it.
        module != "role" || used != "cli"
    } else if STAGES.contains(&module) {
        BELOW_STAGES.contains(&used) || STAGE_MAY_USE.contains(&(module, used))
    } else if let Some((_, below)) = rule {
        below.contains(&used)
    } else {
        return Some(format!("module {module} is new: say in tests/layering.rs where it stands"));
    };
    (!allowed).then(|| format!("{module} must not use {used}"))
}

fn assert_only(allowed: impl Fn(&Source) -> bool, words: &[&str], why: &str) {
    let mut breaks = Vec::new();
    for file in sources().iter().filter(|file| !allowed(file)) {
        for (index, line) in file.code.lines().enumerate() {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                breaks.push(format!("{}:{}: {word} {why}", file.path.display(), index + 1));
            }
        }
    }
    assert!(breaks.is_empty(), "\n{}\n", breaks.join("\n"));
}

/// One source file.
struct Source {
    /// From the package's folder: `src/queue/mod.rs`.
    path: PathBuf,
    /// The top module it is part of: `queue`.
    module: String,
    /// Its text, comments blanked.
    code: String,
}

fn sources() -> Vec<Source> {
    let files = paths(Path::new("src"));
    assert!(files.len() > 20, "only {} sources found", files.len());
    files
        .into_iter()
        .map(|path| {
            let first = path.components().nth(1).map(|part| Path::new(part.as_os_str()).to_owned());
            let module = first.unwrap_or_default().with_extension("").display().to_string();
            let code = read(&path).lines().map(without_comment).collect::<Vec<_>>().join("\n");
            Source { path, module, code }
        })
        .collect()
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with("//") { "" } else { line }
}

fn paths(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(paths(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The top modules of ours that the code names, with the line of each.
fn uses(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let number = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            found.extend(members(group).into_iter().map(|module| (number, module)));
        } else {
            found.push((number, word(rest)));
        }
    }
    found
}

/// The first words of a `{…}` group's members: of `{queue, sys::{fs, rpm}}` queue and sys.
fn members(group: &str) -> Vec<String> {
    let mut depth = 1;
    let mut members = vec![String::new()];
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => members.push(String::new()),
            c => members.last_mut().expect("it begins with one").push(c),
        }
    }
    members.iter().map(|member| word(member.trim())).filter(|name| !name.is_empty()).collect()
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}
