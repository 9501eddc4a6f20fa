//! A request for a build, as its message has it: the old fleet's fields, and those that prove who asks.
//!
//! A message is a JSON object on `<topic>/submit/<arch>`; old subscribers read the first nine fields and leave the rest.
//!
//! | field | |
//! | --- | --- |
//! | `pkg`, `git_branch`, `git_ref` | what to build; `git_ref` is a branch, tag or commit, by default `HEAD` |
//! | `arch`, `target`, `disttag` | what for; `target` without arch, `disttag` may be empty |
//! | `sources_dir` | where the lookaside has the sources, if not below the branch's name; may be empty |
//! | `scratch` | a boolean |
//! | `submitter` | the CN of the certificate |
//! | `mail` | `true` where the submitter asks for a mail about a scratch build; else it is absent |
//! | `nonce` | see [`Nonce`]: what the request is known by |
//! | `time` | when it was made: RFC 3339, UTC |
//! | `certificate` | the submitter's certificate and the CAs between it and the trusted one, PEM |
//! | `algorithm` | how it is signed, as RFC 8446 (4.2.3) names it |
//! | `signature` | hexadecimal; over [`signed_bytes`] |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Disttag, GitRef, Nonce, PkgName, SourcesDir, Submitter, Target};

/// More than any request has.
pub const LARGEST: usize = 64 << 10;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub pkg: PkgName,
    pub git_branch: GitRef,
    #[serde(default)]
    pub git_ref: GitRef,
    /// As it was typed: it also stands in the target's name.
    pub arch: String,
    pub submitter: Submitter,
    /// Without arch.
    pub target: Target,
    #[serde(default)]
    pub disttag: Disttag,
    #[serde(default)]
    pub sources_dir: SourcesDir,
    #[serde(default)]
    pub scratch: bool,
    /// Ours; without it a message is as an old client's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mail: bool,
}

/// What proves who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    pub nonce: Nonce,
    pub time: String,
    pub certificate: String,
    pub algorithm: String,
    pub signature: String,
}

/// The field that the signature is in: all others are signed.
pub const SIGNATURE: &str = "signature";
/// The fields of a [`Proof`]. A message with none of them is an old client's.
pub const PROOF: [&str; 5] = ["nonce", "time", "certificate", "algorithm", SIGNATURE];

/// What is signed: `reimzul-request-v1`, a line feed, and the JSON object of all fields but the signature, in the
/// alphabetical order of their names (by bytes), without white space. Other signatures by the same key begin otherwise.
pub fn signed_bytes(fields: &Map<String, Value>) -> Vec<u8> {
    let sorted: BTreeMap<&String, &Value> = fields.iter().filter(|(name, _)| *name != SIGNATURE).collect();
    let mut bytes = b"reimzul-request-v1\n".to_vec();
    // Names and JSON values always serialize.
    bytes.extend(serde_json::to_vec(&sorted).unwrap_or_default());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_signed_does_not_depend_on_the_order_of_fields() {
        let fields = |value: Value| value.as_object().unwrap().clone();
        let one = signed_bytes(&fields(json!({"b": true, "a": "ä\n", "signature": "x"})));
        let other = signed_bytes(&fields(json!({"signature": "y", "a": "ä\n", "b": true})));
        assert_eq!(one, other);
        assert_eq!(String::from_utf8(one).unwrap(), "reimzul-request-v1\n{\"a\":\"ä\\n\",\"b\":true}");
    }

    #[test]
    fn an_old_clients_request_is_read_and_injections_are_not() {
        let old = json!({"pkg": "bash", "git_branch": "c7", "git_ref": "HEAD", "arch": "x86_64", "submitter": "kb",
            "target": "c7.1708.u", "disttag": "", "sources_dir": "", "scratch": false, "more": 1});
        assert!(serde_json::from_value::<Request>(old.clone()).is_ok());
        for (field, bad) in [
            ("pkg", "a;b"),
            ("git_branch", "--upload-pack=x"),
            ("git_branch", "a..b"),
            ("git_ref", "$(id)"),
            ("git_ref", "a b"),
            ("sources_dir", "../x"),
            ("sources_dir", "/x"),
            ("target", "a/b"),
            ("disttag", "%(id)"),
            ("submitter", "a\nb"),
        ] {
            let mut request = old.clone();
            request[field] = bad.into();
            assert!(serde_json::from_value::<Request>(request).is_err(), "{field} = {bad}");
        }
    }
}
