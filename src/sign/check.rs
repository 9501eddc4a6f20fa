//! What `reimzul check-config` says of signing.

use super::key::{Keys, Ring};
use crate::config::{Config, KeyPlace};
use crate::sys::openpgp::KeyInfo;
use crate::sys::process::on_path;

/// Before its end a key is warned of.
const DAYS: i64 = 30;

/// What is right, and what is wrong: a sentence each.
pub async fn check(config: &Config) -> Vec<Result<String, String>> {
    let signing = &config.signing;
    let mut findings = Vec::new();
    for (target, configured) in signing.all() {
        let uses_gpg = matches!(configured.key, Some(KeyPlace::Agent(_)));
        if uses_gpg && !on_path("gpg") {
            findings.push(Err(missing("gpg", "gnupg (Debian) or gnupg2")));
            continue;
        }
        findings.push(match Keys::open(signing, configured).await {
            Ok(Some(keys)) => {
                let place = if keys.key.is_some() { "" } else { "; the secret key is elsewhere" };
                told(&keys.info).map(|key| format!("key of {target}: {key}{place}"))
            }
            Ok(None) => continue,
            Err(error) => Err(format!("key of {target}: {error}")),
        });
    }
    if !findings.is_empty() && signing.url.is_none() && !on_path("rpmkeys") {
        findings.push(Err(missing("rpmkeys", "rpm")));
    }
    findings
}

/// The same in a signer's log, as it begins.
pub fn tell(ring: &Ring) {
    for keys in ring.all() {
        match told(&keys.info) {
            Ok(key) if keys.key.is_some() => tracing::info!("signing with key {key}"),
            Ok(key) => tracing::info!("checking signatures with key {key}"),
            Err(error) => tracing::error!("key {error}"),
        }
    }
}

fn told(info: &KeyInfo) -> Result<String, String> {
    match info.days_left() {
        Some(left) if left < 0 => {
            Err(format!("{info}: it has expired; extend it, and name the extended one"))
        }
        Some(left) if left < DAYS => Ok(format!("{info}, which is soon: extend it")),
        _ => Ok(info.to_string()),
    }
}

fn missing(program: &str, package: &str) -> String {
    format!("the program {program} is missing: install the package {package}")
}
