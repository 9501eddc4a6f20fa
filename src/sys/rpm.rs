//! Reading RPM files: what the header says, and whether the file is whole.
//!
//! Format: the "RPM V4 package format" manual page of rpm (lead, signature header, header, payload).

mod content;
pub mod signing;
mod tags;
mod vet;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rpm::{IndexSignatureTag, IndexTag, PackageMetadata};
use sha1::Sha1;
use sha2::{Digest, Sha256};

pub use tags::{Headers, Tags};

use super::fs::{FileError, hex, open_regular};
use crate::model::name::{BadName, word};
use crate::model::record::Content;
use crate::model::{PkgName, VersionRelease};

/// An RPM that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RpmError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} is empty", .0.display())]
    Empty(PathBuf),
    #[error("{} is not an RPM, or is damaged: {reason}", path.display())]
    NotAnRpm { path: PathBuf, reason: String },
    #[error("{} is damaged: {what}; fetch or build it again", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("{} names its package badly in its header: {reason}", path.display())]
    BadHeader { path: PathBuf, reason: BadName },
    #[error("{} is no source RPM: it holds no spec", .0.display())]
    NoSpec(PathBuf),
}

/// What a header says that we need. Its words are plain ones; whether they are true, nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub name: PkgName,
    pub epoch: Option<u32>,
    pub evr: VersionRelease,
    /// `src` for a source RPM, whatever arch its header was built on.
    pub arch: String,
}

impl Header {
    pub fn is_source(&self) -> bool {
        self.arch == SOURCE
    }

    /// `NAME-[EPOCH:]VERSION-RELEASE.ARCH`.
    pub fn nevra(&self) -> String {
        let epoch =
            self.epoch.filter(|epoch| *epoch != 0).map(|epoch| format!("{epoch}:")).unwrap_or_default();
        format!("{}-{epoch}{}.{}", self.name, self.evr, self.arch)
    }

    /// What rpmbuild calls its file: `NAME-VERSION-RELEASE.ARCH.rpm`. A source RPM's may be called anything.
    pub fn file_name(&self) -> String {
        format!("{}-{}.{}.rpm", self.name, self.evr, self.arch)
    }
}

/// An RPM that was read from end to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    pub header: Header,
    /// Of the whole file, lower-case hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    pub content: Content,
}

/// A NEVRA, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nevra {
    pub name: String,
    /// `[EPOCH:]VERSION-RELEASE`.
    pub evr: String,
    pub arch: String,
}

impl Nevra {
    /// None where a part of it is missing.
    pub fn parse(text: &str) -> Option<Nevra> {
        let nevra = rpm_version::Nevra::parse(text);
        let (name, evr, arch) = (nevra.name().to_owned(), nevra.evr().to_string(), nevra.arch().to_owned());
        let whole = ![&name, &arch].iter().any(|part| part.is_empty()) && evr.contains('-');
        whole.then_some(Nevra { name, evr, arch })
    }

    /// Which of two is newer, by rpm's rules (rpm-version(7)).
    pub fn compare(&self, other: &Nevra) -> std::cmp::Ordering {
        rpm_version::rpm_evr_compare(&self.evr, &other.evr)
    }
}

/// What only a source RPM's header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceHeader {
    pub header: Header,
    /// File name of the spec.
    pub spec: String,
    /// Names of its BuildRequires.
    pub requires: Vec<String>,
    /// Whether the spec has a %generate_buildrequires.
    pub asks_when_built: bool,
}

/// Reads the header only.
pub fn header(path: &Path) -> Result<Header, RpmError> {
    Rpm::open(path)?.header()
}

/// Reads a source RPM's header only.
pub fn source(path: &Path) -> Result<SourceHeader, RpmError> {
    let Rpm { metadata, .. } = &Rpm::open(path)?;
    let entries = metadata.get_file_entries().map_err(|error| not_an_rpm(path, &error))?;
    let spec = entries
        .iter()
        .find(|entry| entry.flags().contains(rpm::FileFlags::SPECFILE))
        .and_then(|entry| entry.path().file_name()?.to_str().map(str::to_owned))
        .ok_or_else(|| RpmError::NoSpec(path.to_owned()))?;
    let requires = metadata.get_requires().map_err(|error| not_an_rpm(path, &error))?;
    let requires: Vec<String> = requires.into_iter().map(|one| one.name).collect();
    let asks_when_built = requires.iter().any(|name| name == "rpmlib(DynamicBuildRequires)");
    Ok(SourceHeader { header: named(path, metadata)?, spec, requires, asks_when_built })
}

/// Reads the file from end to end, and checks its size and payload against what its headers promise, as far
/// as they do (RPMSIGTAG_SIZE or RPMSIGTAG_LONGSIZE; RPMTAG_PAYLOADSHA256, since rpm 4.14).
pub fn whole(path: &Path) -> Result<Whole, RpmError> {
    let mut rpm = Rpm::open(path)?;
    let header = rpm.header()?;
    // First, since it costs nothing: what is gigabytes too long is not read.
    rpm.check_size()?;
    let payload = rpm.metadata.get_package_segment_offsets().payload;
    let hashed = hash(&mut rpm.file, payload).map_err(FileError::at("read", path))?;
    let digest = rpm.metadata.header.get_entry_data_as_string_array(IndexTag::RPMTAG_PAYLOADSHA256);
    if let Some(promised) = digest.ok().and_then(|list| list.first().map(|digest| (*digest).to_owned()))
        && promised != hashed.payload
    {
        return Err(rpm.damaged("its payload does not match the digest in its header".into()));
    }
    Ok(Whole { header, sha256: hashed.whole, size: hashed.size, content: content::content(&rpm.metadata) })
}

/// An RPM as repository metadata describes it.
#[derive(Debug)]
pub struct Listed {
    pub headers: Headers,
    /// Of the whole file, lower-case hexadecimal.
    pub sha256: String,
}

/// What [`listed`] recognizes a file by that has not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// When it was last changed, nanoseconds since 1970.
    pub mtime: i64,
}

impl Stat {
    /// Of a regular file, also through a link.
    pub fn of(path: &Path) -> Result<Stat, FileError> {
        let found = std::fs::metadata(path).map_err(FileError::at("read", path))?;
        Ok(Stat { size: found.len(), mtime: found.mtime() * 1_000_000_000 + found.mtime_nsec() })
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.mtime.div_euclid(1_000_000_000)
    }
}

/// Reads the headers, and checks them and the file's size against what they promise, as far as they do.
pub fn headers(path: &Path) -> Result<Headers, RpmError> {
    open(path).map(|(_, headers)| headers)
}

fn open(path: &Path) -> Result<(File, Headers), RpmError> {
    let file = open_regular(path)?;
    let length = file.metadata().map_err(FileError::at("open", path))?.len();
    begins_as_one(&mut BufReader::new(&file), length, path)?;
    let read = tags::read(&mut BufReader::new(&file), length);
    let headers = read.map_err(|error| not_an_rpm(path, &error.into()))?;
    let damaged = |what| RpmError::Damaged { path: path.to_owned(), what };
    // RPMSIGTAG_SIZE, and what there is above 4 GiB, RPMSIGTAG_LONGSIZE.
    let promised = headers.signature.number(1000).or_else(|| headers.signature.number(270));
    if let Some(promised) = promised.map(|promised| promised.saturating_add(headers.start))
        && promised != length
    {
        return Err(damaged(format!("it has {length} bytes where its header says {promised}")));
    }
    if !is_header_whole(&file, &headers).map_err(FileError::at("read", path))? {
        return Err(damaged("its header does not match its digest".into()));
    }
    Ok((file, headers))
}

/// By RPMSIGTAG_SHA256, or RPMSIGTAG_SHA1 in RPMs from before that.
fn is_header_whole(file: &File, headers: &Headers) -> io::Result<bool> {
    let promised = |tag| headers.signature.string(tag).unwrap_or_default();
    let (sha256, sha1) = (promised(273), promised(269));
    let mut bytes = vec![0; usize::try_from(headers.end - headers.start).unwrap_or_default()];
    file.read_exact_at(&mut bytes, headers.start)?;
    Ok(match (sha256, sha1) {
        (b"", b"") => true,
        (b"", sha1) => hex(&Sha1::digest(&bytes)).as_bytes() == sha1,
        (sha256, _) => hex(&Sha256::digest(&bytes)).as_bytes() == sha256,
    })
}

/// The same, and checks the payload. The digest is not computed where it is known, and the payload is then taken to be
/// whole.
pub fn listed(path: &Path, known: Option<&str>) -> Result<Listed, RpmError> {
    let (mut file, headers) = open(path)?;
    if let Some(sha256) = known {
        return Ok(Listed { headers, sha256: sha256.to_owned() });
    }
    let hashed = hash(&mut file, headers.end).map_err(FileError::at("read", path))?;
    // RPMTAG_PAYLOADSHA256, where RPMTAG_PAYLOADSHA256ALGO is what its name says.
    let digest = headers.header.string(5092).unwrap_or_default();
    let is_sha256 = headers.header.number(5093) == Some(8);
    if is_sha256 && !digest.is_empty() && digest != hashed.payload.as_bytes() {
        let what = "its payload does not match the digest in its header".into();
        return Err(RpmError::Damaged { path: path.to_owned(), what });
    }
    Ok(Listed { headers, sha256: hashed.whole })
}

/// What every RPM's lead begins with.
const MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];
/// The arch that a file name gives a source RPM.
const SOURCE: &str = "src";

/// An open RPM whose headers have been read.
#[derive(Debug)]
pub struct Rpm<'a> {
    path: &'a Path,
    file: File,
    length: u64,
    metadata: PackageMetadata,
}

impl<'a> Rpm<'a> {
    pub fn open(path: &'a Path) -> Result<Rpm<'a>, RpmError> {
        Rpm::of(open_regular(path)?, path)
    }

    /// The RPM that `file`, a regular one, is; `path` is for errors.
    pub fn of(file: File, path: &'a Path) -> Result<Rpm<'a>, RpmError> {
        let length = file.metadata().map_err(FileError::at("open", path))?.len();
        let mut reader = BufReader::new(&file);
        begins_as_one(&mut reader, length, path)?;
        vet::vet(&mut reader, length).map_err(|error| not_an_rpm(path, &error.into()))?;
        reader.seek(SeekFrom::Start(0)).map_err(FileError::at("read", path))?;
        let metadata = PackageMetadata::parse(&mut reader).map_err(|error| not_an_rpm(path, &error))?;
        Ok(Rpm { path, file, length, metadata })
    }

    pub fn header(&self) -> Result<Header, RpmError> {
        named(self.path, &self.metadata)
    }

    /// Whether the file is as long as its headers promise, as far as they do.
    pub fn check_size(&self) -> Result<(), RpmError> {
        let signature = &self.metadata.signature;
        let short = signature.get_entry_data_as_u32(IndexSignatureTag::RPMSIGTAG_SIZE).map(u64::from);
        // Above 4 GiB there is only this one.
        let promised =
            short.or_else(|_| signature.get_entry_data_as_u64(IndexSignatureTag::RPMSIGTAG_LONGSIZE));
        let Ok(promised) = promised else { return Ok(()) };
        let promised = promised.saturating_add(self.metadata.get_package_segment_offsets().header);
        if promised == self.length {
            return Ok(());
        }
        Err(self.damaged(format!("it has {} bytes where its header says {promised}", self.length)))
    }

    /// The file, at its beginning, and its length.
    pub fn into_file(mut self) -> io::Result<(File, u64)> {
        self.file.rewind()?;
        Ok((self.file, self.length))
    }

    fn damaged(&self, what: String) -> RpmError {
        RpmError::Damaged { path: self.path.to_owned(), what }
    }
}

fn begins_as_one(reader: &mut impl BufRead, length: u64, path: &Path) -> Result<(), RpmError> {
    if length == 0 {
        return Err(RpmError::Empty(path.to_owned()));
    }
    if !reader.fill_buf().map_err(FileError::at("read", path))?.starts_with(&MAGIC) {
        let reason = "it does not begin as one does".into();
        return Err(RpmError::NotAnRpm { path: path.to_owned(), reason });
    }
    Ok(())
}

fn not_an_rpm(path: &Path, error: &rpm::Error) -> RpmError {
    let reason = match error {
        rpm::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "it ends too soon".into()
        }
        // Some of the library's messages go on with all the bytes they are about.
        other => other.to_string().split(" - whole input").next().unwrap_or_default().to_owned(),
    };
    RpmError::NotAnRpm { path: path.to_owned(), reason }
}

fn named(path: &Path, metadata: &PackageMetadata) -> Result<Header, RpmError> {
    let unread = |error: rpm::Error| not_an_rpm(path, &error);
    let bad = |reason| RpmError::BadHeader { path: path.to_owned(), reason };
    let (version, release) =
        (metadata.get_version().map_err(unread)?, metadata.get_release().map_err(unread)?);
    let arch = if metadata.is_source_package() { SOURCE } else { metadata.get_arch().map_err(unread)? };
    Ok(Header {
        name: metadata.get_name().map_err(unread)?.parse().map_err(bad)?,
        epoch: metadata.get_epoch().ok(),
        evr: format!("{version}-{release}").parse().map_err(bad)?,
        arch: word("arch", arch).map_err(bad)?,
    })
}

struct Hashed {
    whole: String,
    payload: String,
    size: u64,
}

/// One pass over the file for both digests; the payload's begins at offset `payload`.
fn hash(file: &mut File, payload: u64) -> std::io::Result<Hashed> {
    file.seek(SeekFrom::Start(0))?;
    let (mut whole, mut rest) = (Sha256::new(), Sha256::new());
    let mut buffer = vec![0; 1 << 16];
    let mut size: u64 = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Hashed { whole: hex(&whole.finalize()), payload: hex(&rest.finalize()), size });
        }
        whole.update(&buffer[..read]);
        // How much of this buffer lies before the payload; it is at most the buffer's length.
        let before = usize::try_from(payload.saturating_sub(size)).unwrap_or(read).min(read);
        rest.update(&buffer[before..read]);
        size += read as u64;
    }
}
