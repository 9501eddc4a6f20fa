//! Whose the locks on a file are: on NFS they may be this host's alone, by its mount options (nfs(5)).

use std::path::{Path, PathBuf};

/// The mount option by which locks below `path` are nobody's but this host's; none where they are everybody's, or it
/// is not on NFS.
pub fn keeps_locks_to_itself(path: &Path) -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let path = path.ancestors().find_map(|path| path.canonicalize().ok())?;
    own_locks(&mounts, &path)
}

/// The same by the text of mountinfo (proc(5)): `ID PARENT DEVICE ROOT PLACE … - TYPE SOURCE OPTIONS`.
fn own_locks(mounts: &str, path: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let (place, system) = line.split_once(" - ")?;
        let place = PathBuf::from(place.split(' ').nth(4)?.replace("\\040", " "));
        path.starts_with(&place).then_some((place, system))
    });
    // Of two on one place the later one covers the other.
    let (_, system) = mounts.max_by_key(|(place, _)| place.components().count())?;
    let (kind, options) = (system.split(' ').next()?, system.split(' ').nth(2)?);
    let is_own = |option: &&str| ["nolock", "local_lock=all", "local_lock=flock"].contains(option);
    options.split(',').find(|option| kind.starts_with("nfs") && is_own(option)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_this_hosts_alone_where_nfs_is_mounted_so() {
        let mounts = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            40 22 0:50 / /srv/reimzul rw shared:2 - nfs4 store:/a rw,vers=4.2,local_lock=none,addr=10.0.0.1\n\
            41 22 0:51 / /srv/old\\040one rw - nfs store:/b rw,vers=3,nolock,local_lock=all\n\
            42 40 0:52 / /srv/reimzul/bstore rw - nfs store:/c rw,vers=3,local_lock=flock\n\
            43 22 0:53 / /srv/strange rw - tmpfs tmpfs rw,nolock\n";
        let found = |path: &str| own_locks(mounts, Path::new(path));
        assert_eq!(found("/srv/reimzul/bstore/cache"), Some("local_lock=flock".into()));
        assert_eq!(found("/srv/old one/bstore"), Some("nolock".into()));
        for good in ["/srv/reimzul/results", "/srv", "/srv/strange/x", "/srv/reimzul/bstores"] {
            assert_eq!(found(good), None, "{good}");
        }
    }
}
