//! No test: prints what builds cost. `cargo test --release --test overlay -- --ignored --nocapture measure`

use crate::harness::{HELLO_C, HELLO_SOURCE, Site};

#[tokio::test]
#[ignore = "measures"]
async fn measure() {
    let site = Site::own("measure");
    let plain = site.srpm("hello-c", HELLO_C, &[("hello.c", HELLO_SOURCE)]);
    let with_dnf = HELLO_C.replace("BuildRequires: gcc", "BuildRequires: gcc, zlib-devel");
    let with_dnf = site.srpm("hello-zlib", &with_dnf, &[("hello.c", HELLO_SOURCE)]);
    println!("cold, base and all: {:.3} s", site.build(&plain).await.seconds);
    for (what, srpm) in [("BuildRequires in the base", &plain), ("one package installed by dnf", &with_dnf)] {
        let mut times = Vec::new();
        for _ in 0..11 {
            let built = site.build(srpm).await;
            built.succeeded();
            println!("    {:.3} s {:?}", built.seconds, built.outcome.durations);
            times.push(built.seconds);
        }
        times.sort_by(f64::total_cmp);
        println!("warm, {what}: median {:.3} s, best {:.3} s", times[5], times[0]);
    }
}
