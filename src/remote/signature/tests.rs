//! Requests signed and forged, in all the ways that can be.

use super::*;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::json;

struct Stand {
    folder: tempfile::TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

fn authority() -> Stand {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    Stand { folder: tempfile::tempdir().unwrap(), ca }
}

impl Stand {
    fn signer(&self, cn: &str, key: &KeyPair) -> Signer {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, cn);
        let pem = key.serialize_pem() + &params.signed_by(key, &self.ca).unwrap().pem();
        let path = self.folder.path().join("own.pem");
        std::fs::write(&path, pem).unwrap();
        Signer::open(&TlsFiles { tls_cert: Some(path), ..TlsFiles::default() }).unwrap()
    }

    fn trusted(&self) -> Authority {
        let path = self.folder.path().join("ca.pem");
        std::fs::write(&path, self.ca.pem()).unwrap();
        Authority::open(&path).unwrap()
    }
}

fn fields() -> Map<String, Value> {
    json!({"pkg": "bash", "submitter": "alice", "scratch": true}).as_object().unwrap().clone()
}

fn verify(authority: &Authority, signed: &Map<String, Value>, claimed: &str) -> Result<Submitter, Unproven> {
    let proof: Proof = serde_json::from_value(Value::Object(signed.clone())).unwrap();
    authority.verify(signed, &proof, &claimed.parse().unwrap(), SystemTime::now())
}

fn nonce() -> Nonce {
    "0123456789abcdef".parse().unwrap()
}

#[test]
fn every_kind_of_key_signs_and_is_verified_and_no_changed_field_is() {
    let stand = authority();
    let kinds = [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384];
    for kind in kinds {
        let signer = stand.signer("alice", &KeyPair::generate_for(kind).unwrap());
        let signed = signer.sign(fields(), &nonce(), jiff::Timestamp::now()).unwrap();
        let trusted = stand.trusted();
        assert_eq!(verify(&trusted, &signed, "alice"), Ok("alice".parse().unwrap()));
        assert!(!signed["certificate"].as_str().unwrap().contains("PRIVATE"));
        for (field, value) in
            [("pkg", json!("kernel")), ("scratch", json!(false)), ("time", json!("x")), ("new", json!(1))]
        {
            let mut changed = signed.clone();
            changed.insert(field.into(), value);
            assert!(matches!(verify(&trusted, &changed, "alice"), Err(Unproven::Forged { .. })), "{field}");
        }
    }
}

#[test]
fn who_is_not_who_they_say_is_told_why() {
    let stand = authority();
    let key = KeyPair::generate().unwrap();
    let signed = stand.signer("mallory", &key).sign(fields(), &nonce(), jiff::Timestamp::now()).unwrap();
    let said = |result: Result<Submitter, Unproven>| result.unwrap_err().to_string();
    assert_eq!(
        said(verify(&stand.trusted(), &signed, "alice")),
        "it names alice as who asks, but is signed by mallory"
    );
    let foreign = said(verify(&authority().trusted(), &signed, "mallory"));
    assert!(foreign.contains("of mallory is not of a CA that this controller trusts"), "{foreign}");
    let proof: Proof = serde_json::from_value(Value::Object(signed.clone())).unwrap();
    let later = SystemTime::now() + Duration::from_secs(90_000_000_000);
    let expired = stand.trusted().verify(&signed, &proof, &"mallory".parse().unwrap(), later);
    assert_eq!(expired, Err(Unproven::NotValid { cn: "mallory".into() }));
}

#[test]
fn a_request_has_its_time() {
    let now: jiff::Timestamp = "2026-11-26T12:00:00Z".parse().unwrap();
    let day = Duration::from_secs(86_400);
    for good in ["2026-11-26T12:00:00Z", "2026-11-25T12:00:00Z", "2026-11-26T12:10:00Z"] {
        assert_eq!(check_age(good, now, day), Ok(()), "{good}");
    }
    for bad in ["2026-11-25T11:59:59Z", "2026-11-26T12:10:01Z", "yesterday", "", "0000"] {
        assert!(check_age(bad, now, day).is_err(), "{bad}");
    }
}
