//! The overlay engine, with real builds in real chroots of the mini distribution (`examples/mini-distro`).

#[path = "overlay/harness.rs"]
mod harness;

use harness::Site;

#[tokio::test]
async fn a_small_c_package_builds() {
    let site = Site::shared().await;
    let built =
        site.build(&site.srpm("hello-c", harness::HELLO_C, &[("hello.c", harness::HELLO_SOURCE)])).await;
    println!("{built:#?}");
    built.succeeded();
}
