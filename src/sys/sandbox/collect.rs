//! Taking results out of a chroot that a hostile build may have prepared: every process of it is dead by now,
//! links are never followed, and only RPMs are taken that are regular files with plain names, as long as their
//! headers say and as large as they look, as copies that are ours. What else calls itself an RPM is refused.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Whence, lseek64};

use crate::model::name::word;
use crate::sys::fs::kind;
use crate::sys::rpm::Rpm;

/// RPMS/<arch>/x.rpm, and some room.
const DEEPEST: usize = 3;
/// More than any build makes.
const MOST: usize = 100_000;
/// Enough is refused to tell what is wrong.
const MOST_REFUSED: usize = 20;
/// A payload is compressed: so long a hole is in none of them.
const LARGEST_HOLES: u64 = 16 << 20;

/// What became of the RPMs.
#[derive(Debug, Default)]
pub struct Collected {
    /// The file names of those that were taken, sorted.
    pub taken: Vec<String>,
    /// Why others were not, a sentence each.
    pub refused: Vec<String>,
}

/// Copies the RPMs below `folders` to the folder `to`.
pub fn rpms(folders: &[PathBuf], to: &File) -> io::Result<Collected> {
    let mut found = Vec::new();
    for folder in folders {
        if reached_without_links(folder) {
            find(folder, DEEPEST, &mut found)?;
        }
    }
    found.sort();
    let mut collected = Collected::default();
    if found.len() > MOST {
        collected.refused.push(format!("there are more than {MOST} results"));
        return Ok(collected);
    }
    for path in found {
        match take(&path, to)? {
            Ok(name) => collected.taken.push(name),
            Err(why) => collected.refused.push(why),
        }
        if collected.refused.len() == MOST_REFUSED {
            break;
        }
    }
    collected.taken.sort();
    Ok(collected)
}

fn reached_without_links(folder: &Path) -> bool {
    folder.ancestors().all(|part| fs::symlink_metadata(part).is_ok_and(|found| found.is_dir()))
}

/// Whatever is called `.rpm` and is no folder.
fn find(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)?.take(MOST + 1) {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if depth > 0 && found.len() <= MOST {
                find(&path, depth - 1, found)?;
            }
        } else if path.extension().is_some_and(|end| end == "rpm") {
            found.push(path);
        }
    }
    Ok(())
}

/// Takes a result, or says why not. An error is ours, not the build's.
fn take(path: &Path, to: &File) -> io::Result<Result<String, String>> {
    let shown = path.file_name().unwrap_or_default().to_string_lossy();
    let name = match word("the result's name", &shown) {
        Ok(name) => name,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    if let Some(kind) = kind(fs::symlink_metadata(path)?.file_type()) {
        return Ok(Err(format!("the result {name} is {kind}")));
    }
    let file = File::options().read(true).custom_flags(flags.bits()).open(path)?;
    let (from, length) = match checked(file, Path::new(&name)) {
        Ok(rpm) => rpm.into_file()?,
        Err(why) => return Ok(Err(why)),
    };
    let holes = length.saturating_sub(written(&from, length)?);
    if holes > LARGEST_HOLES {
        return Ok(Err(format!(
            "the result {name} is sparse: {holes} of its {length} bytes were never written"
        )));
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(to.as_fd(), name.as_str(), flags, Mode::from_bits_truncate(0o644)) {
        Ok(target) => io::copy(&mut from.take(length), &mut File::from(target)).map(|_| Ok(name)),
        Err(Errno::EEXIST) => Ok(Err(format!("there is more than one result {name}"))),
        Err(error) => Err(error.into()),
    }
}

/// The RPM, if its headers can be read and it is as long as they say.
fn checked(file: File, name: &Path) -> Result<Rpm<'_>, String> {
    let said = |error: crate::sys::rpm::RpmError| format!("the result {error}");
    let rpm = Rpm::of(file, name).map_err(said)?;
    rpm.check_size().map_err(said)?;
    Ok(rpm)
}

/// How many bytes of a file are not in holes (lseek(2), SEEK_DATA and SEEK_HOLE). Leaves it at its beginning.
fn written(file: &File, length: u64) -> io::Result<u64> {
    let seek = |at: u64, whence| -> io::Result<Option<u64>> {
        match lseek64(file.as_fd(), i64::try_from(at).unwrap_or(i64::MAX), whence) {
            Ok(found) => Ok(Some(u64::try_from(found).unwrap_or_default())),
            // Nothing but a hole up to the end.
            Err(Errno::ENXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let (mut written, mut at) = (0, 0);
    while let Some(data) = seek(at, Whence::SeekData)? {
        at = seek(data, Whence::SeekHole)?.unwrap_or(length);
        written += at - data;
    }
    seek(0, Whence::SeekSet)?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_but_regular_files_that_are_rpms_with_plain_names_is_taken() {
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
        let collected = rpms(std::slice::from_ref(&from), &File::open(&to).unwrap()).unwrap();
        assert_eq!(collected.taken, [""; 0]);
        assert_eq!(
            collected.refused,
            [
                "the result fifo.rpm is a FIFO",
                "the result's name '-x.rpm' begins with a dot or a dash",
                "the result a-1-1.x86_64.rpm is not an RPM, or is damaged: it does not begin as one does",
                "the result's name 'b c.rpm' has characters other than letters, digits and . _ + ~ ^ -",
                "the result link-1-1.x86_64.rpm is a symbolic link",
            ]
        );
        assert_eq!(fs::read_dir(&to).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_a_link_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        fs::write(real.join("a-1-1.x86_64.rpm"), "a").unwrap();
        let link = dir.path().join("RPMS");
        symlink(&real, &link).unwrap();
        assert!(rpms(&[link], &File::open(dir.path()).unwrap()).unwrap().taken.is_empty());
    }
}
