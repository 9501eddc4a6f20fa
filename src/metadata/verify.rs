//! Comparing a repository's metadata with what createrepo_c makes of the same files, and making it anew where they
//! differ.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::incremental::{self, Trust};
use super::package::{self, Kind};
use super::repomd::Repomd;
use super::{Locked, MetadataError, Repository, Sign, Wanted, blocking, createrepo, excluded};
use crate::config::RepoEngine;
use crate::sys::fs::{self, FileError};
use crate::sys::rpm::Stat;

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The state that was compared.
    pub state: Option<u64>,
    /// RPMs in createrepo_c's lists.
    pub packages: usize,
    pub found: Vec<Difference>,
    /// The state that was made anew because of them.
    pub repaired: Option<u64>,
    /// What the built-in engine said wrongly even when it read everything anew: so createrepo_c made that state, and it
    /// makes the next ones.
    pub wrong_anew: Vec<Difference>,
    /// What differs even then.
    pub left: Vec<Difference>,
}

/// One way in which a package is not described as createrepo_c does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `primary`, `filelists` or `other`.
    pub list: &'static str,
    /// A path in the primary list, the digest of an RPM in the others.
    pub package: String,
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Missing,
    Extra,
    Differs,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { list, package, what } = self;
        match what {
            What::Missing => write!(f, "{package} is missing in {list}"),
            What::Extra => write!(f, "{package} is in {list} and should not be"),
            What::Differs => write!(f, "{package} is described wrongly in {list}"),
        }
    }
}

impl Locked {
    /// Compares, and repairs: takes as long as createrepo_c takes to read everything, and a few times that where
    /// something differs.
    pub async fn verify(&self, wanted: Wanted, sign: Option<Sign<'_>>) -> Result<Verified, MetadataError> {
        let Repository { tree, cache, .. } = &self.repository;
        fs::make_dir(&tree.join("repodata"))?;
        // Builds go on arriving: all of this is about those that are here now.
        let files = blocking(move || Ok((wanted.all)()?)).await?;
        let wanted = Wanted { all: Arc::new(move || Ok(files.clone())), only: None };
        let state = Repository::state(tree)?;
        let (packages, found) = self.compare(&wanted).await?;
        let (wrong_anew, left) = (Vec::new(), Vec::new());
        let mut verified = Verified { state, packages, found, repaired: None, wrong_anew, left };
        if verified.found.is_empty() {
            return Ok(verified);
        }
        if self.engine() == RepoEngine::Incremental {
            let made = self.incrementally(wanted.clone(), Trust::Nothing, sign).await?;
            verified.repaired = Some(made.state);
            verified.wrong_anew = self.compare(&wanted).await?.1;
            if verified.wrong_anew.is_empty() {
                return Ok(verified);
            }
            distrust(cache)?;
        }
        fs::remove_dir(&cache.join("repodata"))?;
        verified.repaired = Some(self.by_createrepo(wanted.clone(), sign).await?.state);
        verified.left = self.compare(&wanted).await?.1;
        Ok(verified)
    }

    /// How many packages there are by createrepo_c, and where the live metadata says otherwise.
    async fn compare(&self, wanted: &Wanted) -> Result<(usize, Vec<Difference>), MetadataError> {
        let truth = self.truth(wanted).await?;
        let tree = self.repository.tree.clone();
        blocking(move || {
            let path = super::publish::live(&tree);
            // What cannot be read says nothing.
            let ours = read(&tree, &path).unwrap_or_default();
            let lists = Kind::ALL.iter().zip(ours.iter().zip(&truth));
            let found =
                lists.flat_map(|(kind, (ours, truth))| differences(kind.as_str(), ours, truth)).collect();
            Ok((truth[0].len(), found))
        })
        .await
    }

    /// What createrepo_c says of the files that can be listed.
    async fn truth(&self, wanted: &Wanted) -> Result<[Described; 3], MetadataError> {
        let Repository { tree, cache, .. } = self.repository.clone();
        let (all, place) = (wanted.all.clone(), cache.join("verify"));
        fs::remove_dir(&place)?;
        fs::make_dir(&place)?;
        let known = excluded::read(&cache);
        let from = tree.clone();
        let packages = blocking(move || {
            let (mut packages, _) = excluded::sort_out(&from, all()?);
            // Unless it can be listed by now.
            let is_left_out =
                |file: &PathBuf| known.iter().any(|one| one.file == *file) && !is_good(&from, file);
            packages.retain(|file| !is_left_out(file));
            Ok(packages)
        })
        .await?;
        let options = ["--no-database", "--general-compress-type=gz"].map(str::to_owned);
        createrepo::run(&tree, &place, &packages, 0, &options).await?;
        blocking(move || {
            let described = read(&place, &place.join("repodata/repomd.xml"));
            fs::remove_dir(&place)?;
            described
        })
        .await
    }
}

/// Whether the built-in engine would list a file.
fn is_good(tree: &Path, file: &Path) -> bool {
    let read = |stat| package::read(tree, file.to_str()?, stat, None).ok();
    Stat::of(&tree.join(file)).ok().and_then(read).is_some()
}

/// In the cache of a repository for which the built-in engine was found to be wrong: the version of this program.
const DISTRUSTED: &str = "by-createrepo_c";

/// Has createrepo_c make the repository's metadata until there is another version of this program, which then reads
/// everything anew.
fn distrust(cache: &Path) -> Result<(), MetadataError> {
    incremental::forget(cache)?;
    Ok(fs::write_whole(&cache.join(DISTRUSTED), env!("CARGO_PKG_VERSION").as_bytes())?)
}

pub(super) fn is_distrusted(cache: &Path) -> bool {
    std::fs::read(cache.join(DISTRUSTED)).is_ok_and(|version| version == env!("CARGO_PKG_VERSION").as_bytes())
}

/// Packages of a list, with what it says of each in a form that does not depend on how it is laid out. A package that
/// stands there twice has it twice.
type Described = BTreeMap<String, Vec<String>>;

fn differences(list: &'static str, ours: &Described, truth: &Described) -> Vec<Difference> {
    let difference = |package: &String, what| Difference { list, package: package.clone(), what };
    let wrong = truth.iter().filter_map(|(package, said)| match ours.get(package) {
        None => Some(difference(package, What::Missing)),
        Some(ours) if ours != said => Some(difference(package, What::Differs)),
        Some(_) => None,
    });
    let extra = ours.keys().filter(|package| !truth.contains_key(*package));
    wrong.chain(extra.map(|package| difference(package, What::Extra))).collect()
}

fn read(folder: &Path, repomd: &Path) -> Result<[Described; 3], MetadataError> {
    let text = std::fs::read(repomd).map_err(FileError::at("read", repomd))?;
    let unreadable = |reason| MetadataError::Unreadable { path: repomd.to_owned(), reason };
    let repomd = Repomd::parse(&text).map_err(unreadable)?;
    let list = |kind: Kind| {
        let file = repomd.of(kind.as_str()).and_then(|data| data.file());
        let file = file.ok_or_else(|| unreadable(format!("it names no {}", kind.as_str())))?;
        let path = folder.join("repodata").join(file);
        describe(&path).map_err(|reason| MetadataError::Unreadable { path: path.clone(), reason })
    };
    Ok([list(Kind::Primary)?, list(Kind::Filelists)?, list(Kind::Other)?])
}

fn open(path: &Path) -> io::Result<Box<dyn Read>> {
    let file = File::open(path)?;
    Ok(match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => Box::new(zstd::stream::Decoder::new(file)?),
        _ => Box::new(file),
    })
}

fn describe(path: &Path) -> Result<Described, String> {
    let input = open(path).map_err(|error| error.to_string())?;
    let mut reader = Reader::from_reader(BufReader::new(input));
    let mut found = Described::new();
    let (mut said, mut word, mut name) = (String::new(), String::new(), String::new());
    // Where the last tag begins that is no entry.
    let mut list = 0;
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        let event = reader.read_event_into(&mut buffer).map_err(|error| error.to_string())?;
        match event {
            Event::Start(tag) => {
                list = said.len();
                begin(&tag, &mut said, &mut word, &mut name);
            }
            Event::Empty(tag) => {
                let at = said.len();
                begin(&tag, &mut said, &mut word, &mut name);
                said.push_str("</>");
                // Without `pre` two may be the same.
                if tag.local_name().as_ref() == ENTRY && said[list..at].contains(&said[at..]) {
                    said.truncate(at);
                }
            }
            Event::Text(text) => word.push_str(&text),
            Event::GeneralRef(entity) => {
                let whole = format!("&{};", &*entity);
                word.push_str(&quick_xml::escape::unescape(&whole).map_err(|error| error.to_string())?);
            }
            Event::End(tag) => {
                said.push_str(if word.trim().is_empty() { "" } else { &word });
                word.clear();
                said.push_str("</>");
                if tag.local_name().as_ref() == "package" {
                    found.entry(std::mem::take(&mut name)).or_default().push(std::mem::take(&mut said));
                    list = 0;
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    for said in found.values_mut() {
        said.sort();
    }
    Ok(found)
}

/// A dependency. Which scriptlets make it one that is needed before (`pre`) createrepo_c has come to see otherwise
/// (1.1.1): that is not compared.
const ENTRY: &str = "entry";

/// The attributes stand in their own order.
fn begin(tag: &BytesStart, said: &mut String, word: &mut String, name: &mut String) {
    word.clear();
    let local = tag.local_name();
    let local: &str = local.as_ref();
    if matches!(local, "metadata" | "filelists" | "otherdata") {
        return;
    }
    let value =
        |text: &str| quick_xml::escape::unescape(text).map(std::borrow::Cow::into_owned).unwrap_or_default();
    let mut attributes: Vec<(String, String)> = tag
        .attributes()
        .flatten()
        .map(|attribute| (attribute.key.as_ref().to_owned(), value(&attribute.value)))
        .filter(|(key, _)| (local, key.as_str()) != (ENTRY, "pre"))
        .collect();
    attributes.sort();
    said.push('<');
    said.push_str(local);
    for (key, value) in &attributes {
        let _ = write!(said, " {key}={value:?}");
        if (local, key.as_str()) == ("location", "href") || (local, key.as_str()) == ("package", "pkgid") {
            name.clone_from(value);
        }
    }
    said.push('>');
}
