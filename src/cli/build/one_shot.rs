//! The builds of one `reimzul build`: in order, each against what those before it have made.

use std::collections::VecDeque;
use std::time::Duration;

use super::order::Ordered;
use crate::cli::Failure;
use crate::cli::watch::{self, Board, Watched};
use crate::model::Class;
use crate::queue::{CREATEREPO, State};
use crate::role::Site;
use crate::shutdown::Shutdown;
use crate::submit::{self, Accepted};

/// One run of the command.
pub struct OneShot<'a> {
    site: &'a Site,
    stop: &'a Shutdown,
    pub board: Board,
    pub builds: Vec<Watched>,
}

impl<'a> OneShot<'a> {
    pub fn new(site: &'a Site, stop: &'a Shutdown, silent: bool) -> OneShot<'a> {
        OneShot { site, stop, board: Board::new(silent), builds: Vec::new() }
    }

    /// Queues as many at a time as there are slots, each only once what it needs of the others is built and in
    /// the repository. What lacked a BuildRequires is built again once more has succeeded than then.
    pub async fn build_all(&mut self, packages: Vec<Ordered>) -> Result<(), Failure> {
        let mut waiting: VecDeque<(Ordered, Option<usize>)> =
            packages.into_iter().map(|package| (package, None)).collect();
        let mut running: Vec<(Ordered, usize)> = Vec::new();
        let mut lacking: Vec<(Ordered, usize, usize)> = Vec::new();
        loop {
            while running.len() < self.site.config.slots && !self.stop.is_stopping() {
                let Some(next) = next(&waiting, &running) else { break };
                let Some((package, place)) = waiting.remove(next) else { break };
                self.repository_is_current().await?;
                let index = self.enqueue(&package.accepted, place).await?;
                running.push((package, index));
            }
            if running.is_empty() || self.stop.is_stopping() {
                return Ok(());
            }
            tokio::time::sleep(watch::LOOK).await;
            self.board.look(self.site, &mut self.builds).await?;
            let is_done = |(_, index): &mut (_, usize)| self.builds[*index].is_over();
            let done: Vec<_> = running.extract_if(.., is_done).collect();
            let successes = self.builds.iter().filter(|build| build.succeeded()).count();
            let lacks = done.into_iter().filter(|(_, index)| self.lacks_something(*index));
            lacking.extend(lacks.map(|(package, index)| (package, index, successes)));
            if waiting.is_empty() {
                let again = lacking.extract_if(.., |(_, _, then)| *then < successes);
                waiting.extend(again.map(|(package, index, _)| (package, Some(index))));
            }
        }
    }

    /// Queues a build, in the place of a former try at it if there was one.
    async fn enqueue(&mut self, package: &Accepted, place: Option<usize>) -> Result<usize, Failure> {
        let submitted = submit::enqueue(&self.site.queue, &self.site.stamps, package).await?;
        let watched = Watched::new(&submitted, self.site.config.scratch_in_repo);
        if let Some(index) = place {
            self.builds[index] = watched;
            return Ok(index);
        }
        self.builds.push(watched);
        Ok(self.builds.len() - 1)
    }

    /// Waits until no metadata is asked for: then what was built can be build-required.
    async fn repository_is_current(&self) -> Result<(), Failure> {
        while !self.stop.is_stopping() {
            let requests = self.site.queue.list(Some(CREATEREPO)).await?;
            if requests.iter().all(|request| request.state == State::Buried) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn lacks_something(&self, index: usize) -> bool {
        let outcome = self.builds[index].outcome.as_ref();
        let failure = outcome.and_then(|document| document.event.failure.as_ref());
        failure.is_some_and(|failure| failure.class == Class::Buildroot)
    }
}

/// The first package that waits for none of the others; any, where all that are left wait for each other.
fn next(waiting: &VecDeque<(Ordered, Option<usize>)>, running: &[(Ordered, usize)]) -> Option<usize> {
    let open = waiting.iter().map(|(package, _)| package).chain(running.iter().map(|(package, _)| package));
    let open: Vec<&Ordered> = open.collect();
    let is_free =
        |(package, _): &(Ordered, _)| !open.iter().any(|other| package.needs.contains(&other.number));
    let circle = (running.is_empty() && !waiting.is_empty()).then_some(0);
    waiting.iter().position(is_free).or(circle)
}
