//! A connection to beanstalkd: a task that owns the stream, writes commands and reads their answers in order.
//!
//! It runs on the steady thread, so that a renewed lease does not wait for whatever else the process does. It
//! ends when nobody holds the [`Link`] any more, when who has asked something does not wait for the answer, or
//! when the stream breaks; in each case the connection is closed, and the server hands back what was reserved on it.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::protocol::{Answer, Command, read_answer};
use super::server::Health;
use crate::sys::steady;

/// Why a connection is of no more use.
#[derive(Debug, Clone)]
pub struct Broken(pub String);

/// The way to a connection's task.
#[derive(Debug)]
pub struct Link {
    calls: mpsc::Sender<Call>,
    /// Cancelled when the connection is.
    pub gone: CancellationToken,
}

/// Commands that are written at once, and where their answers are wanted.
#[derive(Debug)]
struct Call {
    commands: Vec<Command>,
    patience: Duration,
    answers: oneshot::Sender<Result<Vec<Answer>, Broken>>,
}

impl Link {
    pub fn start<S>(stream: S, health: Arc<Health>) -> Link
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (calls, waiting) = mpsc::channel(64);
        let gone = CancellationToken::new();
        let over = gone.clone().drop_guard();
        steady::runtime().spawn(async move {
            let broken = serve(stream, waiting, &health).await;
            // Leases are lost before anybody can know by other means.
            drop(over);
            if let Some(Broken(reason)) = broken {
                health.is_down(&reason);
            }
        });
        Link { calls, gone }
    }

    pub fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// The answers to `commands`, in their order, if all of them come within `patience`. Where the future is
    /// dropped, the connection ends.
    pub async fn call(&self, commands: Vec<Command>, patience: Duration) -> Result<Vec<Answer>, Broken> {
        let closed = || Broken("it closed the connection".into());
        let (answers, answered) = oneshot::channel();
        self.calls.send(Call { commands, patience, answers }).await.map_err(|_| closed())?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }
}

/// Until nobody wants the connection any more, or until it breaks.
async fn serve<S>(stream: S, mut calls: mpsc::Receiver<Call>, health: &Health) -> Option<Broken>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (from, mut to) = tokio::io::split(stream);
    let mut from = BufReader::new(from);
    loop {
        let Call { commands, patience, mut answers } = tokio::select! {
            call = calls.recv() => call?,
            // The server says nothing unasked: this is its end.
            end = from.fill_buf() => return Some(Broken(match end {
                Err(error) => health.reason(&error),
                Ok([]) => "it closed the connection".into(),
                Ok(_) => "it spoke without being asked".into(),
            })),
        };
        let done = tokio::select! {
            done = tokio::time::timeout(patience, converse(&mut from, &mut to, &commands)) => done,
            // Whoever asked went away, and may have been given a job.
            () = answers.closed() => return None,
        };
        let done = match done {
            Ok(done) => done.map_err(|error| Broken(health.reason(&error))),
            Err(_) => Err(Broken(format!("no answer within {} s", patience.as_secs()))),
        };
        match done {
            Ok(all) => {
                health.is_up();
                let confused =
                    all.iter().find_map(|answer| answer.as_ref().err().filter(|no| no.is_confusion()));
                let broken = confused.map(|refusal| Broken(format!("it {refusal}")));
                let _ = answers.send(Ok(all));
                if broken.is_some() {
                    return broken;
                }
            }
            Err(broken) => {
                let _ = answers.send(Err(broken.clone()));
                return Some(broken);
            }
        }
    }
}

/// Reads while it writes: a server that cannot get rid of its answers reads no commands.
async fn converse(
    from: &mut (impl tokio::io::AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    commands: &[Command],
) -> std::io::Result<Vec<Answer>> {
    let mut bytes = Vec::new();
    for command in commands {
        command.encode(&mut bytes);
    }
    let write = async {
        to.write_all(&bytes).await?;
        to.flush().await
    };
    let read = async {
        let mut answers = Vec::with_capacity(commands.len());
        for _ in commands {
            answers.push(read_answer(from).await?);
        }
        Ok(answers)
    };
    tokio::try_join!(write, read).map(|((), answers)| answers)
}
