//! The files of a package, and which of them the primary list has.

use std::io;

use crate::sys::rpm::Tags;

/// A file of a package.
#[derive(Debug)]
pub struct File<'a> {
    pub folder: &'a [u8],
    pub name: &'a [u8],
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    /// One that the package owns and does not bring along (`%ghost`).
    Ghost,
}

const FILEMODES: u32 = 1030;
const FILEFLAGS: u32 = 1037;
const DIRINDEXES: u32 = 1116;
const BASENAMES: u32 = 1117;
const DIRNAMES: u32 = 1118;

const GHOST: u64 = 1 << 6;
const FILE_TYPE: u64 = 0o170_000;
const DIRECTORY: u64 = 0o040_000;

impl File<'_> {
    pub fn path(&self) -> Vec<u8> {
        [self.folder, self.name].concat()
    }
}

pub fn of(header: &Tags) -> io::Result<Vec<File<'_>>> {
    let folders = header.strings(DIRNAMES)?;
    let names = header.strings(BASENAMES)?;
    let which = header.numbers(DIRINDEXES);
    let (modes, flags) = (header.numbers(FILEMODES), header.numbers(FILEFLAGS));
    let files = names.into_iter().zip(which).zip(modes.into_iter().zip(flags));
    Ok(files
        .map(|((name, which), (mode, flags))| File {
            folder: usize::try_from(which)
                .ok()
                .and_then(|which| folders.get(which))
                .copied()
                .unwrap_or_default(),
            name,
            kind: match () {
                () if mode & FILE_TYPE == DIRECTORY => Kind::Folder,
                () if flags & GHOST != 0 => Kind::Ghost,
                () => Kind::File,
            },
        })
        .collect())
}

/// Whether the primary list has it: what others may require without loading all the files there are.
pub fn is_primary(path: &[u8]) -> bool {
    path.starts_with(b"/etc/") || path == b"/usr/lib/sendmail" || path.windows(4).any(|part| part == b"bin/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_primary_list_has_programs_and_configuration() {
        for path in ["/usr/bin/x", "/opt/a/sbin/y", "/etc/x", "/usr/lib/sendmail", "/x/cabin/y"] {
            assert!(is_primary(path.as_bytes()), "{path}");
        }
        for path in ["/usr/share/x", "/usr/lib/sendmail.d", "/etcetera", "/usr/bin"] {
            assert!(!is_primary(path.as_bytes()), "{path}");
        }
    }
}
