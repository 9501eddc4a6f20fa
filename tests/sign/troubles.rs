//! Keys that cannot be used, agents that hang, and processes that die.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use reimzul::queue::State;
use reimzul::repo;

use crate::farm::{Build, by_file, dnf_install, farm, published, reason, repository, rpmkeys};
use crate::harness::keys::{Home, Key, Kind, key};
use crate::harness::{Ask, Process, Root, binary_rpm, listed, target};
use crate::publish::secret;

const STAMP: &str = "20261123204406";

/// What check-config says of the key, and whether a signer starts with it.
fn check(root: &Root) -> (i32, String) {
    let ran = root.run(&["check-config", "signer"]);
    (ran.code, ran.out)
}

#[test]
fn a_key_that_can_be_used_is_shown_with_fingerprint_and_expiry() {
    for (kind, algorithm, expiry) in [
        (Kind::Rsa, "RSA 2048", "expires 20"),
        (Kind::Ed25519, "Ed25519", "never expires"),
        (Kind::Subkey, "RSA 2048", "expires 20"),
    ] {
        let key = key(kind);
        let (code, said) = check(&farm(&by_file(&key)));
        assert_eq!(code, 0, "{said}");
        for part in [&key.fingerprint, algorithm, expiry, "example.org", "key of every target: "] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
    }
    let key = key(Kind::Ed25519);
    let (code, said) = check(&farm(&format!("[sign c9.x86_64]\npublic_key = {}", key.public.display())));
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("key of c9.x86_64: ") && said.contains("the secret key is elsewhere"), "{said}");
}

#[test]
fn a_key_that_cannot_be_used_is_told_with_what_to_do() {
    let (locked, expired, ed) = (key(Kind::Locked), key(Kind::Expired), key(Kind::Ed25519));
    let nist = key(Kind::Nistp256);
    let other = key(Kind::Other).public;
    for (sign, parts) in [
        (by_file(&locked), ["is locked", "passphrase_file"]),
        (format!("{}\npassphrase_file = wrong", by_file(&locked)), ["passphrase in", "does not unlock"]),
        (format!("{}\npassphrase_file = none", by_file(&locked)), ["cannot read", "none"]),
        (format!("{}\npassphrase_file = open", by_file(&locked)), ["may be read by others", "chmod 600"]),
        (by_file(&expired), ["has expired", "extend it"]),
        (by_file(&nist), ["ECDSA", "RSA or Ed25519"]),
        ("key = missing.asc".into(), ["cannot read", "missing.asc"]),
        ("key = junk.asc".into(), ["holds no secret key", "junk.asc"]),
        ("key = public.asc".into(), ["holds no secret key", "public.asc"]),
        ("key = open.asc".into(), ["may be read by others", "open.asc"]),
        ("public_key = junk.asc".into(), ["holds no public key", "junk.asc"]),
        (
            format!("{}\npublic_key = {}", by_file(&ed), other.display()),
            ["is not the public key of", &ed.fingerprint],
        ),
        ("key = gpg:nobody@example.org".into(), ["gpg has no secret key nobody@example.org", "import it"]),
    ] {
        let root = farm(&sign);
        secret(&root, "wrong", "wrong\n");
        secret(&root, "junk.asc", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END");
        secret(&root, "public.asc", &std::fs::read_to_string(&ed.public).unwrap());
        root.write("open", "x\n");
        root.write("open.asc", &std::fs::read_to_string(&ed.secret).unwrap());
        let (code, said) = check(&root);
        assert_eq!(code, 3, "{sign}: {said}");
        for part in parts {
            assert!(said.contains(part), "{sign}: {part} is not in {said}");
        }
        // It takes a while until a role is missed.
        if sign.contains("missing.asc") {
            let (code, said) = root.start(&["signer"]).ended();
            assert_ne!(code, Some(0), "{sign}: a signer runs without its key");
            assert!(said.contains("no signer runs") && said.contains(parts[0]), "{sign}: {said}");
        }
    }
}

#[tokio::test]
async fn a_key_that_has_expired_signs_nothing_and_its_orders_wait() {
    let root = farm(&by_file(&key(Kind::Expired)));
    let (site, roles) = (root.site(), root.start(&["signer"]));
    let build = Build::put(&root, STAMP, &[binary_rpm("hello")]);
    site.queue.put(vec![build.request()]).await.unwrap();
    let (_, said) = reason(&site, State::Delayed).await;
    assert!(said.contains("has expired"), "{said}");
    roles.kill();
    assert_eq!(published(&root), Vec::<String>::new());
}

#[tokio::test]
async fn a_package_that_was_changed_keeps_no_other_from_being_signed() {
    let root = farm(&by_file(&key(Kind::Ed25519)));
    let (site, roles) = (root.site(), root.start(&["signer"]));
    let good = Build::put(&root, STAMP, &[binary_rpm("hello")]);
    let bad = Build::put(&root, STAMP, &[binary_rpm("changed")]);
    let file = root.join(format!("bstore/repo/{}/{}/{}", target(), bad.place, bad.files[0]));
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    root.run(&["sign", target().as_str()]).ok();
    let (_, said) = reason(&site, State::Buried).await;
    assert!(said.contains("changed-1.0-1"), "{said}");
    site.quiet().await;
    roles.stop();
    assert_eq!(published(&root), good.signed());
}

#[tokio::test]
async fn an_agent_that_hangs_makes_the_order_wait_and_stats_say_why() {
    let key = key(Kind::Ed25519);
    let home = Home::with(&key);
    let root = farm(&format!("key = gpg:{}\ntimeout = 5", key.fingerprint));
    // It hangs for as long as a file is there, as an agent does that waits for a person.
    let hung = root.join("hung");
    root.write("hung", "");
    root.write("bin/gpg", &format!(
        "#!/bin/bash\nif [[ -e {} && \" $* \" == *' --detach-sign '* ]]; then exec sleep 600; fi\nexec /usr/bin/gpg \"$@\"\n",
        hung.display()
    ));
    std::fs::set_permissions(root.join("bin/gpg"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", root.join("bin").display(), std::env::var("PATH").unwrap());
    let (site, roles) = (
        root.site(),
        root.start_with(&["signer"], &[("PATH", &path), ("GNUPGHOME", home.path().to_str().unwrap())]),
    );
    let build = Build::put(&root, STAMP, &[binary_rpm("hello")]);
    site.queue.put(vec![build.request()]).await.unwrap();
    let (tube, _) = reason(&site, State::Delayed).await;
    assert_eq!(tube, format!("sign-{}", key.id()));
    let stats = root.run(&["stats"]).ok().out;
    assert!(stats.contains("is delayed: not signed: gpg did not answer within 5 s"), "{stats}");
    assert_eq!(published(&root), Vec::<String>::new());
    std::fs::remove_file(hung).unwrap();
    let order = site.queue.list(Some(&tube)).await.unwrap().pop().unwrap();
    site.queue.kick_job(order.id).await.unwrap();
    site.quiet().await;
    roles.stop();
    assert_eq!(published(&root), build.signed());
}

#[tokio::test]
async fn a_key_that_the_agent_has_locked_is_an_error_at_once() {
    let key = key(Kind::Locked);
    let home = Home::new();
    let secret_file = key.secret.display().to_string();
    home.run(&[
        "--pinentry-mode",
        "loopback",
        "--passphrase",
        crate::harness::keys::PASSPHRASE,
        "--import",
        &secret_file,
    ]);
    let root = farm(&format!("key = gpg:{}", key.fingerprint));
    let (site, roles) =
        (root.site(), root.start_with(&["signer"], &[("GNUPGHOME", home.path().to_str().unwrap())]));
    let build = Build::put(&root, STAMP, &[binary_rpm("hello")]);
    site.queue.put(vec![build.request()]).await.unwrap();
    let (_, said) = reason(&site, State::Delayed).await;
    assert!(said.contains("gpg cannot sign with key") && !said.contains("did not answer"), "{said}");
    roles.kill();
}

/// Signers are killed at random moments, in the middle of whatever they do, until all is published.
#[tokio::test]
async fn what_dies_at_any_moment_publishes_nothing_half_and_is_gone_on_with() {
    let key = key(Kind::Ed25519);
    let root = farm(&by_file(&key));
    let site = root.site();
    let rpms: Vec<_> = (0..12).map(|number| binary_rpm(&format!("p{number}"))).collect();
    let builds: Vec<Build> = rpms
        .iter()
        .enumerate()
        .map(|(number, rpm)| {
            Build::put(&root, &format!("202611232044{number:02}"), std::slice::from_ref(rpm))
        })
        .collect();
    let wanted: BTreeSet<String> = builds.iter().flat_map(Build::signed).collect();
    for (round, build) in builds.iter().enumerate() {
        site.queue.put(vec![build.request()]).await.unwrap();
        let roles = root.start(&["signer"]);
        // Primes, so that they fall on ever other steps.
        tokio::time::sleep(Duration::from_millis(37 + 41 * (round as u64 * 7 % 12))).await;
        roles.kill();
        is_good(&root, &key);
    }
    let roles = root.start(&["signer"]);
    site.quiet().await;
    root.run(&["sign", target().as_str()]).ok();
    site.quiet().await;
    roles.stop();
    is_good(&root, &key);
    assert_eq!(published(&root).into_iter().collect::<BTreeSet<_>>(), wanted);
    assert_eq!(listed(&repository(&root)).len(), builds.len());
    let left = |file: &String| file.contains("/.work/") && !file.ends_with("/.lock");
    assert_eq!(root.files("bstore/signing").into_iter().find(left), None, "the next one cleans up");
    let (installed, said) =
        dnf_install(&format!("file://{}", repository(&root).display()), &key.public, "p7");
    assert!(installed, "{said}");
}

/// Every published RPM is signed, and so is the metadata, which lists none that is not there.
fn is_good(root: &Root, key: &Key) {
    for file in published(root) {
        let (good, said) = rpmkeys(&key.public, &root.join(&file));
        assert!(good, "{said}");
    }
    let repomd = repository(root).join("repodata/repomd.xml");
    if let Ok(text) = std::fs::read(&repomd) {
        let signature = std::fs::read_to_string(repomd.with_extension("xml.asc")).unwrap();
        let keys = reimzul::sys::openpgp::PublicKeys::read(&key.public).unwrap();
        keys.check(&text, &signature).unwrap();
        has_what_it_lists(root, "signed");
    }
}

fn has_what_it_lists(root: &Root, tree: &str) {
    let folder = format!("bstore/{tree}/{}", target());
    let there = root.files(&folder);
    for file in listed(&root.join(folder)) {
        assert!(
            there.iter().any(|path| path.ends_with(&format!("/{file}"))),
            "{file} is listed and not there"
        );
    }
}

#[tokio::test]
async fn whoever_dies_what_was_built_signed_and_pruned_agrees_in_the_end() {
    const PACKAGES: u64 = 4;
    let key = key(Kind::Ed25519);
    let root = farm(&format!("{}\n[prune]\nnewest = 1\ndays = 0\ngrace = 0", by_file(&key)));
    let site = root.site();
    let mut builds = Vec::new();
    for round in 0..5 * PACKAGES {
        let rpm = binary_rpm(&format!("p{}", round % PACKAGES));
        let build = Build::put(&root, &format!("2026112320{round:04}"), &[rpm]);
        site.queue.put(vec![repo::request(&target()), build.request()]).await.unwrap();
        builds.push(build);
        let nowhere = std::process::Stdio::null;
        let victims = [
            root.start(&["repogen", "signer"]),
            root.start(&["repogen", "signer"]),
            root.launch(&["prune", "--run"], &[], nowhere()),
            root.launch(&["repogen", "--verify", target().as_str()], &[], nowhere()),
        ];
        // Primes, so that they fall on ever other steps.
        tokio::time::sleep(Duration::from_millis(61 + 53 * (round * 7 % 12))).await;
        victims.into_iter().for_each(Process::kill);
        is_good(&root, &key);
        if root.join(format!("bstore/repo/{}/repodata/repomd.xml", target())).exists() {
            has_what_it_lists(&root, "repo");
        }
    }
    let roles = root.start(&["repogen", "signer"]);
    site.quiet().await;
    while !root.run(&["prune", "--run", "--json"]).ok().json()["items"].as_array().unwrap().is_empty() {
        site.quiet().await;
    }
    site.quiet().await;
    roles.stop();
    is_good(&root, &key);
    let wanted: Vec<String> = builds[builds.len() - 4..].iter().flat_map(Build::signed).collect();
    assert_eq!(published(&root), wanted);
    let names: Vec<String> = (0..PACKAGES).map(|number| format!("p{number}-1.0-1.noarch.rpm")).collect();
    for tree in ["repo", "signed"] {
        assert_eq!(listed(&root.join(format!("bstore/{tree}/{}", target()))), names, "{tree}");
    }
    assert_eq!(site.queue.list(None).await.unwrap().len(), 0, "nothing is buried");
}
