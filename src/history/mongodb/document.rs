//! Between events and MongoDB's documents: an event's fields are the document's fields, as old scripts expect them.
//!
//! Beside them stand `latest_build` and `comment`, as in the old system, and three fields of our own: `event_key` (what
//! makes it the same event when it is told twice), `path` (its build's folder in the bstore), and `unusual`: JSON text
//! of the fields that MongoDB could not keep under their own names.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document as Bdoc, doc};
use serde_json::{Map, Value};

use crate::history::Document;
use crate::model::{Arch, Event, Status};

/// The fields that are the history's, not the event's.
const KEPT: [&str; 4] = ["_id", "status", "latest_build", "comment"];
const OURS: [&str; 3] = ["event_key", "path", "unusual"];

/// The document of an event. Its status is as it came, and it is nobody's latest build.
pub(super) fn of(event: &Event) -> Result<Bdoc, serde_json::Error> {
    let Value::Object(fields) = serde_json::to_value(event)? else { unreachable!("an event is an object") };
    let mut document = Bdoc::new();
    let mut unusual = Map::new();
    for (name, value) in fields {
        let taken = OURS.contains(&name.as_str()) || (name != "status" && KEPT.contains(&name.as_str()));
        match bson(&value) {
            Some(value) if !taken && is_usual(&name) => {
                document.insert(name, value);
            }
            _ => {
                unusual.insert(name, value);
            }
        }
    }
    document.insert("event_key", event.key());
    document.insert("path", event.path().to_string());
    if !unusual.is_empty() {
        document.insert("unusual", Value::Object(unusual).to_string());
    }
    Ok(document)
}

/// What a query looks for an arch by: documents spell it as who asked for the build did.
pub(super) fn spelled(arch: Arch) -> Bson {
    match arch.spellings() {
        [one, other] if one == other => Bson::from(one),
        spellings => Bson::from(doc! {"$in": spellings.to_vec()}),
    }
}

/// A document as it is read: its place in the order of things, and what it says, if we understand it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// Old and new notifiers leave these to the driver, so they grow with time.
    pub id: Bson,
    pub fields: Bdoc,
}

impl Stored {
    pub fn of(fields: Bdoc) -> Option<Stored> {
        Some(Stored { id: fields.get("_id")?.clone(), fields })
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get_str(name).ok()
    }

    pub fn is_latest(&self) -> bool {
        self.fields.get_bool("latest_build") == Ok(true)
    }

    pub fn is_building(&self) -> bool {
        self.text("status") == Some(Status::Building.as_str())
    }

    /// Whether it is a build's result, whatever became of it.
    pub fn is_result(&self) -> bool {
        match self.text("status") {
            Some("Success" | "Failed" | "Override") => true,
            _ => {
                self.fields.get_bool("latest_build").is_ok()
                    && self.text("status") != Some("Done")
                    && !self.is_building()
            }
        }
    }

    /// The status that its event came with.
    pub fn told(&self) -> Option<&str> {
        let key = self.text("event_key").and_then(|key| key.rsplit(' ').next());
        key.or_else(|| self.text("status"))
    }

    /// Newer than another. Identifiers of drivers begin with the time in seconds.
    pub fn order(&self) -> (Option<ObjectId>, String) {
        (self.id.as_object_id(), self.id.to_string())
    }

    /// `None` for a document that is no event in our eyes; it is told in the log, and hides no other.
    pub fn read(&self) -> Option<Document> {
        match read(&self.fields) {
            Ok(document) => Some(document),
            Err(error) => {
                tracing::warn!(
                    "document {} of the history is left out, since it is no event: {error}",
                    self.id
                );
                None
            }
        }
    }

    /// What makes it say what `wanted` does: values to set, and names to remove. Nothing where it does already.
    pub fn change_to(&self, wanted: &Bdoc) -> Option<Bdoc> {
        let is_history = |name: &str| KEPT.contains(&name);
        let set: Bdoc = wanted
            .iter()
            .filter(|(name, value)| !is_history(name) && self.fields.get(name) != Some(*value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let unset: Bdoc = self
            .fields
            .keys()
            .filter(|name| !is_history(name) && !wanted.contains_key(name.as_str()) && is_usual(name))
            .map(|name| (name.clone(), Bson::String(String::new())))
            .collect();
        let mut change = Bdoc::new();
        for (how, what) in [("$set", set), ("$unset", unset)] {
            if !what.is_empty() {
                change.insert(how, what);
            }
        }
        (!change.is_empty()).then_some(change)
    }
}

fn read(fields: &Bdoc) -> Result<Document, serde_json::Error> {
    let mut event: Map<String, Value> = fields
        .iter()
        .filter(|(name, _)| !OURS.contains(&name.as_str()))
        .filter(|(name, _)| *name == "status" || !KEPT.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone().into_relaxed_extjson()))
        .collect();
    if let Ok(unusual) = fields.get_str("unusual") {
        event.extend(serde_json::from_str::<Map<String, Value>>(unusual)?);
    }
    Ok(Document {
        event: serde_json::from_value(Value::Object(event))?,
        latest_build: fields.get_bool("latest_build").ok(),
        comment: fields.get_str("comment").ok().map(str::to_owned),
    })
}

/// A name that every server takes and no update reads otherwise.
fn is_usual(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('$') && !name.contains(['.', '\0'])
}

/// JSON as BSON; nothing for what would come back changed.
fn bson(value: &Value) -> Option<Bson> {
    Some(match value {
        Value::Null => Bson::Null,
        Value::Bool(bool) => Bson::Boolean(*bool),
        Value::String(text) => Bson::String(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.is_u64(), number.as_f64()) {
            (Some(whole), ..) => i32::try_from(whole).map_or(Bson::Int64(whole), Bson::Int32),
            (None, false, Some(real)) => Bson::Double(real),
            _ => return None,
        },
        Value::Array(values) => Bson::Array(values.iter().map(bson).collect::<Option<_>>()?),
        Value::Object(fields) => {
            let usual = |(name, value): (&String, &Value)| {
                is_usual(name).then(|| Some((name.clone(), bson(value)?)))?
            };
            Bson::Document(fields.iter().map(usual).collect::<Option<_>>()?)
        }
    })
}
