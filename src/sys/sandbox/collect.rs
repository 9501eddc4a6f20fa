//! Taking results out of a chroot that a hostile build may have prepared: every process of it is dead by now,
//! links are never followed, and only regular files with plain names are taken, as copies that are ours.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// RPMS/<arch>/x.rpm, and some room.
const DEEPEST: usize = 3;

/// Copies the RPMs below `folders` to the folder `to`, and returns their names, sorted.
pub fn rpms(folders: &[PathBuf], to: &File) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in folders {
        if reached_without_links(folder) {
            find(folder, DEEPEST, &mut found)?;
        }
    }
    let mut names = Vec::new();
    for path in found {
        if let Some(name) = copy(&path, to)? {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn reached_without_links(folder: &Path) -> bool {
    folder.ancestors().all(|part| fs::symlink_metadata(part).is_ok_and(|found| found.is_dir()))
}

fn find(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() && depth > 0 {
            find(&entry.path(), depth - 1, found)?;
        } else if kind.is_file() && plain_rpm(&entry.file_name().to_string_lossy()) {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// The letters that [`crate::model::name`] takes for plain.
fn plain_rpm(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+~^-".contains(c);
    let rpm = Path::new(name).extension().is_some_and(|end| end == "rpm");
    rpm && name.len() <= 200 && !name.starts_with(['.', '-']) && name.chars().all(plain)
}

fn copy(path: &Path, to: &File) -> io::Result<Option<String>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let mut from = File::options().read(true).custom_flags(flags.bits()).open(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !from.metadata()?.is_file() {
        return Ok(None);
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let target = openat(to.as_fd(), name.as_str(), flags, Mode::from_bits_truncate(0o644))?;
    io::copy(&mut from, &mut File::from(target))?;
    Ok(Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_regular_files_with_plain_names_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("RPMS"), dir.path().join("to"));
        fs::create_dir_all(from.join("x86_64")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("x86_64/a-1-1.x86_64.rpm"), "a").unwrap();
        fs::write(from.join("x86_64/notes.txt"), "").unwrap();
        fs::write(from.join("x86_64/-x.rpm"), "").unwrap();
        fs::write(from.join("x86_64/b c.rpm"), "").unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        symlink(dir.path().join("secret"), from.join("x86_64/link-1-1.x86_64.rpm")).unwrap();
        nix::unistd::mkfifo(&from.join("fifo.rpm"), Mode::S_IRUSR).unwrap();
        let taken = rpms(std::slice::from_ref(&from), &File::open(&to).unwrap()).unwrap();
        assert_eq!(taken, ["a-1-1.x86_64.rpm"]);
        assert_eq!(fs::read_dir(&to).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_a_link_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        fs::write(real.join("a-1-1.x86_64.rpm"), "a").unwrap();
        let link = dir.path().join("RPMS");
        symlink(&real, &link).unwrap();
        assert!(rpms(&[link], &File::open(dir.path()).unwrap()).unwrap().is_empty());
    }
}
