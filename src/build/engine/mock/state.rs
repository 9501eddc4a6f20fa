//! mock's `state.log`: what it began and finished, and when.
//!
//! Lines are `2026-11-24 00:14:05,894 - Start: chroot init` (mock's logging.ini, `formatter_state`; mock(1)).

use std::collections::BTreeMap;

use jiff::civil::DateTime;

/// What mock calls its phases, by how their names begin, and what we do.
const PHASES: [(&str, &str); 4] = [
    ("chroot init", "base"),
    ("build setup for ", "builddep"),
    ("rpmbuild ", "rpmbuild"),
    ("clean chroot", "clean"),
];

/// Seconds per phase, as far as the log has both its ends. mock 3 opens the log only after it has begun the first one:
/// what has no beginning began with the log.
pub fn durations(log: &str) -> BTreeMap<String, f64> {
    let mut begun: BTreeMap<&str, DateTime> = BTreeMap::new();
    let (mut opened, mut durations) = (None, BTreeMap::new());
    for (time, said) in log.lines().filter_map(|line| line.split_once(" - ")) {
        let Ok(time) = time.replace(',', ".").parse::<DateTime>() else { continue };
        let opened = *opened.get_or_insert(time);
        if let Some(what) = said.strip_prefix("Start: ") {
            begun.insert(what, time);
        } else if let Some((what, phase)) = said.strip_prefix("Finish: ").and_then(known) {
            let start = begun.remove(what).unwrap_or(opened);
            // The clock may have been set back meanwhile.
            let seconds = time.duration_since(start).as_secs_f64().max(0.0);
            *durations.entry(phase.to_owned()).or_default() += seconds;
        }
    }
    durations
}

fn known(what: &str) -> Option<(&str, &'static str)> {
    PHASES.iter().find(|(start, _)| what.starts_with(start)).map(|(_, phase)| (what, *phase))
}

/// Whether the spec's sections were begun: what fails then is the package's own.
pub fn began_rpmbuild(log: &str) -> bool {
    log.contains(" - Start: rpmbuild ")
}

/// The version of the mock that wrote the log.
pub fn version(log: &str) -> Option<&str> {
    log.lines().find_map(|line| line.split_once(" - Mock Version: ")).map(|(_, version)| version.trim())
}

/// The innermost thing that was begun and not finished.
pub fn unfinished(log: &str) -> Option<&str> {
    let mut open: Vec<&str> = Vec::new();
    for (_, said) in log.lines().filter_map(|line| line.split_once(" - ")) {
        if let Some(what) = said.strip_prefix("Start: ") {
            open.push(what);
        } else if let Some(what) = said.strip_prefix("Finish: ") {
            open.retain(|begun| *begun != what);
        }
    }
    open.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-11-24 00:14:05,892 - Mock Version: 6.7
2026-11-24 00:14:05,894 - Start: chroot init
2026-11-24 00:14:08,560 - Start: creating root cache
2026-11-24 00:14:16,833 - Finish: creating root cache
2026-11-24 00:14:16,834 - Finish: chroot init
2026-11-24 00:14:16,853 - Start: build setup for hello-c-1-1.x.src.rpm
2026-11-24 00:14:17,329 - Finish: build setup for hello-c-1-1.x.src.rpm
2026-11-24 00:14:17,329 - Start: rpmbuild hello-c-1-1.x.src.rpm
2026-11-24 00:14:17,330 - Start: Outputting list of installed packages
";

    #[test]
    fn phases_last_from_start_to_finish() {
        let durations = durations(LOG);
        assert_eq!(durations.keys().collect::<Vec<_>>(), ["base", "builddep"]);
        assert!((durations["base"] - 10.94).abs() < 1e-6, "{durations:?}");
        assert!((durations["builddep"] - 0.476).abs() < 1e-6, "{durations:?}");
    }

    #[test]
    fn a_phase_that_began_before_the_log_is_not_lost() {
        let log =
            "2026-11-24 00:00:01,000 - Mock Version: 3.5\n2026-11-24 00:00:03,500 - Finish: chroot init\n";
        assert!((durations(log)["base"] - 2.5).abs() < 1e-6);
    }

    #[test]
    fn a_log_tells_its_version_and_what_was_going_on() {
        assert_eq!(version(LOG), Some("6.7"));
        assert!(began_rpmbuild(LOG));
        assert_eq!(unfinished(LOG), Some("Outputting list of installed packages"));
        assert_eq!((version(""), unfinished("no log\n - \n")), (None, None));
    }

    #[test]
    fn a_log_that_is_none_gives_nothing() {
        assert!(durations("Start: x\n99-99-99 - Start: chroot init\n1 - Finish: chroot init\n").is_empty());
    }
}
