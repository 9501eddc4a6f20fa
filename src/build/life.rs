//! A worker's signs of life, and the gate that keeps it from taking jobs while its disk is nearly full.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, mock};
use crate::config::Config;
use crate::model::builder::INTERVAL;
use crate::model::{Arch, BuildPath, Builder, Size};
use crate::queue::{Queue, QueueError};
use crate::sys::{fs, machine};

/// How often free space is looked at, and changes are told.
const LOOK: Duration = Duration::from_secs(1);

/// What there is to tell of a worker, as it changes.
#[derive(Debug)]
pub struct Life {
    /// What does not change.
    sign: Builder,
    /// Where room is needed.
    places: Vec<PathBuf>,
    running: Mutex<Vec<String>>,
    changed: AtomicBool,
    gate: watch::Sender<Gate>,
}

/// Whether jobs are taken.
#[derive(Debug, Clone)]
enum Gate {
    /// Until this is cancelled.
    Open(CancellationToken),
    /// And why.
    Closed(String),
}

impl Life {
    pub fn new(
        config: &Config,
        engine: &Engine,
        arch: Arch,
        tubes: &[String],
        stop: &CancellationToken,
    ) -> Life {
        let layout = &config.layout;
        let mut places = vec![layout.builder_cache(), layout.root().join("results")];
        if matches!(engine, Engine::Mock(_)) {
            places.push(mock::CHROOTS.into());
        }
        let life = Life {
            sign: Builder {
                builder: config.node.clone(),
                worker: format!("{}.{}", machine::id(), std::process::id()),
                machine: machine::id(),
                arch,
                tubes: tubes.to_vec(),
                slots: config.slots,
                running: Vec::new(),
                load: 0.0,
                free: Size(0),
                min_free: config.min_free,
                limits: config.limits,
                takes_jobs: true,
                why_not: None,
                stopped: false,
                left_out: Vec::new(),
                time: 0,
            },
            places,
            running: Mutex::default(),
            changed: AtomicBool::new(true),
            gate: watch::Sender::new(Gate::Open(stop.child_token())),
        };
        life.look(stop);
        life
    }

    /// Tells of a build that has begun, until what it returns is dropped.
    pub fn begins(&self, path: &BuildPath) -> Running<'_> {
        let path = path.to_string();
        self.running().push(path.clone());
        self.changed.store(true, Ordering::SeqCst);
        Running { life: self, path }
    }

    /// Waits until jobs may be taken, or `stop`. What it returns is cancelled when they may not any more.
    pub async fn open(&self, stop: &CancellationToken) -> CancellationToken {
        let mut gate = self.gate.subscribe();
        let opened = gate.wait_for(|gate| matches!(gate, Gate::Open(_)));
        let opened = tokio::select! {
            opened = opened => opened.map(|gate| gate.clone()).ok(),
            () = stop.cancelled() => None,
        };
        match opened {
            Some(Gate::Open(until)) => until,
            _ => stop.clone(),
        }
    }

    /// Looks at the free space and tells of changes, until `ended`; then tells that, too.
    pub async fn go_on(&self, queue: &Queue, stop: &CancellationToken, ended: &CancellationToken) {
        let interval = Duration::from_secs(INTERVAL.unsigned_abs());
        let mut told = Instant::now();
        while !ended.is_cancelled() {
            self.look(stop);
            if self.changed.swap(false, Ordering::SeqCst) || told.elapsed() >= interval {
                match self.tell(queue, stop.is_cancelled(), false).await {
                    Ok(true) => told = Instant::now(),
                    Ok(false) => self.changed.store(true, Ordering::SeqCst),
                    Err(error) => tracing::warn!("no sign of life could be given: {error}"),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = ended.cancelled() => {}
            }
        }
        // Who is not heard is missed in time.
        let _ = self.tell(queue, true, true).await;
    }

    /// Opens or closes the gate.
    fn look(&self, stop: &CancellationToken) {
        let (free, least) = (self.free(), self.sign.min_free);
        let change = match &*self.gate.borrow() {
            Gate::Open(until) if free < least => {
                let why = format!("only {free} free, min_free is {least}");
                tracing::error!("taking no jobs: {why}");
                until.cancel();
                Gate::Closed(why)
            }
            Gate::Closed(_) if free >= least => {
                tracing::info!("taking jobs again: {free} free");
                Gate::Open(stop.child_token())
            }
            _ => return,
        };
        self.gate.send_replace(change);
        self.changed.store(true, Ordering::SeqCst);
    }

    /// The least of all file systems where room is needed. One that cannot be asked does not count.
    fn free(&self) -> Size {
        let there = |place: &PathBuf| place.ancestors().find(|path| path.exists()).map(Path::to_owned);
        let free = self.places.iter().filter_map(there).filter_map(|place| fs::free_bytes(&place));
        Size(free.min().unwrap_or(u64::MAX))
    }

    /// Says whether anybody listens.
    async fn tell(&self, queue: &Queue, stopping: bool, stopped: bool) -> Result<bool, QueueError> {
        queue.give_sign(&self.sign_now(stopping, stopped)).await
    }

    fn sign_now(&self, stopping: bool, stopped: bool) -> Builder {
        let why_not = match &*self.gate.borrow() {
            _ if stopped => Some("it was stopped".to_owned()),
            _ if stopping => Some("it is stopping".to_owned()),
            Gate::Open(_) => None,
            Gate::Closed(why) => Some(why.clone()),
        };
        Builder {
            running: self.running().clone(),
            load: fs::load(),
            free: self.free(),
            takes_jobs: why_not.is_none(),
            why_not,
            stopped,
            time: jiff::Timestamp::now().as_second(),
            ..self.sign.clone()
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<String>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A build that a worker is at.
#[derive(Debug)]
pub struct Running<'a> {
    life: &'a Life,
    path: String,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut running = self.life.running();
        if let Some(index) = running.iter().position(|path| *path == self.path) {
            running.remove(index);
        }
        self.life.changed.store(true, Ordering::SeqCst);
    }
}
