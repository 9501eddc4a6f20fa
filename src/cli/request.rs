//! `reimzul request`: asks a controller from afar, by MQTT, to build a package from git.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::{Value, json};

use super::watch::Board;
use super::{Done, Failure, completions, exit, ui};
use crate::config::Broker;
use crate::model::text::plain;
use crate::model::{Arch, Event, Status, request};
use crate::remote::request::{Client, Sent, State};
use crate::remote::signature::Signer;

/// Ask a controller, by MQTT, to build a package from git
#[derive(Debug, Args)]
#[command(override_usage = "reimzul request [OPTIONS] -p PKG -b BRANCH -a ARCH[,ARCH] -t TARGET")]
#[command(after_help = "\
Reads ~/.reimzul.ini (or --config FILE): section [mqtt] with host, port, topic,
ca_cert, tls_cert, tls_key and tls_insecure. Requests are signed with that
certificate. It says 'sent' when the broker has them, then what the controller
answers: the builds' paths, or why there will be none. A controller of the old
system never answers: after --timeout that is 'sent, unconfirmed'.

The exit code is 0 if all were sent and none was refused, 2 if one was refused.
With --wait it is the builds': 0 built, 1 failed; 5 if nobody has answered.
Ctrl-C stops waiting, and the builds go on.

Examples:
  reimzul request -p bash -b c9 -a x86_64 -t c9
  reimzul request -p bash -b c9 -r 1a2b3c4 -a x86_64,aarch64 -t c9 --wait
  reimzul request -p hello -b try -a x86_64 -t c9 -d .el9 --scratch")]
pub struct Request {
    /// The package, as its git repository is called
    #[arg(short, long, value_name = "PKG")]
    package: String,
    /// The branch to build
    #[arg(short, long)]
    branch: String,
    /// A commit or tag in that branch [default: its newest commit]
    #[arg(short, long, value_name = "REF", default_value = "HEAD", hide_default_value = true)]
    r#ref: String,
    /// The arches to build for
    #[arg(short, long, required = true, value_delimiter = ',', add = ArgValueCandidates::new(completions::arches))]
    arch: Vec<String>,
    /// The target to build against and into, without arch
    #[arg(short, long)]
    target: String,
    /// The value of %dist, such as .el9 [default: told from the branch]
    #[arg(short, long, value_name = "DISTTAG", default_value = "", hide_default_value = true)]
    disttag: String,
    /// Where the lookaside has the sources [default: the branch]
    #[arg(short, long, value_name = "SOURCESDIR", default_value = "", hide_default_value = true)]
    sources: String,
    /// Only try it: into no repository, not signed
    #[arg(long)]
    scratch: bool,
    /// Be mailed of the scratch build's result, where the site does that
    #[arg(long, requires = "scratch")]
    mail: bool,
    /// Wait for the results
    #[arg(long)]
    wait: bool,
    /// How many seconds to wait for the broker, and for an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

impl Request {
    pub async fn run(&self, file: Option<&Path>, as_json: bool) -> Done {
        let broker = broker(file)?;
        let signer = Signer::open(&broker.tls).map_err(|error| Failure::Usage(error.to_string()))?;
        let requests = self.requests(&signer)?;
        let patience = Duration::from_secs(self.timeout);
        let busy = Board::new(as_json).busy_if_long("sending the request");
        let sent = Client::send(&broker, &signer, &requests, patience).await;
        drop(busy);
        let mut client = sent.map_err(|why| Failure::System(format!("the request was not sent: {why}")))?;
        for sent in client.sent.iter().filter(|_| !as_json && !ui::is_quiet()) {
            ui::say!("sent {} for {}", self.package, sent.arch);
        }
        let waiting = if self.wait { "waiting for the builds" } else { "waiting for an answer" };
        let busy = Board::new(as_json).busy_if_long(waiting);
        let stopped = tokio::select! {
            () = follow(&mut client, self.wait, patience, as_json) => false,
            signal = tokio::signal::ctrl_c() => { signal?; true }
        };
        drop(busy);
        if as_json {
            let all: Vec<Value> = client.sent.iter().map(in_json).collect();
            ui::print_json(&all);
        }
        let code = if stopped {
            ui::note("stopped waiting; what was accepted is built");
            exit::STOPPED
        } else {
            code(&client.sent, self.wait)
        };
        client.close().await;
        Ok(code)
    }

    fn requests(&self, signer: &Signer) -> Result<Vec<request::Request>, Failure> {
        let usage = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
        let mut requests: Vec<request::Request> = Vec::new();
        for arch in &self.arch {
            arch.parse::<Arch>().map_err(|error| usage(&error))?;
            if requests.iter().any(|request| request.arch == *arch) {
                continue;
            }
            requests.push(request::Request {
                pkg: self.package.parse().map_err(|error| usage(&error))?,
                git_branch: self.branch.parse().map_err(|error| usage(&error))?,
                git_ref: self.r#ref.parse().map_err(|error| usage(&error))?,
                arch: arch.clone(),
                submitter: signer.submitter.clone(),
                target: self.target.parse().map_err(|error| usage(&error))?,
                disttag: self.disttag.parse().map_err(|error| usage(&error))?,
                sources_dir: self.sources.parse().map_err(|error| usage(&error))?,
                scratch: self.scratch,
                mail: self.mail,
            });
        }
        Ok(requests)
    }
}

fn broker(file: Option<&Path>) -> Result<Broker, Failure> {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into()));
    let own = home.join(".reimzul.ini");
    let file = file.unwrap_or(&own);
    if !file.exists() {
        return Err(Failure::Usage(format!(
            "no {}: write one, with the section [mqtt] that your controller's administrator gave you",
            file.display()
        )));
    }
    Ok(Broker::of_client(file, &home)?)
}

/// Says what becomes known, until all is.
async fn follow(client: &mut Client, wait: bool, patience: Duration, as_json: bool) {
    let mut told = vec![0; client.sent.len()];
    while let Some(changed) = client.next(wait, patience).await {
        if !as_json {
            tell(&client.sent[changed], &mut told[changed]);
        }
    }
}

/// `told` counts the lines about a request's builds that were printed already.
fn tell(sent: &Sent, told: &mut usize) {
    match &sent.state {
        State::Sent | State::Received => {}
        State::Refused { reason } => ui::tell!("refused for {}: {}", sent.arch, plain(reason)),
        State::Unconfirmed => ui::say!("sent, unconfirmed for {}: no controller has answered", sent.arch),
        State::Accepted { builds, outcomes } => {
            if *told == 0 && !builds.is_empty() {
                for build in builds {
                    let accepted = if ui::is_quiet() { "" } else { "accepted " };
                    ui::say!("{accepted}{}", plain(&build.build));
                }
                *told = 1;
            }
            for event in outcomes.iter().skip(told.saturating_sub(1)) {
                tell_outcome(event);
            }
            *told = (*told).max(1 + outcomes.len());
        }
    }
}

fn tell_outcome(event: &Event) {
    let path = event.path().to_string();
    match (&event.failure, event.status) {
        (_, Status::Success) => ui::say!("built {path}"),
        (Some(failure), _) => ui::failure(&path, failure, None),
        (None, _) => ui::say!("FAILED {path}"),
    }
}

fn code(sent: &[Sent], wait: bool) -> u8 {
    let any = |is: fn(&State) -> bool| sent.iter().any(|sent| is(&sent.state));
    let failed = |state: &State| match state {
        State::Accepted { outcomes, .. } => outcomes.iter().any(|event| event.status == Status::Failed),
        _ => false,
    };
    if wait && any(failed) {
        exit::FAILED
    } else if any(|state| matches!(state, State::Refused { .. })) {
        exit::USAGE
    } else if wait && any(|state| *state == State::Unconfirmed) {
        exit::UNCONFIRMED
    } else {
        exit::OK
    }
}

fn in_json(sent: &Sent) -> Value {
    let mut value = match &sent.state {
        State::Sent => json!({"state": "sent"}),
        State::Received => json!({"state": "received"}),
        State::Unconfirmed => json!({"state": "unconfirmed"}),
        State::Refused { reason } => json!({"state": "refused", "reason": reason}),
        State::Accepted { builds, outcomes } => {
            json!({"state": "accepted", "builds": builds, "outcomes": outcomes})
        }
    };
    value["arch"] = sent.arch.as_str().into();
    value["nonce"] = sent.nonce.as_str().into();
    value
}
