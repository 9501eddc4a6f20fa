//! Roles in the process of a bench, and waiting until they are through.
//!
//! A bench that uses it declares it beside the harness: `#[path = "common/roles.rs"] mod roles;`.

// Each bench uses a part of it.
#![allow(dead_code)]

use std::time::{Duration, Instant};

use reimzul::queue::{GiveUp, Queue};
use reimzul::role::{Role, Site};
use reimzul::shutdown::Shutdown;
use tokio_util::sync::CancellationToken;

/// Roles in this process.
pub struct Roles {
    running: tokio::task::JoinHandle<()>,
    shutdown: Shutdown,
}

impl Roles {
    pub fn start(site: &Site, roles: &'static [Role]) -> Roles {
        let shutdown = Shutdown::default();
        let (site, stop) = (site.clone(), shutdown.clone());
        let run = async move { site.run_all(roles, &stop).await.expect("no role ends unasked") };
        Roles { running: tokio::spawn(run), shutdown }
    }

    pub async fn stop(self) {
        self.shutdown.request();
        self.running.await.expect("roles end well");
    }
}

/// Reserves and deletes, one after the other, until the tube is empty. Says how many.
pub async fn consume(queue: Queue, tube: &'static str) -> usize {
    let (tubes, never) = ([tube.to_owned()], CancellationToken::new());
    let mut handled = 0;
    while let Some((_, lease)) =
        queue.reserve(&tubes, 1, Duration::ZERO, &never).await.expect("a queue").pop()
    {
        // A bench may do what else only the consumer does.
        queue.give_up(&lease, GiveUp::Delete).await.expect("a lease");
        handled += 1;
    }
    handled
}

/// Waiting for tubes to run empty.
pub trait Quiet {
    async fn quiet_in(&self, tubes: &[&str]);
}

impl Quiet for Site {
    async fn quiet_in(&self, tubes: &[&str]) {
        let begun = Instant::now();
        loop {
            let stats = self.queue.stats().await.expect("a queue");
            let busy = |tube: &str| {
                stats
                    .iter()
                    .any(|stats| stats.tube == tube && stats.ready + stats.reserved + stats.delayed > 0)
            };
            if !tubes.iter().any(|tube| busy(tube))
                && (!tubes.contains(&"notify") || self.outbox.waiting().await.expect("an outbox").is_empty())
            {
                return;
            }
            // Looking costs the queue something, so who waits long looks less often.
            let soon = begun.elapsed() / 50;
            tokio::time::sleep(soon.clamp(Duration::from_millis(1), Duration::from_millis(20))).await;
        }
    }
}
