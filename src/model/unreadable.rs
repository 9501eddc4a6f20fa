//! Bodies in an arch's tube that are no build job: what is wrong with them, and which build they name all the same, so
//! that it can be reported.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::answer::FIELD;
use super::job::Stamp;
use super::{Arch, BuildId, BuildJob, PkgName, Timestamp, VersionRelease};

/// Of what is wrong, so many characters are told.
const LONGEST: usize = 300;

/// A body that is no build job.
#[derive(Debug, thiserror::Error)]
#[error("its body is no build job: {why}")]
pub struct Unreadable {
    why: String,
    /// The build that it names, stamped: an id that comes from the body, so that it is the same however often the job is
    /// delivered. What is no good has its default.
    pub named: Option<Box<BuildJob>>,
}

impl Unreadable {
    /// What is wrong may quote the body.
    pub fn new(why: &str, body: &[u8], tube: Option<Arch>) -> Unreadable {
        let why = super::text::plain(why).chars().take(LONGEST).collect();
        Unreadable { why, named: named(body, tube).map(Box::new) }
    }
}

impl BuildJob {
    /// Reads the body of a job in the tube of `arch`.
    pub fn read(body: &[u8], tube: Option<Arch>) -> Result<BuildJob, Unreadable> {
        let read: Result<BuildJob, String> = serde_json::from_slice(body).map_err(|error| error.to_string());
        read.and_then(|job| if job.stamp.is_none() { fit_to_be_stamped(body).map(|()| job) } else { Ok(job) })
            .map_err(|why| Unreadable::new(&why, body, tube))
    }
}

/// Half a stamp is made a whole one, but nothing is made of a hostile one.
fn fit_to_be_stamped(body: &[u8]) -> Result<(), String> {
    let fields: Map<String, Value> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    fit::<Timestamp>(&fields, "timestamp")?;
    fit::<BuildId>(&fields, "build_id")?;
    fit::<PkgName>(&fields, "pkgname")?;
    fit::<VersionRelease>(&fields, "evr")
}

/// A field that is not there is fit.
fn fit<T: DeserializeOwned>(fields: &Map<String, Value>, name: &str) -> Result<(), String> {
    let Some(value) = fields.get(name) else { return Ok(()) };
    T::deserialize(value).map(drop).map_err(|error| format!("{name}: {error}"))
}

fn named(body: &[u8], tube: Option<Arch>) -> Option<BuildJob> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else { return None };
    let srpm: super::SrpmName = field(&fields, "srpm")?;
    let (pkgname, evr) = srpm.split();
    let stamp = Stamp {
        build_id: field(&fields, "build_id").unwrap_or_else(|| BuildId::of(body)),
        timestamp: field(&fields, "timestamp").unwrap_or_else(Timestamp::now),
        sha256: String::new(),
        pkgname: field(&fields, "pkgname").unwrap_or(pkgname),
        evr: field(&fields, "evr").unwrap_or(evr),
    };
    Some(BuildJob {
        arch: field(&fields, "arch").or(tube)?,
        target: field(&fields, "target")?,
        disttag: field(&fields, "disttag").or_else(|| "".parse().ok())?,
        scratch: field(&fields, "scratch").unwrap_or_default(),
        submitter: field(&fields, "submitter").or_else(|| "unknown".parse().ok())?,
        srpm,
        stamp: Some(stamp),
        after: Vec::new(),
        tried: Vec::new(),
        last_failure: None,
        // Who asked for it waits for an answer.
        extra: fields
            .into_iter()
            .filter(|(name, value)| name == FIELD && value.to_string().len() < 100)
            .collect(),
    })
}

fn field<T: DeserializeOwned>(fields: &Map<String, Value>, name: &str) -> Option<T> {
    T::deserialize(fields.get(name)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn good() -> Value {
        json!({"srpm": "bash-4-1.src.rpm", "arch": "x86_64", "target": "c7.x86_64", "disttag": ".el7",
            "scratch": true, "submitter": "kb"})
    }

    fn read(body: &Value) -> Result<BuildJob, Unreadable> {
        BuildJob::read(body.to_string().as_bytes(), Some(Arch::X86_64))
    }

    #[test]
    fn what_is_wrong_is_told_shortly_and_a_build_that_is_named_is_known() {
        for (name, bad) in [
            ("disttag", json!(".el7; rm -rf /")),
            ("scratch", json!("x".repeat(100_000))),
            ("submitter", json!("a\nb")),
            ("submitter", Value::Null),
            ("timestamp", json!("../../../etc")),
            ("timestamp", json!(20_261_123_204_406_u64)),
            ("build_id", json!("$(id)")),
            ("pkgname", json!("../x")),
            ("evr", json!(["1"])),
            ("tried", json!("b1")),
            ("arch", json!("vax")),
        ] {
            let mut body = good();
            body[name] = bad;
            let unreadable = read(&body).unwrap_err();
            let said = unreadable.to_string();
            assert!(said.starts_with("its body is no build job: ") && said.len() < 400, "{said}");
            let named = unreadable.named.unwrap_or_else(|| panic!("{name} unnames the build"));
            assert_eq!(named.path().unwrap().pkgname.as_str(), "bash");
            let again = read(&body).unwrap_err().named.unwrap();
            assert_eq!(again.stamp.unwrap().build_id, named.stamp.unwrap().build_id);
        }
    }

    #[test]
    fn what_names_no_build_is_reported_for_none() {
        for (name, bad) in
            [("srpm", json!("../bash-4-1.src.rpm")), ("target", json!("a/b")), ("target", json!(1))]
        {
            let mut body = good();
            body[name] = bad;
            assert!(read(&body).unwrap_err().named.is_none(), "{name}");
        }
        for body in [&b"\xff\x00"[..], b"", b"null", b"[1]", b"\"x\"", "[".repeat(60_000).as_bytes()] {
            assert!(BuildJob::read(body, None).unwrap_err().named.is_none());
        }
    }
}
