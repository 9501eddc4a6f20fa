//! Events in systemd's journal, with fields to look for: `journalctl REIMZUL_STATUS=Failed`.

use crate::model::Event;
use crate::model::text::plain;

/// What all of these entries have in common (sd-id128(7), systemd.journal-fields(7)).
const MESSAGE_ID: &str = "c0e1f8b8f2a44c5b9d8a6a7f3f0f5e21";

/// Writes the event, through the subscriber that `has_journal` stands for.
pub fn write(event: &Event) {
    let failure = event.failure.as_ref();
    tracing::info!(
        MESSAGE_ID,
        REIMZUL_BUILD = %event.path(),
        REIMZUL_BUILD_ID = event.build_id.as_ref().map(tracing::field::display),
        REIMZUL_PACKAGE = %event.pkgname,
        REIMZUL_SRPM = %event.srpm,
        REIMZUL_TARGET = %event.target,
        REIMZUL_ARCH = %event.arch,
        REIMZUL_STATUS = %event.status,
        REIMZUL_SCRATCH = event.scratch,
        REIMZUL_SUBMITTER = %plain(&event.submitter.to_string()),
        REIMZUL_BUILDER = %plain(&event.builder_fqdn),
        REIMZUL_FAILURE = failure.map(|failure| tracing::field::display(failure.class)),
        "{} {}",
        event.status,
        event.path()
    );
}
