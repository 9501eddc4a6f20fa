//! Finding documents, and settling a build by hand. Every query is for one status, or one build, so that each is a scan
//! of one index however large the history is; what several of them find is put together here.

use std::collections::{HashMap, HashSet};

use mongodb::Collection;
use mongodb::action::Find as Query;
use mongodb::bson::{Document as Bdoc, doc};
use mongodb::error::Result as Answer;
use mongodb::options::Hint;

use super::document::{self, Stored};
use super::error::{Doing, is_unknown_hint};
use super::{History, LIMIT, MongodbError, both, indexes};
use crate::history::{Document, Find};
use crate::model::{Arch, SrpmName, Status, Target, Timestamp};

/// What a query finds, as far as it can be stored again. The server gives up when we do: it would go on with what nobody
/// waits for any more, and be slower for the others.
pub(super) async fn all(query: Query<'_, Bdoc>) -> Answer<Vec<Stored>> {
    let mut cursor = query.max_time(LIMIT).await?;
    let mut found = Vec::new();
    while cursor.advance().await? {
        found.extend(Stored::of(cursor.deserialize_current()?));
    }
    Ok(found)
}

impl History {
    pub async fn find(&self, find: Find) -> Result<Vec<Document>, MongodbError> {
        let events = self.events().await?;
        let found = self.within(LIMIT, Doing::Other, candidates(&events, &find)).await?;
        let mut found: Vec<Stored> = found.into_iter().filter(|stored| is_wanted(stored, &find)).collect();
        newest_first(&mut found);
        let limit = if find.limit == 0 { usize::MAX } else { find.limit as usize };
        Ok(found.iter().filter_map(Stored::read).take(limit).collect())
    }

    pub async fn settle(
        &self,
        srpm: &SrpmName,
        target: &Target,
        arch: Arch,
        comment: &str,
    ) -> Result<Option<Document>, MongodbError> {
        let events = self.events().await?;
        let arch = document::spelled(arch);
        let latest =
            doc! {"srpm": srpm.as_str(), "target": target.as_str(), "arch": arch, "latest_build": true};
        let settled = self.within(LIMIT, Doing::Other, settle(&events, latest, comment)).await?;
        Ok(settled.as_ref().and_then(Stored::read))
    }

    pub async fn named(&self, part: &str) -> Result<Vec<Document>, MongodbError> {
        let events = self.events().await?;
        let mut found = self.within(LIMIT, Doing::Other, Box::pin(named(&events, part))).await?;
        let mut seen = HashSet::new();
        found.retain(|stored| seen.insert(stored.id.to_string()));
        newest_first(&mut found);
        let mut documents: Vec<Document> = found.iter().filter_map(Stored::read).collect();
        documents.retain(|document| {
            let event = &document.event;
            event.path().to_string().contains(part)
                || event.srpm.as_str().contains(part)
                || event.build_id.as_ref().is_some_and(|id| id.as_str() == part)
        });
        Ok(one_per_build(documents))
    }
}

/// The latest as it is then; `None` where there is none. Old duplicates: several may say that they are, and none is left
/// unsettled.
async fn settle(events: &Collection<Bdoc>, latest: Bdoc, comment: &str) -> Answer<Option<Stored>> {
    let change = doc! {"$set": {"status": Status::Override.as_str(), "comment": comment}};
    if events.update_many(latest.clone(), change).await?.matched_count == 0 {
        return Ok(None);
    }
    Ok(all(events.find(latest).sort(doc! {"_id": -1}).limit(1)).await?.pop())
}

/// Of each build the latest result, else any, else its newest document. They come newest first, and go so.
fn one_per_build(mut documents: Vec<Document>) -> Vec<Document> {
    let mut best: HashMap<String, Option<bool>> = HashMap::new();
    for document in &documents {
        let best = best.entry(document.event.path().to_string()).or_default();
        *best = document.latest_build.max(*best);
    }
    documents.retain(|document| {
        let path = document.event.path().to_string();
        best.get(&path) == Some(&document.latest_build) && best.remove(&path).is_some()
    });
    documents
}

fn newest_first(found: &mut [Stored]) {
    found.sort_by_cached_key(|stored| std::cmp::Reverse(stored.order()));
}

/// What is wanted and perhaps more; nothing is missing that is among the newest `limit`.
async fn candidates(events: &Collection<Bdoc>, find: &Find) -> Answer<Vec<Stored>> {
    if let Some(id) = &find.build_id {
        return all(events.find(doc! {"build_id": id.as_str()})).await;
    }
    let newest = |query: Bdoc| events.find(query).sort(doc! {"_id": -1}).limit(i64::from(find.limit));
    if find.all && find.status.is_none() && find.target.is_none() {
        return all(newest(doc! {}).hint(Hint::Keys(doc! {"_id": 1}))).await;
    }
    let mut found = Vec::new();
    for status in Status::ALL.into_iter().filter(|status| find.status.is_none_or(|wanted| wanted == *status))
    {
        if let Some(query) = of_status(status, find) {
            found.extend(all(newest(query)).await?);
        }
    }
    Ok(found)
}

fn of_status(status: Status, find: &Find) -> Option<Bdoc> {
    let mut query = doc! {"status": status.as_str()};
    match status {
        _ if find.all => {}
        Status::Building => {}
        Status::Done => return None,
        Status::Success | Status::Failed | Status::Override => {
            query.insert("latest_build", true);
        }
    }
    if let Some(target) = &find.target {
        query.insert("target", target.as_str());
    }
    Some(query)
}

fn is_wanted(stored: &Stored, find: &Find) -> bool {
    let current = match stored.text("status") {
        Some("Building") => true,
        Some("Done") => false,
        _ => stored.is_latest(),
    };
    (find.all || current)
        && find.status.is_none_or(|status| stored.text("status") == Some(status.as_str()))
        && find.target.as_ref().is_none_or(|target| stored.text("target") == Some(target.as_str()))
}

/// The documents that a part of a name may mean. What says all of it is looked up: an id, a timestamp, a path. Any
/// other part is looked for in all keys of two indexes; that is as good as it gets.
async fn named(events: &Collection<Bdoc>, part: &str) -> Answer<Vec<Stored>> {
    // No name has any.
    if part.is_empty() || part.chars().any(char::is_control) {
        return Ok(Vec::new());
    }
    let mut found = all(events.find(doc! {"build_id": part})).await?;
    let timestamp = part.split('/').find(|word| word.parse::<Timestamp>().is_ok());
    if let Some(timestamp) = timestamp {
        found.extend(all(events.find(doc! {"timestamp": timestamp})).await?);
    }
    if !found.is_empty() || timestamp.is_some() {
        return Ok(found);
    }
    let (mut paths, names) = both(
        hinted(events, doc! {"path": {"$regex": escaped(part)}}, indexes::paths()),
        in_names(events, part),
    )
    .await?;
    paths.extend(names);
    Ok(paths)
}

/// Old documents have no path; what stands between its slashes is in the source RPM's name, but for the target.
async fn in_names(events: &Collection<Bdoc>, part: &str) -> Answer<Vec<Stored>> {
    let mut found = Vec::new();
    for word in part.split('/').filter(|word| !word.is_empty()) {
        found.extend(hinted(events, doc! {"srpm": {"$regex": escaped(word)}}, indexes::builds()).await?);
    }
    Ok(found)
}

/// By that index; without it where nobody has recorded yet and so made it.
async fn hinted(events: &Collection<Bdoc>, query: Bdoc, index: Bdoc) -> Answer<Vec<Stored>> {
    match all(events.find(query.clone()).hint(Hint::Keys(index))).await {
        Err(error) if is_unknown_hint(&error) => all(events.find(query)).await,
        other => other,
    }
}

/// A regular expression that means this text.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
