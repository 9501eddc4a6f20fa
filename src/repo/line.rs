//! Who waits for new metadata of one target in this process: they are served in turn, and whoever waits together is
//! served together.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::consumer::Verdict;

/// The least time from one run's end to the next one's begin: what arrives in between shares the next. The first
/// after a quiet time waits for nothing.
const BETWEEN: Duration = Duration::from_millis(200);

/// Which builds a run has to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    /// The whole tree.
    Everywhere,
    /// Folders of builds, relative to the tree.
    In(BTreeSet<PathBuf>),
}

impl Where {
    /// One build's folder.
    pub fn of(folder: PathBuf) -> Where {
        Where::In(BTreeSet::from([folder]))
    }

    pub fn and(self, other: Where) -> Where {
        match (self, other) {
            (Where::In(mut one), Where::In(other)) => {
                one.extend(other);
                Where::In(one)
            }
            _ => Where::Everywhere,
        }
    }
}

/// One target's.
#[derive(Debug)]
pub struct Line {
    waiting: Mutex<Waiting>,
    turn: tokio::sync::Mutex<Turn>,
}

#[derive(Debug)]
struct Waiting {
    /// How many have come so far.
    came: u64,
    place: Where,
}

#[derive(Debug)]
struct Turn {
    /// How many had come when the last run began.
    served: u64,
    ended: Option<Instant>,
    verdict: Verdict,
}

impl Default for Line {
    /// The first run looks everywhere: nobody knows what happened before.
    fn default() -> Line {
        let waiting = Waiting { came: 0, place: Where::Everywhere };
        let turn = Turn { served: 0, ended: None, verdict: Verdict::Done };
        Line { waiting: Mutex::new(waiting), turn: tokio::sync::Mutex::new(turn) }
    }
}

impl Line {
    /// Waits until a run has looked at `place` that began after this call, and returns what it came to. The run is
    /// made by whoever of those waiting comes first.
    pub async fn serve<R: Future<Output = Verdict>>(
        &self,
        place: Where,
        run: impl FnOnce(Where) -> R,
    ) -> Verdict {
        let number = self.come(place);
        let mut turn = self.turn.lock().await;
        if turn.served >= number {
            return turn.verdict.clone();
        }
        if let Some(ended) = turn.ended {
            tokio::time::sleep_until(ended + BETWEEN).await;
        }
        let (served, place) = self.take();
        let verdict = run(place).await;
        if verdict != Verdict::Done {
            // What it was to look at is not known any more to have been looked at.
            self.waiting().place = Where::Everywhere;
        }
        *turn = Turn { served, ended: Some(Instant::now()), verdict: verdict.clone() };
        verdict
    }

    fn come(&self, place: Where) -> u64 {
        let mut waiting = self.waiting();
        waiting.came += 1;
        let before = std::mem::replace(&mut waiting.place, Where::Everywhere);
        waiting.place = before.and(place);
        waiting.came
    }

    fn take(&self) -> (u64, Where) {
        let mut waiting = self.waiting();
        let place = std::mem::replace(&mut waiting.place, Where::In(BTreeSet::new()));
        (waiting.came, place)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Where {
        Where::of(PathBuf::from(name))
    }

    #[tokio::test]
    async fn who_waits_during_a_run_shares_the_next_one() {
        let line = Line::default();
        let runs = Mutex::new(Vec::new());
        let run = |place: Where| {
            runs.lock().unwrap().push(place);
            async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Verdict::Done
            }
        };
        let later = |name: &'static str| async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            line.serve(place(name), run).await
        };
        tokio::join!(line.serve(place("a"), run), later("b"), later("c"), later("d"));
        let together = place("b").and(place("c")).and(place("d"));
        assert_eq!(*runs.lock().unwrap(), [Where::Everywhere, together]);
    }

    #[tokio::test]
    async fn after_a_failure_everything_is_looked_at() {
        let line = Line::default();
        let failed = Verdict::Bury { reason: "x".into() };
        assert_eq!(line.serve(place("a"), async |_| Verdict::Done).await, Verdict::Done);
        assert_eq!(line.serve(place("b"), async |_| failed.clone()).await, failed);
        let seen = Mutex::new(None);
        line.serve(place("c"), async |place| {
            *seen.lock().unwrap() = Some(place);
            Verdict::Done
        })
        .await;
        assert_eq!(*seen.lock().unwrap(), Some(Where::Everywhere));
    }
}
