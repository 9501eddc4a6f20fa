//! A repogen's signs of life: they tell how much room is left where the repositories are, and what these leave out.

use std::time::Duration;

use super::targets;
use crate::metadata::{Excluded, excluded};
use crate::model::builder::{INTERVAL, LeftOut};
use crate::model::{Arch, Builder, Layout, Limits, Size};
use crate::queue::{CREATEREPO, Queue, WAITING};
use crate::shutdown::Shutdown;
use crate::sys::process::node_name;
use crate::sys::{fs, machine};

/// How soon somebody who has only just begun to listen hears of it.
const LOOK: Duration = Duration::from_secs(1);

/// Gives signs until told to stop. Whose repogen has ended is not heard of any more.
pub async fn give_signs(layout: &Layout, queue: &Queue, shutdown: &Shutdown) {
    let mut next = Duration::ZERO;
    while !shutdown.is_stopping() {
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = shutdown.stop().cancelled() => break,
        }
        next = match queue.give_sign(&sign(layout)).await {
            Ok(true) => Duration::from_secs(INTERVAL.unsigned_abs()),
            // Who is not heard is missed in time.
            Ok(false) | Err(_) => LOOK,
        };
    }
}

fn sign(layout: &Layout) -> Builder {
    let bstore = layout.bstore();
    let there = bstore.ancestors().find(|path| path.exists());
    Builder {
        builder: node_name(),
        worker: format!("{}.repogen-{}", machine::id(), std::process::id()),
        machine: machine::id(),
        arch: Arch::of_this_machine().unwrap_or(Arch::Noarch),
        tubes: [CREATEREPO, WAITING].map(str::to_owned).to_vec(),
        slots: 0,
        running: Vec::new(),
        load: fs::load(),
        free: Size(there.and_then(fs::free_bytes).unwrap_or_default()),
        min_free: Size(0),
        limits: Limits::default(),
        takes_jobs: true,
        why_not: None,
        stopped: false,
        left_out: left_out(layout),
        time: jiff::Timestamp::now().as_second(),
    }
}

/// Bytes of names and reasons: a sign must fit into a job, however they are escaped.
const ROOM: usize = 8 << 10;

fn left_out(layout: &Layout) -> Vec<LeftOut> {
    let mut room = ROOM;
    let mut fits = |one: &Excluded| {
        let needed = one.file.as_os_str().len() + one.reason.len();
        room = room.saturating_sub(needed);
        room > 0
    };
    let all = targets(&layout.bstore().join("repo")).into_iter().map(|target| {
        let files = excluded::read(&layout.metadata_cache(&target));
        LeftOut { target, count: files.len(), files: files.into_iter().take_while(&mut fits).collect() }
    });
    all.filter(|left_out| left_out.count > 0).collect()
}
