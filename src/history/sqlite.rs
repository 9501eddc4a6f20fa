//! The embedded history: a table in the SQLite file of the root.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row, ToSql, Transaction, params};

use super::latest::Latest;
use super::{Document, Find, HistoryError};
use crate::model::{Arch, Builder, Event, SrpmName, Status, Target, Timestamp};
use crate::sys::sqlite::Database;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS history (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,           -- build, arch and the status it came with: an event is recorded once
  build_id TEXT,
  path TEXT NOT NULL,                 -- <target>/<pkgname>/<timestamp>/<evr>.<arch>
  srpm TEXT NOT NULL, arch TEXT NOT NULL, target TEXT NOT NULL, timestamp TEXT NOT NULL,
  status TEXT NOT NULL,
  latest_build INTEGER,
  comment TEXT,
  event TEXT NOT NULL                 -- as it came, JSON
) STRICT;
CREATE INDEX IF NOT EXISTS history_builds ON history (build_id, arch) WHERE build_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS history_names ON history (path, srpm);
CREATE INDEX IF NOT EXISTS history_timestamps ON history (timestamp);
CREATE INDEX IF NOT EXISTS history_status ON history (status);
CREATE INDEX IF NOT EXISTS history_current ON history (status)
  WHERE status != 'Done' AND (latest_build = 1 OR latest_build IS NULL);
CREATE UNIQUE INDEX IF NOT EXISTS history_latest ON history (srpm, target, arch) WHERE latest_build = 1;
CREATE TABLE IF NOT EXISTS builders (
  builder TEXT NOT NULL,
  worker TEXT NOT NULL,
  time INTEGER NOT NULL,              -- Unix time, seconds
  sign TEXT NOT NULL,                 -- the last sign of life, JSON
  PRIMARY KEY (builder, worker)
) STRICT;
";

/// A handle on the embedded history.
#[derive(Debug, Clone)]
pub struct History {
    database: Database,
}

const COLUMNS: &str = "event, status, latest_build, comment";

impl History {
    pub fn open(file: &Path) -> Result<History, HistoryError> {
        Ok(History { database: Database::open(file, SCHEMA)? })
    }

    /// In one transaction.
    pub async fn record_all(&self, events: &[Event]) -> Result<(), HistoryError> {
        let with_text = |event: &Event| Ok((event.clone(), serde_json::to_string(event)?));
        let events = events.iter().map(with_text).collect::<Result<Vec<_>, serde_json::Error>>()?;
        let all =
            move |sql: &Transaction| events.iter().try_for_each(|(event, text)| record(sql, event, text));
        Ok(self.database.write(all).await?)
    }

    pub async fn find(&self, find: Find) -> Result<Vec<Document>, HistoryError> {
        let (query, values) = query_of(&find);
        let rows = self
            .database
            .read(move |sql| {
                let values: Vec<&dyn ToSql> =
                    values.iter().map(|value| value.as_ref() as &dyn ToSql).collect();
                select(sql, &query, &values)
            })
            .await?;
        documents(rows)
    }

    /// What says all of a name is looked up: an id, a timestamp. Any other part is looked for in all keys of an index.
    pub async fn named(&self, part: &str) -> Result<Vec<Document>, HistoryError> {
        let timestamp = part.split('/').find(|word| word.parse::<Timestamp>().is_ok()).map(str::to_owned);
        let part = part.to_owned();
        let rows = self
            .database
            .read(move |sql| {
                let by_id = one_per_build(sql, "build_id = ?1", &[&part])?;
                let names = "instr(path, ?1) OR instr(srpm, ?1)";
                match timestamp {
                    _ if !by_id.is_empty() => Ok(by_id),
                    Some(at) => one_per_build(sql, &format!("timestamp = ?2 AND ({names})"), &[&part, &at]),
                    None => {
                        let which = format!("id IN (SELECT id FROM history WHERE {names})");
                        one_per_build(sql, &which, &[&part])
                    }
                }
            })
            .await?;
        documents(rows)
    }

    pub async fn settle(
        &self,
        srpm: &SrpmName,
        target: &Target,
        arch: Arch,
        comment: &str,
    ) -> Result<Option<Document>, HistoryError> {
        let key = (srpm.to_string(), target.to_string(), arch.spellings(), comment.to_owned());
        let row = self
            .database
            .write(move |sql| {
                let (srpm, target, [arch, other], comment) = key;
                let query = format!(
                    "UPDATE history SET status = 'Override', comment = ?5
                     WHERE srpm = ?1 AND target = ?2 AND arch IN (?3, ?4) AND latest_build = 1 RETURNING {COLUMNS}"
                );
                sql.query_row(&query, params![srpm, target, arch, other, comment], stored).optional()
            })
            .await?;
        row.map(Document::try_from).transpose()
    }

    pub async fn heard_of(&self, sign: &Builder) -> Result<(), HistoryError> {
        let (text, sign) = (serde_json::to_string(sign)?, sign.clone());
        Ok(self.database.write(move |sql| heard_of(sql, &sign, &text)).await?)
    }

    pub async fn builders(&self) -> Result<Vec<Builder>, HistoryError> {
        let signs: Vec<String> = self
            .database
            .read(|sql| {
                sql.prepare_cached("SELECT sign FROM builders ORDER BY builder, worker")?
                    .query_map([], |row| row.get(0))?
                    .collect()
            })
            .await?;
        // One that a later version wrote and we cannot read is as good as silent.
        Ok(signs.iter().filter_map(|sign| serde_json::from_str(sign).ok()).collect())
    }
}

/// What is wanted, as SQL. Every one of them stops at the limit: nothing is sorted, whatever the history's size.
fn query_of(find: &Find) -> (String, Vec<Box<dyn ToSql + Send>>) {
    let mut conditions = vec!["1"];
    let mut values: Vec<Box<dyn ToSql + Send>> = Vec::new();
    if let Some(status) = find.status {
        conditions.push("status = ?");
        values.push(Box::new(status.as_str()));
    }
    if !find.all {
        conditions.push("status != 'Done' AND (latest_build = 1 OR latest_build IS NULL)");
    }
    if let Some(target) = &find.target {
        conditions.push("target = ?");
        values.push(Box::new(target.to_string()));
    }
    if let Some(id) = &find.build_id {
        conditions.push("build_id = ?");
        values.push(Box::new(id.to_string()));
    }
    let limit = if find.limit == 0 { -1 } else { i64::from(find.limit) };
    let query = format!(
        "SELECT {COLUMNS} FROM history WHERE {} ORDER BY id DESC LIMIT {limit}",
        conditions.join(" AND ")
    );
    (query, values)
}

fn heard_of(sql: &Transaction, sign: &Builder, text: &str) -> rusqlite::Result<()> {
    sql.prepare_cached(
        "INSERT INTO builders (builder, worker, time, sign) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET time = excluded.time, sign = excluded.sign WHERE excluded.time >= time",
    )?
    .execute(params![sign.builder, sign.worker, sign.time, text])?;
    let mut others =
        sql.prepare_cached("SELECT worker, sign FROM builders WHERE builder = ?1 AND worker != ?2")?;
    let others: Vec<(String, String)> = others
        .query_map(params![sign.builder, sign.worker], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (worker, other) in others {
        // One that a later version wrote and we cannot read is as good as silent.
        let other: Option<Builder> = serde_json::from_str(&other).ok();
        if other.is_none_or(|other| other.stopped || other.silent_for(sign.time).is_some()) {
            sql.prepare_cached("DELETE FROM builders WHERE builder = ?1 AND worker = ?2")?
                .execute(params![sign.builder, worker])?;
        }
    }
    Ok(())
}

/// A row, before its event is read.
struct Stored {
    event: String,
    status: String,
    latest_build: Option<bool>,
    comment: Option<String>,
}

impl TryFrom<Stored> for Document {
    type Error = HistoryError;
    fn try_from(row: Stored) -> Result<Document, HistoryError> {
        // Only our own statuses are ever written.
        let status = row.status.parse().unwrap_or(Status::Done);
        Ok(Document::from_json(&row.event, status, row.latest_build, row.comment)?)
    }
}

fn stored(row: &Row) -> rusqlite::Result<Stored> {
    Ok(Stored { event: row.get(0)?, status: row.get(1)?, latest_build: row.get(2)?, comment: row.get(3)? })
}

fn select(sql: &Connection, query: &str, values: &[&dyn ToSql]) -> rusqlite::Result<Vec<Stored>> {
    sql.prepare_cached(query)?.query_map(values, stored)?.collect()
}

/// Of each build that is meant its latest result, else any, else its newest document; newest first.
fn one_per_build(sql: &Connection, which: &str, values: &[&dyn ToSql]) -> rusqlite::Result<Vec<Stored>> {
    let query = format!(
        "SELECT {COLUMNS} FROM history WHERE id IN
         (SELECT first_value(id) OVER (PARTITION BY path ORDER BY latest_build DESC, id DESC)
          FROM history WHERE {which})
         ORDER BY id DESC"
    );
    select(sql, &query, values)
}

fn documents(rows: Vec<Stored>) -> Result<Vec<Document>, HistoryError> {
    rows.into_iter().map(Document::try_from).collect()
}

fn record(sql: &Transaction, event: &Event, text: &str) -> rusqlite::Result<()> {
    let path = event.path().to_string();
    let known = sql
        .prepare_cached("UPDATE history SET event = ?2 WHERE key = ?1")?
        .execute(params![event.key(), text])?;
    if known > 0 {
        return Ok(());
    }
    let [arch, other] = event.arch.spellings();
    let stays = event.status.is_result() && latest_stays(sql, event)?;
    if event.status.is_result() {
        sql.prepare_cached("UPDATE history SET status = 'Done' WHERE path = ?1 AND status = 'Building'")?
            .execute(params![path])?;
    }
    if event.status.is_result() && !stays {
        sql.prepare_cached(
            "UPDATE history SET latest_build = 0
             WHERE srpm = ?1 AND target = ?2 AND arch IN (?3, ?4) AND latest_build = 1",
        )?
        .execute(params![event.srpm.as_str(), event.target.as_str(), arch, other])?;
    }
    let has_result = sql
        .prepare_cached("SELECT 1 FROM history WHERE path = ?1 AND latest_build IS NOT NULL")?
        .exists(params![path])?;
    sql.prepare_cached(
        "INSERT INTO history (key, build_id, path, srpm, arch, target, timestamp, status, latest_build, event)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        event.key(),
        event.build_id.as_ref().map(ToString::to_string),
        path,
        event.srpm.as_str(),
        event.arch.as_str(),
        event.target.as_str(),
        event.timestamp.to_string(),
        event.status.stored(has_result).as_str(),
        event.status.is_result().then_some(!stays),
        text,
    ])?;
    Ok(())
}

/// Whether the latest build of this one's source RPM stays the latest.
fn latest_stays(sql: &Transaction, event: &Event) -> rusqlite::Result<bool> {
    let mut latest = sql.prepare_cached(
        "SELECT build_id, timestamp, key FROM history
         WHERE srpm = ?1 AND target = ?2 AND arch IN (?3, ?4) AND latest_build = 1",
    )?;
    let [arch, other] = event.arch.spellings();
    let outlasts = |row: &Row| -> rusqlite::Result<bool> {
        let (build_id, timestamp, key): (Option<String>, String, String) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        let told = key.rsplit(' ').next();
        Ok(Latest { build_id: build_id.as_deref(), timestamp: &timestamp, told }.outlasts(event))
    };
    let stays = latest
        .query_row(params![event.srpm.as_str(), event.target.as_str(), arch, other], outlasts)
        .optional()?;
    Ok(stays == Some(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_query_sorts_and_one_for_a_status_goes_by_an_index() {
        let sql = Connection::open_in_memory().unwrap();
        sql.execute_batch(SCHEMA).unwrap();
        for all in [false, true] {
            for status in Status::ALL.into_iter().map(Some).chain([None]) {
                for target in [None, Some("t.x86_64".parse().unwrap())] {
                    let (query, values) = query_of(&Find { all, status, target, limit: 50, build_id: None });
                    let values: Vec<&dyn ToSql> =
                        values.iter().map(|value| value.as_ref() as &dyn ToSql).collect();
                    let mut plan = sql.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
                    let steps = plan.query_map(&*values, |row| row.get::<_, String>(3)).unwrap();
                    let steps: Vec<String> = steps.map(Result::unwrap).collect();
                    let wanted =
                        if status.is_some() { "SEARCH history USING INDEX history_" } else { "SCAN history" };
                    assert!(steps.len() == 1 && steps[0].starts_with(wanted), "{query}: {steps:?}");
                }
            }
        }
    }
}
