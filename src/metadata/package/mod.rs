//! One RPM in a repository's three lists, `primary`, `filelists` and `other`, each an XML fragment.
//!
//! What is said, and of what, is createrepo_c's way, since every reader is used to it: `parsehdr.c` (which files and
//! dependencies count), `xml_dump_*.c` (how they are written).

mod changelog;
mod dependencies;
mod files;
mod write;

use std::io;
use std::path::Path;

use super::xml;
use crate::sys::rpm::{self, Listed, Stat, Tags};

/// A list of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Primary,
    Filelists,
    Other,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Primary, Kind::Filelists, Kind::Other];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Primary => "primary",
            Kind::Filelists => "filelists",
            Kind::Other => "other",
        }
    }

    /// What stands before the packages.
    pub fn head(self, packages: usize) -> String {
        let (root, namespaces) = match self {
            Kind::Primary => (
                "metadata",
                "xmlns=\"http://linux.duke.edu/metadata/common\" xmlns:rpm=\"http://linux.duke.edu/metadata/rpm\"",
            ),
            Kind::Filelists => ("filelists", "xmlns=\"http://linux.duke.edu/metadata/filelists\""),
            Kind::Other => ("otherdata", "xmlns=\"http://linux.duke.edu/metadata/other\""),
        };
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root} {namespaces} packages=\"{packages}\">\n")
    }

    /// What stands after them.
    pub fn tail(self) -> &'static str {
        match self {
            Kind::Primary => "</metadata>",
            Kind::Filelists => "</filelists>",
            Kind::Other => "</otherdata>",
        }
    }
}

/// A package in each list, as `<package>…</package>` and a line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragments {
    /// SHA-256 of the file.
    pub sha256: String,
    /// In the order of [`Kind::ALL`].
    pub xml: [String; 3],
}

/// Reads the RPM `file` of `tree`. Its digest is not computed where it is known. The error says why it cannot be
/// listed.
pub fn read(tree: &Path, file: &str, stat: Stat, known: Option<&str>) -> Result<Fragments, Refusal> {
    let path = tree.join(file);
    let listed = rpm::listed(&path, known)
        .map_err(|error| Refusal { reason: reason(&error, &path), may_pass: may_pass(&error) })?;
    let fragments = describe(file, stat, &listed);
    fragments
        .map_err(|error| Refusal { reason: format!("its header cannot be read: {error}"), may_pass: false })
}

/// Whether it says nothing about the file: errno(3) of a right that is missing, or of a disk or memory that is away.
fn may_pass(error: &rpm::RpmError) -> bool {
    use nix::errno::Errno::{self, EACCES, EIO, EMFILE, ENFILE, ENOMEM, ESTALE, ETIMEDOUT};
    let rpm::RpmError::File(error) = error else { return false };
    let passing = [EACCES, EIO, EMFILE, ENFILE, ENOMEM, ESTALE, ETIMEDOUT];
    error.source.raw_os_error().is_some_and(|code| passing.contains(&Errno::from_raw(code)))
}

/// Why a file cannot be listed.
#[derive(Debug)]
pub struct Refusal {
    pub reason: String,
    /// Another time it may not be so.
    pub may_pass: bool,
}

/// Why a file cannot be listed, without its path, which whoever tells it says himself.
pub fn reason(error: &rpm::RpmError, path: &Path) -> String {
    let text = error.to_string();
    match text.strip_prefix(&format!("{} ", path.display())) {
        Some(rest) => format!("it {rest}"),
        None => text,
    }
}

fn describe(location: &str, stat: Stat, listed: &Listed) -> io::Result<Fragments> {
    let package = Package::of(location, stat, listed)?;
    let xml = [write::primary(&package), write::filelists(&package), write::other(&package)];
    // Readers would refuse the whole list (createrepo_c leaves such a package out as well).
    if xml.iter().any(|xml| !xml.chars().all(xml::is_allowed)) {
        return Err(io::Error::other("it has control characters, which XML cannot have"));
    }
    Ok(Fragments { sha256: listed.sha256.clone(), xml })
}

/// What the lists say of a package.
struct Package<'a> {
    location: &'a str,
    stat: Stat,
    sha256: &'a str,
    header: &'a Tags,
    /// Where the header lies in the file, bytes.
    range: (u64, u64),
    name: &'a [u8],
    epoch: u64,
    version: &'a [u8],
    release: &'a [u8],
    arch: &'a [u8],
    archive_size: u64,
    files: Vec<files::File<'a>>,
    dependencies: dependencies::Dependencies<'a>,
    changelog: Vec<changelog::Entry<'a>>,
}

mod tag {
    pub const LONG_ARCHIVE_SIZE: u32 = 271;
    pub const NAME: u32 = 1000;
    pub const VERSION: u32 = 1001;
    pub const RELEASE: u32 = 1002;
    pub const EPOCH: u32 = 1003;
    /// The same number in a signature header is RPMSIGTAG_PAYLOADSIZE.
    pub const SIG_PAYLOAD_SIZE: u32 = 1007;
    pub const ARCH: u32 = 1022;
    pub const ARCHIVE_SIZE: u32 = 1046;
    pub const SOURCE_PACKAGE: u32 = 1106;
    pub const DIRNAMES: u32 = 1118;
}

impl<'a> Package<'a> {
    fn of(location: &'a str, stat: Stat, listed: &'a Listed) -> io::Result<Package<'a>> {
        let rpm::Headers { signature, header, start, end } = &listed.headers;
        let files = files::of(header)?;
        Ok(Package {
            location,
            stat,
            sha256: &listed.sha256,
            header,
            range: (*start, *end),
            name: header.string(tag::NAME)?,
            epoch: header.number(tag::EPOCH).unwrap_or_default(),
            version: header.string(tag::VERSION)?,
            release: header.string(tag::RELEASE)?,
            arch: if is_source(header)? { b"src" } else { header.string(tag::ARCH)? },
            archive_size: archive_size(signature, header),
            dependencies: dependencies::of(header, &files)?,
            files,
            changelog: changelog::of(header)?,
        })
    }
}

/// RPMTAG_SOURCEPACKAGE; RPMs from before it have files in no folder (librpm, `headerIsSourceHeuristic`).
fn is_source(header: &Tags) -> io::Result<bool> {
    if header.has(tag::SOURCE_PACKAGE) {
        return Ok(header.number(tag::SOURCE_PACKAGE) != Some(0));
    }
    Ok(header.strings(tag::DIRNAMES)? == [b""])
}

/// The unpacked payload's, which is in the signature header.
fn archive_size(signature: &Tags, header: &Tags) -> u64 {
    signature
        .number(tag::LONG_ARCHIVE_SIZE)
        .or_else(|| signature.number(tag::SIG_PAYLOAD_SIZE))
        .or_else(|| header.number(tag::LONG_ARCHIVE_SIZE))
        .or_else(|| header.number(tag::ARCHIVE_SIZE))
        .unwrap_or_default()
}
