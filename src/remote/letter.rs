//! A message as it came in, and what can be read of it.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::model::request::{LARGEST, PROOF, Proof, Request, signed_bytes};
use crate::model::{Arch, Nonce};
use crate::sys::fs::hex;

/// What we call the requests by that have no nonce of their own.
pub const UNSIGNED: &str = "unsigned-";

/// A JSON object that may be a request.
#[derive(Debug)]
pub struct Letter {
    pub fields: Map<String, Value>,
    /// SHA-256 of what is signed, or would be.
    pub digest: String,
    /// Where answers go; none in an old client's message.
    pub nonce: Option<Nonce>,
}

impl Letter {
    /// An error says what is wrong with the message; there is nobody to answer.
    pub fn open(payload: &[u8]) -> Result<Letter, String> {
        if payload.len() > LARGEST {
            return Err(format!("it has {} bytes, and no request has more than {LARGEST}", payload.len()));
        }
        let fields: Map<String, Value> =
            serde_json::from_slice(payload).map_err(|error| format!("it is no JSON object: {error}"))?;
        let nonce = fields.get("nonce").map(|nonce| {
            let text = nonce.as_str().ok_or("its nonce is no text")?;
            text.parse::<Nonce>().map_err(|error| error.to_string())
        });
        let nonce = nonce.transpose()?;
        if nonce.as_ref().is_some_and(|nonce| nonce.as_str().starts_with(UNSIGNED)) {
            return Err(format!("its nonce begins with {UNSIGNED}, which is for those that have none"));
        }
        Ok(Letter { digest: hex(&Sha256::digest(signed_bytes(&fields))), nonce, fields })
    }

    /// Who it says asks; not to be believed.
    pub fn claimed(&self) -> &str {
        self.fields.get("submitter").and_then(Value::as_str).unwrap_or("?")
    }

    /// What it asks for, for the audit log: its fields without the proof.
    pub fn what(&self) -> Value {
        let what = self.fields.iter().filter(|(name, _)| !PROOF.contains(&name.as_str()));
        Value::Object(what.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// The request, and its proof where it has one. `site` is the topic that all of ours are below.
    pub fn read(&self, site: &str, topic: &str) -> Result<(Request, Option<Proof>), String> {
        let whole = Value::Object(self.fields.clone());
        let request: Request = serde_json::from_value(whole.clone()).map_err(|error| error.to_string())?;
        let arch: Arch = request.arch.parse().map_err(|error| format!("{error}"))?;
        let expected = format!("{site}/submit/{}", request.arch);
        if topic != expected {
            return Err(format!("it asks for {arch} on the topic {topic}, and not on {expected}"));
        }
        let is_signed = PROOF.iter().any(|name| self.fields.contains_key(*name));
        let proof = is_signed.then(|| serde_json::from_value(whole));
        let proof = proof.transpose().map_err(|error| format!("its proof is not complete: {error}"))?;
        Ok((request, proof))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn letter(value: &Value) -> Letter {
        Letter::open(value.to_string().as_bytes()).unwrap()
    }

    fn asked() -> Value {
        json!({"pkg": "bash", "git_branch": "c7", "arch": "armhfp", "submitter": "kb", "target": "c7"})
    }

    #[test]
    fn the_topic_and_the_arch_must_agree() {
        let letter = letter(&asked());
        let (request, proof) = letter.read("reimzul", "reimzul/submit/armhfp").unwrap();
        assert_eq!((request.git_ref.as_str(), proof), ("HEAD", None));
        for bad in
            ["reimzul/submit/x86_64", "reimzul/submit", "reimzul/submit/armhfp/x", "other/submit/armhfp"]
        {
            assert!(letter.read("reimzul", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn half_a_proof_is_none() {
        let mut half = asked();
        half["signature"] = "00".into();
        let said = letter(&half).read("reimzul", "reimzul/submit/armhfp").unwrap_err();
        assert!(said.starts_with("its proof is not complete: missing field"), "{said}");
    }

    #[test]
    fn what_is_no_object_and_has_no_nonce_of_ours_is_told() {
        for bad in ["", "[]", "1", "{", "{\"nonce\": 1}", "{\"nonce\": \"../../../../etc/passwd\"}"] {
            assert!(Letter::open(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Letter::open(&vec![b' '; LARGEST + 1]).is_err());
    }
}
