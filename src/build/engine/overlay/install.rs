//! Whether what was built can be installed: dnf resolves it on the target's base and tries the transaction,
//! without carrying it out.

use tokio_util::sync::CancellationToken;

use super::dnf::{Call, Dnf, disk};
use super::place::{self, BuildFolder};
use super::work::Work;
use super::{Overlay, base};
use crate::model::{Arch, Failure, Target};
use crate::sys::sandbox::Layers;

/// See [`Overlay::check_install`].
pub async fn check_install(
    overlay: &Overlay,
    target: &Target,
    arch: Arch,
    packages: &[String],
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    let dnf = overlay.dnf(target, arch)?;
    let folder = dnf.place.new_build().await.map_err(|error| disk(&error))?;
    let work = Work::within(base::MAKING, cancel);
    let base = base::acquire(&dnf, &folder.path("root.log"), &folder.path("state.log"), &work).await?;
    let mut tried = try_install(&dnf, &base, &folder, packages, &work).await;
    if tried.is_err() && packages.len() > 1 {
        // Two packages may exclude one another and both be fine.
        for package in packages {
            tried = try_install(&dnf, &base, &folder, std::slice::from_ref(package), &work).await;
            if tried.is_err() {
                break;
            }
        }
    }
    place::clear_away(folder, &dnf);
    tried
}

async fn try_install(
    dnf: &Dnf,
    base: &base::Base,
    folder: &BuildFolder,
    packages: &[String],
    work: &Work<'_>,
) -> Result<(), Failure> {
    let call = Call {
        verb: [&["install".to_owned(), "--setopt=tsflags=test".to_owned()], packages].concat(),
        at: folder.path("root"),
        layers: Some(Layers { lower: base.root(), upper: folder.path("upper"), work: folder.path("work") }),
        log: &folder.path("install.log"),
        label: String::new(),
        state_log: None,
        scratch: &folder.path(""),
        package_list: None,
        dry: false,
        furnish: false,
    };
    dnf.run(&call, work).await.map(drop).map_err(|failure| Failure { phase: "install".into(), ..failure })
}
