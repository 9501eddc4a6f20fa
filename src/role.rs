//! What a process can be: role names, and the async functions behind them.

use crate::build::Worker;
use crate::build::engine::Engine;
use crate::build::engine::null::Null;
use crate::build::engine::overlay::Overlay;
use crate::config::{Config, EngineChoice};
use crate::history::{History, HistoryError};
use crate::notify::{Notifier, Outbox};
use crate::queue::{Queue, QueueError};
use crate::repo::Repogen;
use crate::shutdown::Shutdown;
use crate::sign::Signer;
use crate::stamp::Stamps;
use crate::sys::fs::{self, FileError};
use crate::sys::sqlite::DatabaseError;
use crate::upload::Upload;

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Builds.
    Worker,
    /// Makes repository metadata.
    Repogen,
    /// Tells the history, the log and the signer.
    Notifier,
    /// Stages RPMs for signing.
    Signer,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Worker, Role::Repogen, Role::Notifier, Role::Signer];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Worker => "worker",
            Role::Repogen => "repogen",
            Role::Notifier => "notifier",
            Role::Signer => "signer",
        }
    }
}

/// A site whose engines cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// The engines that a configuration names, opened. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Site {
    pub config: Config,
    pub queue: Queue,
    pub history: History,
    pub outbox: Outbox,
    pub stamps: Stamps,
}

impl Site {
    pub fn open(config: Config) -> Result<Site, SiteError> {
        let layout = &config.layout;
        fs::make_dir(layout.root())?;
        Ok(Site {
            queue: Queue::Sqlite(crate::queue::sqlite::Queue::open(layout)?),
            history: History::Sqlite(crate::history::sqlite::History::open(layout)?),
            outbox: Outbox::open(layout)?,
            stamps: Stamps::open(layout)?,
            config,
        })
    }

    /// The build engine of this machine.
    pub fn engine(&self) -> Engine {
        match self.config.engine {
            EngineChoice::Overlay => Engine::Overlay(Overlay::new(self.config.layout.clone())),
            EngineChoice::Null => Engine::Null(Null::from_environment()),
        }
    }

    /// Runs one role until it is told to stop.
    pub async fn run(&self, role: Role, shutdown: &Shutdown) {
        tracing::debug!("{} begins", role.as_str());
        match role {
            Role::Worker => self.worker().run(shutdown).await,
            Role::Repogen => self.repogen().run(&self.queue, shutdown).await,
            Role::Notifier => self.notifier().run(shutdown).await,
            Role::Signer => self.signer().run(&self.queue, shutdown).await,
        }
        tracing::debug!("{} has ended", role.as_str());
    }

    /// Runs several, each in a task of its own.
    pub async fn run_all(&self, roles: &[Role], shutdown: &Shutdown) {
        let mut tasks = tokio::task::JoinSet::new();
        for role in roles.iter().copied() {
            let (site, shutdown) = (self.clone(), shutdown.clone());
            tasks.spawn(async move { site.run(role, &shutdown).await });
        }
        tasks.join_all().await;
    }

    fn worker(&self) -> Worker {
        Worker {
            config: self.config.clone(),
            queue: self.queue.clone(),
            stamps: self.stamps.clone(),
            upload: Upload::Local(self.config.layout.clone()),
            engine: self.engine(),
        }
    }

    fn repogen(&self) -> Repogen {
        Repogen { layout: self.config.layout.clone(), scratch_in_repo: self.config.scratch_in_repo }
    }

    fn notifier(&self) -> Notifier {
        Notifier {
            queue: self.queue.clone(),
            history: self.history.clone(),
            outbox: self.outbox.clone(),
            logfile: self.config.logfile.clone(),
            tosign: crate::sign::request,
        }
    }

    fn signer(&self) -> Signer {
        Signer { layout: self.config.layout.clone() }
    }
}
