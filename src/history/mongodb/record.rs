//! Recording an event.
//!
//! A result makes the former latest build of its source RPM, target and arch no latest any more, is inserted as the
//! latest, and turns its build's `Building` into `Done`. No transaction holds these together, since a server without
//! replicas has none; instead
//! - every step may be repeated, and an event that is recorded again does what is missing of them;
//! - a former latest is put down by its `_id`, so a notifier that comes late never puts down another's insert;
//! - of two that insert a latest at the same time the unique index refuses one, which then looks again;
//! - documents that the unique index does not hold (old ones) are looked through after the insert;
//! - the last step looks at all documents of the build, so whoever comes second sees what the first has written.

use mongodb::Collection;
use mongodb::bson::{Bson, Document as Bdoc, doc};
use mongodb::error::Result as Answer;

use super::document::{self, Stored};
use super::error::{Doing, is_duplicate};
use super::find::all;
use super::{EVENTS, History, LIMIT, MongodbError, both};
use crate::history::latest::Latest;
use crate::model::{Event, Status};

/// How often others may come in between. Each time one of them has recorded something, so notifiers at work never
/// reach it.
const TRIES: usize = 50;

impl History {
    /// Records an event; see the module.
    pub async fn record(&self, event: &Event) -> Result<(), MongodbError> {
        let recording = Recording {
            events: self.indexed().await?.collection(EVENTS),
            wanted: document::of(event)?,
            event,
        };
        for _ in 0..TRIES {
            if self.within(LIMIT, Doing::Other, recording.attempt()).await? {
                return Ok(());
            }
        }
        Err(MongodbError::Busy(event.path().to_string()))
    }
}

struct Recording<'a> {
    events: Collection<Bdoc>,
    event: &'a Event,
    /// Its document, but for what depends on others.
    wanted: Bdoc,
}

impl Recording<'_> {
    /// False where somebody else came in between.
    async fn attempt(&self) -> Answer<bool> {
        let stored = match self.store().await {
            Err(error) if is_duplicate(&error) => false,
            other => other.map(|()| true)?,
        };
        both(self.end_buildings(), self.keep_one_latest()).await?;
        Ok(stored)
    }

    async fn store(&self) -> Answer<()> {
        let (latest, build) = both(self.latest(), self.build()).await?;
        // The latest are read at the same time as the build's, so either may already hold what the other does not.
        match build.iter().chain(&latest).find(|stored| self.is_it(stored)) {
            Some(stored) => self.tell_anew(stored).await,
            None if self.event.status.is_result() => self.insert_result(&latest).await,
            None => self.insert(self.event.status.stored(build.iter().any(Stored::is_result)), None).await,
        }
    }

    /// The documents that say they are the latest build; none for an event that is no result.
    async fn latest(&self) -> Answer<Vec<Stored>> {
        if !self.event.status.is_result() {
            return Ok(Vec::new());
        }
        let Event { srpm, target, arch, .. } = self.event;
        let arch = document::spelled(*arch);
        let query =
            doc! {"srpm": srpm.as_str(), "target": target.as_str(), "arch": arch, "latest_build": true};
        all(self.events.find(query)).await
    }

    /// The documents of this build.
    async fn build(&self) -> Answer<Vec<Stored>> {
        let Event { srpm, target, arch, timestamp, .. } = self.event;
        let arch = document::spelled(*arch);
        let query = doc! {"srpm": srpm.as_str(), "target": target.as_str(), "arch": arch,
        "timestamp": timestamp.to_string()};
        let mut found = all(self.events.find(query)).await?;
        // Two controllers may stamp alike.
        let same = |stored: &Stored, name: &str, value: Option<&str>| {
            stored.text(name).is_none() || value.is_none() || stored.text(name) == value
        };
        found.retain(|stored| {
            same(stored, "build_id", self.event.build_id.as_ref().map(crate::model::BuildId::as_str))
                && same(stored, "evr", Some(self.event.evr.as_str()))
        });
        Ok(found)
    }

    /// Whether a document is this event's: by its key, or, if an old notifier wrote it, by what it says.
    fn is_it(&self, stored: &Stored) -> bool {
        if let Some(key) = stored.text("event_key") {
            return key == self.event.key();
        }
        let building = matches!(stored.text("status"), Some("Building" | "Done"));
        stored.text("timestamp") == Some(self.event.timestamp.to_string().as_str())
            && stored.text("build_id") == self.event.build_id.as_ref().map(crate::model::BuildId::as_str)
            && (stored.text("status") == Some(self.event.status.as_str())
                || building && self.event.status == Status::Building)
    }

    async fn tell_anew(&self, stored: &Stored) -> Answer<()> {
        match stored.change_to(&self.wanted) {
            Some(change) => self.events.update_one(doc! {"_id": stored.id.clone()}, change).await.map(drop),
            None => Ok(()),
        }
    }

    async fn insert_result(&self, latest: &[Stored]) -> Answer<()> {
        let stays = latest.iter().any(|stored| standing(stored).outlasts(self.event));
        if !stays {
            self.put_down(latest.iter()).await?;
        }
        self.insert(self.event.status, Some(!stays)).await
    }

    async fn insert(&self, status: Status, latest_build: Option<bool>) -> Answer<()> {
        let mut document = self.wanted.clone();
        document.insert("status", status.as_str());
        if let Some(latest) = latest_build {
            document.insert("latest_build", latest);
        }
        self.events.insert_one(document).await.map(drop)
    }

    /// A build that has a result builds no more.
    async fn end_buildings(&self) -> Answer<()> {
        let build = self.build().await?;
        if build.iter().any(Stored::is_result) {
            let buildings = build.iter().filter(|stored| stored.is_building());
            self.set(buildings, doc! {"status": Status::Done.as_str()}).await?;
        }
        Ok(())
    }

    /// Old notifiers, and events without an id, are not held apart by the unique index: the newest stays.
    async fn keep_one_latest(&self) -> Answer<()> {
        let mut latest = self.latest().await?;
        latest.sort_by_key(Stored::order);
        latest.pop();
        self.put_down(latest.iter()).await
    }

    /// None of these becomes the latest again, so it does not matter how late this comes.
    async fn put_down(&self, latest: impl Iterator<Item = &Stored>) -> Answer<()> {
        self.set(latest, doc! {"latest_build": false}).await
    }

    async fn set(&self, these: impl Iterator<Item = &Stored>, what: Bdoc) -> Answer<()> {
        let ids: Vec<Bson> = these.map(|stored| stored.id.clone()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        self.events.update_many(doc! {"_id": {"$in": ids}}, doc! {"$set": what}).await.map(drop)
    }
}

fn standing(stored: &Stored) -> Latest<'_> {
    Latest {
        build_id: stored.text("build_id"),
        timestamp: stored.text("timestamp").unwrap_or_default(),
        told: stored.told(),
    }
}
