//! What a process can be: role names, and the async functions behind them.

use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::build::Worker;
use crate::build::engine::Engine;
use crate::build::engine::mock::{self, Mock};
use crate::build::engine::null::Null;
use crate::build::engine::overlay::Overlay;
use crate::build::limits::{Guard, Unenforceable};
use crate::build::source::Sources;
use crate::config::{Config, EngineChoice};
use crate::history::{History, HistoryError};
use crate::notify::irc::Poster;
use crate::notify::mail::Mailer;
use crate::notify::mqtt::Publisher;
use crate::notify::{Notifier, Outbox};
use crate::queue::{BUILDERS, CREATEREPO, NOTIFY, Queue, QueueError, TubeStats};
use crate::remote::bridge::Bridge;
use crate::repo::Repogen;
use crate::repo::prune::Pruner;
use crate::shutdown::Shutdown;
use crate::sign::{self, Signer};
use crate::stamp::Stamps;
use crate::sys::fs::{self, FileError};
use crate::sys::sandbox::Launcher;
use crate::sys::service;
use crate::sys::sqlite::DatabaseError;
use crate::upload::Upload;
use crate::upload::rsync::Rsync;

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Builds.
    Worker,
    /// Makes repository metadata.
    Repogen,
    /// Tells of results: the history, the log, the signer, people by mail.
    Notifier,
    /// Stages RPMs for signing, or signs and publishes them.
    Signer,
    /// Posts results on IRC.
    Irc,
    /// Takes requests for builds in, by MQTT.
    MqttSub,
}

impl Role {
    /// What every site needs.
    pub const CORE: [Role; 4] = [Role::Worker, Role::Repogen, Role::Notifier, Role::Signer];

    /// What `all` comes to: those that need nothing, and those that the configuration has something for.
    pub fn all(config: &Config) -> Vec<Role> {
        let mut all = Role::CORE.to_vec();
        all.extend(config.irc.as_ref().map(|_| Role::Irc));
        all.extend((config.mqtt.is_some() && config.scm.is_some()).then_some(Role::MqttSub));
        all
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Worker => "worker",
            Role::Repogen => "repogen",
            Role::Notifier => "notifier",
            Role::Signer => "signer",
            Role::Irc => "irc",
            Role::MqttSub => "mqtt-sub",
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

/// A worker that cannot run as configured.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Limits(#[from] Unenforceable),
    #[error("{0}")]
    Sources(String),
}

/// A role that ended though nobody had told it to: it could not begin, or it panicked. The log says which.
#[derive(Debug, thiserror::Error)]
#[error("the {0} ended by itself; what it held is handed back to the queue")]
pub struct EndedUnasked(&'static str);

/// `worker, notifier`.
pub fn running(roles: &[Role]) -> String {
    let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    format!("running {}", names.join(", "))
}

/// Shows for ever that this process lives.
async fn beat() {
    let mut beats = tokio::time::interval(service::beat());
    loop {
        beats.tick().await;
        service::alive();
    }
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
            queue: Queue::open(&config)?,
            history: History::open(&config)?,
            outbox: Outbox::open(layout, config.give_up_after)?,
            stamps: Stamps::open(layout)?,
            config,
        })
    }

    /// The build engine of this machine.
    pub fn engine(&self) -> Engine {
        match chosen_engine(&self.config).0 {
            EngineChoice::Mock => {
                let settings = mock::Settings::new(self.config.mock.clone());
                Engine::Mock(Mock::new(self.config.layout.clone(), settings))
            }
            EngineChoice::Auto | EngineChoice::Overlay => Engine::Overlay(
                Overlay::new(self.config.layout.clone()).with_log_limit(self.config.log_limit.0),
            ),
            EngineChoice::Null => Engine::Null(Null::from_environment(self.config.layout.clone())),
        }
    }

    /// Runs one role until it is told to stop.
    pub async fn run(&self, role: Role, shutdown: &Shutdown) {
        tracing::debug!("{} begins", role.as_str());
        match role {
            Role::Worker => match self.worker() {
                Ok(worker) => worker.run(shutdown).await,
                Err(error) => tracing::error!("no worker runs: {error}"),
            },
            Role::Repogen => self.repogen().run(&self.queue, shutdown).await,
            Role::Notifier => Box::pin(self.notifier().run(shutdown)).await,
            Role::Signer => Box::pin(self.sign(shutdown)).await,
            Role::Irc => {
                let ended = match Poster::of(&self.config) {
                    Ok(poster) => poster.run(shutdown).await,
                    Err(error) => Err(error),
                };
                if let Err(error) = ended {
                    tracing::error!("nothing is posted on IRC: {error}");
                }
            }
            Role::MqttSub => {
                if let Err(error) = self.bridge().run(shutdown).await {
                    tracing::error!("no requests are served: {error}");
                }
            }
        }
        tracing::debug!("{} has ended", role.as_str());
    }

    async fn sign(&self, shutdown: &Shutdown) {
        match Signer::open(&self.config, &self.queue).await {
            Ok(signer) => signer.run(shutdown).await,
            Err(error) => tracing::error!("no signer runs: {error}"),
        }
    }

    /// Runs several until told to stop, or until one ends by itself. What the last builds set off is still done.
    pub async fn run_all(&self, roles: &[Role], shutdown: &Shutdown) -> Result<(), EndedUnasked> {
        let crew = Crew::start(self, roles, shutdown.clone());
        service::ready(&running(roles));
        let ended = tokio::select! {
            biased;
            () = shutdown.stop().cancelled() => Ok(()),
            role = crew.watch() => Err(EndedUnasked(role.as_str())),
        };
        service::stopping("finishing what is at hand");
        // The manager watches on while it stops.
        tokio::select! {
            () = crew.end() => ended,
            () = beat() => ended,
        }
    }

    /// Whether this machine can do what `roles` are configured for.
    pub fn check(&self, roles: &[Role]) -> Result<(), Unenforceable> {
        if roles.contains(&Role::Worker) { Guard::of(&self.config).map(drop) } else { Ok(()) }
    }

    fn upload(&self) -> Upload {
        match &self.config.upload {
            None => Upload::Local(self.config.layout.clone()),
            Some(module) => Upload::Rsync(Box::new(Rsync::new(module.clone(), self.config.clone()))),
        }
    }

    fn worker(&self) -> Result<Worker, WorkerError> {
        Ok(Worker {
            config: self.config.clone(),
            queue: self.queue.clone(),
            stamps: self.stamps.clone(),
            upload: self.upload(),
            sources: Sources::open(&self.config).map_err(WorkerError::Sources)?,
            engine: self.engine(),
            guard: Guard::of(&self.config)?,
        })
    }

    pub fn repogen(&self) -> Repogen {
        let config = &self.config;
        Repogen::new(config.layout.clone(), config.scratch_in_repo, config.repo.clone())
    }

    /// Who prunes this root.
    pub fn pruner(&self) -> Pruner {
        Pruner { repogen: self.repogen(), options: self.config.prune.clone(), queue: self.queue.clone() }
    }

    fn notifier(&self) -> Notifier {
        Notifier {
            queue: self.queue.clone(),
            history: self.history.clone(),
            outbox: self.outbox.clone(),
            logfile: self.config.logfile.clone(),
            tosign: crate::sign::request,
            mailer: Mailer::of(&self.config),
            publisher: Publisher::of(&self.config),
        }
    }

    fn bridge(&self) -> Bridge {
        Bridge {
            config: self.config.clone(),
            queue: self.queue.clone(),
            history: self.history.clone(),
            stamps: self.stamps.clone(),
            launcher: Launcher::of_this_program(),
        }
    }
}

/// The engine that `auto` comes to on this machine, and why; any other choice is what was configured.
pub fn chosen_engine(config: &Config) -> (EngineChoice, String) {
    if config.engine != EngineChoice::Auto {
        return (config.engine, "as configured".into());
    }
    let layout = &config.layout;
    if let Some(why) = mock::unusable("mock".as_ref()) {
        return (EngineChoice::Overlay, format!("auto: {why}"));
    }
    if layout.targets().is_dir() && !layout.mock_configs().is_dir() {
        let why = "auto: mock is installed, but this root has target files and no configurations for mock";
        return (EngineChoice::Overlay, why.into());
    }
    (EngineChoice::Mock, "auto: mock is installed".into())
}

/// Roles at work in this process. The worker is told to stop by the `Shutdown` it was started with; the others
/// stop last, so that what the last builds set off is done.
#[derive(Debug)]
pub struct Crew {
    site: Site,
    worker: Option<JoinHandle<()>>,
    others: Vec<(Role, JoinHandle<()>)>,
    /// The worker's.
    shutdown: Shutdown,
    stop_others: Shutdown,
}

/// How long a stopping crew goes on for what the last builds set off. The rest is done at the next start.
const FOLLOW_UPS: Duration = Duration::from_secs(60);
const FOLLOW_UPS_IN_HASTE: Duration = Duration::from_secs(3);

impl Crew {
    pub fn start(site: &Site, roles: &[Role], shutdown: Shutdown) -> Crew {
        let stop_others = Shutdown::default();
        let spawn = |role: Role, shutdown: &Shutdown| {
            let (site, shutdown) = (site.clone(), shutdown.clone());
            tokio::spawn(async move { site.run(role, &shutdown).await })
        };
        let others = roles.iter().filter(|role| **role != Role::Worker);
        Crew {
            worker: roles.contains(&Role::Worker).then(|| spawn(Role::Worker, &shutdown)),
            others: others.map(|role| (*role, spawn(*role, &stop_others))).collect(),
            site: site.clone(),
            shutdown,
            stop_others,
        }
    }

    /// Shows that the process lives as long as every role does, and names the first that has ended.
    async fn watch(&self) -> Role {
        let mut beats = tokio::time::interval(service::beat());
        loop {
            beats.tick().await;
            let worker = self.worker.iter().map(|worker| (Role::Worker, worker));
            let mut roles = worker.chain(self.others.iter().map(|(role, task)| (*role, task)));
            if let Some((role, _)) = roles.find(|(_, task)| task.is_finished()) {
                return role;
            }
            service::alive();
        }
    }

    /// Stops the worker, and returns when it holds nothing any more.
    pub async fn end_worker(&mut self) {
        self.shutdown.request();
        if let Some(worker) = self.worker.take() {
            let _ = worker.await;
        }
    }

    /// Stops the worker if it runs, lets the others work off their tubes, and stops them.
    pub async fn end(mut self) {
        self.end_worker().await;
        let begun = Instant::now();
        let limit = || if self.shutdown.kill().is_cancelled() { FOLLOW_UPS_IN_HASTE } else { FOLLOW_UPS };
        while begun.elapsed() < limit() && self.is_busy().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.stop_others.request();
        for (_, other) in self.others {
            let _ = other.await;
        }
    }

    /// Whether any of ours has work. What the outbox hands on is in the queue before it leaves the outbox, so a look at
    /// the queue follows.
    async fn is_busy(&self) -> bool {
        let works_from = |role: Role, tube: &str| match role {
            Role::Worker | Role::Irc | Role::MqttSub => false,
            Role::Repogen => tube == CREATEREPO,
            Role::Notifier => tube == NOTIFY || tube == BUILDERS,
            Role::Signer => sign::is_tube(tube),
        };
        let is_ours = |tube: &str| self.others.iter().any(|(role, _)| works_from(*role, tube));
        // Signatures by a key that is elsewhere are nobody's here.
        let waits = |stats: &TubeStats| {
            is_ours(&stats.tube) && stats.watching > 0 && stats.ready + stats.reserved > 0
        };
        let queued = async || self.site.queue.stats().await.is_ok_and(|stats| stats.iter().any(waits));
        let undelivered = async || is_ours(NOTIFY) && self.site.outbox.due_now().await.unwrap_or(false);
        queued().await || undelivered().await || queued().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_role_that_ends_by_itself_is_missed() {
        let root = tempfile::tempdir().expect("a folder");
        let config = Config::load(None, Some(root.path())).expect("the defaults");
        let site = Site::open(config).expect("a site");
        let crew = Crew::start(&site, &[Role::Signer], Shutdown::default());
        crew.stop_others.request();
        assert_eq!(crew.watch().await, Role::Signer);
    }
}
