//! Mails: what they say, to whom, how often, and through what kinds of servers.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::mail_server::MailServer;
use crate::harness::{Ask, Root, arch, eventually, srpm};
use crate::{fields, tell, told};

/// A root that mails through `server`, with more lines for `[mail]` and sections after it.
fn root(server: &MailServer, more: &str) -> Root {
    Root::with(&format!(
        "[mail_rcpts]\nx86_64 = a@example.org, B <b@example.org>\naarch64 = c@example.org\n\
         [mail]\nnotifications = True\nmail_from = Builds <builds@example.org>\nhost = localhost\nport = {}\n{more}\n",
        server.port
    ))
}

fn text<'a>(mail: &'a Value, header: &str) -> &'a str {
    mail["headers"][header].as_str().unwrap_or_default()
}

#[tokio::test]
async fn a_result_is_mailed_as_the_old_system_did_with_the_ends_of_its_logs() {
    let server = MailServer::start(&[]);
    let root = root(&server, "[bstore]\nbase_url = http://bstore.example.org/bstore/repo");
    let site = root.site();
    let place = "mini.x86_64/hello/20261123204406/1-1.x86_64";
    let lines =
        |name: &str, last: usize| (1..=last).fold(String::new(), |text, n| format!("{text}{name} {n}\n"));
    root.write(&format!("bstore/repo/{place}/root.log"), &lines("root", 100));
    root.write(&format!("bstore/repo/{place}/build.log"), &lines("build", 100));
    let roles = root.start(&["notifier"]);
    let mut event = fields("hello", "Failed");
    event["failure"] =
        json!({"class": "build", "phase": "build", "lines": ["bad.c:1: error"], "log": "build.log"});
    tell(&site, &fields("hello", "Building")).await;
    tell(&site, &event).await;
    told(&site).await;
    roles.stop();

    let mails = server.mails();
    let [mail] = mails.as_slice() else { panic!("{mails:?}") };
    assert_eq!(mail["from"], "builds@example.org");
    assert_eq!(mail["to"], json!(["a@example.org", "b@example.org"]));
    assert_eq!(
        text(mail, "subject"),
        "[reimzul] Build task 20261123204406 hello-1-1.src.rpm (arch: x86_64) target mini.x86_64 : Failed"
    );
    let body = mail["body"].as_str().unwrap();
    let head = "Builder: b1.example.org\nPackage: hello-1-1.src.rpm\nTimestamp: 20261123204406\nSubmitter: kb\n\
        Status: Failed\nFull logs: http://bstore.example.org/bstore/repo/mini.x86_64/hello/20261123204406/1-1.x86_64/\n\
        Reason: build failure in build\n  bad.c:1: error\n";
    assert!(body.starts_with(head), "{body}");
    let ends = |name: &str, first: usize| {
        body.contains(&format!("\n\n{name} {first}\n")) && body.contains(&format!("{name} 100\n"))
    };
    assert!(ends("root", 71) && ends("build", 21), "{body}");
}

#[tokio::test]
async fn a_mail_survives_whatever_a_build_prints_and_belongs_to_its_build() {
    let server = MailServer::start(&[]);
    let root = root(&server, "");
    let site = root.site();
    let hostile =
        [&b"\xff\xfe\x00\x1b[2Jred\r\n.\r\nFrom me\r\n"[..], &[b'x'; 5000], "\nä €\n".as_bytes()].concat();
    let folder = root.join("bstore/repo/mini.x86_64/hello/20261123204406/1-1.x86_64");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("build.log"), &hostile).unwrap();
    let roles = root.start(&["notifier"]);
    let mut companion = fields("hello", "Failed");
    companion["arch"] = json!("aarch64");
    companion["builder_fqdn"] = json!("b1\r\nBcc: evil@example.org");
    tell(&site, &fields("hello", "Success")).await;
    tell(&site, &companion).await;
    tell(&site, &fields("other", "Success")).await;
    told(&site).await;
    roles.stop();

    let mails = server.mails();
    assert_eq!(mails.len(), 3);
    let body = mails[0]["body"].as_str().unwrap();
    assert!(body.contains("\n\u{fffd}\u{fffd}red\n.\nFrom me\nxxx") && body.contains("\nä €\n"), "{body}");
    assert!(
        mails[0]["longest"].as_u64().unwrap() < 998 && mails[0]["ascii"] == true,
        "RFC 5322, section 2.1.1"
    );
    assert!(body.contains("(root.log cannot be had: "), "{body}");
    assert_eq!(mails[1]["to"], json!(["c@example.org"]), "the arch's own, and nobody that a builder names");
    assert_eq!(text(&mails[1], "bcc"), "");
    let ids: BTreeSet<&str> = mails.iter().map(|mail| text(mail, "message-id")).collect();
    assert_eq!(ids.len(), 3);
    let thread = |mail: usize| (text(&mails[mail], "references"), text(&mails[mail], "in-reply-to"));
    assert_eq!(thread(0), thread(1));
    assert_ne!(thread(0), thread(2));
    assert!(thread(0).0.ends_with("@example.org>") && text(&mails[0], "auto-submitted") == "auto-generated");
}

#[tokio::test]
async fn while_the_mail_server_is_down_all_else_goes_on_and_then_every_mail_comes_once() {
    let mut server = MailServer::prepare(&[]);
    let root = Root::with(&format!(
        "slots = 4\n[mail_rcpts]\n{} = a@example.org\n[mail]\nnotifications = yes\nmail_from = b@example.org\nport = {}",
        arch(),
        server.port
    ));
    let (site, roles) = (root.site(), root.start_all());
    let mut builds = Vec::new();
    for number in 1..=50 {
        builds.push(site.submit(&srpm("hello", number % 5 + 1)).await);
    }
    for build in &builds {
        site.result(build).await;
    }
    let others = async || {
        let waiting = site.outbox.waiting().await.unwrap();
        let all = waiting.iter().all(|waiting| waiting.sink == "mail");
        let log = root.read("log/reimzul.log");
        (all && log.matches("status Success").count() == 50).then_some(waiting)
    };
    let waiting = eventually("all but mail is told", others).await;
    assert_eq!((waiting[0].waiting, waiting[0].buried), (50, 0), "{waiting:?}");
    let said = root.run(&["stats"]).ok().out;
    assert!(
        said.contains(&format!("mail: 50 undelivered, since the mail server localhost:{}", server.port)),
        "{said}"
    );
    roles.stop();

    let roles = root.start(&["notifier"]);
    server.begin();
    server.has(50).await;
    told(&site).await;
    roles.stop();
    let mails = server.mails();
    let ids: BTreeSet<&str> = mails.iter().map(|mail| text(mail, "message-id")).collect();
    assert_eq!((mails.len(), ids.len()), (50, 50));
}

#[tokio::test]
async fn who_is_refused_keeps_no_mail_from_others_and_is_buried_in_the_end() {
    let server = MailServer::start(&["--refuse", "b@example.org"]);
    let root = root(&server, "[notifier]\ngive_up_after = 0");
    let site = root.site();
    let config = root.read("reimzul.ini").replace("c@example.org", "b@example.org");
    root.write("reimzul.ini", &config);
    let mut roles = root.start(&["notifier"]);
    let mut other = fields("refused", "Success");
    other["arch"] = json!("aarch64");
    let mut nobodys = fields("nobodys", "Success");
    nobodys["arch"] = json!("ppc64le");
    for event in [&other, &nobodys, &fields("hello", "Success")] {
        tell(&site, event).await;
    }
    assert_eq!(server.has(1).await[0]["to"], json!(["a@example.org"]));
    roles.until_it_says("no mail reaches B <b@example.org>: the mail server localhost");
    eventually("one is buried", async || {
        let waiting = site.outbox.waiting().await.unwrap();
        (waiting.len() == 1 && waiting[0].buried == 1).then_some(())
    })
    .await;
    let said = root.run(&["stats"]).ok().out;
    assert!(said.contains("mail: 1 buried, since the mail server") && said.contains("550"), "{said}");
    assert!(said.contains("kick --sink mail"), "{said}");

    root.write("reimzul.ini", &config.replace("aarch64 = b@", "aarch64 = d@"));
    let (_, log) = {
        roles.terminate();
        roles.ended()
    };
    assert_eq!(log.matches("nobody is mailed of arch ppc64le").count(), 1, "{log}");
    let roles = root.start(&["notifier"]);
    assert_eq!(root.run(&["kick", "--sink", "mail"]).ok().out, "1 notification tried again\n");
    assert_eq!(server.has(2).await[1]["to"], json!(["d@example.org"]));
    told(&site).await;
    roles.stop();
}

#[tokio::test]
async fn failures_only_and_scratch_builds_to_the_submitter_who_asks_for_it() {
    let server = MailServer::start(&[]);
    let root = root(&server, "mail = failures\nscratch_domain = users.example.org");
    let (site, roles) = (root.site(), root.start(&["notifier"]));
    let scratch = |name: &str, mail: Value, submitter: &str| {
        let mut event = fields(name, "Failed");
        (event["scratch"], event["mail"], event["submitter"]) = (json!(true), mail, json!(submitter));
        event
    };
    let events = [
        fields("good", "Success"),
        scratch("asked", json!(true), "kb"),
        scratch("not", json!(false), "alice"),
        scratch("no-word", json!("true"), "bob"),
        scratch("odd", json!(true), "two words <x@y>"),
        fields("bad", "Failed"),
    ];
    for event in &events {
        tell(&site, event).await;
    }
    told(&site).await;
    roles.stop();
    let mails = server.mails();
    let to: Vec<String> = mails.iter().map(|mail| mail["to"].to_string()).collect();
    assert_eq!(to, [r#"["kb@users.example.org"]"#, r#"["a@example.org","b@example.org"]"#]);
}

#[tokio::test]
async fn a_submitter_is_mailed_of_a_scratch_build_by_asking_for_it_with_the_submission() {
    let server = MailServer::start(&[]);
    let root = root(&server, "scratch_domain = users.example.org");
    let (site, roles) = (root.site(), root.start_all());
    let srpm = srpm("hello", 1).display().to_string();
    let submit = |more: &[&str]| {
        let submit = ["submit", "-s", &srpm, "-t", "mini", "-a", arch(), "--wait"];
        root.run(&[&submit[..], more].concat())
    };
    let refused = submit(&["--mail"]);
    assert!(refused.code == 2 && refused.err.contains("--scratch"), "{refused:?}");
    submit(&["--scratch"]).ok();
    submit(&["--scratch", "--mail"]).ok();
    site.quiet().await;
    roles.stop();
    let mails = server.mails();
    let [mail] = mails.as_slice() else { panic!("{mails:?}") };
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name;
    assert_eq!(mail["to"], json!([format!("{user}@users.example.org")]));
}

#[tokio::test]
async fn what_has_failed_for_a_day_is_buried_and_shown_and_not_a_second_sooner() {
    let mut server = MailServer::prepare(&[]);
    let root = root(&server, "");
    let site = root.site();
    let database = rusqlite::Connection::open(root.join("reimzul.db")).unwrap();
    // As if the first failure were so many seconds ago; a notifier that is started anew tries at once.
    let fails_again = async |seconds: i64| {
        let change = "UPDATE outbox SET since = since - 1000 * ?1 WHERE sink = 'mail'";
        database.execute(change, [seconds]).unwrap();
        let count = "SELECT failures FROM outbox WHERE sink = 'mail'";
        let failures = || database.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap_or_default();
        let before = failures();
        let roles = root.start(&["notifier"]);
        eventually("one more failure", async || (failures() > before).then_some(())).await;
        roles.stop();
    };
    tell(&site, &fields("hello", "Success")).await;
    fails_again(0).await;
    fails_again(86_400 - 120).await;
    let waits = root.run(&["stats"]).ok().out;
    assert!(waits.contains("mail: 1 undelivered, since the mail server localhost:"), "{waits}");
    fails_again(120).await;
    let buried = root.run(&["stats"]).ok().out;
    assert!(buried.contains("mail: 1 buried, since the mail server localhost:"), "{buried}");
    assert!(buried.contains("kick --sink mail"), "{buried}");
    // It is tried no longer, until somebody asks for it.
    server.begin();
    let roles = root.start(&["notifier"]);
    tell(&site, &fields("other", "Success")).await;
    server.has(1).await;
    assert_eq!(root.run(&["kick", "--sink", "mail"]).ok().out, "1 notification tried again\n");
    server.has(2).await;
    told(&site).await;
    roles.stop();
    assert!(text(&server.mails()[1], "subject").contains(" hello-1-1.src.rpm "));
}

#[tokio::test]
async fn a_digest_is_one_mail_for_all_that_came_in_its_time() {
    let server = MailServer::start(&[]);
    let root = root(&server, "mail = digest\ndigest_interval = 604800");
    let (site, roles) = (root.site(), root.start(&["notifier"]));
    for number in 0..30 {
        tell(&site, &fields(&format!("p{number}"), if number % 10 == 0 { "Failed" } else { "Success" }))
            .await;
    }
    eventually("all but mail is told", async || {
        let waiting = site.outbox.waiting().await.unwrap();
        (waiting.len() == 1 && waiting[0].waiting == 30).then_some(())
    })
    .await;
    roles.stop();
    assert_eq!(server.mails().len(), 0);
    // As if the week were over.
    let database = rusqlite::Connection::open(root.join("reimzul.db")).unwrap();
    database.execute("UPDATE outbox SET due = 0", []).unwrap();
    let roles = root.start(&["notifier"]);
    told(&site).await;
    roles.stop();
    let mails = server.mails();
    let [mail] = mails.as_slice() else { panic!("{mails:?}") };
    assert_eq!(text(mail, "subject"), "[reimzul] 30 results: 3 Failed, 27 Success");
    let body = mail["body"].as_str().unwrap();
    assert!(body.starts_with("Failed   p0-1-1.x86_64 for mini.x86_64, submitted by kb\n"), "{body}");
    assert_eq!(body.matches("submitted by kb").count(), 30, "{body}");
}
