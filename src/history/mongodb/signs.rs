//! Builders' signs of life: the last one of each worker, in a collection of their own.

use mongodb::Collection;
use mongodb::bson::{Bson, Document as Bdoc, doc};
use mongodb::error::Result as Answer;

use super::error::{Doing, is_duplicate};
use super::find::all;
use super::{BUILDERS, History, LIMIT, MongodbError};
use crate::model::Builder;

impl History {
    pub async fn heard_of(&self, sign: &Builder) -> Result<(), MongodbError> {
        let signs: Collection<Bdoc> = self.indexed().await?.collection(BUILDERS);
        let text = serde_json::to_string(sign)?;
        self.within(LIMIT, Doing::Other, keep(&signs, sign, &text)).await
    }

    pub async fn builders(&self) -> Result<Vec<Builder>, MongodbError> {
        let signs: Collection<Bdoc> = self.database().await?.collection(BUILDERS);
        let by_name = signs.find(doc! {}).sort(doc! {"builder": 1, "worker": 1});
        let found = self.within(LIMIT, Doing::Other, all(by_name)).await?;
        // One that a later version wrote and we cannot read is as good as silent.
        Ok(found.iter().filter_map(|stored| serde_json::from_str(stored.text("sign")?).ok()).collect())
    }
}

async fn keep(signs: &Collection<Bdoc>, sign: &Builder, text: &str) -> Answer<()> {
    let known = all(signs.find(doc! {"builder": &sign.builder})).await?;
    let (mine, others): (Vec<_>, Vec<_>) =
        known.into_iter().partition(|stored| stored.text("worker") == Some(&sign.worker));
    if !mine.iter().any(|stored| stored.fields.get_i64("time").is_ok_and(|time| time > sign.time)) {
        let worker = doc! {"builder": &sign.builder, "worker": &sign.worker};
        let change = doc! {"$set": {"time": Bson::Int64(sign.time), "sign": text}};
        match signs.update_one(worker, change).upsert(true).await {
            // Another notifier has added one in this moment: as good as ours.
            Err(error) if is_duplicate(&error) => {}
            other => drop(other?),
        }
    }
    for other in others {
        let told: Option<Builder> = other.text("sign").and_then(|text| serde_json::from_str(text).ok());
        if told.is_none_or(|told| told.stopped || told.silent_for(sign.time).is_some()) {
            signs.delete_one(doc! {"_id": other.id}).await?;
        }
    }
    Ok(())
}
