//! The log file, when logrotate moves it away.

use nix::sys::signal::Signal;

use crate::harness::Root;
use crate::{fields, tell, told};

#[tokio::test]
async fn a_log_that_was_moved_away_is_begun_anew_and_sighup_harms_nobody() {
    let root = Root::new();
    let (site, mut roles) = (root.site(), root.start(&["notifier"]));
    tell(&site, &fields("before", "Success")).await;
    told(&site).await;
    std::fs::rename(root.join("log/reimzul.log"), root.join("log/reimzul.log.1")).unwrap();
    roles.signal(Signal::SIGHUP);
    roles.until_it_says("SIGHUP");
    tell(&site, &fields("after", "Success")).await;
    told(&site).await;
    roles.stop();
    assert!(root.read("log/reimzul.log.1").contains("before-1-1.src.rpm"));
    let log = root.read("log/reimzul.log");
    assert!(log.contains("after-1-1.src.rpm") && !log.contains("before"), "{log}");
}
