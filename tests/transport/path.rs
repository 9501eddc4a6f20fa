//! A job's whole way: source over HTTPS, results over rsync through TLS, with cuts in the middle of both.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;

use crate::fleet::{self, Ca, free_port, write};
use crate::harness::{Ask, BINARY, Process, Root, record, srpm};
use reimzul::queue::State;

#[tokio::test(flavor = "multi_thread")]
async fn a_build_reaches_the_store_though_both_ways_are_cut() {
    let (root, ca) = (Root::new(), Ca::new("Fleet CA"));
    let work = root.join("hosts");
    // The bstore's root, whose bstore/ is the module.
    let store = Root::new();
    write(&work, "ca.pem", &ca.pem());
    write(&work, "server.pem", &ca.sign("server", "127.0.0.1", (-1, 365)));
    root.write("client.pem", &ca.sign("builder-1", "builder-1", (-1, 365)));
    let (https, plain, secured) = (free_port(), free_port(), free_port());
    let _nginx = fleet::nginx(&work, &root.join("incoming"), https);
    let _rsyncd = fleet::rsyncd(&work, &store.join("bstore"), plain);
    let _stunnel = fleet::stunnel(&work, secured, plain);
    let (down, downs) = fleet::cutter(https, 5000, true, 1);
    let (up, ups) = fleet::cutter(secured, 3500, false, 1);
    root.write(
        "reimzul.ini",
        &format!(
            "[worker]\nengine = null\nretry_delay = 0\n\
             [sources]\nurl = https://127.0.0.1:{down}/reimzul-incoming/\n\
             [bstore]\nupload = rsyncs://127.0.0.1:{up}/reimzul-bstore\n\
             [tls]\nca_cert = hosts/ca.pem\ntls_cert = client.pem\n"
        ),
    );
    let site = root.site();
    let worker = root.start(&["worker", "notifier"]);
    let submitted = site.submit(&srpm("cut", 1)).await;
    let result = site.result(&submitted).await;
    assert_eq!(result.event.status.as_str(), "Success", "{:?}", result.event.failure);
    worker.stop();

    let place = format!("bstore/repo/{}", submitted.path);
    let built = record(&store.join(&place));
    assert!(built.results.iter().all(|rpm| store.join(&place).join(&rpm.file).exists()));
    assert!(downs.load(Ordering::SeqCst) <= 0 && ups.load(Ordering::SeqCst) <= 0, "nothing was cut");
    assert_eq!(store.files("bstore/upload"), Vec::<String>::new());
    assert_eq!(root.files("results"), Vec::<String>::new());
}

/// By a process of its own: a child that another test begins meanwhile would hold a file of ours open for writing, and such
/// a program cannot be run (execve(2), ETXTBSY).
fn copy_program(to: &Path) {
    assert!(Command::new("cp").arg(BINARY).arg(to).status().unwrap().success());
}

/// An upgrade replaces the program under those that run; rsync still has to find it.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_program_was_replaced_goes_on_uploading() {
    let (root, ca, store) = (Root::new(), Ca::new("Fleet CA"), Root::new());
    let work = root.join("hosts");
    write(&work, "ca.pem", &ca.pem());
    write(&work, "server.pem", &ca.sign("server", "127.0.0.1", (-1, 365)));
    root.write("client.pem", &ca.sign("builder-1", "builder-1", (-1, 365)));
    let (plain, secured) = (free_port(), free_port());
    let _rsyncd = fleet::rsyncd(&work, &store.join("bstore"), plain);
    let _stunnel = fleet::stunnel(&work, secured, plain);
    root.write(
        "reimzul.ini",
        &format!(
            "[worker]\nengine = null\nretry_delay = 0\n[bstore]\nupload = rsyncs://127.0.0.1:{secured}/reimzul-bstore\n\
             [tls]\nca_cert = hosts/ca.pem\ntls_cert = client.pem\n"
        ),
    );
    let (program, new) = (root.join("reimzul"), root.join("reimzul.new"));
    copy_program(&program);
    let mut command = Command::new(&program);
    let usual = root.command(&["run", "worker", "notifier"]);
    command.args(usual.get_args());
    for (name, value) in usual.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut worker = Process::start(command);
    worker.until_it_says("running");
    copy_program(&new);
    std::fs::rename(&new, &program).unwrap();

    let site = root.site();
    let submitted = site.submit(&srpm("upgraded", 1)).await;
    let result = site.result(&submitted).await;
    assert_eq!(result.event.status.as_str(), "Success", "{:?}", result.event.failure);
    worker.stop();
    assert!(store.join(format!("bstore/repo/{}/build.json", submitted.path)).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_did_not_take_is_kept_and_sent_later() {
    let (root, store) = (Root::new(), Root::new());
    let work = root.join("hosts");
    std::fs::create_dir_all(&work).unwrap();
    let port = free_port();
    let _rsyncd = fleet::rsyncd(&work, &store.join("bstore"), port);
    // The daemon reads its configuration for each connection.
    let writable = root.read("hosts/rsyncd.conf");
    write(&work, "rsyncd.conf", &writable.replace("read only = no", "read only = yes"));
    let text = "[worker]\nengine = null\nretry_delay = 1\ntries = 100\n[bstore]\nupload = rsync://127.0.0.1";
    root.write("reimzul.ini", &format!("{text}:{port}/reimzul-bstore\n"));
    let site = root.site();
    let mut worker = root.start(&["worker", "notifier"]);
    let submitted = site.submit(&srpm("kept", 1)).await;
    worker.until_it_says("the module is read only");
    worker.until_it_says("was built before; its results are sent");
    write(&work, "rsyncd.conf", &writable);
    let result = site.result(&submitted).await;
    assert_eq!(result.event.status.as_str(), "Success", "{:?}", result.event.failure);
    worker.stop();
    let place = store.join(format!("bstore/repo/{}", submitted.path));
    assert!(record(&place).attempt.ends_with("-1"));
    assert_eq!(root.files("results"), Vec::<String>::new());
}

/// An outage is nobody's failure: it uses up no try.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_waited_for_before_a_build() {
    let (root, store) = (Root::new(), Root::new());
    let work = root.join("hosts");
    let port = free_port();
    let upload = format!("[bstore]\nupload = rsync://127.0.0.1:{port}/reimzul-bstore\n");
    root.write("reimzul.ini", &format!("[worker]\nengine = null\nretry_delay = 1\ntries = 1\n{upload}"));
    let site = root.site();
    let mut worker = root.start(&["worker", "notifier"]);
    let submitted = site.submit(&srpm("away", 1)).await;
    worker.until_it_says("the connection failed");
    let _rsyncd = fleet::rsyncd(&work, &store.join("bstore"), port);
    let result = site.result(&submitted).await;
    assert_eq!(result.event.status.as_str(), "Success", "{:?}", result.event.failure);
    worker.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_when_a_build_ends_is_waited_for() {
    let (root, store) = (Root::new(), Root::new());
    let work = root.join("hosts");
    let port = free_port();
    let _rsyncd = fleet::rsyncd(&work, &store.join("bstore"), port);
    // More often than one commit tries.
    let (up, ups) = fleet::cutter(port, 2500, false, 6);
    let upload = format!("[bstore]\nupload = rsync://127.0.0.1:{up}/reimzul-bstore\n");
    root.write("reimzul.ini", &format!("[worker]\nengine = null\ntries = 1\n{upload}"));
    let site = root.site();
    let mut worker = root.start(&["worker", "notifier"]);
    let submitted = site.submit(&srpm("waits", 1)).await;
    worker.until_it_says("built; waiting for the bstore");
    let result = site.result(&submitted).await;
    assert_eq!(result.event.status.as_str(), "Success", "{:?}", result.event.failure);
    worker.stop();
    assert!(ups.load(Ordering::SeqCst) <= 0, "it was cut too seldom");
    assert!(record(&store.join(format!("bstore/repo/{}", submitted.path))).attempt.ends_with("-1"));
}

/// A file system of so many bytes, gone with the value.
struct Small(std::path::PathBuf);

impl Small {
    fn at(path: &std::path::Path, size: &str) -> Small {
        std::fs::create_dir_all(path).unwrap();
        let nothing = None::<&str>;
        let options = format!("size={size}");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(nothing, path, Some("tmpfs"), flags, Some(options.as_str())).unwrap();
        Small(path.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_publishes_nothing_and_what_was_built_is_sent_when_there_is_room() {
    let (root, store) = (Root::new(), Root::new());
    let work = root.join("hosts");
    let disk = Small::at(&store.join("bstore"), "256k");
    std::fs::write(disk.0.join("full"), vec![0; 252 << 10]).unwrap();
    let port = free_port();
    let _rsyncd = fleet::rsyncd(&work, &disk.0, port);
    let upload = format!("[bstore]\nupload = rsync://127.0.0.1:{port}/reimzul-bstore\n");
    root.write("reimzul.ini", &format!("[worker]\nengine = null\nretry_delay = 0\ntries = 2\n{upload}"));
    let site = root.site();
    let worker = root.start(&["worker", "notifier"]);
    let submitted = site.submit(&srpm("full", 1)).await;
    let result = site.result(&submitted).await;
    let failure = result.event.failure.expect("it cannot have been a success");
    assert!(failure.to_string().contains("the bstore's disk is full; make room there"), "{failure}");
    assert!(!store.join(format!("bstore/repo/{}/build.json", submitted.path)).exists());

    std::fs::remove_file(disk.0.join("full")).unwrap();
    crate::harness::eventually("it is put aside", async || {
        site.queue.list(None).await.unwrap().iter().any(|job| job.state == State::Buried).then_some(())
    })
    .await;
    root.run(&["kick", &submitted.path.to_string()]).ok();
    let place = store.join(format!("bstore/repo/{}", submitted.path));
    crate::harness::eventually("it is sent", async || place.join("build.json").exists().then_some(())).await;
    assert!(record(&place).attempt.contains('-'));
    worker.stop();
    assert_eq!(store.files("bstore/upload"), Vec::<String>::new());
}
