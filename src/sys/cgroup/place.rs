//! Where groups can be made: read from proc(5)'s `mountinfo` and `cgroup`.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::{CgroupError, Controller, LEAF, Version, at};

/// A folder below which groups with a controller are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub version: Version,
    pub folder: PathBuf,
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    version: Version,
    /// The group that is the mount's top.
    root: PathBuf,
    point: PathBuf,
    /// Version 1: controllers among other options.
    options: Vec<String>,
}

/// The mounted hierarchies, from a `mountinfo`.
pub fn mounts(mountinfo: &str) -> Vec<Mount> {
    mountinfo.lines().filter_map(mount).collect()
}

/// `32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu`; before the dash come optional fields.
fn mount(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, point) = (unescape(left.next()?), unescape(left.next()?));
    let mut right = right.split(' ');
    let version = match right.next()? {
        "cgroup" => Version::V1,
        "cgroup2" => Version::V2,
        _ => return None,
    };
    let options = right.nth(1).unwrap_or_default().split(',').map(str::to_owned).collect();
    Some(Mount { version, root, point, options })
}

/// Blanks and backslashes are octal in there: `\040`.
fn unescape(text: &str) -> PathBuf {
    let mut path = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        path.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(code.map_or('\\', char::from));
        rest = &rest[at + if code.is_some() { 4 } else { 1 }..];
    }
    path.push_str(rest);
    path.into()
}

/// A process's group in a hierarchy: its controllers (none: version 2) and its path.
pub type Membership = (Vec<String>, PathBuf);

/// `4:memory:/a/b`, and `0::/a/b` for version 2.
pub fn memberships(cgroup: &str) -> Vec<Membership> {
    let membership = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
        Some((controllers.collect(), PathBuf::from(fields.next()?)))
    };
    cgroup.lines().filter_map(membership).collect()
}

/// The place for a controller's groups; or why there is none, in a clause.
pub fn find(controller: Controller, mounts: &[Mount], own: &[Membership]) -> Result<Place, String> {
    let name = controller.as_str();
    let v1 = mounts.iter().filter(|mount| mount.version == Version::V1);
    let v1: Vec<&Mount> = v1.filter(|mount| mount.options.iter().any(|option| option == name)).collect();
    if !v1.is_empty() {
        let (_, path) = own
            .iter()
            .find(|(controllers, _)| controllers.iter().any(|other| other == name))
            .ok_or_else(|| format!("/proc/self/cgroup does not tell our cgroup for {name}"))?;
        let folder = below(&v1, path)?;
        writable(&folder)?;
        return Ok(Place { version: Version::V1, folder });
    }
    let v2: Vec<&Mount> = mounts.iter().filter(|mount| mount.version == Version::V2).collect();
    if v2.is_empty() {
        return Err(format!("no cgroup file system with the controller {name} is mounted"));
    }
    let (_, path) = own
        .iter()
        .find(|(controllers, _)| controllers.is_empty())
        .ok_or("/proc/self/cgroup does not tell our cgroup")?;
    let mut folder = below(&v2, path)?;
    if folder.ends_with(LEAF) {
        folder.pop();
    }
    // Time is counted in every group, without a controller.
    let offers = |list: &str| list.split_whitespace().any(|offered| offered == name);
    if controller != Controller::Cpuacct
        && !offers(&std::fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default())
    {
        return Err(format!("our cgroup {} does not have the controller {name}", folder.display()));
    }
    writable(&folder)?;
    let tops: Vec<&Path> = v2.iter().map(|mount| mount.point.as_path()).collect();
    if let Some(unit) = undelegated_unit(&folder, &tops) {
        return Err(format!(
            "our cgroup belongs to systemd's {unit}, which is not delegated: set Delegate=yes in the unit, or start \
             it by systemd-run --scope -p Delegate=yes"
        ));
    }
    Ok(Place { version: Version::V2, folder })
}

/// Where a group is in the file system.
fn below(mounts: &[&Mount], group: &Path) -> Result<PathBuf, String> {
    let found = mounts.iter().find_map(|mount| Some(mount.point.join(group.strip_prefix(&mount.root).ok()?)));
    let found = found.filter(|folder| !folder.components().any(|part| part.as_os_str() == ".."));
    found.ok_or_else(|| format!("our cgroup {} is in no mounted cgroup file system", group.display()))
}

fn writable(folder: &Path) -> Result<(), String> {
    access(folder, AccessFlags::W_OK)
        .map_err(|error| format!("no cgroup can be made in {}: {}", folder.display(), error.desc()))
}

/// The systemd unit that `folder` belongs to, if systemd has not let go of what is below it: it takes controllers
/// away again there when it sees fit. systemd's CGROUP_DELEGATION.md; the attribute is from systemd.exec's sources.
fn undelegated_unit(folder: &Path, tops: &[&Path]) -> Option<String> {
    let unit = folder.ancestors().take_while(|part| !tops.contains(part)).find(|part| {
        let end = part.extension().unwrap_or_default();
        ["service", "scope", "slice"].iter().any(|kind| end == *kind)
    })?;
    let delegated = ["user.delegate", "trusted.delegate"].iter().any(|name| attribute_is_1(unit, name));
    (!delegated).then(|| unit.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

fn attribute_is_1(path: &Path, name: &str) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let (Ok(path), Ok(name)) = (CString::new(path.as_os_str().as_bytes()), CString::new(name)) else {
        return false;
    };
    let mut value = [0_u8; 2];
    // SAFETY: both names end in NUL, and the kernel writes at most as many bytes as it is told there are.
    let length =
        unsafe { nix::libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    length == 1 && value[0] == b'1'
}

/// Turns controllers on for the groups below `folder` (version 2). Only the hierarchy's own top may have processes
/// beside such groups, so those of any other are moved into a group below.
pub fn enable(folder: &Path, controllers: &[&str]) -> Result<(), CgroupError> {
    let control = folder.join("cgroup.subtree_control");
    let on = std::fs::read_to_string(&control).map_err(at("read", &control))?;
    let missing: Vec<String> = controllers
        .iter()
        .filter(|name| !on.split_whitespace().any(|other| other == **name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    // Which is not there at the hierarchy's own top.
    if folder.join("cgroup.type").exists() {
        empty(folder)?;
    }
    std::fs::write(&control, missing.join(" ")).map_err(at("turn controllers on in", &control))
}

/// What is started while processes are moved is seen the next time round.
const ROUNDS: usize = 10;

fn empty(folder: &Path) -> Result<(), CgroupError> {
    let leaf = folder.join(LEAF);
    match std::fs::create_dir(&leaf) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(at("make the cgroup", &leaf)(error));
        }
        _ => {}
    }
    let (from, to) = (folder.join("cgroup.procs"), leaf.join("cgroup.procs"));
    for _ in 0..ROUNDS {
        let processes = std::fs::read_to_string(&from).map_err(at("read", &from))?;
        if processes.is_empty() {
            break;
        }
        for process in processes.lines() {
            match std::fs::write(&to, process) {
                // It has ended.
                Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => {}
                other => other.map_err(at("move processes to", &leaf))?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
