//! Mail through TLS and with a login, and logs that lie on another host.

use std::process::{Command, Stdio};

use crate::harness::ca::Ca;
use crate::harness::free_port;
use crate::harness::mail_server::MailServer;
use crate::harness::{Process, Root};
use crate::{fields, tell, told};

fn mail(server: &MailServer, more: &str) -> String {
    format!(
        "[mail_rcpts]\nx86_64 = a@example.org\n[mail]\nnotifications = yes\nmail_from = b@example.org\n\
         host = localhost\nport = {}\n{more}\n",
        server.port
    )
}

#[tokio::test]
async fn mail_goes_through_tls_with_a_login_and_what_is_wrong_with_either_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let ca = Ca::new("Mail CA");
    let pem = write("server.pem", &ca.sign("mail", "localhost", (-1, 365)));
    let trusted = write("ca.pem", &ca.pem());
    let (right, wrong) = (write("right", "geheim\n"), write("wrong", "falsch\n"));
    for security in ["starttls", "tls"] {
        let server = MailServer::start(&[&format!("--{security}"), &pem, "--login", "me:geheim"]);
        let root = Root::new();
        let site = |ca: &str, password: &str| {
            let more =
                format!("security = {security}\nca_cert = {ca}\nuser = me\npassword_file = {password}");
            root.write("reimzul.ini", &format!("[worker]\nengine = null\n{}", mail(&server, &more)));
            root.run(&["check-config", "--connect", "notifier"])
        };
        let refused = site(&trusted, &wrong);
        assert_eq!(refused.code, 3, "{refused:?}");
        assert!(refused.out.contains("cannot be used: ") && refused.out.contains("535"), "{refused:?}");
        assert!(site(&trusted, &right).ok().out.contains("lets us in"));
        let (site, roles) = (root.site(), root.start(&["notifier"]));
        tell(&site, &fields("hello", "Success")).await;
        let mails = server.has(1).await;
        assert_eq!((mails[0]["encrypted"].as_bool(), mails[0]["login"].as_str()), (Some(true), Some("me")));
        told(&site).await;
        roles.stop();
    }
}

#[tokio::test]
async fn a_mail_servers_certificate_that_is_wrong_is_told_with_whose_it_is_and_what_to_do() {
    let root = Root::new();
    let (ca, other) = (Ca::new("Mail CA"), Ca::new("Other CA"));
    for (name, text) in [("ca.pem", ca.pem()), ("other.pem", other.pem()), ("empty.pem", String::new())] {
        root.write(name, &text);
    }
    let pem = |name: &str, host: &str, days: (i64, i64)| {
        root.write(name, &ca.sign("mail", host, days));
        root.join(name).display().to_string()
    };
    let good = pem("good", "localhost", (-1, 365));
    let expired = pem("expired", "localhost", (-9, -2));
    let early = pem("early", "localhost", (2, 9));
    let elsewhere = pem("elsewhere", "smtp.example.org", (-1, 365));
    for security in ["starttls", "tls"] {
        for (certificate, ca_cert, parts) in [
            (&expired, "ca_cert = ca.pem", &["certificate, of mail, has expired on 20", "; renew it"][..]),
            (
                &early,
                "ca_cert = ca.pem",
                &["certificate, of mail, is not valid before 20", "check the clocks"],
            ),
            (
                &elsewhere,
                "ca_cert = ca.pem",
                &["of mail, is not for localhost but for smtp.example.org; connect by that name"],
            ),
            (
                &good,
                "ca_cert = other.pem",
                &[
                    "of mail, is signed by Mail CA, which is not among ",
                    "other.pem; name its CA as ca_cert in section [mail]",
                ],
            ),
            (&good, "", &["of mail, is signed by Mail CA, which is not among whom this system trusts"]),
            (
                &good,
                "ca_cert = none.pem",
                &["cannot read the CA's certificate ", "none.pem", "correct its path in section [mail]"],
            ),
            (&good, "ca_cert = empty.pem", &["empty.pem holds no certificate in PEM form; put one there"]),
        ] {
            let server = MailServer::start(&[&format!("--{security}"), certificate]);
            let text = mail(&server, &format!("security = {security}\n{ca_cert}"));
            root.write("reimzul.ini", &format!("[worker]\nengine = null\n{text}"));
            let ran = root.run(&["check-config", "--connect", "notifier"]);
            assert_eq!(ran.code, 3, "{ran:?}");
            for part in parts.iter().chain(&["mail: the mail server localhost:"]) {
                assert!(ran.out.contains(part), "{security}: '{part}' is not said: {}", ran.out);
            }
        }
    }
    // A server that knows no TLS is no fault of a certificate.
    let server = MailServer::start(&[]);
    for security in ["starttls", "tls"] {
        let text = mail(&server, &format!("security = {security}\nca_cert = ca.pem"));
        root.write("reimzul.ini", &format!("[worker]\nengine = null\n{text}"));
        let ran = root.run(&["check-config", "--connect", "notifier"]);
        assert!(ran.code == 3 && ran.out.contains("mail: the mail server localhost:"), "{ran:?}");
        assert!(!ran.out.contains("certificate"), "{ran:?}");
    }
}

/// nginx, with `store` as its root.
fn nginx(store: &Root, port: u16) -> Process {
    let work = store.path().display();
    store.write(
        "nginx.conf",
        &format!(
            "daemon off; master_process off; user root; pid {work}/nginx.pid; error_log {work}/nginx.log;\nevents {{}}\n\
             http {{ access_log off; client_body_temp_path {work}/t1; proxy_temp_path {work}/t2;\n\
             fastcgi_temp_path {work}/t3; uwsgi_temp_path {work}/t4; scgi_temp_path {work}/t5;\n\
             server {{ listen 127.0.0.1:{port}; root {work}/bstore; }} }}\n"
        ),
    );
    let mut command = Command::new("nginx");
    command.arg("-c").arg(store.join("nginx.conf")).stdin(Stdio::null());
    Process::start(command)
}

#[tokio::test]
async fn the_ends_of_logs_come_from_the_bstores_host_and_a_mail_waits_for_none_that_is_down() {
    let (server, store, port) = (MailServer::start(&[]), Root::new(), free_port());
    let lines = (1..=50_000).fold(String::new(), |text, number| format!("{text}line {number}\n"));
    store.write("bstore/repo/mini.x86_64/hello/20261123204406/1-1.x86_64/build.log", &lines);
    store.write("bstore/repo/mini.x86_64/hello/20261123204406/1-1.x86_64/root.log", "");
    store.write(
        "bstore/scratch/mini.x86_64/scratch/20261123204406/1-1.x86_64/build.log",
        "of a scratch build\n",
    );
    let root = Root::with(&format!(
        "{}scratch_domain = example.org\n[bstore]\nbase_url = http://127.0.0.1:{port}/repo\n",
        mail(&server, "")
    ));
    let (site, roles) = (root.site(), root.start(&["notifier"]));
    tell(&site, &fields("early", "Success")).await;
    let body = server.has(1).await[0]["body"].as_str().unwrap().to_owned();
    assert!(body.contains("(build.log cannot be had: http://127.0.0.1"), "{body}");

    let web = nginx(&store, port);
    crate::harness::eventually("nginx", async || std::net::TcpStream::connect(("127.0.0.1", port)).ok())
        .await;
    tell(&site, &fields("hello", "Success")).await;
    let body = server.has(2).await[1]["body"].as_str().unwrap().to_owned();
    let end = "The last 80 lines of build.log:\n\nline 49921\n";
    assert!(body.contains(end) && body.trim_end().ends_with("\nline 50000"), "{body}");
    let mut scratch = fields("scratch", "Failed");
    scratch["scratch"] = true.into();
    scratch["mail"] = true.into();
    tell(&site, &scratch).await;
    let body = server.has(3).await[2]["body"].as_str().unwrap().to_owned();
    assert!(body.contains("of a scratch build"), "{body}");
    assert!(
        body.contains(&format!("Full logs: http://127.0.0.1:{port}/scratch/mini.x86_64/scratch/")),
        "{body}"
    );
    told(&site).await;
    roles.stop();
    web.kill();
}
