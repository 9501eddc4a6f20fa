//! The indexes. Each of our queries is a scan of one; a test asks the server.
//!
//! The unique ones hold only documents that we wrote (`event_key`) of builds that have an id, so that neither old
//! documents nor old notifiers, which still write theirs, are ever refused.

use mongodb::bson::{Document as Bdoc, doc};
use mongodb::options::IndexOptions;
use mongodb::{Database, IndexModel};

use super::{BUILDERS, EVENTS};

/// A build's documents, and whatever there is of a source RPM.
pub(super) fn builds() -> Bdoc {
    doc! {"srpm": 1, "target": 1, "arch": 1, "timestamp": 1}
}

pub(super) fn paths() -> Bdoc {
    doc! {"path": 1}
}

pub(super) async fn make(database: &Database) -> mongodb::error::Result<()> {
    database.collection::<Bdoc>(EVENTS).create_indexes(of_events()).await?;
    let signs = index("reimzul_signs", doc! {"builder": 1, "worker": 1}, None, true);
    database.collection::<Bdoc>(BUILDERS).create_index(signs).await?;
    Ok(())
}

fn of_events() -> Vec<IndexModel> {
    // `$gt: ""` is what "it is there, and a text" can be said with in a partial index that an equality implies.
    let ours = doc! {"build_id": {"$gt": ""}, "event_key": {"$gt": ""}};
    let latest_of_ours = doc! {"latest_build": true, "build_id": {"$gt": ""}, "event_key": {"$gt": ""}};
    vec![
        index("reimzul_once", doc! {"build_id": 1, "event_key": 1}, Some(ours), true),
        index("reimzul_one_latest", doc! {"target": 1, "srpm": 1, "arch": 1}, Some(latest_of_ours), true),
        index(
            "reimzul_latest",
            doc! {"srpm": 1, "target": 1, "arch": 1},
            Some(doc! {"latest_build": true}),
            false,
        ),
        index("reimzul_builds", builds(), None, false),
        index("reimzul_ids", doc! {"build_id": 1}, Some(doc! {"build_id": {"$gt": ""}}), false),
        index("reimzul_status", doc! {"status": 1, "latest_build": 1, "_id": -1}, None, false),
        index("reimzul_targets", doc! {"status": 1, "target": 1, "latest_build": 1, "_id": -1}, None, false),
        index("reimzul_paths", paths(), None, false),
        index("reimzul_times", doc! {"timestamp": 1}, None, false),
    ]
}

fn index(name: &str, keys: Bdoc, partial: Option<Bdoc>, unique: bool) -> IndexModel {
    let mut options = IndexOptions::default();
    options.name = Some(name.into());
    options.partial_filter_expression = partial;
    options.unique = unique.then_some(true);
    IndexModel::builder().keys(keys).options(options).build()
}
