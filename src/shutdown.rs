//! How roles are stopped: gently, then at once. Below everything that runs for long.

use std::io::IsTerminal;

use tokio_util::sync::CancellationToken;

/// Tells roles to stop: first gently, then at once.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    stop: CancellationToken,
    kill: CancellationToken,
}

impl Shutdown {
    /// No new jobs; those held are finished, or handed back.
    pub fn request(&self) {
        self.stop.cancel();
    }

    /// Children are killed and jobs handed back.
    pub fn force(&self) {
        self.stop.cancel();
        self.kill.cancel();
    }

    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Cancelled when no new job may be taken.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Cancelled when running builds must end.
    pub fn kill(&self) -> &CancellationToken {
        &self.kill
    }

    /// SIGTERM or SIGINT stops; a second one kills. A spawned task waits for them as long as the runtime lives.
    /// SIGHUP is a terminal that is gone, which stops, too; to a service it is logrotate, which rotates a log that is
    /// opened anew for each line: nothing is to be done.
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let has_terminal = std::io::stderr().is_terminal();
        let shutdown = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = term.recv() => {}
                    _ = int.recv() => {}
                    _ = hangup.recv() => if !has_terminal {
                        tracing::info!("SIGHUP: the next event begins a log file that was moved away anew");
                        continue;
                    }
                }
                if shutdown.is_stopping() {
                    tracing::warn!("stopping at once: running builds are killed and handed back");
                    shutdown.force();
                } else {
                    tracing::info!(
                        "stopping: taking no more jobs, finishing those at hand (again to kill them)"
                    );
                    shutdown.request();
                }
            }
        });
        Ok(())
    }
}
