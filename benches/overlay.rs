//! What real builds cost: the overlay engine end to end, cold and warm, against plain `rpmbuild` on the host.
//!
//! The host's rpmbuild is the limit: it builds in place, in no chroot, and checks nothing afterwards. Runs of both
//! alternate, so that a machine whose speed drifts is fair to both; the median of each is printed, and the ratio.

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use common::builds::{build, engine_seconds, install_target, one_file, pack, repository, run};
use common::median;

fn main() {
    let work = tempfile::tempdir().expect("a temporary folder");
    let root = work.path().join("root");
    install_target(&root, "x86_64");
    let with_dnf = one_file(work.path(), "onedep", "gcc, zlib-devel");
    let one_file = one_file(work.path(), "onefile", "gcc");
    let hello = pack(work.path(), &repository().join("examples/packages/hello/hello.spec"));

    println!("{:<34} {:>9} {:>9} {:>9} {:>9}", "seconds, median", "command", "engine", "rpmbuild", "ratio");
    measure("one C file, cold (makes the base)", &root, work.path(), &one_file, 1);
    measure("one C file, warm", &root, work.path(), &one_file, 7);
    measure("the same, zlib-devel by dnf, warm", &root, work.path(), &with_dnf, 5);
    measure("GNU hello with its checks, warm", &root, work.path(), &hello, 3);
    std::fs::remove_dir_all(root.join("cache")).expect("the cache goes");
    measure("GNU hello with its checks, cold", &root, work.path(), &hello, 1);
    println!(
        "\ncommand: `reimzul build SRPM`, from its start to its exit, with metadata, history, staging and the"
    );
    println!(
        "         trial installation. engine: its own time, as build.json tells it. rpmbuild: `rpmbuild"
    );
    println!("         --rebuild` on the host. ratio: engine / rpmbuild.");
}

fn measure(what: &str, root: &Path, work: &Path, srpm: &Path, runs: usize) {
    let (mut command, mut engine, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let begun = Instant::now();
        let built = build(root, &["-t", "mini"], &[srpm.to_owned()]);
        command.push(begun.elapsed().as_secs_f64());
        engine.push(built.iter().map(engine_seconds).sum());
        let begun = Instant::now();
        rebuild(work, srpm);
        plain.push(begun.elapsed().as_secs_f64());
    }
    let (command, engine, plain) = (median(command), median(engine), median(plain));
    println!("{what:<34} {command:>9.2} {engine:>9.2} {plain:>9.2} {:>9.2}", engine / plain);
}

fn rebuild(work: &Path, srpm: &Path) {
    let top = work.join("host");
    let _ = std::fs::remove_dir_all(&top);
    run(Command::new("rpmbuild")
        .arg("--rebuild")
        .args(["--nodeps", "--define"])
        .arg(format!("_topdir {}", top.display()))
        .arg(srpm));
}
