//! How a MongoDB-wire server says that it finds what the history asks for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use mongodb::Database;
use mongodb::bson::{Bson, Document as Bdoc, doc};
use reimzul::history::mongodb::History;

use super::mongodb::watched;

/// Commands that were sent, by name.
pub type Sent = Arc<Mutex<Vec<(String, Bdoc)>>>;

/// A history, and what it asks for.
pub fn noted(url: &str) -> (History, Sent) {
    let sent = Sent::default();
    let note = sent.clone();
    let history = watched(url, move |name, command| {
        if ["find", "update", "delete", "findAndModify", "aggregate", "count", "distinct"].contains(&name) {
            note.lock().unwrap().push((name.to_owned(), command.clone()));
        }
    });
    (history, sent)
}

/// The plan for each shape of command. Fails where one is no scan of an index.
pub async fn plans(database: &Database, sent: &[(String, Bdoc)]) -> BTreeMap<String, String> {
    let mut plans = BTreeMap::new();
    for (name, command) in sent {
        let explain = doc! {"explain": as_query(name, command), "verbosity": "queryPlanner"};
        let explained = database.run_command(explain).await.unwrap();
        let plan = explained.get_document("queryPlanner").unwrap().get_document("winningPlan").unwrap();
        let stages = stages(plan);
        assert!(!stages.contains("COLLSCAN") && stages.contains("IXSCAN"), "{stages}: {name} {command}");
        plans.insert(shape(name, command), stages);
    }
    plans
}

/// The query that a command begins with. The test server explains no query of updates and deletes, only a scan of
/// everything, so these are explained as the find they begin with.
fn as_query(name: &str, command: &Bdoc) -> Bdoc {
    let part = |list: &str| {
        command.get_array(list).unwrap()[0].as_document().unwrap().get_document("q").unwrap().clone()
    };
    let find = |filter: Bdoc| doc! {"find": command.get_str(name).unwrap(), "filter": filter};
    match name {
        "update" => find(part("updates")),
        "delete" => find(part("deletes")),
        _ => command
            .clone()
            .into_iter()
            .filter(|(name, _)| {
                !name.starts_with('$') && name != "lsid" && name != "txnNumber" && name != "writeConcern"
            })
            .collect(),
    }
}

/// A command without its values.
fn shape(name: &str, command: &Bdoc) -> String {
    let query = as_query(name, command);
    let filter = ["filter", "query"]
        .iter()
        .find_map(|name| query.get_document(name).ok())
        .cloned()
        .unwrap_or_default();
    let words: Vec<String> = filter
        .iter()
        .map(|(name, value)| match (name.as_str(), value) {
            ("status" | "latest_build", value) => format!("{name}={value}").replace('"', ""),
            (_, Bson::Document(operator)) => format!("{name} {}", operator.keys().next().unwrap()),
            _ => name.to_owned(),
        })
        .collect();
    let sorted = if query.contains_key("sort") { ", sorted" } else { "" };
    format!("{name} {} ({}{sorted})", command.get_str(name).unwrap(), words.join(", "))
}

/// The plan from the inside out, with the index that it scans.
fn stages(plan: &Bdoc) -> String {
    let mut stages = plan.get_document("inputStage").map(stages).unwrap_or_default();
    if !stages.is_empty() {
        stages.push(' ');
    }
    stages.push_str(plan.get_str("stage").unwrap());
    if let Ok(index) = plan.get_str("indexName") {
        stages.push(' ');
        stages.push_str(index);
    }
    stages
}
