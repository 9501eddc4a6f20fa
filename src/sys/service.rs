//! Tells the service manager how a service stands (sd_notify(3)). Without one, nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

/// How often a service shows that it lives, where the manager asks for it less often or not at all.
const BEAT: Duration = Duration::from_secs(5);

/// It is up, and does this.
pub fn ready(what: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(what)]);
}

/// It takes no more jobs, and waits for this.
pub fn stopping(what: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(what)]);
}

/// It lives. To be told every [`beat`], or the manager starts it anew (`WatchdogSec=` of systemd.service(5)).
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

pub fn beat() -> Duration {
    sd_notify::watchdog_enabled().map_or(BEAT, |limit| (limit / 3).min(BEAT))
}

/// Whether stderr is systemd's journal (`$JOURNAL_STREAM` of systemd.exec(5)), not something that a child of a
/// service was given instead.
pub fn has_journal() -> bool {
    let Some(named) = std::env::var_os("JOURNAL_STREAM") else { return false };
    let own = nix::sys::stat::fstat(std::io::stderr());
    own.is_ok_and(|own| named.to_str() == Some(&format!("{}:{}", own.st_dev, own.st_ino)))
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("the service manager cannot be told how this service stands: {error}");
    }
}
