//! The mounts of a sandbox, made in its own mount namespace.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Bind, Layers, Plan, View};

/// A mount that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source}", path.display())]
pub struct MountError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn at<E: Into<io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> MountError {
    let path = path.to_owned();
    move |source| MountError { what, path, source: source.into() }
}

type Made = Result<(), MountError>;
const NONE: Option<&str> = None;

/// Makes every mount of the plan.
pub fn make(plan: &Plan) -> Made {
    // unshare(1) does this too; a mount that reached the host would stay there.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .map_err(at("make private", Path::new("/")))?;
    match &plan.layers {
        Some(layers) => overlay(layers, &plan.at)?,
        None => bind(&plan.at, &plan.at, false)?,
    }
    proc(&plan.at.join("proc"))?;
    dev(&plan.at.join("dev"))?;
    for Bind { from, to, read_only } in &plan.binds {
        let place = plan.at.join(to.strip_prefix("/").unwrap_or(to));
        make_place(from, &place)?;
        bind(from, &place, *read_only)?;
    }
    if plan.view == View::Host {
        proc(Path::new("/proc"))?;
    }
    Ok(())
}

/// Makes the folder at `at` this process's root, and lets go of the old one.
pub fn enter(at_path: &Path) -> Made {
    std::env::set_current_dir(at_path).map_err(at("enter", at_path))?;
    // Old and new root at the same place: the old one lies on top, and is what `.` unmounts.
    nix::unistd::pivot_root(".", ".").map_err(at("make the root", at_path))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(at("leave the host's root for", at_path))?;
    std::env::set_current_dir("/").map_err(at("enter", at_path))
}

fn overlay(layers: &Layers, on: &Path) -> Made {
    // A volatile overlay refuses a work folder that another one has used.
    let renewed = match fs::remove_dir_all(&layers.work) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => fs::create_dir(&layers.work),
    };
    renewed.map_err(at("empty", &layers.work))?;
    let places = format!(
        "lowerdir={},upperdir={},workdir={}",
        escape(&layers.lower),
        escape(&layers.upper),
        escape(&layers.work)
    );
    let user = if in_user_namespace() { ",userxattr" } else { "" };
    // `volatile`: nothing is synced, for a build root that outlives a power failure is of no use. Linux 5.10.
    let tried = [format!("{places}{user},volatile"), format!("{places}{user}")];
    let mut last = Ok(());
    for options in &tried {
        last = mount(Some("overlay"), on, Some("overlay"), MsFlags::empty(), Some(options.as_str()));
        if last != Err(nix::Error::EINVAL) {
            break;
        }
    }
    last.map_err(at("mount an overlay on", on))
}

/// Overlay's option syntax gives a meaning to these.
fn escape(path: &Path) -> String {
    let mut text = String::new();
    for c in path.to_string_lossy().chars() {
        if matches!(c, '\\' | ':' | ',') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// Whether ids are mapped, which an ordinary user's sandbox begins with.
pub fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

fn proc(place: &Path) -> Made {
    fs::create_dir_all(place).map_err(at("make", place))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), place, Some("proc"), flags, NONE).map_err(at("mount proc on", place))
}

/// A /dev with what programs expect and no device of the machine.
fn dev(dev: &Path) -> Made {
    fs::create_dir_all(dev).map_err(at("make", dev))?;
    let flags = MsFlags::MS_NOSUID;
    mount(Some("tmpfs"), dev, Some("tmpfs"), flags, Some("mode=755")).map_err(at("mount tmpfs on", dev))?;
    for device in ["null", "zero", "full", "random", "urandom", "tty"] {
        // Bound rather than made: mknod(2) is not for user namespaces.
        let place = dev.join(device);
        fs::File::create(&place).map_err(at("make", &place))?;
        bind(&Path::new("/dev").join(device), &place, false)?;
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
        ("ptmx", "pts/ptmx"),
    ];
    for (name, target) in links {
        symlink(target, dev.join(name)).map_err(at("link", &dev.join(name)))?;
    }
    let shm = dev.join("shm");
    fs::DirBuilder::new().mode(0o755).create(&shm).map_err(at("make", &shm))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), &shm, Some("tmpfs"), flags, Some("mode=1777"))
        .map_err(at("mount tmpfs on", &shm))?;
    pts(&dev.join("pts"))
}

fn pts(place: &Path) -> Made {
    fs::create_dir(place).map_err(at("make", place))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let mount_with = |options: &str| mount(Some("devpts"), place, Some("devpts"), flags, Some(options));
    // Group 5 is `tty` on every distribution.
    mount_with("newinstance,ptmxmode=0666,mode=0620,gid=5")
        .or_else(|_| mount_with("newinstance,ptmxmode=0666,mode=0620"))
        .map_err(at("mount devpts on", place))
}

/// A place to bind on: a folder for a folder, a file for a file.
fn make_place(from: &Path, place: &Path) -> Made {
    if from.is_dir() {
        return fs::create_dir_all(place).map_err(at("make", place));
    }
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent).map_err(at("make", parent))?;
    }
    fs::File::create(place).map(drop).map_err(at("make", place))
}

fn bind(from: &Path, to: &Path, read_only: bool) -> Made {
    let made = mount(Some(from), to, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE);
    made.map_err(at("bind", from))?;
    if read_only {
        // Locked flags of the original mount must be repeated in a user namespace: nosuid and nodev hurt nobody.
        let flags = MsFlags::MS_BIND
            | MsFlags::MS_REMOUNT
            | MsFlags::MS_RDONLY
            | MsFlags::MS_NOSUID
            | MsFlags::MS_NODEV;
        mount(NONE, to, NONE, flags, NONE).map_err(at("make read-only", to))?;
    }
    Ok(())
}
