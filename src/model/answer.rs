//! What is told to who asked for a build by MQTT: JSON on `<topic>/requests/<nonce>`, QoS 1, not retained.
//!
//! The bridge publishes `received`, then `accepted` or `refused`. The job that it queues carries the request's nonce as
//! its extra field `nonce`, which every event about it carries on; so the notifier publishes an `outcome` for each
//! Success and Failed that has one ([`Told::of_event`]), scratch builds' included.
//!
//! ```json
//! {"nonce": "0f8e…", "state": "received"}
//! {"nonce": "0f8e…", "state": "accepted", "builds": [{"build": "c9.x86_64/bash/20261126233000/5.2-1.el9.x86_64", "build_id": "…"}]}
//! {"nonce": "0f8e…", "state": "refused", "reason": "…"}
//! {"nonce": "0f8e…", "state": "outcome", "srpm": "bash-5.2-1.el9.src.rpm", "status": "Success", …}
//! ```

use serde::{Deserialize, Serialize};

use super::{BuildId, Event, Nonce};

/// The name of the field that a request's job, and the events about it, carry its nonce in.
pub const FIELD: &str = "nonce";

/// An answer to the request `nonce`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub nonce: Nonce,
    /// The SHA-256 of what was signed, in the bridge's own answers: another's request under the same nonce is none of
    /// our business.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    #[serde(flatten)]
    pub answer: Answer,
}

/// How far a request has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Answer {
    /// It has arrived, and is looked into. A source RPM that is made of it takes its time.
    Received,
    /// Its jobs are queued.
    Accepted { builds: Vec<Queued> },
    /// It leads to no build, and why: a sentence.
    Refused { reason: String },
    /// A build has ended: its event, with all fields.
    Outcome(Box<Event>),
}

/// What the bridge publishes, retained, whenever it has begun to listen: who has asked without an answer asks again.
pub fn hello_topic(site: &str) -> String {
    format!("{site}/requests/bridge")
}

/// A build that a request has led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Its path, by which the other commands know it.
    pub build: String,
    pub build_id: BuildId,
}

impl Told {
    /// The topic that answers are published on, below the site's.
    pub fn topic(site: &str, nonce: &Nonce) -> String {
        format!("{site}/requests/{nonce}")
    }

    /// What an event tells who asked for its build; none where nobody did by a request, or where the build goes on.
    pub fn of_event(event: &Event) -> Option<Told> {
        if !event.status.is_result() {
            return None;
        }
        let nonce = event.extra.get(FIELD)?.as_str()?.parse().ok()?;
        let mut event = event.clone();
        event.extra.shift_remove(FIELD);
        event.extra.shift_remove("state");
        Some(Told { nonce, request: None, answer: Answer::Outcome(Box::new(event)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn event(nonce: &Value) -> Event {
        serde_json::from_value(json!({
            "srpm": "bash-4-1.src.rpm", "arch": "x86_64", "target": "c7.x86_64", "disttag": "", "scratch": true,
            "submitter": "kb", "status": "Failed", "builder_fqdn": "b1", "evr": "4-1", "pkgname": "bash",
            "timestamp": "20261123204406", "build_id": "b1", "nonce": nonce, "state": "mine", "git_branch": "c7",
            "failure": {"class": "build", "phase": "build", "lines": []}
        }))
        .unwrap()
    }

    #[test]
    fn an_event_becomes_an_answer_that_is_read_as_it_was_written() {
        let told = Told::of_event(&event(&json!("0123456789abcdef"))).unwrap();
        let wire = serde_json::to_value(&told).unwrap();
        assert_eq!((&wire["state"], &wire["status"]), (&json!("outcome"), &json!("Failed")));
        assert_eq!((&wire["nonce"], &wire["git_branch"]), (&json!("0123456789abcdef"), &json!("c7")));
        assert_eq!(serde_json::from_str::<Told>(&wire.to_string()).unwrap(), told);
    }

    #[test]
    fn an_event_that_nobody_asked_for_is_no_answer() {
        for bad in
            [json!(null), json!("short"), json!("a/b/c/d/e/f/g/h/i"), json!("+++++++++++++++++"), json!(1)]
        {
            assert_eq!(Told::of_event(&event(&bad)), None, "{bad}");
        }
    }

    #[test]
    fn the_other_answers_are_what_is_documented() {
        let nonce: Nonce = "0123456789abcdef".parse().unwrap();
        let wire =
            |answer| serde_json::to_value(Told { nonce: nonce.clone(), request: None, answer }).unwrap();
        assert_eq!(wire(Answer::Received), json!({"nonce": "0123456789abcdef", "state": "received"}));
        assert_eq!(
            wire(Answer::Refused { reason: "no".into() }),
            json!({"nonce": "0123456789abcdef", "state": "refused", "reason": "no"})
        );
        let builds = vec![Queued { build: "c7/a".into(), build_id: "b1".parse().unwrap() }];
        assert_eq!(
            wire(Answer::Accepted { builds }),
            json!({"nonce": "0123456789abcdef", "state": "accepted",
                "builds": [{"build": "c7/a", "build_id": "b1"}]})
        );
    }
}
