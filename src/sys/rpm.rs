//! Reading RPM files: what the header says, and whether the file is whole.
//!
//! Format: the "RPM V4 package format" manual page of rpm (lead, signature header, header, payload).

mod content;
mod vet;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rpm::{IndexSignatureTag, IndexTag, PackageMetadata};
use sha2::{Digest, Sha256};

use super::fs::{FileError, hex};
use crate::model::record::Content;

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
}

/// What a header says that we need. Nothing of it is checked: it is whatever the file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub epoch: Option<u32>,
    pub version: String,
    pub release: String,
    /// `src` for a source RPM, whatever arch its header was built on.
    pub arch: String,
}

impl Header {
    pub fn is_source(&self) -> bool {
        self.arch == "src"
    }

    /// `VERSION-RELEASE`.
    pub fn version_release(&self) -> String {
        format!("{}-{}", self.version, self.release)
    }

    /// `NAME-[EPOCH:]VERSION-RELEASE.ARCH`.
    pub fn nevra(&self) -> String {
        let epoch =
            self.epoch.filter(|epoch| *epoch != 0).map(|epoch| format!("{epoch}:")).unwrap_or_default();
        format!("{}-{epoch}{}-{}.{}", self.name, self.version, self.release, self.arch)
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

/// Reads the header only.
pub fn header(path: &Path) -> Result<Header, RpmError> {
    open(path).and_then(|(_, metadata)| named(path, &metadata))
}

/// Reads the file from end to end, and checks its size and payload against what its headers promise, as far
/// as they do (RPMSIGTAG_SIZE; RPMTAG_PAYLOADSHA256, since rpm 4.14).
pub fn whole(path: &Path) -> Result<Whole, RpmError> {
    let (mut file, metadata) = open(path)?;
    let header = named(path, &metadata)?;
    let payload = metadata.get_package_segment_offsets().payload;
    let hashed = hash(&mut file, payload).map_err(FileError::at("read", path))?;
    let damaged = |what: String| RpmError::Damaged { path: path.to_owned(), what };
    let start = metadata.get_package_segment_offsets().header;
    if let Ok(promised) = metadata.signature.get_entry_data_as_u32(IndexSignatureTag::RPMSIGTAG_SIZE) {
        let promised = u64::from(promised) + start;
        if promised != hashed.size {
            return Err(damaged(format!("it has {} bytes where its header says {promised}", hashed.size)));
        }
    }
    let digest = metadata.header.get_entry_data_as_string_array(IndexTag::RPMTAG_PAYLOADSHA256);
    if let Some(promised) = digest.ok().and_then(|list| list.first().map(|digest| (*digest).to_owned()))
        && promised != hashed.payload
    {
        return Err(damaged("its payload does not match the digest in its header".into()));
    }
    Ok(Whole { header, sha256: hashed.whole, size: hashed.size, content: content::content(&metadata) })
}

/// What every RPM's lead begins with.
const MAGIC: [u8; 4] = [0xed, 0xab, 0xee, 0xdb];

fn open(path: &Path) -> Result<(File, PackageMetadata), RpmError> {
    let file = File::open(path).map_err(FileError::at("open", path))?;
    let length = file.metadata().map_err(FileError::at("open", path))?.len();
    if length == 0 {
        return Err(RpmError::Empty(path.to_owned()));
    }
    let mut reader = BufReader::new(&file);
    if !reader.fill_buf().map_err(FileError::at("read", path))?.starts_with(&MAGIC) {
        let reason = "it does not begin as one does".into();
        return Err(RpmError::NotAnRpm { path: path.to_owned(), reason });
    }
    vet::vet(&mut reader, length).map_err(|error| not_an_rpm(path, &error.into()))?;
    reader.seek(SeekFrom::Start(0)).map_err(FileError::at("read", path))?;
    match PackageMetadata::parse(&mut reader) {
        Ok(metadata) => Ok((file, metadata)),
        Err(error) => Err(not_an_rpm(path, &error)),
    }
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
    let read = || -> Result<Header, rpm::Error> {
        let arch = if metadata.is_source_package() { "src" } else { metadata.get_arch()? };
        Ok(Header {
            name: metadata.get_name()?.to_owned(),
            epoch: metadata.get_epoch().ok(),
            version: metadata.get_version()?.to_owned(),
            release: metadata.get_release()?.to_owned(),
            arch: arch.to_owned(),
        })
    };
    read().map_err(|error| not_an_rpm(path, &error))
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
