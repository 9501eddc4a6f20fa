//! A thread for what must go on whatever else the process does: leases are kept alive here, and connections that
//! carry them are served.
//!
//! A task that computes, or reads a large file, blocks its thread of the main runtime, and all of them at once may
//! be blocked. Nothing that runs here blocks.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle};

/// The runtime of that thread, which lives as long as the process.
pub fn runtime() -> &'static Handle {
    static STEADY: LazyLock<Handle> = LazyLock::new(|| {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        let handle = runtime.handle().clone();
        std::thread::Builder::new()
            .name("steady".into())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .expect("a thread can be made");
        handle
    });
    &STEADY
}
