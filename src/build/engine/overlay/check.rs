//! Whether this machine and user can build with the engine: for `check-config`.

use std::path::Path;

use nix::unistd::{Uid, User};
use tokio_util::sync::CancellationToken;

use super::work::{Work, run_plan};
use super::{Overlay, base, dnf};
use crate::build::engine::check::{Finding, bad, good};
use crate::sys::fs::{make_dir, remove_dir};
use crate::sys::process::on_path;
use crate::sys::sandbox::{Layers, Plan, View};

/// See [`Overlay::check`].
pub async fn check(overlay: &Overlay) -> Vec<Finding> {
    let rootless = overlay.launcher.rootless();
    let mut found = vec![good(if rootless {
        "builds are run by an ordinary user, with subordinate ids"
    } else {
        "builds are run by root, as a user of their own"
    })];
    found.extend(programs(rootless));
    if rootless {
        found.extend(["/etc/subuid", "/etc/subgid"].map(|file| subordinate_ids(Path::new(file))));
    }
    if found.iter().all(|finding| finding.ok) {
        found.push(mounts(overlay).await);
    }
    found
}

fn programs(rootless: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut need = |there: bool, what: &str, debian: &str, fedora: &str| {
        if !there {
            found.push(bad(format!("{what} is missing: install {debian} (Debian) or {fedora} (Fedora)")));
        }
    };
    need(on_path("unshare"), "the program unshare", "util-linux", "util-linux-core");
    need(on_path("rpm"), "the program rpm", "rpm", "rpm");
    need(dnf::program().is_some(), "dnf 4 (the program dnf-3)", "dnf", "python3-dnf");
    let builddep = !dnf::plugin_folders().is_empty();
    need(builddep, "dnf 4's plugin builddep", "dnf-plugins-core", "python3-dnf-plugins-core");
    if rootless {
        need(on_path("newuidmap") && on_path("newgidmap"), "the program newuidmap", "uidmap", "shadow-utils");
    }
    if found.is_empty() {
        found.push(good("all programs that the overlay engine runs are installed"));
    }
    found
}

/// The highest id that a chroot has files of, `nobody`'s, must be mapped.
const IDS: u64 = 65536;

fn subordinate_ids(file: &Path) -> Finding {
    let uid = Uid::effective();
    let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let count: u64 = text.lines().filter_map(|line| ids_of(line, &name, &uid.to_string())).sum();
    let file = file.display();
    if count >= IDS {
        good(format!("{name} has {count} subordinate ids in {file}"))
    } else {
        bad(format!(
            "{name} has {count} subordinate ids in {file} and needs {IDS}: run \
             usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name} as root"
        ))
    }
}

/// The number of ids that a line `user:first:count` gives to a user.
fn ids_of(line: &str, name: &str, uid: &str) -> Option<u64> {
    let mut fields = line.split(':');
    let user = fields.next()?;
    let count = fields.nth(1)?.trim().parse().ok()?;
    (user == name || user == uid).then_some(count)
}

/// Whether a sandbox can be made where builds will be.
async fn mounts(overlay: &Overlay) -> Finding {
    let folder = overlay.cache().join(format!("check-{}", uuid::Uuid::new_v4().simple()));
    let tried = try_mounts(overlay, &folder).await;
    let _ = super::place::remove(&overlay.launcher, &folder).await;
    let _ = remove_dir(&folder);
    let place = overlay.cache();
    match tried {
        Ok(()) => good(format!("namespaces and overlay mounts work in {}", place.display())),
        Err(why) => bad(format!(
            "no sandbox can be made in {}: {why}; the folder must be on a file system that overlayfs can write to, \
             and namespaces must be allowed",
            place.display()
        )),
    }
}

async fn try_mounts(overlay: &Overlay, folder: &Path) -> Result<(), String> {
    overlay.make_private().map_err(|failure| failure.lines.join(" "))?;
    for part in ["lower", "upper", "root"] {
        make_dir(&folder.join(part)).map_err(|error| error.to_string())?;
    }
    let plan = Plan {
        at: folder.join("root"),
        layers: Some(Layers {
            lower: folder.join("lower"),
            upper: folder.join("upper"),
            work: folder.join("work"),
        }),
        view: View::Chroot,
        binds: Vec::new(),
        copies: Vec::new(),
        files: Vec::new(),
        steps: Vec::new(),
        furnish: false,
        collect: Vec::new(),
        collect_to: None,
        state_log: None,
        report: folder.join("report.json"),
        bits32: false,
    };
    let cancel = CancellationToken::new();
    let work = Work::within(base::MAKING, &cancel);
    match run_plan(&overlay.launcher, plan, folder, &work, "check").await {
        Ok(_) => Ok(()),
        Err(failure) => Err(failure.lines.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subordinate_ids_are_counted_by_name_and_number() {
        assert_eq!(ids_of("alice:100000:65536", "alice", "1001"), Some(65536));
        assert_eq!(ids_of("1001:100000:65536", "alice", "1001"), Some(65536));
        assert_eq!(ids_of("bob:100000:65536", "alice", "1001"), None);
        assert_eq!(ids_of("", "alice", "1001"), None);
    }
}
