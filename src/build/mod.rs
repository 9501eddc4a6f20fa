//! The build stage, role `worker`: from a job to folders of results in the bstore.

mod attempt;
pub mod engine;
mod inventory;
pub mod life;
pub mod limits;
mod logs;
mod order;
mod report;
pub mod source;
mod unsent;

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::consumer::{self, Delivery, Handler, Verdict};
use crate::model::job::Stamp;
use crate::model::record::BuildRecord;
use crate::model::unreadable::Unreadable;
use crate::model::{Arch, BuildId, BuildJob, Class, Event, Failure, Status};
use crate::queue::{Job, LOSSES, NewJob, Queue, QueueError};
use crate::shutdown::Shutdown;
use crate::stamp::Stamps;
use crate::upload::{Upload, UploadError};
use attempt::{End, Under};
use engine::Engine;
use life::Life;
use limits::Guard;
use order::{Order, Task};

/// How often a builder that has failed at a job leaves it to others before it tries again itself.
const DEFERRALS: u32 = 30;

/// For a host that does not answer, unless `retry_delay` is longer.
const LONGEST_PATIENCE: std::time::Duration = std::time::Duration::from_secs(300);

/// Everything a worker works with.
#[derive(Debug)]
pub struct Worker {
    pub config: Config,
    pub queue: Queue,
    pub stamps: Stamps,
    pub upload: Upload,
    pub sources: source::Sources,
    pub engine: Engine,
    pub guard: Guard,
}

/// One of a worker's slots: builds one job at a time.
struct Slot<'a> {
    worker: &'a Worker,
    shutdown: &'a Shutdown,
    life: &'a Life,
}

impl Handler for Slot<'_> {
    async fn open(&self, shutdown: &Shutdown) -> CancellationToken {
        self.life.open(shutdown.stop()).await
    }

    async fn handle(&self, jobs: &[Delivery]) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for delivery in jobs {
            verdicts.push(self.worker.handle(delivery, self.shutdown, self.life).await);
        }
        verdicts
    }
}

impl Worker {
    /// Builds in as many slots as configured, until told to stop.
    pub async fn run(self, shutdown: &Shutdown) {
        let arch = Arch::of_this_machine().unwrap_or(Arch::Noarch);
        let tubes: Vec<String> = arch.builds().iter().map(|arch| arch.tube().to_owned()).collect();
        self.guard.sweep().await;
        self.engine.sweep().await;
        let life = Arc::new(Life::new(&self.config, &self.engine, arch, &tubes, shutdown.stop()));
        let mut slots = tokio::task::JoinSet::new();
        let worker = Arc::new(self);
        for _ in 0..worker.config.slots {
            let (worker, tubes, shutdown) = (Arc::clone(&worker), tubes.clone(), shutdown.clone());
            let life = Arc::clone(&life);
            slots.spawn(async move {
                let slot = Slot { worker: &worker, shutdown: &shutdown, life: &life };
                consumer::run(&worker.queue, &tubes, &shutdown, &slot).await;
            });
        }
        let ended = CancellationToken::new();
        let work = async {
            slots.join_all().await;
            ended.cancel();
        };
        tokio::join!(work, life.go_on(&worker.queue, shutdown.stop(), &ended));
    }

    async fn handle(&self, delivery: &Delivery, shutdown: &Shutdown, life: &Life) -> Verdict {
        let (body, tube) = (&delivery.job.body, delivery.job.tube.parse().ok());
        let verdict = match BuildJob::read(body, tube) {
            Err(unreadable) => self.refuse(&unreadable).await,
            Ok(job) => match &job.stamp {
                None => self.stamp(&job, delivery).await,
                Some(stamp) => self.work(&job, stamp, Under { delivery, shutdown, life }).await,
            },
        };
        let verdict = match verdict {
            // With what is added to it, it will never get through.
            Err(error @ QueueError::TooLarge { .. }) => {
                self.refuse(&Unreadable::new(&error.to_string(), body, tube)).await
            }
            other => other,
        };
        verdict.unwrap_or_else(|error| Verdict::Release {
            delay: self.config.retry_delay,
            reason: error.to_string(),
        })
    }

    /// A job that is none is put aside; whoever waits for a build that it names is told.
    async fn refuse(&self, unreadable: &Unreadable) -> Result<Verdict, QueueError> {
        let reason = unreadable.to_string();
        if let Some((job, stamp)) = unreadable.named.as_ref().and_then(|job| Some((job, job.stamp.as_ref()?)))
        {
            let failure = Failure::new(Class::Source, "job", &reason);
            let event = Event::of(job, stamp, &self.config.node, Status::Failed, Some(failure));
            self.queue.put(vec![report::notify(&event)]).await?;
        }
        Ok(Verdict::Bury { reason })
    }

    /// A job of an old submitter: put again with a stamp, so that every delivery from now on is the same build.
    async fn stamp(&self, job: &BuildJob, delivery: &Delivery) -> Result<Verdict, QueueError> {
        let build_id = id_of_unstamped(&delivery.job);
        // Who had it before may have vanished between putting it again and deleting it.
        if delivery.job.reserves > 1 && self.is_queued(job, &build_id).await? {
            return Ok(Verdict::Done);
        }
        let (pkgname, evr, sha256) = match self.sources.identify(job).await {
            Ok(identity) => identity,
            Err(failure) => return Ok(self.later(failure.to_string())),
        };
        let stamp = match self.stamps.next(&job.target, pkgname, evr, sha256).await {
            Ok(stamp) => stamp,
            Err(error) => return Ok(self.later(error.to_string())),
        };
        let job = job.clone().stamped(Stamp { build_id, ..stamp });
        self.queue.put(vec![NewJob::new(job.arch.tube(), &job, delivery.job.priority)]).await?;
        Ok(Verdict::Done)
    }

    async fn is_queued(&self, job: &BuildJob, build_id: &BuildId) -> Result<bool, QueueError> {
        let queued = self.queue.list(Some(job.arch.tube())).await?;
        let id = |body: &[u8]| Some(serde_json::from_slice::<BuildJob>(body).ok()?.stamp?.build_id);
        Ok(queued.iter().any(|entry| id(&entry.body).as_ref() == Some(build_id)))
    }

    /// What a job comes to. An error is one of the queue itself: the job is then handed back as it was.
    async fn work(&self, job: &BuildJob, stamp: &Stamp, under: Under<'_>) -> Result<Verdict, QueueError> {
        let order = Order::of(job, stamp, &under.delivery.job, &self.engine);
        let unsent = order.together.iter().chain(&order.after).any(|task| self.unsent(task).is_some());
        if !unsent && self.leaves_to_others(job, under.delivery).await? {
            return Ok(self.later(format!("{} has failed at it; left to another builder", self.config.node)));
        }
        let losses = under.delivery.job.losses();
        if losses >= LOSSES {
            let said = format!(
                "its worker vanished {losses} times in the middle of it, or was cut off from the queue for too long"
            );
            return self.put_aside(&order, under.delivery, Failure::new(Class::Lost, "build", said)).await;
        }
        let mut ends = self.build_together(&order.together, under).await?;
        if let Some(last) =
            order.after.as_ref().filter(|_| ends.iter().all(|end| matches!(end, End::Done(_))))
        {
            ends.push(self.build_missing(last, under, std::future::ready(None)).await?);
        }
        self.verdict(job, &order, under.delivery, ends).await
    }

    /// Builds the arch asked for and its companion at the same time; neither's failure touches the other.
    async fn build_together(&self, tasks: &[Task], under: Under<'_>) -> Result<Vec<End>, QueueError> {
        let [main, companion] = tasks else {
            let mut ends = Vec::new();
            for task in tasks {
                ends.push(self.build_missing(task, under, std::future::ready(None)).await?);
            }
            return Ok(ends);
        };
        let (tell, told) = oneshot::channel();
        let first = async {
            let end = self.build_missing(main, under, std::future::ready(None)).await;
            let record = if let Ok(End::Done(record)) = &end { Some((**record).clone()) } else { None };
            // Nobody listens where the companion has ended already.
            let _ = tell.send(record);
            end
        };
        let second = self.build_missing(companion, under, async { told.await.ok().flatten() });
        let (first, second) = tokio::join!(first, second);
        Ok(vec![first?, second?])
    }

    /// Builds what is not there yet: a former delivery may have got as far as that.
    async fn build_missing(
        &self,
        task: &Task,
        under: Under<'_>,
        main: impl Future<Output = Option<BuildRecord>>,
    ) -> Result<End, QueueError> {
        let committed = match self.committed(task).await {
            Ok(committed) => committed,
            Err(error) if error.is_away() => return Ok(End::Away(error.to_string())),
            Err(error) => return Ok(End::Farm(Failure::new(Class::Upload, "upload", error.to_string()))),
        };
        match committed {
            Some(record) => {
                // Only what follows may be missing.
                self.queue.put(report::follow_ups(&record.event)).await?;
                Ok(End::Done(Box::new(record)))
            }
            // Boxed, since two of them side by side are large.
            None => Box::pin(self.attempt(task, under, main)).await,
        }
    }

    async fn verdict(
        &self,
        job: &BuildJob,
        order: &Order,
        delivery: &Delivery,
        ends: Vec<End>,
    ) -> Result<Verdict, QueueError> {
        let (mut failure, mut away) = (None, None);
        for end in ends {
            match end {
                End::Done(_) => {}
                End::Farm(reason) => failure = failure.or(Some(reason)),
                End::Away(reason) => away = away.or(Some(reason)),
                End::LeaseLost => return Ok(Verdict::LeaseLost),
                End::Stopping => {
                    let reason = "the worker was stopped".into();
                    return Ok(Verdict::Release { delay: std::time::Duration::ZERO, reason });
                }
            }
        }
        match (failure, away) {
            (Some(failure), _) => self.again_or_aside(job, order, delivery, failure).await,
            (None, Some(reason)) => {
                let delay = self.patience(delivery.job.releases);
                tracing::warn!("{}: {reason}; trying again in {} s", order.together[0].path, delay.as_secs());
                Ok(Verdict::Release { delay, reason })
            }
            (None, None) => Ok(Verdict::Done),
        }
    }

    /// The farm's fault: queued again, marked with this builder, or put aside after enough tries.
    async fn again_or_aside(
        &self,
        job: &BuildJob,
        order: &Order,
        delivery: &Delivery,
        failure: Failure,
    ) -> Result<Verdict, QueueError> {
        let mut job = job.clone();
        job.tried.push(self.config.node.clone());
        job.last_failure = Some(failure.clone());
        if job.tried.len() >= self.config.tries {
            return self.put_aside(order, delivery, failure).await;
        }
        let delay = self.config.retry_delay;
        tracing::warn!("{}: {failure}; trying again in {} s", order.together[0].path, delay.as_secs());
        // Whose lease is lost has nothing to say: the job is another's by now, and would be there twice.
        self.queue.touch(&delivery.lease).await?;
        let again = NewJob::new(job.arch.tube(), &job, delivery.job.priority).delayed(delay);
        self.queue.put(vec![again]).await?;
        Ok(Verdict::Done)
    }

    /// How long a job waits for a host that does not answer: ever longer, since that uses up no tries.
    fn patience(&self, releases: u32) -> std::time::Duration {
        let delay = self.config.retry_delay;
        (delay * 2_u32.pow(releases.min(6))).min(LONGEST_PATIENCE.max(delay))
    }

    /// Tells of every build of the order without a result that it has failed.
    async fn put_aside(
        &self,
        order: &Order,
        delivery: &Delivery,
        failure: Failure,
    ) -> Result<Verdict, QueueError> {
        let mut verdict = Verdict::Done;
        for task in order.together.iter().chain(&order.after) {
            let told = match self.committed(task).await {
                Ok(Some(record)) => report::follow_ups(&record.event),
                // It may have a result, and that be a success.
                Err(error) if error.is_away() => {
                    let delay = self.patience(delivery.job.releases);
                    return Ok(Verdict::Release { delay, reason: error.to_string() });
                }
                Ok(None) | Err(_) => {
                    verdict = Verdict::Bury { reason: failure.to_string() };
                    vec![report::notify(&task.event(
                        &self.config.node,
                        Status::Failed,
                        Some(failure.clone()),
                    ))]
                }
            };
            self.queue.put(told).await?;
        }
        Ok(verdict)
    }

    async fn committed(&self, task: &Task) -> Result<Option<BuildRecord>, UploadError> {
        self.upload.committed(&task.path, &task.stamp.build_id, self.is_apart(&task.job)).await
    }

    /// Whether this builder has failed at the job before, and another might take it.
    async fn leaves_to_others(&self, job: &BuildJob, delivery: &Delivery) -> Result<bool, QueueError> {
        let node = &self.config.node;
        if !job.tried.contains(node) || delivery.job.releases >= DEFERRALS {
            return Ok(false);
        }
        self.queue.is_watched_elsewhere(&delivery.job.tube, node).await
    }

    fn later(&self, reason: String) -> Verdict {
        Verdict::Release { delay: self.config.retry_delay, reason }
    }

    /// Whether a job's results lie below `scratch/`.
    fn is_apart(&self, job: &BuildJob) -> bool {
        job.scratch && !self.config.scratch_in_repo
    }
}

/// The id that a job of an old submitter gets, the same for whoever takes it. A server without a binlog counts its jobs
/// anew, but hardly on the same day.
fn id_of_unstamped(job: &Job) -> BuildId {
    let today = jiff::Timestamp::now().as_second() / (24 * 60 * 60);
    BuildId::of(&[format!("{} {today} ", job.id).as_bytes(), &job.body].concat())
}

/// What is told of a job that was taken back before all of its builds had a result: of those for `arches`.
pub fn taken_back(job: &BuildJob, arches: &[Arch], node: &str) -> Vec<NewJob> {
    let Some(stamp) = &job.stamp else { return Vec::new() };
    let failure = Failure::new(Class::Killed, "build", "it was stopped by who had asked for it");
    let event = |arch: &Arch| {
        let job = BuildJob { arch: *arch, ..job.clone() };
        report::notify(&Event::of(&job, stamp, node, Status::Failed, Some(failure.clone())))
    };
    arches.iter().map(event).collect()
}
