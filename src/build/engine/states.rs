//! The states of the repositories that a build root was made of, read off the copies of metadata that dnf keeps.
//!
//! dnf keeps a repository's metadata in a folder `<id>-<16 hexadecimal digits>` of its cache, with the repomd.xml
//! as it came.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::metadata::repomd::Repomd;
use crate::model::record::RepositoryState;
use crate::sys::fs::sha256;

/// Of a repository, and of dnf's copy of it.
pub const REPOMD: &str = "repodata/repomd.xml";

/// The copies in a cache of dnf's, with the ids of the repositories that they are of.
pub fn copies(cache: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(cache).into_iter().flatten().flatten();
    let copy = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let (id, hash) = name.rsplit_once('-')?;
        let is_copy = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_copy.then(|| (id.to_owned(), entry.path()))
    };
    entries.filter_map(copy).collect()
}

/// The states of these repositories (id and baseurl) that the copies in `cache` are of, by id.
pub fn of_copies(cache: &Path, baseurls: &BTreeMap<String, String>) -> Vec<RepositoryState> {
    let known = newest(cache).into_iter().filter(|(id, _)| baseurls.contains_key(id));
    known.filter_map(|(id, (_, repomd))| state(&id, baseurls.get(&id), &repomd)).collect()
}

/// The states that the copies in `cache` are of, as far as they are as old as `until` at least: what came later, another
/// build has fetched.
pub fn of_copies_until(cache: &Path, until: Change) -> Vec<RepositoryState> {
    let old = newest(cache).into_iter().filter(|(_, (changed, _))| *changed <= until);
    old.filter_map(|(id, (_, repomd))| state(&id, None, &repomd)).collect()
}

/// When a file was last changed: seconds of Unix time, and nanoseconds. That of its modification may be a server's.
pub type Change = (i64, i64);

fn change(path: &Path) -> Option<Change> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.ctime(), found.ctime_nsec()))
}

/// The newest copy's repomd.xml of each repository; there are several of one that has had several baseurls.
fn newest(cache: &Path) -> BTreeMap<String, (Change, PathBuf)> {
    let mut newest: BTreeMap<String, (Change, PathBuf)> = BTreeMap::new();
    for (id, copy) in copies(cache) {
        let repomd = copy.join(REPOMD);
        let Some(changed) = change(&repomd) else { continue };
        if newest.get(&id).is_none_or(|(other, _)| *other < changed) {
            newest.insert(id, (changed, repomd));
        }
    }
    newest
}

/// None where the file cannot be read.
fn state(id: &str, baseurl: Option<&String>, repomd: &Path) -> Option<RepositoryState> {
    let text = std::fs::read(repomd).ok()?;
    Some(RepositoryState {
        id: id.to_owned(),
        baseurl: baseurl.cloned(),
        revision: Repomd::parse(&text).ok().and_then(|repomd| repomd.revision),
        sha256: sha256(repomd).ok()?.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_off_the_copies_that_were_there_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let copy = |name: &str, revision: &str| {
            let repodata = dir.path().join(name).join("repodata");
            std::fs::create_dir_all(&repodata).unwrap();
            let text = format!("<repomd><revision>{revision}</revision></repomd>");
            std::fs::write(repodata.join("repomd.xml"), text).unwrap();
        };
        copy("own-0123456789abcdef", "12");
        copy("base-os-0123456789abcdef", "today");
        copy("own-other", "1");
        std::fs::create_dir(dir.path().join("empty-0123456789abcdef")).unwrap();
        let until = change(&dir.path().join("base-os-0123456789abcdef").join(REPOMD)).unwrap();
        let seen: Vec<_> = of_copies_until(dir.path(), until)
            .into_iter()
            .map(|state| (state.id, state.revision, state.baseurl))
            .collect();
        assert_eq!(seen, [("base-os".to_owned(), None, None), ("own".to_owned(), Some(12), None)]);
        std::thread::sleep(std::time::Duration::from_millis(20));
        copy("own-fedcba9876543210", "13");
        let ids = |seen: Vec<RepositoryState>| seen.into_iter().map(|state| state.id).collect::<Vec<_>>();
        assert_eq!(ids(of_copies_until(dir.path(), until)), ["base-os"]);
        let urls = BTreeMap::from([("own".to_owned(), "file://$root/x".to_owned())]);
        let [own] = of_copies(dir.path(), &urls).try_into().unwrap();
        assert_eq!((own.revision, own.baseurl.as_deref()), (Some(13), Some("file://$root/x")));
    }
}
