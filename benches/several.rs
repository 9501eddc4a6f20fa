//! Several builds at once: both arches of one package, and many packages in two slots.
//!
//! On two cores the best that two builds at once can do is what they would take one after the other, divided by
//! two, for the parts of them that use one core; compilation uses both already, configure scripts do not.

mod common;

use std::path::{Path, PathBuf};
use std::time::Instant;

use common::builds::{build, engine_seconds, install_target, repository};
use common::{Table, median};

/// Quick ones of the examples; some build-require others.
const TWELVE: [&str; 12] =
    ["greet", "libgreet", "dynamic", "bc", "bzip2", "ed", "file", "gperf", "hello", "patch", "tree", "zlib"];

fn main() {
    let Some(table) = Table::begin("several builds at once") else { return };
    let work = tempfile::tempdir().expect("a temporary folder");
    both_arches(&table, work.path());
    twelve(&table, work.path());
}

/// GNU hello with its checks, for x86_64 and i386: as one job, and as two jobs, one after the other.
fn both_arches(table: &Table, work: &Path) {
    let (together, apart) = (work.join("together"), [("x86_64", work.join("x")), ("i386", work.join("i"))]);
    for (arch, root) in &apart {
        install_target(&together, arch);
        install_target(root, arch);
    }
    let hello = [spec("hello")];
    let parallel = || timed(|| drop(build(&together, &["-t", "mini"], &hello)));
    let serial = || {
        timed(|| apart.iter().for_each(|(arch, root)| drop(build(root, &["-t", "mini", "-a", arch], &hello))))
    };
    // The first round makes the base chroots.
    parallel();
    serial();
    let rounds: Vec<(f64, f64)> = (0..3).map(|_| (parallel(), serial())).collect();
    let parallel = median(rounds.iter().map(|round| round.0).collect());
    let serial = median(rounds.iter().map(|round| round.1).collect());
    table.row(
        "hello, x86_64 and i386 in parallel",
        &format!("{parallel:.1} s"),
        "one job, as a companion is built",
    );
    table.row("hello, x86_64, then i386", &format!("{serial:.1} s"), "two commands");
    table.row("ratio", &format!("{:.2}", parallel / serial), "0.5 if nothing used both cores before");
}

/// From start to exit of the command, against the engine's own times divided by the number of slots.
fn twelve(table: &Table, work: &Path) {
    let root = work.join("twelve");
    install_target(&root, "x86_64");
    let packages: Vec<PathBuf> = TWELVE.into_iter().map(spec).collect();
    let mut records = Vec::new();
    let wall = timed(|| records = build(&root, &["-t", "mini", "--slots", "2"], &packages));
    let engine: f64 = records.iter().map(engine_seconds).sum();
    table.row(
        "12 packages on 2 slots",
        &format!("{wall:.1} s"),
        "of the command, base chroot and metadata included",
    );
    table.row(
        "sum of the engine's times / 2",
        &format!("{:.1} s", engine / 2.0),
        "as their build.json tell it",
    );
    table.row("ratio", &format!("{:.2}", wall / (engine / 2.0)), "1 if both slots were always busy");
}

fn spec(name: &str) -> PathBuf {
    repository().join(format!("examples/packages/{name}/{name}.spec"))
}

fn timed(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64()
}
