//! What signing costs: 1,000 packages by a key in a file and by one that gpg-agent holds, against rpmsign with the
//! same key; and the whole way from a finished build to the signed repository. Run by `cargo bench --bench sign`.

mod common;
#[path = "../tests/sign/farm.rs"]
#[allow(dead_code)]
mod farm;
#[path = "../tests/harness/mod.rs"]
mod harness;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Table, median};
use farm::{Build, by_file, published};
use harness::keys::{Home, Key, Kind, key};
use harness::{Ask, binary_rpm};
use reimzul::sys::gpg::Agent;
use reimzul::sys::openpgp::{SecretKey, packet};
use reimzul::sys::rpm::signing::{Signatures, signable, write_signed};
use reimzul::sys::rpmkeys::Keyring;

const PACKAGES: usize = 1000;
const ROUNDS: usize = 3;

fn main() {
    let Some(table) = Table::begin("Signing 1,000 packages") else { return };
    let (rsa, ed25519) = (key(Kind::Rsa4096), key(Kind::Ed25519));
    let home = Home::with(&rsa);
    home.run(&["--import", &ed25519.secret.display().to_string()]);
    // SAFETY: nothing else runs in this process yet.
    unsafe { std::env::set_var("GNUPGHOME", home.path()) };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        for (name, key) in [("RSA 4096", &rsa), ("Ed25519", &ed25519)] {
            ways(&table, name, key).await;
        }
        through(&table).await;
    });
}

/// By turns, since the machine is not always as fast.
async fn ways(table: &Table, name: &str, key: &Key) {
    let mut times: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().expect("a folder");
        let (files, signed) = packages(folder.path());
        times[0].push(rate(by_key_file(key, &files, &signed)));
        let begun = Instant::now();
        check(key, &signed, &folder.path().join("keyring")).await;
        times[3].push(rate(begun.elapsed()));
        for file in &signed {
            std::fs::remove_file(file).expect("it is there");
        }
        times[1].push(rate(by_agent(key, &files, &signed, folder.path()).await));
        times[2].push(rate(by_rpmsign(key, &files)));
        check(key, &files, &folder.path().join("keyring")).await;
    }
    let [file, agent, rpmsign, checked] = times.map(median);
    let row = |what: &str, rate: f64| {
        table.row(
            &format!("{name}, {what}"),
            &format!("{rate:.0} /s"),
            &format!("rpmsign: {:.2}", rate / rpmsign),
        );
    };
    row("key in a file", file);
    row("key in gpg-agent", agent);
    table.row(
        &format!("{name}, rpmsign"),
        &format!("{rpmsign:.0} /s"),
        "one process for all, key in gpg-agent",
    );
    table.row("... checked by rpmkeys", &format!("{checked:.0} /s"), "in hundreds");
}

/// Copies of a small package, and where they are to be when they are signed.
fn packages(folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let rpm = binary_rpm("hello");
    let files: Vec<PathBuf> = (0..PACKAGES).map(|number| folder.join(format!("{number}.rpm"))).collect();
    for file in &files {
        std::fs::copy(&rpm, file).expect("room");
    }
    let signed = (0..PACKAGES).map(|number| folder.join(format!("{number}-signed.rpm"))).collect();
    (files, signed)
}

fn by_key_file(key: &Key, files: &[PathBuf], signed: &[PathBuf]) -> Duration {
    let secret = SecretKey::read(&key.secret, None).expect("a key");
    let begun = Instant::now();
    for (file, to) in files.iter().zip(signed) {
        let header = secret.sign(&signable(file).expect("an RPM").header[..]).expect("a signature");
        put_in(file, to, &header);
    }
    begun.elapsed()
}

async fn by_agent(key: &Key, files: &[PathBuf], signed: &[PathBuf], folder: &Path) -> Duration {
    let agent = Agent::new(&key.fingerprint, None, Duration::from_secs(60));
    let begun = Instant::now();
    for (file, to) in files.iter().zip(signed) {
        let header = signable(file).expect("an RPM").header;
        let header = agent.sign_bytes(&header, folder).await.expect("a signature");
        put_in(file, to, &header);
    }
    begun.elapsed()
}

fn put_in(file: &Path, to: &Path, armored: &str) {
    let signatures = Signatures { header: packet(armored).expect("armor"), whole: None };
    write_signed(file, to, &signatures).expect("room");
}

fn by_rpmsign(key: &Key, files: &[PathBuf]) -> Duration {
    let begun = Instant::now();
    let mut command = Command::new("rpmsign");
    command
        .args(["--define", "__gpg /usr/bin/gpg", "--define"])
        .arg(format!("_gpg_name {}", key.fingerprint));
    command.arg("--addsign").args(files).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().expect("rpmsign is installed: package rpm (Debian) or rpm-sign");
    assert!(status.success(), "rpmsign: {status}");
    begun.elapsed()
}

async fn check(key: &Key, files: &[PathBuf], folder: &Path) {
    let public = std::fs::read_to_string(&key.public).expect("a public key");
    let keyring = Keyring::make(folder, &[public]).await.expect("a keyring");
    keyring.check(files).await.expect("they are signed");
}

fn rate(took: Duration) -> f64 {
    PACKAGES as f64 / took.as_secs_f64()
}

/// From the notifier's request to the repository, one package a build.
async fn through(table: &Table) {
    let key = key(Kind::Ed25519);
    let root = farm::farm(&by_file(&key));
    let site = root.site();
    let mut jobs = Vec::new();
    for number in 0..PACKAGES {
        let timestamp = format!("2026112320{:02}{:02}", number / 60, number % 60);
        jobs.push(Build::put(&root, &timestamp, &[binary_rpm("hello")]).request());
    }
    let roles = root.start(&["signer"]);
    let begun = Instant::now();
    site.queue.put(jobs).await.expect("a queue");
    site.quiet().await;
    let took = begun.elapsed();
    roles.stop();
    assert_eq!(published(&root).len(), PACKAGES);
    table.rate(
        "builds published, Ed25519",
        PACKAGES,
        took,
        "ordered, signed, checked, listed; in one process",
    );
}
