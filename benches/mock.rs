//! The two engines side by side, where mock is on PATH and this user may run it: the same source RPMs, built for the
//! same distribution, by turns.

mod common;

use std::path::{Path, PathBuf};

use common::Table;
use common::builds::{build, engine_seconds, install_target, one_file, pack, repository};
use reimzul::build::engine::mock::unusable;

fn main() {
    let Some(table) = Table::begin("the overlay engine and mock") else { return };
    if let Some(why) = unusable("mock".as_ref()) {
        println!("skipped, for want of a mock: {why}");
        return;
    }
    let work = tempfile::tempdir().expect("a temporary folder");
    // mock runs as another user than root, where root runs this.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(work.path(), open).expect("its mode");
    let (overlay, mock) = (work.path().join("overlay"), work.path().join("mock"));
    install_target(&overlay, "x86_64");
    // mock keeps its caches by the target's name, whatever root it belongs to.
    let target = format!("bench{}", std::process::id());
    configure_mock(&mock, &target);
    let hello = pack(work.path(), &repository().join("examples/packages/hello/hello.spec"));
    let one_file = one_file(work.path(), "onefile", "gcc");
    compare(&table, "one C file, cold", 1, [(&overlay, "mini"), (&mock, &target)], &one_file);
    compare(&table, "one C file, warm", 5, [(&overlay, "mini"), (&mock, &target)], &one_file);
    compare(&table, "GNU hello, warm", 3, [(&overlay, "mini"), (&mock, &target)], &hello);
    let _ = std::fs::remove_dir_all(Path::new("/var/cache/mock").join(format!("{target}.x86_64")));
}

/// A root folder whose builds are mock's, for the mini distribution under another name.
fn configure_mock(root: &Path, target: &str) {
    let configs = root.join("mock_configs/mock");
    std::fs::create_dir_all(&configs).expect("a folder for configurations");
    let config = configs.join(format!("{target}.x86_64.cfg"));
    std::fs::copy(repository().join("examples/mini-distro/mock.cfg"), config).expect("the configuration");
    let packages = repository().join("target/mini-distro/repo");
    let ini = format!("[worker]\nengine = mock\n[mock]\nbase_url = file://{}\n", packages.display());
    std::fs::write(root.join("reimzul.ini"), ini).expect("the root's configuration");
}

/// The engines' own times, by turns; medians.
fn compare(table: &Table, what: &str, runs: usize, sides: [(&Path, &str); 2], srpm: &PathBuf) {
    let once = |(root, target): (&Path, &str)| -> f64 {
        let built = build(root, &["-t", target, "-d", ".bench"], std::slice::from_ref(srpm));
        built.iter().map(engine_seconds).sum()
    };
    let rounds: Vec<[f64; 2]> = (0..runs).map(|_| sides.map(once)).collect();
    let median = |side: usize| common::median(rounds.iter().map(|round| round[side]).collect());
    let (overlay, mock) = (median(0), median(1));
    table.row(&format!("{what}, overlay"), &format!("{overlay:.2} s"), "");
    table.row(
        &format!("{what}, mock"),
        &format!("{mock:.2} s"),
        &format!("{:.1} times overlay's", mock / overlay),
    );
}
