//! Files: written whole or not at all, hashed, locked.

use std::fs::{File, FileType, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{AT_FDCWD, AtFlags};
use sha2::{Digest, Sha256};

/// A file operation that failed, with the path it was about.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source}{}", path.display(), remedy(source))]
pub struct FileError {
    pub what: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: `File::open(&path).map_err(FileError::at("open", &path))?`.
    pub fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
        let path = path.to_owned();
        move |source| FileError { what, path, source }
    }

    /// Whether it failed for want of room: ENOSPC or EDQUOT.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// What to do about an error, as the end of its sentence, where that is known.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; make room there",
        io::ErrorKind::QuotaExceeded => "; make room there, or raise the quota",
        io::ErrorKind::ReadOnlyFilesystem => "; see why, and have it mounted for writing again",
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "; a file is in its way: move it elsewhere"
        }
        io::ErrorKind::IsADirectory => "; a folder is in its way: move it elsewhere",
        _ => "",
    }
}

/// Opens a regular file for reading. Another kind of file is refused and not waited for, as a FIFO would be.
pub fn open_regular(path: &Path) -> Result<File, FileError> {
    let open = || -> io::Result<File> {
        // Opening a device can do something, so it is looked at first; and again, since it may have changed.
        must_be_regular(&std::fs::metadata(path)?)?;
        let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
        must_be_regular(&file.metadata()?)?;
        Ok(file)
    };
    open().map_err(FileError::at("read", path))
}

fn must_be_regular(found: &Metadata) -> io::Result<()> {
    match kind(found.file_type()) {
        None => Ok(()),
        Some(kind) => Err(io::Error::other(format!("it is {kind}, not a regular file"))),
    }
}

/// The first line of a file, such as one that holds a password.
pub fn first_line(path: &Path) -> Result<String, FileError> {
    let text = std::fs::read_to_string(path).map_err(FileError::at("read", path))?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// The last lines of a text file, up to `most` bytes: all of it where it is shorter.
pub fn tail(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
    let mut file = open_regular(path)?;
    let read = |file: &mut File| -> io::Result<Vec<u8>> {
        let length = file.metadata()?.len();
        file.seek(io::SeekFrom::Start(length.saturating_sub(most)))?;
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read(&mut file).map_err(FileError::at("read", path))
}

/// What a file is that is no regular one.
pub fn kind(found: FileType) -> Option<&'static str> {
    if found.is_file() {
        None
    } else if found.is_dir() {
        Some("a directory")
    } else if found.is_symlink() {
        Some("a symbolic link")
    } else if found.is_fifo() {
        Some("a FIFO")
    } else if found.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

/// Makes the directory and its parents.
pub fn make_dir(path: &Path) -> Result<(), FileError> {
    std::fs::create_dir_all(path).map_err(FileError::at("make the directory", path))
}

/// Removes the directory with all that is in it; one that is not there is fine.
pub fn remove_dir(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a file; one that is not there is fine.
pub fn remove_file(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Makes the directory and its parents; nobody but its owner may look into it.
pub fn make_private_dir(path: &Path) -> Result<(), FileError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(FileError::at("make the directory", path))
}

/// Writes `bytes` to `path` so that readers see the old content or the new one, also after a power failure.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_as(path, bytes, 0o666)
}

/// The same of a file that nobody but its owner may read.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    write_as(path, bytes, 0o600)
}

fn write_as(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let temporary = temporary_beside(path);
    let write = || -> io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        sync_parent(path)
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        FileError::at("write", path)(error)
    })
}

/// Lets everybody read a file, whatever the umask or the file that it is a copy of says.
pub fn open_to_all(path: &Path) -> Result<(), FileError> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(path, mode).map_err(FileError::at("make readable", path))
}

/// Copies the regular file `from` to `to`, which appears whole or not at all; an existing `to` is replaced.
pub fn copy_whole(from: &Path, to: &Path) -> Result<(), FileError> {
    let temporary = temporary_beside(to);
    let copy = || -> io::Result<()> {
        use io::ErrorKind::{IsADirectory, NotFound, Unsupported};
        match copy_nameless(from, &temporary) {
            // Not every file system has files without a name, not every container has /proc.
            Err(error) if matches!(error.kind(), Unsupported | IsADirectory | NotFound) => {
                std::fs::copy(from, &temporary)?;
                File::open(&temporary)?.sync_all()?;
            }
            copied => copied?,
        }
        std::fs::rename(&temporary, to)?;
        sync_parent(to)
    };
    copy().map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        FileError::at("copy to", to)(error)
    })
}

/// Makes `to` another name of the regular file `from`, which nobody may write to from then on; where the file system,
/// or the file's owner, does not allow that, a copy. An existing `to` is replaced.
pub fn link_whole(from: &Path, to: &Path) -> Result<(), FileError> {
    let temporary = temporary_beside(to);
    let link = || -> io::Result<()> {
        let mut permissions = std::fs::metadata(from)?.permissions();
        permissions.set_mode(permissions.mode() & !0o222);
        std::fs::set_permissions(from, permissions)?;
        std::fs::hard_link(from, &temporary)?;
        std::fs::rename(&temporary, to)?;
        // Where both were the same file already, rename(2) does nothing.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync_parent(to),
        }
    };
    match link() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FileError::at("link to", to)(error)),
        Err(_) => {
            let _ = std::fs::remove_file(&temporary);
            copy_whole(from, to)
        }
        Ok(()) => Ok(()),
    }
}

/// Copies into a file that gets the name `to` only when it is whole: a process that is ended in the middle of it
/// leaves nothing behind (open(2), `O_TMPFILE`).
fn copy_nameless(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut file = OpenOptions::new()
        .write(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_TMPFILE)
        .open(to.parent().unwrap_or(Path::new(".")))?;
    io::copy(&mut source, &mut file)?;
    file.set_permissions(source.metadata()?.permissions())?;
    file.sync_all()?;
    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(nix::unistd::linkat(AT_FDCWD, nameless.as_str(), AT_FDCWD, to, AtFlags::AT_SYMLINK_FOLLOW)?)
}

/// Makes a file as young as one can be.
pub fn touch(path: &Path) -> Result<(), FileError> {
    let touched =
        || -> io::Result<()> { File::options().append(true).open(path)?.set_modified(SystemTime::now()) };
    touched().map_err(FileError::at("touch", path))
}

/// How long ago a file or folder was last modified; nothing where that cannot be known.
pub fn age(path: &Path) -> Option<Duration> {
    let modified = std::fs::symlink_metadata(path).and_then(|found| found.modified()).ok()?;
    Some(SystemTime::now().duration_since(modified).unwrap_or_default())
}

/// Bytes of the files below a folder, links not followed; what cannot be looked at counts nothing.
pub fn bytes_below(path: &Path) -> u64 {
    let Ok(found) = std::fs::symlink_metadata(path) else { return 0 };
    if !found.is_dir() {
        return found.len();
    }
    std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| bytes_below(&entry.path())).sum()
}

fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", uuid::Uuid::new_v4().simple()))
}

/// Has the files of a folder, and their names, outlive a power failure.
pub fn sync_files(folder: &Path) -> Result<(), FileError> {
    for entry in std::fs::read_dir(folder).map_err(FileError::at("read", folder))?.flatten() {
        let path = entry.path();
        File::open(&path).and_then(|file| file.sync_all()).map_err(FileError::at("sync", &path))?;
    }
    File::open(folder).and_then(|file| file.sync_all()).map_err(FileError::at("sync", folder))
}

/// Makes a rename in `path`'s folder survive a power failure.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// The SHA-256 of a file, lower-case hexadecimal, and its size in bytes.
pub fn sha256(path: &Path) -> Result<(String, u64), FileError> {
    let hash = || -> io::Result<(String, u64)> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 16];
        let mut size = 0;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                return Ok((hex(&hasher.finalize()), size));
            }
            hasher.update(&buffer[..read]);
            size += read as u64;
        }
    };
    hash().map_err(FileError::at("read", path))
}

/// The SHA-256 of bytes, lower-case hexadecimal.
pub fn sha256_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes that an ordinary user can still write to the file system that holds `path`.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let found = nix::sys::statvfs::statvfs(path).ok()?;
    Some(found.blocks_available() * found.fragment_size())
}

/// The machine's load of the last minute: the first number in proc(5)'s `loadavg`.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Swaps two existing paths in one step (renameat2(2), RENAME_EXCHANGE).
pub fn exchange(one: &Path, other: &Path) -> Result<(), FileError> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
        .map_err(io::Error::from)
        .map_err(FileError::at("swap a folder with", other))
}

/// A lock on a file (flock(2)): it ends with this value, or with the process that holds it, however that ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, unless somebody has it.
    pub fn try_take(path: &Path) -> Result<Option<Lock>, FileError> {
        let file = Lock::file(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(FileError::at("lock", path)(error)),
        }
    }

    /// Takes the lock, holding up the thread: for locks that are held for moments.
    pub fn take_blocking(path: &Path) -> Result<Lock, FileError> {
        let file = Lock::file(path)?;
        file.lock().map_err(FileError::at("lock", path))?;
        Ok(Lock { _file: file })
    }

    /// Takes the lock, however long that takes, without holding up other tasks.
    pub async fn take(path: &Path) -> Result<Lock, FileError> {
        loop {
            if let Some(lock) = Lock::try_take(path)? {
                return Ok(lock);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// Takes a share of the lock: many may have one, and while any has, nobody can take the lock itself.
    pub fn try_share(path: &Path) -> Result<Option<Lock>, FileError> {
        let file = Lock::file(path)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(Lock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(FileError::at("lock", path)(error)),
        }
    }

    fn file(path: &Path) -> Result<File, FileError> {
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .map_err(FileError::at("open the lock", path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_being_copied_has_no_name_yet() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("pipe"), folder.path().join("to/file"));
        make_dir(to.parent().unwrap()).unwrap();
        nix::unistd::mkfifo(&from, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let copying = std::thread::spawn({
            let (from, to) = (from.clone(), to.clone());
            move || copy_whole(&from, &to)
        });
        let mut pipe = OpenOptions::new().write(true).open(&from).unwrap();
        // More than a pipe holds: once it is through, the copy is in the middle.
        pipe.write_all(&vec![1; 1 << 20]).unwrap();
        assert_eq!(
            std::fs::read_dir(to.parent().unwrap()).unwrap().count(),
            0,
            "it would be left behind by a kill"
        );
        drop(pipe);
        copying.join().unwrap().unwrap();
        assert_eq!(std::fs::metadata(&to).unwrap().len(), 1 << 20);
    }
}
