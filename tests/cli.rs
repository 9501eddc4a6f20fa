//! What people see: help, tables, JSON, and what is said of bad input. Each snapshot is a session at a terminal.
//!
//! Times, ids, digests and sizes are blotted out. `INSTA_UPDATE=always cargo test --test cli` takes on new output;
//! read it as a newcomer would before committing it.

mod harness;

use std::fmt::Write as _;
use std::path::Path;

use harness::{Ask, Ran, Root, reimzul, srpm};
use reimzul::queue::{self, GiveUp, NewJob, State};
use serde_json::json;

const COMMANDS: [&str; 20] = [
    "build",
    "submit",
    "request",
    "run",
    "query",
    "why",
    "logs",
    "stats",
    "kick",
    "drop",
    "override",
    "repogen",
    "sign",
    "prune",
    "protect",
    "check-config",
    "init",
    "certificate",
    "completions",
    "man",
];

#[test]
fn help_of_everything() {
    let mut session = Session::new();
    session.note(&["--help"], &reimzul(&["--help"]));
    for command in COMMANDS {
        session.note(&[command, "--help"], &reimzul(&[command, "--help"]));
    }
    assert_narrow(&session.text);
    session.matches("help", None);
}

#[test]
fn every_command_is_in_the_help_and_has_an_example() {
    let help = reimzul(&["--help"]).ok().out;
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not listed");
        let own = reimzul(&[command, "--help"]).ok().out;
        assert!(own.contains("Example"), "{command} shows no example");
    }
    let listed = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap().lines();
    assert_eq!(listed.filter(|line| !line.starts_with("   ")).count(), COMMANDS.len() + 1, "and help itself");
}

#[test]
fn without_a_command_the_help_is_shown() {
    let ran = reimzul(&[]);
    assert_eq!(ran.code, 2);
    assert_eq!(ran.err, reimzul(&["--help"]).out);
}

#[tokio::test]
async fn a_first_day() {
    let root = Root::new();
    let mut session = Session::new();
    let hello = srpm("hello", 1).display().to_string();
    session.run(&root, &["stats"]);
    session.run(&root, &["query"]);
    session.run(&root, &["submit", "-s", &hello, "-t", "mini", "-a", "x86_64", "-d", ".el9"]);
    session.run(&root, &["stats"]);
    session.run(&root, &["logs", "hello"]);
    let site = root.site();
    let roles = root.start(&["worker", "notifier", "signer"]);
    site.quiet_but(&["createrepo"]).await;
    session.run(&root, &["submit", "-s", "hello-1.0-1.src.rpm", "-t", "mini", "--now", "--wait"]);
    let other = srpm("other", 1).display().to_string();
    let small = root.run(&["submit", "-s", &other, "-t", "mini", "--scratch", "--json", "--wait"]).ok();
    assert_eq!(small.err, "", "with --json nothing but JSON is printed");
    site.quiet_but(&["createrepo"]).await;
    roles.stop();
    session.run(&root, &["query"]);
    session.run(&root, &["query", "--all"]);
    session.run(&root, &["query", "--classic"]);
    session.run(&root, &["query", "-s", "failed", "--why"]);
    session.run(&root, &["logs", "other"]);
    session.run(&root, &["logs", "other", "--log", "root.log"]);
    session.run(&root, &["logs", "other", "--log", "state"]);
    session.run(&root, &["logs", "hello"]);
    session.run(&root, &["repogen", "mini.x86_64"]);
    let settle =
        ["override", "-s", "hello-1.0-1.src.rpm", "-t", "mini.x86_64", "-a", "x86_64", "-c", "by hand"];
    session.run(&root, &settle);
    session.run(&root, &["query", "-s", "Override", "--classic"]);
    session.run(&root, &["check-config"]);
    session.matches("first_day", Some(root.path()));
}

#[tokio::test]
async fn a_first_day_for_scripts() {
    let root = Root::new();
    let mut session = Session::new();
    let hello = srpm("hello", 1).display().to_string();
    session.run(&root, &["query", "--json"]);
    session.run(&root, &["submit", "-s", &hello, "-t", "mini", "--json"]);
    session.run(&root, &["stats", "--json"]);
    let site = root.site();
    let roles = root.start(&["worker", "notifier", "signer"]);
    session.run(&root, &["submit", "-s", &hello, "-t", "mini", "--json", "--wait", "--scratch"]);
    site.quiet_but(&["createrepo"]).await;
    roles.stop();
    session.run(&root, &["query", "--json", "-n", "1"]);
    let build = root.run(&["query", "--json", "-n", "1"]).json()[0]["build_id"].as_str().unwrap().to_owned();
    session.run(&root, &["logs", "--json", &build]);
    let settle =
        ["override", "-s", "hello-1.0-1.src.rpm", "-t", "mini.x86_64", "-a", "x86_64", "-c", "by hand"];
    session.run(&root, &[&settle[..], &["--json"]].concat());
    session.run(&root, &["repogen", "mini.x86_64", "--json"]);
    session.run(&root, &["check-config", "--json"]);
    session.matches("first_day_json", Some(root.path()));
}

#[tokio::test]
async fn a_bad_day() {
    let root = Root::new();
    let site = root.site();
    let mut session = Session::new();
    let roles = root.start(&["worker", "notifier"]);
    let long = "a-package-with-a-name-as-long-as-only-texlive-has-them-collection-fontsrecommended";
    for name in ["hello", long] {
        let build = site.submit(&srpm(name, 1)).await;
        std::fs::copy(srpm("other", 1), root.join("incoming/other-1.0-1.src.rpm")).unwrap();
        site.result(&build).await;
    }
    site.quiet_but(&["createrepo", "tosign"]).await;
    roles.stop();
    // Submitted, and then changed behind our back.
    let bad = site.submit(&srpm("bad", 1)).await;
    std::fs::copy(srpm("other", 1), root.join("incoming/bad-1.0-1.src.rpm")).unwrap();
    root.write("blocked", "a file where a folder should be");
    let logfile = root.join("blocked/reimzul.log").display().to_string();
    root.write("reimzul.ini", &format!("{}[logs]\nlogfile = {logfile}\n", root.read("reimzul.ini")));
    let mut roles = root.start(&["worker", "notifier"]);
    site.result(&bad).await;
    roles.until_it_says("log could not be told");
    roles.until_it_says("log could not be told");
    roles.stop();
    site.queue.put(vec![NewJob::new("x86_64", &json!("broken"), 1)]).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let (_, lease) = site
        .queue
        .reserve(&["x86_64".to_owned()], 1, std::time::Duration::ZERO, &stop)
        .await
        .unwrap()
        .pop()
        .expect("the job just put");
    site.queue.give_up(&lease, GiveUp::Bury { reason: "its body is no build job".into() }).await.unwrap();
    drop(site);
    session.run(&root, &["query"]);
    session.run(&root, &["query", "-s", "Failed", "--json"]);
    session.run(&root, &["logs", "bad"]);
    session.run(&root, &["stats"]);
    for line in session.text.lines().filter(|line| line.starts_with(char::is_uppercase)) {
        assert!(line.chars().count() <= 80, "a table is wider than 80 columns: {line}");
    }
    session.matches("bad_day", Some(root.path()));
}

#[tokio::test]
async fn a_day_of_waiting() {
    let root = Root::with("retry_delay = 7200\ntries = 2");
    let site = root.site();
    let mut session = Session::new();
    let (hello, other) = (srpm("hello", 1).display().to_string(), srpm("other", 1).display().to_string());
    session.run(&root, &["submit", "-q", "-s", &hello, "-t", "mini"]);
    session.run(&root, &["submit", "-q", "-s", &other, "-t", "mini", "--now"]);
    session.run(&root, &["query"]);
    session.run(&root, &["query", "-s", "waiting"]);
    session.run(&root, &["query", "-s", "waiting", "-t", "c9.x86_64"]);
    session.run(&root, &["why", "hello-1.0-1.x86_64"]);
    session.run(&root, &["kick", "hello"]);
    session.run(&root, &["drop", "other"]);
    session.run(&root, &["drop", "999"]);
    // Nothing can be uploaded.
    root.write("bstore/upload", "a file where a folder should be");
    let in_state = async |state: State| {
        harness::eventually("a job's state", async || {
            let jobs = site.queue.list(Some(harness::arch())).await.unwrap();
            jobs.first().is_some_and(|job| job.state == state).then_some(())
        })
        .await;
    };
    let roles = root.start(&["worker", "notifier"]);
    in_state(State::Delayed).await;
    // The history hears of it a moment later.
    site.quiet_but(&[harness::arch()]).await;
    session.run(&root, &["query", "-s", "waiting"]);
    session.run(&root, &["why", "hello"]);
    session.run(&root, &["query"]);
    session.run(&root, &["kick", "hello"]);
    in_state(State::Buried).await;
    site.quiet().await;
    session.run(&root, &["why", "hello"]);
    std::fs::remove_file(root.join("bstore/upload")).unwrap();
    session.run(&root, &["kick", "--all"]);
    site.quiet_but(&["createrepo", "tosign"]).await;
    roles.stop();
    session.run(&root, &["why", "hello"]);
    session.run(&root, &["why", "other"]);
    session.run(&root, &["kick", "hello"]);
    session.matches("waiting", Some(root.path()));
}

#[test]
fn bad_source_rpms_are_refused_in_a_sentence_and_leave_nothing() {
    let root = Root::with("");
    let good = std::fs::read(srpm("hello", 1)).unwrap();
    let make = |name: &str, bytes: &[u8]| std::fs::write(root.join("given").join(name), bytes).unwrap();
    std::fs::create_dir(root.join("given")).unwrap();
    make("empty-1-1.src.rpm", b"");
    make("text-1-1.src.rpm", "this is no RPM\n".repeat(100).as_bytes());
    make("head-1-1.src.rpm", &good[..good.len() / 3]);
    make("tail-1-1.src.rpm", &good[..good.len() - 20]);
    make("flip-1-1.src.rpm", &flipped(&good));
    make("a;b.src.rpm", &good);
    make("a\nb.src.rpm", &good);
    make("hello.rpm", &good);
    make("-rf.src.rpm", &good);
    let long = format!("{}.src.rpm", "x".repeat(240));
    make(&long, &good);
    std::fs::create_dir(root.join("given/folder-1-1.src.rpm")).unwrap();
    std::fs::copy(harness::binary_rpm("hello"), root.join("given/binary-1-1.src.rpm")).unwrap();
    // Larger than any file name can be.
    let longest = format!("given/{}.src.rpm", "y".repeat(300));
    let mut session = Session::new();
    for name in [
        "given/missing-1-1.src.rpm",
        "missing-1-1.src.rpm",
        "given/empty-1-1.src.rpm",
        "given/text-1-1.src.rpm",
        "given/head-1-1.src.rpm",
        "given/tail-1-1.src.rpm",
        "given/flip-1-1.src.rpm",
        "given/binary-1-1.src.rpm",
        "given/folder-1-1.src.rpm",
        "given/a;b.src.rpm",
        "given/a\nb.src.rpm",
        "given/hello.rpm",
        "given/-rf.src.rpm",
        "../x.src.rpm",
        "/etc/passwd",
        "given",
        "/",
        &format!("given/{long}"),
        &longest,
    ] {
        let mut command = root.command(&["submit", "-t", "mini", "-s", name]);
        let ran = Ran::of(command.current_dir(root.path()));
        assert_eq!(ran.code, 2, "{name:?}: {ran:?}");
        session.note(&["submit", "-t", "mini", "-s", name], &ran);
    }
    assert_untouched(&root);
    session.matches("bad_source_rpms", Some(root.path()));
}

#[test]
fn bad_arguments_are_refused_in_a_sentence_and_leave_nothing() {
    let root = Root::new();
    let hello = srpm("hello", 1).display().to_string();
    let mut session = Session::new();
    let submit = |more: &[&'static str]| [&["submit"], more].concat();
    for arguments in [
        submit(&["-t", "mini", "-a", "z80"]),
        submit(&["-t", "../mini"]),
        submit(&["-t", "mini;reboot"]),
        submit(&["-t", ""]),
        submit(&["-t", "mini", "-d", ".%(id)"]),
        submit(&["-t", "mini", "-d", ".."]),
        vec!["submit"],
    ] {
        let ran = root.run(&[&arguments[..], &["-s", &hello]].concat());
        assert_eq!(ran.code, 2, "{ran:?}");
        session.note(&[&arguments[..], &["-s", "HELLO"]].concat(), &ran);
    }
    for arguments in [
        &["query", "-s", "Finished"][..],
        &["query", "-t", "a/b"],
        &["query", "-n", "many"],
        &["repogen", "../x"],
        &["repogen", "mini"],
        &["override", "-s", "x", "-t", "mini", "-a", "x86_64", "-c", "why"],
        &["override", "-s", "x-1-1.src.rpm", "-t", "mini.x86_64", "-a", "z80", "-c", "why"],
        &["override", "-s", "x-1-1.src.rpm", "-t", "mini.x86_64", "-a", "x86_64", "-c", "why"],
        &["override", "-s", "x-1-1.src.rpm", "-t", "mini.x86_64", "-a", "x86_64", "-c", "two\nlines"],
        &["logs", "nonesuch"],
        &["run"],
        &["run", "cook"],
        &["run", "worker", "--slots", "0"],
        &["build", "-t", "mini"],
        &["build", "-t", "mini", "missing.spec"],
        &["build", "-t", "mini", "missing-1-1.src.rpm"],
        &["frobnicate"],
    ] {
        let ran = session.run(&root, arguments);
        assert_eq!(ran.code, 2, "{ran:?}");
    }
    assert_untouched(&root);
    session.matches("bad_arguments", Some(root.path()));
}

#[test]
fn a_target_that_is_not_here_is_refused_with_those_that_are() {
    let root = Root::new();
    root.write("targets/c9.x86_64.repo", "");
    root.write("targets/mini.aarch64.repo", "");
    let hello = srpm("hello", 1).display().to_string();
    let mut session = Session::new();
    session.note(
        &["submit", "-t", "mini", "-a", "x86_64", "-s", "HELLO"],
        &root.run(&["submit", "-t", "mini", "-a", "x86_64", "-s", &hello]),
    );
    assert_untouched(&root);
    session.matches("unknown_target", Some(root.path()));
}

#[test]
fn a_bad_configuration_is_told_with_what_was_meant() {
    let mut session = Session::new();
    let root = Root::new();
    for text in [
        "[worker]\nslotz = 2\n",
        "[wroker]\nslots = 2\n",
        "[worker]\nslots = many\n",
        "[worker]\nengine = docker\n",
        "[bstore]\nscratch_in_repo = maybe\n",
        "slots = 2\n",
    ] {
        root.write("reimzul.ini", text);
        writeln!(session.text, "reimzul.ini: {}", text.trim_end().replace('\n', " / ")).unwrap();
        let ran = session.run(&root, &["check-config"]);
        assert_eq!(ran.code, 3, "{ran:?}");
    }
    let ran = session.run(&root, &["stats", "--config", "/nowhere/reimzul.ini"]);
    assert_eq!(ran.code, 3);
    std::fs::remove_file(root.join("reimzul.ini")).unwrap();
    assert_eq!(root.files("."), Vec::<String>::new(), "a bad configuration makes no database");
    for (command, code) in [("stats", 2), ("run", 4)] {
        let arguments =
            [&["--root", "/proc/reimzul", command][..], if command == "run" { &["worker"] } else { &[] }];
        let ran = reimzul(&arguments.concat());
        session.note(&arguments.concat(), &ran);
        assert_eq!(ran.code, code, "{ran:?}");
    }
    session.matches("bad_configuration", Some(root.path()));
}

#[test]
fn a_listing_into_a_pipe_that_closes_ends_quietly() {
    use std::io::Read;
    use std::process::Stdio;
    let root = Root::new();
    let mut child = root.command(&["--help"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    assert_eq!(said, "");
    let mut child = root.command(&["query"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    assert_eq!(said, "", "it panicked");
}

/// What was typed and what came, as on a terminal.
struct Session {
    text: String,
}

impl Session {
    fn new() -> Session {
        Session { text: String::new() }
    }

    /// On a terminal of 80 columns.
    fn run(&mut self, root: &Root, arguments: &[&str]) -> Ran {
        let ran = Ran::of(root.command(arguments).env("COLUMNS", "80"));
        self.note(arguments, &ran);
        ran
    }

    fn note(&mut self, arguments: &[&str], ran: &Ran) {
        let quoted = |argument: &&str| {
            let file = Path::new(argument).is_absolute() && argument.ends_with(".src.rpm");
            let short = if file { argument.rsplit('/').next().unwrap() } else { argument };
            let plain = !short.is_empty() && !short.contains([' ', ';', '\n', '(']);
            if plain { short.to_owned() } else { format!("{short:?}") }
        };
        let typed: Vec<String> = arguments.iter().map(quoted).collect();
        writeln!(self.text, "$ reimzul {}", typed.join(" ")).unwrap();
        self.text.push_str(&ran.out);
        self.text.push_str(&ran.err);
        if ran.code != 0 {
            writeln!(self.text, "(exit code {})", ran.code).unwrap();
        }
        self.text.push('\n');
    }

    fn matches(&self, name: &str, root: Option<&Path>) {
        let mut text = self.text.clone();
        let node = nix::sys::utsname::uname().unwrap().nodename().to_string_lossy().into_owned();
        for (field, value) in [("builder_fqdn", node.as_str()), ("submitter", &login())] {
            text = text.replace(&format!("\"{field}\": \"{value}\""), &format!("\"{field}\": \"SOMEBODY\""));
        }
        for (before, after) in
            [("builder: ", ")"), ("builder   ", ","), ("worker: ", "\n"), ("tried     on ", "\n")]
        {
            text = text.replace(&format!("{before}{node}{after}"), &format!("{before}SOMEBODY{after}"));
        }
        text = text.replace(&format!(" by {}\n", login()), " by SOMEBODY\n");
        if let Some(root) = root {
            text = text.replace(&root.display().to_string(), "/root");
        }
        let mut settings = insta::Settings::clone_current();
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        for (what, shown) in [
            // How far a build is when it is first looked at is anybody's guess.
            (r"(?m)^\S+ +(waiting|starting) +\d+\.\d+ s\n", ""),
            (r"\b(job|kick|drop) \d+\b", "$1 N"),
            (r#""(job_)?id": \d+"#, r#""${1}id": N"#),
            (r#""attempt": "\d+-\d+""#, r#""attempt": "N-N""#),
            (r"\b20\d{12}\b", "YYYYMMDDhhmmss"),
            (r"\b20\d\d-\d\d-\d\d \d\d:\d\d\b", "YYYY-MM-DD hh:mm"),
            // Which phases of so short a build are seen is chance.
            (r"(?m)^  \S+ +[\d.]+ s  \w+\n", ""),
            (r"\b20\d\d-\d\d-\d\dT[\d:.]+Z", "RFC3339"),
            (r"\b\d+ s ago\b", "N s ago"),
            (r"\b(again in) (2 h|119 min)\b", "$1 2 h"),
            (r"BUILDER +ARCH +SLOTS +BUSY +LOAD +FREE", "BUILDER ARCH SLOTS BUSY LOAD FREE"),
            (
                r"(?m)^\S+ +(\S+) +(\d) +(\d) +[\d.]+ +[\d.]+ [KMGT]iB N s ago",
                "SOMEBODY $1 $2 $3 N.NN N.N GiB N s ago",
            ),
            (r"(?m)^\S+ (takes no jobs|builds)\b", "SOMEBODY $1"),
            (r"(?m)^ +\d+ (\S+-1.0-1)", "  N $1"),
            (r"(?m)^(  job +)\d+", "${1}N"),
            (r"\bdrop(ped)? \d+\b", "drop$1 N"),
            (r"\b[0-9a-f]{64}\b", "SHA256"),
            (r"\b[0-9a-f]{32}\b", "BUILD_ID"),
            (r#""(age|size)": \d+"#, r#""$1": N"#),
            (r#""(fetch|digests|build)": \d+\.\d+"#, r#""$1": N"#),
            (r"\b\d+\.\d+ KiB", "N.NN KiB"),
            (r"\b\d+\.\d+ s\b", "N.N s"),
            // A builder's name, load and free space are the machine's.
            (r"(?m)^BUILDER +ARCH .*$", "BUILDER ARCH SLOTS BUSY LOAD FREE HEARD OF"),
            (
                r"(?m)^\S+ +(\w+) +(\d+) +(\d+) +[\d.]+ +[\d.]+ .iB .* ago$",
                "NODE $1 $2 $3 N.NN N.N GiB N s ago",
            ),
            (r"(?m)^\S+ takes no jobs", "NODE takes no jobs"),
            (r"has \d+ bytes where its header says \d+", "has N bytes where its header says N"),
        ] {
            settings.add_filter(what, shown);
        }
        settings.add_filter(env!("CARGO_PKG_VERSION"), "VERSION");
        settings.bind(|| insta::assert_snapshot!(name, text));
    }
}

fn login() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().map_or_else(String::new, |user| user.name)
}

fn assert_narrow(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
    }
}

/// Nothing is queued, nothing kept, nothing half written.
fn assert_untouched(root: &Root) {
    let stats = root.run(&["stats", "--json"]).ok().json();
    assert_eq!(stats["jobs"], json!([]), "something was queued");
    assert_eq!(root.files("incoming"), Vec::<String>::new());
    assert_eq!(root.files("results"), Vec::<String>::new());
    assert_eq!(root.files("bstore"), Vec::<String>::new());
}

/// With one bit of its payload the other way round.
fn flipped(rpm: &[u8]) -> Vec<u8> {
    let mut bytes = rpm.to_vec();
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    bytes
}

/// Waits until only the named tubes have jobs that can run.
trait QuietBut {
    async fn quiet_but(&self, tubes: &[&str]);
}

impl QuietBut for reimzul::role::Site {
    async fn quiet_but(&self, tubes: &[&str]) {
        harness::eventually("an idle queue", async || {
            let jobs: Vec<queue::Entry> = self.queue.list(None).await.unwrap();
            let busy =
                jobs.iter().any(|job| job.state != State::Buried && !tubes.contains(&job.tube.as_str()));
            (!busy && self.outbox.waiting().await.unwrap().is_empty()).then_some(())
        })
        .await;
    }
}
