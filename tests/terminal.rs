//! How commands behave for who sits before them: Ctrl-C, colours, quiet.

mod harness;

use std::fs::File;
use std::process::{Command, Stdio};

use harness::{Ask, BINARY, Process, Ran, Root, arch, eventually, srpm};
use nix::sys::signal::Signal::SIGINT;
use reimzul::queue::State;
use reimzul::role::Site;

/// Longer than any test.
const FOR_EVER: (&str, &str) = ("REIMZUL_NULL_ENGINE_SECONDS", "600");

#[tokio::test]
async fn ctrl_c_on_a_waiting_submit_leaves_the_build_and_says_how_to_follow_it() {
    let root = Root::new();
    let hello = srpm("hello", 1).display().to_string();
    let mut submit = root.launch(&["submit", "-s", &hello, "-t", "mini", "--wait"], &[], Stdio::null());
    submit.until_it_says("waiting");
    submit.signal(SIGINT);
    let (code, said) = submit.ended();
    assert_eq!(code, Some(130), "{said}");
    let follow = format!("the build goes on: reimzul --root {} logs -f mini.", root.path().display());
    assert!(said.contains(&follow), "{said}");
    assert_eq!(states(&root.site()).await, [State::Ready]);
}

#[tokio::test]
async fn ctrl_c_on_a_build_ends_it_and_leaves_nothing_queued() {
    let root = Root::new();
    let hello = srpm("hello", 1).display().to_string();
    let mut build = root.launch(&["build", &hello, "-t", "mini"], &[FOR_EVER], Stdio::null());
    let site = root.site();
    held(&site).await;
    build.signal(SIGINT);
    build.until_it_says("stopped: 0 of 1 packages were done; nothing is left running or queued");
    let (code, said) = build.ended();
    assert_eq!((code, states(&site).await), (Some(130), vec![]), "{said}");
    let why = root.run(&["why", "hello"]).ok().out;
    assert!(why.contains("class killed"), "{why}");
}

#[tokio::test]
async fn the_first_ctrl_c_on_roles_waits_for_what_they_build_and_says_for_what() {
    let root = Root::new();
    let site = root.site();
    let build = site.submit(&srpm("hello", 1)).await;
    let mut roles = root.start_with(&["worker", "notifier"], &[("REIMZUL_NULL_ENGINE_SECONDS", "5")]);
    roles.until_it_says("building mini");
    roles.signal(SIGINT);
    roles.until_it_says(&format!("waiting for 1 package to be built: hello-1.0-1.{}", arch()));
    let (code, said) = roles.ended();
    assert_eq!(code, Some(0), "{said}");
    assert!(site.result(&build).await.event.failure.is_none());
}

#[tokio::test]
async fn the_second_ctrl_c_on_roles_hands_builds_back_and_query_says_that_they_wait() {
    let root = Root::new();
    let site = root.site();
    site.submit(&srpm("hello", 1)).await;
    hand_back(&root, &site, root.start_with(&["worker", "notifier"], &[FOR_EVER])).await;
    assert_eq!(states(&site).await, [State::Ready]);
    let listed = root.run(&["query"]).ok().out;
    let line = listed.lines().nth(1).unwrap_or_default();
    assert!(line.starts_with("Waiting hello-1.0-1") && line.ends_with("handed back"), "{listed}");
    let why = root.run(&["why", "hello"]).ok().out;
    assert!(why.contains("waits: next in tube") && why.contains("the worker was stopped"), "{why}");
}

#[tokio::test]
async fn a_followed_log_begins_anew_with_the_next_attempt() {
    let root = Root::new();
    let site = root.site();
    site.submit(&srpm("hello", 1)).await;
    let roles = root.start_with(&["worker", "notifier"], &[FOR_EVER]);
    held(&site).await;
    let shown = root.join("shown");
    let logs = root.launch(&["logs", "-f", "hello"], &[], File::create(&shown).unwrap().into());
    let text = async || std::fs::read_to_string(&shown).unwrap();
    eventually("the first attempt's log", async || (!text().await.is_empty()).then_some(())).await;
    let first = text().await;
    hand_back(&root, &site, roles).await;
    let roles = root.start(&["worker", "notifier"]);
    let (code, said) = logs.ended();
    roles.stop();
    assert_eq!((code, said.trim()), (Some(0), "--- another attempt begins ---"));
    assert_eq!(text().await, first.repeat(2), "each attempt's log, whole");
}

#[tokio::test]
async fn ctrl_c_on_a_followed_log_ends_it_without_a_word() {
    let root = Root::new();
    let site = root.site();
    site.submit(&srpm("hello", 1)).await;
    let _roles = root.start_with(&["worker", "notifier"], &[FOR_EVER]);
    held(&site).await;
    let shown = root.join("shown");
    let logs = root.launch(&["logs", "-f", "hello"], &[], File::create(&shown).unwrap().into());
    eventually("some log", async || (shown.metadata().unwrap().len() > 0).then_some(())).await;
    logs.signal(SIGINT);
    // Ended by the signal itself, as shells expect it: they show 130.
    assert_eq!(logs.ended(), (None, String::new()));
    assert_eq!(states(&site).await, [State::Reserved], "the build goes on");
}

#[tokio::test]
async fn colours_are_for_terminals_and_for_who_wants_them() {
    let root = with_a_build().await;
    let piped = |options: &[&str], environment: &[(&str, &str)]| {
        let mut command = Command::new(BINARY);
        command.arg("--root").arg(root.path()).arg("query").args(options);
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").envs(environment.iter().copied());
        Ran::of(&mut command).ok().out
    };
    let on_terminal = |options: &str, environment: &[(&str, &str)]| {
        let line = format!("{BINARY} --root {} query {options}", root.path().display());
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null());
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").env("TERM", "xterm");
        Ran::of(command.envs(environment.iter().copied())).ok().out
    };
    let is_coloured = |text: String| {
        assert!(text.contains("Success"), "{text}");
        text.contains("\x1b[")
    };
    assert!(!is_coloured(piped(&[], &[])));
    assert!(is_coloured(piped(&[], &[("CLICOLOR_FORCE", "1")])));
    assert!(!is_coloured(piped(&[], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")])));
    assert!(is_coloured(piped(&["--color", "always"], &[("NO_COLOR", "1")])));
    assert!(is_coloured(on_terminal("", &[])));
    assert!(is_coloured(on_terminal("", &[("NO_COLOR", "")])), "empty is as good as unset");
    assert!(!is_coloured(on_terminal("", &[("NO_COLOR", "0")])), "whatever its value");
    assert!(!is_coloured(on_terminal("--color never", &[])));
    assert!(!is_coloured(on_terminal("", &[("TERM", "dumb")])));
    assert!(!is_coloured(on_terminal("--json", &[])), "what is for scripts stays so");
}

#[tokio::test]
async fn quiet_commands_say_results_and_errors_only() {
    let root = with_a_build().await;
    let target = harness::target().to_string();
    let hello = srpm("hello", 1).display().to_string();
    let said = |arguments: &[&str]| {
        let ran = root.run(&[arguments, &["-q"]].concat());
        (ran.code, ran.out + &ran.err)
    };
    let (code, queued) = said(&["submit", "-s", &hello, "-t", "mini"]);
    assert_eq!(code, 0);
    let path = queued.trim_end();
    assert!(path.starts_with("mini.") && !path.contains([' ', '\n']), "{queued:?}");
    assert!(root.run(&["why", path]).ok().out.contains("waits"), "the line names the build");
    assert_eq!(said(&["repogen", &target]), (0, String::new()));
    assert_eq!(said(&["query", "-s", "Failed"]), (0, String::new()));
    let (code, listed) = said(&["query"]);
    assert_eq!((code, listed.lines().count()), (0, 2), "{listed}");
    assert_eq!(said(&["drop", path]), (0, String::new()));
    let (code, error) = said(&["drop", path]);
    assert_eq!((code, error.lines().count()), (2, 1), "{error}");
}

/// A root with one build that has succeeded.
async fn with_a_build() -> Root {
    let root = Root::new();
    let roles = root.start(&["worker", "notifier"]);
    let site = root.site();
    let build = site.submit(&srpm("hello", 1)).await;
    site.result(&build).await;
    roles.stop();
    root
}

/// Until a worker has the only job, and its log says so.
async fn held(site: &Site) {
    eventually("a build that runs", async || {
        let jobs = site.queue.list(Some(arch())).await.unwrap();
        let is_held = jobs.first().is_some_and(|job| job.state == State::Reserved);
        let begun = is_held && !site.history.named("hello").await.unwrap().is_empty();
        begun.then_some(())
    })
    .await;
}

/// Two Ctrl-C, and the end.
async fn hand_back(root: &Root, site: &Site, mut roles: Process) {
    held(site).await;
    roles.signal(SIGINT);
    roles.until_it_says("stopping: taking no more jobs");
    roles.signal(SIGINT);
    roles.until_it_says("stopping at once");
    let (code, said) = roles.ended();
    assert_eq!(code, Some(0), "{}: {said}", root.path().display());
}

async fn states(site: &Site) -> Vec<State> {
    site.queue.list(Some(arch())).await.unwrap().into_iter().map(|job| job.state).collect()
}
