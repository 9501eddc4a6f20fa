//! What of an RPM two builds of one source must agree in: its files and its dependencies, without build time,
//! build host, file times and signatures.

use rpm::{IndexTag, PackageMetadata};
use sha2::{Digest, Sha256};

use super::super::fs::hex;
use crate::model::record::Content;

/// Sizes are left out: a folder's depends on the file system it was built on.
const FILES: [IndexTag; 10] = [
    IndexTag::RPMTAG_DIRNAMES,
    IndexTag::RPMTAG_DIRINDEXES,
    IndexTag::RPMTAG_BASENAMES,
    IndexTag::RPMTAG_FILEMODES,
    IndexTag::RPMTAG_FILEUSERNAME,
    IndexTag::RPMTAG_FILEGROUPNAME,
    IndexTag::RPMTAG_FILEFLAGS,
    IndexTag::RPMTAG_FILELINKTOS,
    IndexTag::RPMTAG_FILEDIGESTS,
    IndexTag::RPMTAG_FILECAPS,
];

const DEPENDENCIES: [IndexTag; 24] = [
    IndexTag::RPMTAG_REQUIRENAME,
    IndexTag::RPMTAG_REQUIREFLAGS,
    IndexTag::RPMTAG_REQUIREVERSION,
    IndexTag::RPMTAG_PROVIDENAME,
    IndexTag::RPMTAG_PROVIDEFLAGS,
    IndexTag::RPMTAG_PROVIDEVERSION,
    IndexTag::RPMTAG_CONFLICTNAME,
    IndexTag::RPMTAG_CONFLICTFLAGS,
    IndexTag::RPMTAG_CONFLICTVERSION,
    IndexTag::RPMTAG_OBSOLETENAME,
    IndexTag::RPMTAG_OBSOLETEFLAGS,
    IndexTag::RPMTAG_OBSOLETEVERSION,
    IndexTag::RPMTAG_RECOMMENDNAME,
    IndexTag::RPMTAG_RECOMMENDFLAGS,
    IndexTag::RPMTAG_RECOMMENDVERSION,
    IndexTag::RPMTAG_SUGGESTNAME,
    IndexTag::RPMTAG_SUGGESTFLAGS,
    IndexTag::RPMTAG_SUGGESTVERSION,
    IndexTag::RPMTAG_SUPPLEMENTNAME,
    IndexTag::RPMTAG_SUPPLEMENTFLAGS,
    IndexTag::RPMTAG_SUPPLEMENTVERSION,
    IndexTag::RPMTAG_ENHANCENAME,
    IndexTag::RPMTAG_ENHANCEFLAGS,
    IndexTag::RPMTAG_ENHANCEVERSION,
];

pub fn content(metadata: &PackageMetadata) -> Content {
    Content { files: digest(metadata, &FILES), dependencies: digest(metadata, &DEPENDENCIES) }
}

/// Of the values of the tags, each with its name, an absent one as nothing.
fn digest(metadata: &PackageMetadata, tags: &[IndexTag]) -> String {
    let header = &metadata.header;
    let mut digest = Sha256::new();
    for tag in tags {
        digest.update(format!("{tag:?}"));
        if let Ok(texts) = header.get_entry_data_as_string_array(*tag) {
            digest.update(format!("{texts:?}"));
        } else if let Ok(numbers) = header.get_entry_data_as_u32_array(*tag) {
            digest.update(format!("{numbers:?}"));
        } else if let Ok(numbers) = header.get_entry_data_as_u16_array(*tag) {
            digest.update(format!("{numbers:?}"));
        }
    }
    hex(&digest.finalize())
}
