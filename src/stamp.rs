//! Stamping: what makes a submission a build of its own, however often its job is delivered.

use crate::model::job::Stamp;
use crate::model::{BuildId, Layout, PkgName, Target, Timestamp, VersionRelease};
use crate::sys::sqlite::{Database, DatabaseError};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS stamps (
  target TEXT NOT NULL, pkgname TEXT NOT NULL, timestamp TEXT NOT NULL,
  PRIMARY KEY (target, pkgname)
) STRICT, WITHOUT ROWID;
";

/// Hands out stamps. Timestamps only grow per target and package on one root.
#[derive(Debug, Clone)]
pub struct Stamps {
    database: Database,
}

impl Stamps {
    pub fn open(layout: &Layout) -> Result<Stamps, DatabaseError> {
        Ok(Stamps { database: Database::open(&layout.database(), SCHEMA)? })
    }

    /// A stamp for a build of `pkgname`, whose source RPM has the digest `sha256`.
    pub async fn next(
        &self,
        target: &Target,
        pkgname: PkgName,
        evr: VersionRelease,
        sha256: String,
    ) -> Result<Stamp, DatabaseError> {
        let timestamp = self.timestamp(target, &pkgname).await?;
        Ok(Stamp { build_id: BuildId::new(), timestamp, sha256, pkgname, evr })
    }

    /// Now, or the second after the last one given out, if that is later.
    async fn timestamp(&self, target: &Target, pkgname: &PkgName) -> Result<Timestamp, DatabaseError> {
        let (target, pkgname) = (target.to_string(), pkgname.to_string());
        self.database
            .write(move |sql| {
                use rusqlite::OptionalExtension;
                let last: Option<String> = sql
                    .query_row(
                        "SELECT timestamp FROM stamps WHERE target = ?1 AND pkgname = ?2",
                        [&target, &pkgname],
                        |row| row.get(0),
                    )
                    .optional()?;
                let after = last.and_then(|last| last.parse::<Timestamp>().ok()).map(Timestamp::next);
                let stamp = after.into_iter().chain([Timestamp::now()]).max().unwrap_or_else(Timestamp::now);
                sql.execute(
                    "INSERT OR REPLACE INTO stamps (target, pkgname, timestamp) VALUES (?1, ?2, ?3)",
                    [&target, &pkgname, &stamp.to_string()],
                )?;
                Ok(stamp)
            })
            .await
    }
}
