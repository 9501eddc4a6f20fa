//! The command line: one file per command.

mod after;
mod build;
mod called;
mod certificate;
mod check_config;
mod completions;
mod connect;
mod init;
mod kick;
mod login;
mod logs;
mod man;
mod named;
mod protect;
mod prune;
mod query;
mod repogen;
mod request;
mod run;
mod settle;
mod sign;
mod stats;
mod submit;
mod ui;
mod watch;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError};
use crate::model::text::plain_lines;
use crate::role::{Site, SiteError};
use crate::sys::service;

/// What every command ends with. Documented in `reimzul --help`.
pub mod exit {
    pub const OK: u8 = 0;
    /// A build failed, or what it made cannot be installed.
    pub const FAILED: u8 = 1;
    /// The command line, or what it names, is wrong. Nothing was done.
    pub const USAGE: u8 = 2;
    /// The configuration is wrong.
    pub const CONFIG: u8 = 3;
    /// The queue, the history, the file system or the broker cannot be used, or what there is to say not be printed.
    pub const SYSTEM: u8 = 4;
    /// A request was sent, and what became of it is not known.
    pub const UNCONFIRMED: u8 = 5;
    /// Ended by Ctrl-C or SIGTERM.
    pub const STOPPED: u8 = 130;
}

const AFTER_HELP: &str = "\
Exit codes:
  0    all went well
  1    a build failed, or what it made cannot be installed
  2    the command line, or what it names, is wrong; nothing was done
  3    the configuration is wrong
  4    the queue, the history, the file system or the broker cannot be used
  5    a request was sent, and what became of it is not known
  130  ended by Ctrl-C

Environment:
  REIMZUL_ROOT    as --root
  REIMZUL_CONFIG  as --config
  REIMZUL_LOG     what is logged: error, warn, info, debug or trace
  NO_COLOR        if it is not empty: no colours

Examples:
  reimzul --root ~/farm build hello.spec -t mini
  reimzul run all --slots 4
  reimzul submit -s bash-5.2-1.src.rpm -a x86_64 -t c9 -d .el9 --wait
  reimzul query -s Failed
  reimzul why bash";

/// A build system for RPM distributions: source RPMs in, repositories out.
#[derive(Debug, Parser)]
#[command(
    name = "reimzul",
    version,
    max_term_width = 80,
    after_help = AFTER_HELP,
    arg_required_else_help = true
)]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command has.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options of every command")]
struct Global {
    /// Everything lives below this folder [default: $REIMZUL_ROOT, the
    /// configuration's, or /srv/reimzul]
    #[arg(long, global = true, value_name = "DIR", env = "REIMZUL_ROOT", hide_env = true)]
    root: Option<PathBuf>,
    /// The configuration file [default: $REIMZUL_CONFIG, DIR/reimzul.ini with --root, or
    /// /etc/reimzul/reimzul.ini]
    #[arg(long, global = true, value_name = "FILE", env = "REIMZUL_CONFIG", hide_env = true)]
    config: Option<PathBuf>,
    /// Print JSON, for scripts
    #[arg(long, global = true)]
    json: bool,
    /// Print results and errors only: no progress, no hints
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more on stderr (twice: everything)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Colours: always, never, or auto: on terminals unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", hide_possible_values = true)]
    color: ui::Colours,
}

/// Each says what it does where it is defined.
#[derive(Debug, Subcommand)]
enum Command {
    Build(build::Build),
    Submit(submit::Submit),
    Request(request::Request),
    Run(run::Run),
    Query(query::Query),
    Why(why::Why),
    Logs(logs::Logs),
    Stats(stats::Stats),
    Kick(kick::Kick),
    Drop(kick::Drop),
    #[command(name = "override")]
    Override(settle::Settle),
    Repogen(repogen::Repogen),
    Sign(sign::Sign),
    Prune(prune::Prune),
    Protect(protect::Protect),
    CheckConfig(check_config::CheckConfig),
    #[command(hide = true)]
    Connect(connect::Connect),
    Init(init::Init),
    Certificate(certificate::Certificate),
    Completions(completions::Completions),
    Man(man::Man),
}

/// What ends a command before it has done its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Limits(#[from] crate::build::limits::Unenforceable),
    #[error("{0}")]
    System(String),
    /// What there was to say has been said.
    #[error("")]
    Said(u8),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Failure::Usage(_) => exit::USAGE,
            Failure::Config(_) | Failure::Limits(_) => exit::CONFIG,
            Failure::System(_) => exit::SYSTEM,
            Failure::Said(code) => *code,
        }
    }
}

/// Errors of the engines are the system's, not the user's.
macro_rules! system_errors {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::System(error.to_string())
            }
        })*
    };
}
system_errors!(
    SiteError,
    crate::queue::QueueError,
    crate::repo::prune::PruneError,
    crate::role::EndedUnasked,
    crate::sys::sqlite::DatabaseError,
    crate::sys::fs::FileError,
    std::io::Error
);

impl From<crate::history::HistoryError> for Failure {
    fn from(error: crate::history::HistoryError) -> Failure {
        match error {
            crate::history::HistoryError::NothingToOverride { .. } => Failure::Usage(error.to_string()),
            _ => Failure::System(error.to_string()),
        }
    }
}

impl From<crate::init::ca::CaError> for Failure {
    fn from(error: crate::init::ca::CaError) -> Failure {
        match error {
            crate::init::ca::CaError::File(_) => Failure::System(error.to_string()),
            _ => Failure::Usage(error.to_string()),
        }
    }
}

impl From<crate::submit::SubmitError> for Failure {
    fn from(error: crate::submit::SubmitError) -> Failure {
        let said = error.to_string();
        if error.is_ours() { Failure::System(said) } else { Failure::Usage(said) }
    }
}

/// A command's result: its exit code, or why there is none.
type Done = Result<u8, Failure>;

/// Parses the command line, does what it says, and reports.
pub fn main() -> ExitCode {
    completions::answer();
    let arguments = called::arguments(std::env::args_os());
    let arguments = Arguments::try_parse_from(arguments).unwrap_or_else(|said| end_with(&said));
    let global = &arguments.global;
    ui::talk(global.quiet, global.color, global.root_as_typed().as_deref());
    log_to_stderr(&arguments);
    if !matches!(arguments.command, Command::Run(_) | Command::Build(_)) {
        end_quietly_with_the_pipe();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(Err(Failure::System(format!("cannot start: {error}")))),
    };
    let done = runtime.block_on(dispatch(arguments));
    // A blocking call that still runs holds nothing that matters.
    runtime.shutdown_background();
    end(done.and_then(all_printed))
}

/// Says what went wrong, if anything did.
fn end(done: Done) -> ExitCode {
    match done {
        Ok(code) => code.into(),
        Err(failure) => {
            // It may name what others have named.
            let said = plain_lines(&failure.to_string());
            if !said.is_empty() {
                ui::tell!("{} {said}", console::Style::new().red().bold().for_stderr().apply_to("reimzul:"));
            }
            failure.code().into()
        }
    }
}

/// Prints the help that was asked for, or what is wrong with the command line.
fn end_with(said: &clap::Error) -> ! {
    let code = match said.print() {
        Err(error) if said.exit_code() == 0 && error.kind() != std::io::ErrorKind::BrokenPipe => {
            ui::tell!("reimzul: {}", not_printed(&error));
            exit::SYSTEM.into()
        }
        _ => said.exit_code(),
    };
    std::process::exit(code)
}

fn not_printed(error: &std::io::Error) -> String {
    format!("cannot write to the standard output: {error}")
}

/// A result that nobody got is none.
fn all_printed(code: u8) -> Done {
    match ui::lost() {
        None => Ok(code),
        Some(error) => Err(Failure::System(not_printed(error))),
    }
}

impl Global {
    /// The root, if it was named on the command line and not by the environment, which hints need not repeat.
    fn root_as_typed(&self) -> Option<PathBuf> {
        self.root.clone().filter(|root| std::env::var_os("REIMZUL_ROOT").as_deref() != Some(root.as_os_str()))
    }
}

/// `reimzul query | head -1` ends as other programs do, and not with a panic. What builds must live on.
fn end_quietly_with_the_pipe() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: the default action runs no code of ours. It fails for no signal that exists.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}

async fn dispatch(arguments: Arguments) -> Done {
    let global = arguments.global;
    match &arguments.command {
        Command::Init(command) => return command.run(global.json),
        Command::Certificate(command) => return command.run(global.json),
        Command::Completions(command) => return command.run(),
        Command::Man(command) => return command.run(),
        // Who asks from afar has no site.
        Command::Request(command) => return command.run(global.config.as_deref(), global.json).await,
        _ => {}
    }
    let config = Config::load(global.config.as_deref(), global.root.as_deref())?;
    match arguments.command {
        Command::CheckConfig(command) => command.run(&config, global.json).await,
        Command::Connect(command) => command.run(&config).await,
        Command::Build(command) => command.run(config, global.json).await,
        Command::Run(command) => command.run(config).await,
        Command::Submit(command) => command.run(config, global.json).await,
        Command::Query(command) => command.run(&existing(config)?, global.json).await,
        Command::Logs(command) => command.run(&existing(config)?, global.json).await,
        Command::Stats(command) => command.run(&existing(config)?, global.json).await,
        Command::Why(command) => command.run(&existing(config)?, global.json).await,
        Command::Kick(command) => command.run(&existing(config)?, global.json).await,
        Command::Drop(command) => command.run(&existing(config)?, global.json).await,
        Command::Override(command) => command.run(&existing(config)?, global.json).await,
        Command::Repogen(command) => command.run(&existing(config)?, global.json).await,
        Command::Sign(command) => command.run(&existing(config)?, global.json).await,
        Command::Prune(command) => Box::pin(command.run(&existing(config)?, global.json)).await,
        Command::Protect(command) => command.run(&existing(config)?, global.json).await,
        Command::Init(_)
        | Command::Certificate(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Request(_) => {
            unreachable!("they need no site, and were run")
        }
    }
}

/// The site of commands that only ask or tell: a mistyped root is not made, and not taken for an empty one.
fn existing(config: Config) -> Result<Site, Failure> {
    let layout = &config.layout;
    if !layout.database().exists() && config.file.is_none() {
        let root = layout.root().display();
        return Err(Failure::Usage(format!(
            "no Reimzul root at {root}: give the right one with --root, or make it one with \
             `reimzul --root {root} run all`"
        )));
    }
    Ok(Site::open(config)?)
}

/// Roles log what they do; other commands only what is wrong, since their output says the rest. Where stderr is
/// systemd's journal, it is given more than lines: priorities, and fields of events.
fn log_to_stderr(arguments: &Arguments) {
    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::prelude::*;
    let is_role = matches!(arguments.command, Command::Run(_));
    let level = match (arguments.global.verbose, is_role) {
        _ if arguments.global.quiet => "error",
        (0, false) => "error",
        (0, true) | (1, false) => "info",
        (1, true) | (2.., _) => "debug",
    };
    let filter = EnvFilter::try_from_env("REIMZUL_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let journal = service::has_journal().then(|| tracing_journald::layer().ok()).flatten();
    let journal = journal.map(|journal| journal.with_field_prefix(None));
    let lines = journal.is_none().then(|| {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_target(false)
            .with_ansi(console::colors_enabled_stderr())
    });
    tracing_subscriber::registry().with(filter).with(journal).with(lines).init();
}
