//! The sources that a checkout's own metadata names, from the lookaside, verified by the digests that stand there.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use reqwest::Url;
use sha1::Sha1;
use sha2::digest::DynDigest;
use sha2::{Sha256, Sha512};
use tokio_util::sync::CancellationToken;

use super::ScmError;
use crate::model::PkgName;
use crate::model::name::word;
use crate::sys::fs::{self, FileError, open_regular};
use crate::sys::http::{Http, HttpError};

/// More than any list of sources has.
const LARGEST: u64 = 1 << 20;

/// How a package lies in its checkout, and what it lacks.
#[derive(Debug)]
pub struct Layout {
    pub spec: PathBuf,
    /// Where the sources are, and those that are missing go.
    pub sources: PathBuf,
    missing: Vec<Source>,
    dist_git: bool,
}

/// A file that the lookaside has.
#[derive(Debug, PartialEq, Eq)]
struct Source {
    file: String,
    digest: Digest,
}

#[derive(Debug, PartialEq, Eq)]
struct Digest {
    kind: &'static str,
    hex: String,
}

impl Digest {
    /// By its length.
    fn parse(hex: &str) -> Option<Digest> {
        let kind = match hex.len() {
            40 => "sha1",
            64 => "sha256",
            128 => "sha512",
            _ => return None,
        };
        let good = hex.chars().all(|c| c.is_ascii_hexdigit());
        good.then(|| Digest { kind, hex: hex.to_ascii_lowercase() })
    }

    fn is_of(&self, path: &Path) -> Result<bool, FileError> {
        let mut hasher: Box<dyn DynDigest> = match self.kind {
            "sha1" => Box::new(Sha1::default()),
            "sha256" => Box::new(Sha256::default()),
            _ => Box::new(Sha512::default()),
        };
        let mut file = File::open(path).map_err(FileError::at("read", path))?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match file.read(&mut buffer).map_err(FileError::at("read", path))? {
                0 => return Ok(fs::hex(&hasher.finalize()) == self.hex),
                read => hasher.update(&buffer[..read]),
            }
        }
    }
}

impl Layout {
    /// `SPECS/` and `SOURCES/` with a `.<pkg>.metadata`, or dist-git's, with everything in one folder and `sources`.
    pub fn of(checkout: &Path, pkg: &PkgName) -> Result<Layout, ScmError> {
        let flat = !checkout.join("SPECS").is_dir();
        let (specs, sources) = if flat {
            (checkout.to_owned(), checkout.to_owned())
        } else {
            (checkout.join("SPECS"), checkout.join("SOURCES"))
        };
        let metadata = checkout.join(format!(".{pkg}.metadata"));
        let list = checkout.join("sources");
        let (missing, dist_git) = if metadata.is_file() {
            (read(&metadata)?.iter().map(|line| of_metadata(line, flat)).collect::<Result<_, _>>()?, false)
        } else if list.is_file() {
            (read(&list)?.iter().map(|line| of_dist_git(line)).collect::<Result<_, _>>()?, true)
        } else {
            (Vec::new(), false)
        };
        fs::make_dir(&sources)?;
        Ok(Layout { spec: spec(&specs, pkg)?, sources, missing, dist_git })
    }
}

/// `<pkg>.spec`, or the only one there is.
fn spec(specs: &Path, pkg: &PkgName) -> Result<PathBuf, ScmError> {
    let own = specs.join(format!("{pkg}.spec"));
    if own.is_file() {
        return Ok(own);
    }
    let is_spec = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.is_file() && name.ends_with(".spec") && word("spec", &name).is_ok()
    };
    let found: Vec<PathBuf> = super::entries(specs).into_iter().filter(is_spec).collect();
    match <[PathBuf; 1]>::try_from(found) {
        Ok([only]) => Ok(only),
        Err(found) => Err(ScmError::refused(format!(
            "the checkout has no {pkg}.spec, and {} other specs where there could be one",
            found.len()
        ))),
    }
}

fn read(list: &Path) -> Result<Vec<String>, ScmError> {
    let mut text = String::new();
    let read = open_regular(list)?.take(LARGEST).read_to_string(&mut text);
    read.map_err(|error| ScmError::refused(format!("the list of sources cannot be read: {error}")))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn bad(line: &str, wanted: &str) -> ScmError {
    let line: String = line.escape_debug().take(200).collect();
    ScmError::refused(format!("the list of sources has the line '{line}', which is not {wanted}"))
}

/// `<sha1, sha256 or sha512> SOURCES/<file>`.
fn of_metadata(line: &str, flat: bool) -> Result<Source, ScmError> {
    let wanted = "'DIGEST SOURCES/FILE' with a SHA-1, SHA-256 or SHA-512 and a plain file name";
    let split = || {
        let (digest, path) = line.split_once(char::is_whitespace)?;
        let path = path.trim_start();
        let file = path.strip_prefix("SOURCES/").or(flat.then_some(path))?;
        Some(Source { file: word("source", file).ok()?, digest: Digest::parse(digest)? })
    };
    split().ok_or_else(|| bad(line, wanted))
}

/// `SHA512 (<file>) = <digest>`. Of the old form, `<md5>  <file>`, the digest proves nothing any more.
fn of_dist_git(line: &str) -> Result<Source, ScmError> {
    let wanted = "'SHA512 (FILE) = DIGEST' (or SHA256, SHA1; MD5 proves nothing) with a plain file name";
    let split = || {
        let (kind, rest) = line.split_once(" (")?;
        let (file, digest) = rest.split_once(") = ")?;
        let digest = Digest::parse(digest).filter(|digest| digest.kind.eq_ignore_ascii_case(kind))?;
        Some(Source { file: word("source", file).ok()?, digest })
    };
    split().ok_or_else(|| bad(line, wanted))
}

/// Fetches sources into a checkout, by way of a cache.
#[derive(Debug)]
pub struct Fetcher<'a> {
    pub http: &'a Http,
    pub lookaside: &'a str,
    pub cache: &'a Path,
}

impl Fetcher<'_> {
    pub async fn fetch_all(
        &self,
        layout: &Layout,
        pkg: &PkgName,
        below: &str,
        cancel: &CancellationToken,
    ) -> Result<(), ScmError> {
        for source in &layout.missing {
            let Digest { kind, hex } = &source.digest;
            let place = if layout.dist_git {
                format!("{pkg}/{file}/{kind}/{hex}/{file}", file = source.file)
            } else {
                format!("{pkg}/{below}/{hex}")
            };
            let cached = self.cache.join(hex);
            tokio::select! {
                fetched = self.fetch(source, &place, &cached) => fetched?,
                () = cancel.cancelled() => return Err(ScmError::Interrupted),
            }
            super::touch(&cached);
            fs::copy_whole(&cached, &layout.sources.join(&source.file))?;
        }
        Ok(())
    }

    async fn fetch(&self, source: &Source, place: &str, cached: &Path) -> Result<(), ScmError> {
        if cached.is_file() && source.digest.is_of(cached)? {
            return Ok(());
        }
        let url = format!("{}/{place}", self.lookaside);
        let url = Url::parse(&url).map_err(|error| ScmError::refused(format!("{url} is no URL: {error}")))?;
        // Two packages may have the same source, and be made at the same time.
        let fresh = cached.with_extension(uuid::Uuid::new_v4().simple().to_string());
        self.http.fetch(&url, &fresh, "").await.map_err(|error| told(&error, &source.file))?;
        let Digest { kind, hex } = &source.digest;
        if !source.digest.is_of(&fresh)? {
            let _ = std::fs::remove_file(&fresh);
            return Err(ScmError::refused(format!(
                "the lookaside has another {} at {url}: its {kind} is not {hex}",
                source.file
            )));
        }
        Ok(std::fs::rename(&fresh, cached).map_err(FileError::at("write", cached))?)
    }
}

fn told(error: &HttpError, file: &str) -> ScmError {
    ScmError::refused(match error {
        HttpError::Missing { url, status } => {
            format!("the lookaside does not have {file}: HTTP status {status} for {url}; was it uploaded?")
        }
        error => format!("{file} cannot be fetched: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_told_apart_by_their_length_and_names_cannot_leave_the_folder() {
        for (length, kind) in [(40, "sha1"), (64, "sha256"), (128, "sha512")] {
            let line = format!("{} SOURCES/a-1.tar.gz", "a".repeat(length));
            assert_eq!(of_metadata(&line, false).unwrap().digest.kind, kind);
        }
        let sha1 = "0".repeat(40);
        for bad in [
            "",
            "SOURCES/a",
            "0000 SOURCES/a",
            &format!("{sha1} a"),
            &format!("{sha1} SOURCES/../a"),
            &format!("{sha1} SOURCES/a;b"),
            &format!("{sha1} SOURCES/-a"),
            &format!("{} SOURCES/a", "x".repeat(40)),
        ] {
            assert!(of_metadata(bad, false).is_err(), "{bad}");
        }
        let sha512 = "1".repeat(128);
        assert_eq!(of_dist_git(&format!("SHA512 (a-1.tar.gz) = {sha512}")).unwrap().file, "a-1.tar.gz");
        for bad in [
            format!("SHA256 (a) = {sha512}"),
            format!("SHA512 (../a) = {sha512}"),
            "d41d8cd98f00b204e9800998ecf8427e  a".into(),
        ] {
            assert!(of_dist_git(&bad).is_err(), "{bad}");
        }
    }
}
