//! What `make install` puts where, and that it works there: manual pages, completions, the old names.

mod harness;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{BINARY, Ran, Root, srpm};

/// The program, installed below a folder of its own.
struct Installed {
    folder: tempfile::TempDir,
}

impl Installed {
    fn new() -> Installed {
        let folder = tempfile::tempdir().unwrap();
        let ran = Ran::of(
            Command::new("make")
                .args(["install", "PREFIX=/usr"])
                .arg(format!("DESTDIR={}", folder.path().display()))
                .arg(format!("binary={BINARY}"))
                .current_dir(env!("CARGO_MANIFEST_DIR")),
        );
        ran.ok();
        Installed { folder }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("usr").join(path)
    }

    /// An old command on a root.
    fn old(&self, root: &Root, name: &str, arguments: &[&str]) -> Ran {
        let mut command = Command::new(self.path("bin").join(name));
        command.args(arguments).env("REIMZUL_ROOT", root.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        Ran::of(&mut command)
    }
}

#[test]
fn every_command_has_a_manual_page_that_renders_without_a_warning() {
    let installed = Installed::new();
    let folder = installed.path("share/man/man1");
    let mut pages: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    let help = harness::reimzul(&["--help"]).ok().out;
    let commands = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names =
        commands.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let wanted: Vec<PathBuf> = names.map(|name| folder.join(format!("reimzul-{name}.1"))).collect();
    assert!(wanted.iter().all(|page| pages.contains(page)), "{pages:?}");
    assert_eq!(pages.len(), wanted.len() + 1, "and one of all");
    for page in &pages {
        // -P-cbou: no bold and no underlining, in whichever way.
        let options = ["-man", "-Tutf8", "-ww", "-rLL=80n", "-P-cbou"];
        let Ran { out: text, err, .. } = Ran::of(Command::new("groff").args(options).arg(page)).ok();
        assert_eq!(err, "", "{}", page.display());
        for section in ["NAME", "SYNOPSIS", "OPTIONS", "EXAMPLE", "SEE ALSO"] {
            assert!(text.contains(section), "{} has no {section}:\n{text}", page.display());
        }
    }
}

#[test]
fn bash_completes_commands_statuses_targets_and_builds() {
    let installed = Installed::new();
    let root = Root::new();
    root.write("targets/mini.x86_64.repo", "");
    root.write("targets/c9.x86_64.repo", "");
    let hello = srpm("hello", 1).display().to_string();
    root.run(&["submit", "-s", &hello, "-t", "mini", "-a", "x86_64"]).ok();
    let complete = |words: &[&str]| complete_by_bash(&installed, &root, words);
    assert!(complete(&["qu"]).contains(&"query".to_owned()));
    assert_eq!(complete(&["query", "-s", "Fa"]), ["Failed"]);
    assert_eq!(complete(&["query", "-t", ""]), ["c9.x86_64", "mini.x86_64"]);
    assert_eq!(complete(&["submit", "-t", "m"]), ["mini"]);
    assert_eq!(complete(&["submit", "-a", "aar"]), ["aarch64"]);
    assert_eq!(complete(&["run", "w"]), ["worker"]);
    assert_eq!(complete(&["drop", ""])[0], "1", "the job that waits");
    assert!(complete(&["logs", "--fo"]).contains(&"--follow".to_owned()));
}

/// As bash calls a completion function: `man bash`, Programmable Completion.
fn complete_by_bash(installed: &Installed, root: &Root, words: &[&str]) -> Vec<String> {
    let script = r#"
        source "$1"; shift
        COMP_WORDS=(reimzul "$@"); COMP_CWORD=$#; COMP_TYPE=9
        function=$(complete -p reimzul | sed -n 's/.* -F \([^ ]*\) .*/\1/p')
        "$function" reimzul "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>/dev/null
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let path = format!("{}:{}", installed.path("bin").display(), std::env::var("PATH").unwrap());
    let file = installed.path("share/bash-completion/completions/reimzul");
    let mut command = Command::new("bash");
    command.args(["--norc", "-c", script, "bash"]).arg(file).args(words);
    let ran = Ran::of(command.env("PATH", path).env("REIMZUL_ROOT", root.path()));
    ran.ok().out.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn every_shell_has_its_completions_and_they_parse_where_the_shell_is() {
    let installed = Installed::new();
    for (shell, file) in [
        ("bash", "bash-completion/completions/reimzul"),
        ("zsh", "zsh/site-functions/_reimzul"),
        ("fish", "fish/vendor_completions.d/reimzul.fish"),
    ] {
        let file = installed.path("share").join(file);
        assert!(std::fs::read_to_string(&file).unwrap().contains("reimzul"), "{shell}");
        if let Ok(output) = Command::new(shell).arg("-n").arg(&file).output() {
            assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn the_old_names_are_the_commands_with_the_same_letters() {
    let installed = Installed::new();
    let root = Root::new();
    let hello = srpm("hello", 1).display().to_string();
    assert!(std::fs::read_link(installed.path("bin/stats.py")).unwrap() == Path::new("reimzul"));
    let submit = ["-s", &hello, "-a", harness::arch(), "-t", "mini", "-d", ".el9", "--now", "--scratch"];
    let queued = installed.old(&root, "reimzul_submit.py", &submit).ok().out;
    assert!(queued.starts_with(&format!("queued mini.{}/hello/", harness::arch())), "{queued}");
    assert!(installed.old(&root, "stats.py", &[]).ok().out.contains(harness::arch()));
    let nothing = installed.old(&root, "reimzul_query", &["-s", "Success"]).ok();
    assert_eq!(nothing.out + &nothing.err, "", "a script reads a line as a build");
    let roles = root.start(&["worker", "notifier"]);
    root.run(&["submit", "-s", &hello, "-t", "mini", "--wait"]).ok();
    roles.stop();
    let target = harness::target().to_string();
    let listed = installed.old(&root, "reimzul_query", &["-s", "Success", "-t", &target]).ok().out;
    assert!(
        listed.starts_with(&format!(
            "hello-1.0-1.src.rpm (arch: {}, status: Success, timestamp: ",
            harness::arch()
        )),
        "{listed}"
    );
    assert!(listed.contains(",  builder: "), "scripts split at the two blanks: {listed}");
    let settle = ["-s", "hello-1.0-1.src.rpm", "-t", &target, "-a", harness::arch(), "-c", "by hand"];
    installed.old(&root, "reimzul_fix_build", &settle).ok();
    let listed = installed.old(&root, "reimzul_query", &["-s", "Override"]).ok().out;
    assert!(listed.ends_with(&format!("target: {target}, comment: by hand)\n")), "{listed}");
    installed.old(&root, "submit_repogen.py", &[&target]).ok();
    let asked = ["-p", "bash", "-b", "c7", "-a", "x86_64", "-t", "c7", "--config", "/nonexistent"];
    let client = installed.old(&root, "reimzul_client", &asked);
    assert!(client.code == 2 && client.err.contains("no /nonexistent: write one"), "{client:?}");
}
