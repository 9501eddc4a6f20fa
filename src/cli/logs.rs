//! `reimzul logs`: a build's log, shown or followed.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::json;

use super::named::{self, Named};
use super::{Done, Failure, completions, exit, ui, watch};
use crate::model::Layout;
use crate::model::record::{BuildRecord, FILE};
use crate::model::text::{plain, plain_lines};
use crate::role::Site;

/// Show or follow the log of a build
#[derive(Debug, Args)]
#[command(after_help = "\
With --follow it waits for a build that has not begun, goes on with the next
attempt if one is handed back, and ends with the build. Ctrl-C ends it earlier;
the build goes on.

Examples:
  reimzul logs mini.x86_64/hello
  reimzul logs -f 20261123204406
  reimzul logs hello-2.10 --log root.log
  reimzul logs hello --json | jq -r '.logs[].name'")]
pub struct Logs {
    /// The build's path, its id, or any unambiguous part of its path or package
    #[arg(add = ArgValueCandidates::new(completions::builds))]
    build: String,
    /// Go on as the log grows, until the build ends
    #[arg(short, long)]
    follow: bool,
    /// Which log, such as root.log [default: the one that tells most]
    #[arg(long, value_name = "NAME")]
    log: Option<String>,
}

impl Logs {
    pub async fn run(self, site: &Site, as_json: bool) -> Done {
        let mut named = named::find(site, &self.build).await?;
        if as_json {
            return Ok(print_json(site, &named));
        }
        if let Some(log) = &self.log {
            log.parse::<crate::model::PkgName>().map_err(|_| {
                Failure::Usage(format!("'{log}' is no log's name: give one such as root.log"))
            })?;
        }
        if named.document.is_none() && !self.follow {
            let why = ui::ours(&format!("why {}", self.build));
            ui::say!("{} waits in the queue; it has no log yet (`{why}`)", named.path);
            return Ok(exit::OK);
        }
        let mut shown = Shown::default();
        loop {
            let done = named.is_done();
            self.show_more(site, &named, &mut shown)?;
            if done || !self.follow || ui::is_over() {
                break;
            }
            tokio::time::sleep(watch::LOOK).await;
            named = named::find(site, &named.path.to_string()).await?;
        }
        shown.finish();
        if shown.file.is_none() {
            let log = self.log.as_deref().unwrap_or("build.log");
            let here = names(&named, &site.config.layout).join(", ");
            let here = if here.is_empty() { "no logs".to_owned() } else { here };
            return Err(Failure::Usage(format!("{} has no log '{log}', but {here}", named.path)));
        }
        tell_why(&named);
        Ok(exit::OK)
    }

    /// Prints what the log has that was not shown yet; the log that is shown may become another one.
    fn show_more(&self, site: &Site, named: &Named, shown: &mut Shown) -> Result<(), Failure> {
        let Some(folder) = named.folder(&site.config.layout) else { return Ok(()) };
        let attempt = attempt(&folder);
        if shown.attempt == attempt && shown.file.as_ref().is_some_and(|file| !folder.join(file).exists()) {
            // It is being removed, one log after the other: what is left does not tell more.
            return Ok(());
        }
        let name = self.log.clone().unwrap_or_else(|| telling(named, &folder));
        if shown.file.as_deref() != Some(&name) || shown.attempt != attempt {
            if shown.file.is_some() && shown.attempt != attempt {
                ui::note("--- another attempt begins ---");
            }
            let file = folder.join(&name).exists().then_some(name.clone());
            *shown = Shown { file, attempt, ..Shown::default() };
        }
        let Ok(mut file) = std::fs::File::open(folder.join(&name)) else { return Ok(()) };
        let length = file.metadata()?.len();
        if length < shown.offset {
            // Its middle was left out since we last looked, with what came since then or without.
            ui::tell!("reimzul: the log was shortened while it was followed; it goes on from here");
            shown.offset = length;
        }
        file.seek(SeekFrom::Start(shown.offset))?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            shown.offset += read as u64;
            shown.print(&buffer[..read]);
        }
    }
}

/// Says below a failed build's log which of its lines tell why; not on the output, which is the log and nothing else.
/// A failure that names no log is the whole text of the log already.
fn tell_why(named: &Named) {
    let failure = named.document.as_ref().and_then(|document| document.event.failure.as_ref());
    if let Some(failure) = failure.filter(|failure| failure.log.is_some()) {
        ui::tell!("{} failure in {}:", failure.class, plain(&failure.phase));
        for line in &failure.lines {
            ui::tell!("  {}", plain(line));
        }
    }
}

#[derive(Debug, Default)]
struct Shown {
    file: Option<String>,
    /// Each attempt has logs of its own.
    attempt: Option<String>,
    offset: u64,
    /// Of a line that has not ended yet.
    begun: Vec<u8>,
}

/// A line longer than this is shown in pieces.
const LONGEST_LINE: usize = 1 << 16;

impl Shown {
    /// Through a pipe as it is. On a terminal without what could move the cursor or change its title, since logs
    /// hold whatever a build printed; that by whole lines, so that no escape sequence is cut in two.
    fn print(&mut self, bytes: &[u8]) {
        if !console::Term::stdout().is_term() {
            return ui::bytes_out(bytes);
        }
        self.begun.extend_from_slice(bytes);
        let whole = self.begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole = if whole == 0 && self.begun.len() > LONGEST_LINE { self.begun.len() } else { whole };
        let lines: Vec<u8> = self.begun.drain(..whole).collect();
        ui::bytes_out(plain_lines(&String::from_utf8_lossy(&lines)).as_bytes());
    }

    /// Nothing follows.
    fn finish(&mut self) {
        let rest = std::mem::take(&mut self.begun);
        ui::bytes_out(plain_lines(&String::from_utf8_lossy(&rest)).as_bytes());
    }
}

/// Which attempt left what is in a folder. Its logs stay the same ones when they go into the bstore.
fn attempt(folder: &Path) -> Option<String> {
    match std::fs::read(folder.join(FILE)) {
        Ok(record) => serde_json::from_slice::<BuildRecord>(&record).ok().map(|record| record.attempt),
        Err(_) => folder.file_name().map(|name| name.to_string_lossy().into_owned()),
    }
}

/// The log that tells most: the one a failure names, else build.log as soon as it says something.
fn telling(named: &Named, folder: &Path) -> String {
    let failure = named.document.as_ref().and_then(|document| document.event.failure.as_ref());
    if let Some(failure) = failure.filter(|failure| failure.log.is_some()) {
        return failure.log_name().to_owned();
    }
    let has_text = |log: &str| folder.join(log).metadata().is_ok_and(|data| data.len() > 0);
    if has_text("build.log") || !has_text("root.log") { "build.log".into() } else { "root.log".into() }
}

/// The logs that a build has.
fn names(build: &Named, layout: &Layout) -> Vec<String> {
    let folder = build.folder(layout);
    let entries = folder.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let mut logs: Vec<String> = entries
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "log"))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    logs.sort();
    logs
}

fn print_json(site: &Site, named: &Named) -> u8 {
    let folder = named.folder(&site.config.layout);
    let bytes = |name: &str| {
        folder.as_ref().and_then(|folder| folder.join(name).metadata().ok()).map_or(0, |data| data.len())
    };
    let logs: Vec<_> = names(named, &site.config.layout)
        .into_iter()
        .map(|name| json!({"name": name, "size": bytes(&name)}))
        .collect();
    let failure = named.document.as_ref().and_then(|document| document.event.failure.clone());
    let status = named.document.as_ref().map(|document| document.event.status);
    ui::print_json(
        &json!({"build": named.path.to_string(), "status": status, "folder": folder, "logs": logs, "failure": failure}),
    );
    exit::OK
}
