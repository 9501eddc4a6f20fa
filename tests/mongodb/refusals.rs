//! What cannot work says why, in one sentence, and never shows a password.

use std::path::Path;
use std::process::Command;

use mongodb::bson::doc;

use super::event;
use super::harness::mongodb::Server;
use super::harness::{Ran, Root};

/// `check-config --connect` with that history.
fn check(url: &str, tls: &str) -> Ran {
    let root = Root::with(&format!("[history]\nurl = {url}\n[tls]\n{tls}\n"));
    root.run(&["check-config", "--connect"])
}

/// What it says of the history.
fn said(ran: &Ran) -> String {
    let text = format!("{}{}", ran.out, ran.err);
    assert!(!text.contains("geheim"), "the password is shown: {text}");
    text.lines().filter(|line| line.contains("history") || line.contains("ongo")).collect()
}

fn refused(ran: &Ran, parts: &[&str]) {
    let said = said(ran);
    assert_ne!(ran.code, 0, "{said}");
    for part in parts {
        assert!(said.contains(part), "'{part}' is not in: {said}");
    }
}

#[test]
fn a_wrong_url_is_told_without_its_password() {
    for (url, parts) in [
        ("mongodb://u:geheim@h:port/", &["is not a MongoDB URL"][..]),
        ("mongodb://u:geh/eim@h/?tlss=true", &["is not a MongoDB URL"]),
        ("mongodb://u:geheim@h/?authMechanism=NONSENSE", &["is not a MongoDB URL"]),
        ("mongodb://u:geheim@h/?tls=true&tlsInsecure=true", &["turns the verification of certificates off"]),
        (
            "mongodb://u:geheim@h/?tls=true&tlsAllowInvalidCertificates=true",
            &["turns the verification of certificates off"],
        ),
        ("mysql://u:geheim@h/", &["url in section [history]", "must be mongodb://HOST:PORT or sqlite:PATH"]),
    ] {
        refused(&check(url, ""), parts);
    }
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let server = Server::prepare(&[]);
    let url = format!("{}?serverSelectionTimeoutMS=500", server.url());
    let at = format!("127.0.0.1:{}", server.port());
    refused(&check(&url, ""), &["cannot be reached", &at, "Connection refused", "is it running"]);
    server.begin();
    let good = check(&server.url(), "");
    assert_eq!(good.code, 0, "{good:?}");
    assert!(said(&good).contains(&format!("MongoDB at {at}, database t")), "{good:?}");
}

#[tokio::test]
async fn users_passwords_and_rights_are_told() {
    let server = Server::prepare(&[]);
    server.begin();
    let admin =
        mongodb::Client::with_uri_str(format!("mongodb://127.0.0.1:{}/", server.port())).await.unwrap();
    for (user, role) in [("reader", "read"), ("writer", "readWrite")] {
        let create = doc! {"createUser": user, "pwd": "geheim", "roles": [{"role": role, "db": "reimzul"}]};
        admin.database("admin").run_command(create).await.unwrap();
    }
    drop(admin);
    server.kill();
    server.begin_with(&["--auth"]);
    let url =
        |user: &str, password: &str| format!("mongodb://{user}:{password}@127.0.0.1:{}/", server.port());
    refused(&check(&url("writer", "falsch-geheim"), ""), &["refused the user or password"]);
    refused(&check(&url("nobody", "geheim"), ""), &["refused the user or password"]);
    let anonymous = format!("mongodb://127.0.0.1:{}/", server.port());
    refused(&check(&anonymous, ""), &["may not do this in database reimzul", "grant it"]);
    assert_eq!(check(&url("writer", "geheim"), "").code, 0);
    // Who only reads queries, and is told when it records.
    let root = Root::with(&format!("[history]\nurl = {}\n", url("reader", "geheim")));
    assert_eq!(root.run(&["query"]).code, 0);
    let told = root.site().history.record(&event("p", 1, "Building")).await.unwrap_err().to_string();
    assert!(
        told.contains("may not create indexes in database reimzul") && told.contains("grant it readWrite"),
        "{told}"
    );
    assert!(!told.contains("geheim"), "{told}");
}

/// Certificates of an authority of the test's own.
struct Authority {
    folder: tempfile::TempDir,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let authority = Authority { folder: tempfile::tempdir().unwrap() };
        let subject = format!("/CN={name}");
        authority.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
            "-subj",
            &subject,
        ]);
        authority
    }

    fn path(&self, file: &str) -> String {
        self.folder.path().join(file).display().to_string()
    }

    /// `<name>.crt`, `<name>.key`, and `<name>.pem` with both.
    fn issue(&self, name: &str, alternative: &str, days: &str) {
        let file = |suffix: &str| format!("{name}.{suffix}");
        self.openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            &file("key"),
            "-out",
            &file("csr"),
            "-subj",
            &format!("/CN={name}"),
        ]);
        std::fs::write(self.path("ext"), format!("subjectAltName={alternative}\n")).unwrap();
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &file("csr"),
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            days,
            "-extfile",
            "ext",
            "-out",
            &file("crt"),
        ]);
        let read = |suffix: &str| std::fs::read_to_string(self.path(&file(suffix))).unwrap();
        std::fs::write(self.path(&file("pem")), read("crt") + &read("key")).unwrap();
    }

    fn openssl(&self, arguments: &[&str]) {
        let ran = Command::new("openssl").args(arguments).current_dir(self.folder.path()).output();
        let ran =
            ran.unwrap_or_else(|error| panic!("cannot run openssl ({error}): install the package openssl"));
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }
}

#[test]
fn tls_works_with_certificates_of_both_sides_and_says_why_it_does_not() {
    let ours = Authority::new("ours");
    ours.issue("server", "IP:127.0.0.1,DNS:localhost", "30");
    ours.issue("elsewhere", "DNS:elsewhere.example", "30");
    ours.issue("client", "DNS:client", "30");
    ours.issue("expired", "IP:127.0.0.1", "-1");
    let theirs = Authority::new("theirs");
    theirs.issue("client", "DNS:client", "30");
    let [ca, cert, key, pem] =
        ["ca.crt", "client.crt", "client.key", "client.pem"].map(|file| ours.path(file));

    let server = tls_server(&ours, "server");
    let patient = format!("{}?tls=true", server.url());
    let url = format!("{patient}&serverSelectionTimeoutMS=1500");
    let two = check(&patient, &format!("ca_cert = {ca}\ntls_cert = {cert}\ntls_key = {key}"));
    assert_eq!(two.code, 0, "{two:?}");
    let one = check(&patient, &format!("ca_cert = {ca}\ntls_cert = {pem}"));
    assert_eq!(one.code, 0, "{one:?}");

    let others = theirs.path("ca.crt");
    let tls_failed = "TLS with MongoDB at 127.0.0.1";
    let unknown = "certificate, of server, is signed by ours, which is not among";
    refused(
        &check(&url, &format!("ca_cert = {others}\ntls_cert = {pem}")),
        &[tls_failed, unknown, "name its CA as ca_cert in section [tls]"],
    );
    refused(&check(&url, &format!("tls_cert = {pem}")), &[tls_failed, unknown, "whom this system trusts"]);
    refused(
        &check(&url, &format!("ca_cert = {ca}")),
        &[tls_failed, "wants a client certificate", "set tls_cert"],
    );
    let strangers = theirs.path("client.pem");
    refused(
        &check(&url, &format!("ca_cert = {ca}\ntls_cert = {strangers}")),
        &[tls_failed, "does not accept our certificate", &strangers],
    );
    refused(
        &check(&url, &format!("ca_cert = {ca}\ntls_cert = {cert}")),
        &["client key", "holds no private key", "tls_key"],
    );
    refused(&check(&url, "ca_cert = /nowhere/ca.crt"), &["/nowhere/ca.crt", "No such file"]);
    refused(&check(&url, &format!("ca_cert = {key}")), &["holds no certificate"]);
    let plain = url.replace("tls=true&", "");
    refused(&check(&plain, ""), &["MongoDB at 127.0.0.1"]);
    drop(server);

    for (certificate, why) in [
        ("elsewhere", "of elsewhere, is not for 127.0.0.1 but for elsewhere.example"),
        ("expired", "of expired, has expired on"),
    ] {
        let server = tls_server(&ours, certificate);
        let url = format!("{}?tls=true&serverSelectionTimeoutMS=1500", server.url());
        refused(&check(&url, &format!("ca_cert = {ca}\ntls_cert = {pem}")), &[tls_failed, why]);
    }
}

fn tls_server(authority: &Authority, certificate: &str) -> Server {
    let [cert, key] = ["crt", "key"].map(|suffix| authority.path(&format!("{certificate}.{suffix}")));
    let ca = authority.path("ca.crt");
    assert!(Path::new(&cert).exists());
    Server::start(&[
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-file",
        &ca,
        "--tls-require-client-cert",
    ])
}
