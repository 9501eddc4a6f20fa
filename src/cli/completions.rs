//! `reimzul completions`: what a shell needs to complete our command line, and the answers to it.
//!
//! The script asks this program at each Tab, by the environment variable `REIMZUL_COMPLETE`, so that it also
//! knows targets and builds.

use std::path::PathBuf;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::CompletionCandidate;
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Zsh};

use super::{Arguments, Done, exit, ui};
use crate::config::Config;
use crate::model::{Arch, Layout};
use crate::role::Site;

const VARIABLE: &str = "REIMZUL_COMPLETE";

/// Print the completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
They know commands, options, statuses, arches, and the targets and builds of the
site. `make install` puts them where shells look for them.

Examples:
  source <(reimzul completions bash)
  reimzul completions bash > /etc/bash_completion.d/reimzul
  reimzul completions zsh > /usr/local/share/zsh/site-functions/_reimzul
  reimzul completions fish > ~/.config/fish/completions/reimzul.fish")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

/// Where zsh loads the script from its `fpath`, that is at the first Tab, which is to be answered too
/// (zshcompsys(1), "Autoloaded files").
const ZSH_FROM_FPATH: &[u8] = b"
if [[ $funcstack[1] == _reimzul ]]; then
    _clap_dynamic_completer_reimzul \"$@\"
fi
";

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    pub fn run(&self) -> Done {
        let shell: &dyn EnvCompleter = match self.shell {
            Shell::Bash => &Bash,
            Shell::Zsh => &Zsh,
            Shell::Fish => &Fish,
        };
        let mut script = Vec::new();
        shell.write_registration(VARIABLE, "reimzul", "reimzul", "reimzul", &mut script)?;
        if let Shell::Zsh = self.shell {
            script.extend_from_slice(ZSH_FROM_FPATH);
        }
        ui::bytes_out(&script);
        Ok(exit::OK)
    }
}

/// Answers a shell's question, if it is one that called us.
pub fn answer() {
    CompleteEnv::with_factory(Arguments::command).var(VARIABLE).complete();
}

pub fn arches() -> Vec<CompletionCandidate> {
    Arch::ALL.iter().map(|arch| CompletionCandidate::new(arch.as_str())).collect()
}

pub fn statuses() -> Vec<CompletionCandidate> {
    let stored = crate::model::Status::ALL.iter().map(|status| status.as_str());
    std::iter::once("Waiting").chain(stored).map(CompletionCandidate::new).collect()
}

/// With their arches, as `query` takes them.
pub fn targets() -> Vec<CompletionCandidate> {
    let mut found = target_names();
    found.sort();
    found.dedup();
    found.into_iter().map(CompletionCandidate::new).collect()
}

/// Without, as `submit` takes them.
pub fn bare_targets() -> Vec<CompletionCandidate> {
    let bare = |name: String| name.rsplit_once('.').map(|(target, _)| target.to_owned());
    let mut found: Vec<String> = target_names().into_iter().filter_map(bare).collect();
    found.sort();
    found.dedup();
    found.into_iter().map(CompletionCandidate::new).collect()
}

/// Those with a target file, and those with a repository.
fn target_names() -> Vec<String> {
    let Some(layout) = layout() else { return Vec::new() };
    let names = |folder: PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok())
    };
    let files = names(layout.targets()).filter_map(|name| name.strip_suffix(".repo").map(str::to_owned));
    files.chain(names(layout.root().join("bstore/repo"))).collect()
}

/// The newest hundred builds, by package and time: enough to name one, and short.
pub fn builds() -> Vec<CompletionCandidate> {
    let find = crate::history::Find { all: true, limit: 200, ..crate::history::Find::default() };
    let documents = ask(async |site: Site| site.history.find(find).await.ok()).unwrap_or_default();
    let mut seen = std::collections::HashSet::new();
    documents
        .into_iter()
        .map(|document| document.event)
        .filter(|event| seen.insert(event.path()))
        .take(100)
        .map(|event| {
            let name = format!("{}/{}", event.pkgname, event.timestamp);
            CompletionCandidate::new(name)
                .help(Some(format!("{} {}", event.path().label(), event.status).into()))
        })
        .collect()
}

/// Jobs that can be kicked or dropped.
pub fn idle_jobs() -> Vec<CompletionCandidate> {
    let entries = ask(async |site: Site| site.queue.list(None).await.ok()).unwrap_or_default();
    let idle = entries.into_iter().filter(|entry| entry.state != crate::queue::State::Reserved);
    idle.take(100).map(|entry| CompletionCandidate::new(entry.id.to_string())).collect()
}

/// Asks the site, if there is one: a Tab makes no folders.
fn ask<T>(question: impl AsyncFnOnce(Site) -> Option<T>) -> Option<T> {
    let config = config()?;
    config.layout.database().exists().then_some(())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async { question(Site::open(config).ok()?).await })
}

fn layout() -> Option<Layout> {
    config().map(|config| config.layout)
}

/// Of the command line that is being typed: it stands after the `--` among our own arguments.
fn config() -> Option<Config> {
    let typed: Vec<String> = std::env::args().collect();
    let option = |name: &str, variable: &str| {
        let at = typed.iter().position(|word| word == name);
        let value = at.and_then(|at| typed.get(at + 1)).map(PathBuf::from);
        value.or_else(|| std::env::var_os(variable).map(PathBuf::from))
    };
    let (file, root) = (option("--config", "REIMZUL_CONFIG"), option("--root", "REIMZUL_ROOT"));
    Config::load(file.as_deref(), root.as_deref()).ok()
}
