//! Switching a repository to its next state in one step, and keeping the states before for who still reads them.
//!
//! Everything lies in `repodata/`, flat: files whose names begin with their checksum, `repomd.xml`, perhaps
//! `repomd.xml.asc`, and of every state that is kept the repomd.xml as `<number>-repomd.xml`. A state without a
//! signature is switched to by renaming its repomd.xml over the old one. One with a signature is two files, so there
//! `repodata/` is exchanged with a folder that has both (renameat2(2), `RENAME_EXCHANGE`).

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::repomd::Repomd;
use crate::sys::fs::{self, FileError};

const REPOMD: &str = "repomd.xml";
const SIGNATURE: &str = "repomd.xml.asc";
/// The folder that `repodata/` is exchanged with; until the next switch it holds what readers may be in.
const OTHER: &str = ".repodata.next";

/// One state, to be switched to.
#[derive(Debug)]
pub struct State<'a> {
    pub number: u64,
    pub repomd: &'a [u8],
    /// A detached signature of `repomd`.
    pub signature: Option<&'a [u8]>,
}

/// Switches `tree` to `state`, whose files are in `tree/repodata` already. Durable when it returns.
pub fn switch(tree: &Path, state: &State) -> Result<(), FileError> {
    let live = tree.join("repodata");
    keep_former(&live, state.number)?;
    fs::write_whole(&live.join(kept_name(state.number, REPOMD)), state.repomd)?;
    let kept_signature = live.join(kept_name(state.number, SIGNATURE));
    match state.signature {
        Some(signature) => fs::write_whole(&kept_signature, signature)?,
        None => remove_file(&kept_signature)?,
    }
    if state.signature.is_none() && !live.join(SIGNATURE).exists() {
        rename(&live, state.number)
    } else {
        exchange(tree, &live, state)
    }
}

/// A state that another program made is kept, too, for who is in the middle of a download.
fn keep_former(live: &Path, next: u64) -> Result<(), FileError> {
    let Ok(text) = std::fs::read(live.join(REPOMD)) else { return Ok(()) };
    let Ok(former) = Repomd::parse(&text) else { return Ok(()) };
    let kept = |number| live.join(kept_name(number, REPOMD));
    match former.revision {
        Some(number) if number == next || kept(number).exists() => Ok(()),
        number => link(&live.join(REPOMD), &kept(number.filter(|number| *number < next).unwrap_or(next - 1))),
    }
}

fn kept_name(number: u64, name: &str) -> String {
    format!("{number}-{name}")
}

fn rename(live: &Path, number: u64) -> Result<(), FileError> {
    let (next, to) = (live.join(".repomd.xml.next"), live.join(REPOMD));
    remove_file(&next)?;
    link(&live.join(kept_name(number, REPOMD)), &next)?;
    std::fs::rename(&next, &to).map_err(FileError::at("switch to", &to))?;
    // Where both were the same file already, rename(2) does nothing.
    remove_file(&next)?;
    fs::sync_parent(&to).map_err(FileError::at("sync", live))
}

fn exchange(tree: &Path, live: &Path, state: &State) -> Result<(), FileError> {
    let next = tree.join(OTHER);
    fs::remove_dir(&next)?;
    fs::make_dir(&next)?;
    for name in names(live)? {
        let is_public = !name.as_encoded_bytes().starts_with(b".") && name != REPOMD && name != SIGNATURE;
        if is_public {
            link(&live.join(&name), &next.join(&name))?;
        }
    }
    link(&live.join(kept_name(state.number, REPOMD)), &next.join(REPOMD))?;
    if state.signature.is_some() {
        link(&live.join(kept_name(state.number, SIGNATURE)), &next.join(SIGNATURE))?;
    }
    std::fs::File::open(&next).and_then(|folder| folder.sync_all()).map_err(FileError::at("sync", &next))?;
    fs::exchange(&next, live)?;
    // What was live stays until the next switch: a reader may be between finding the folder and a file in it.
    fs::sync_parent(live).map_err(FileError::at("sync", live))
}

/// Removes what no state needs that is kept: the last one, `keep` before it, and those superseded less than
/// `keep_for` ago.
pub fn prune(tree: &Path, keep: usize, keep_for: Duration) -> Result<(), FileError> {
    let live = tree.join("repodata");
    let names = names(&live)?;
    let mut states: Vec<u64> = names.iter().filter_map(number).collect();
    states.sort_unstable_by(|a, b| b.cmp(a));
    let superseded = |newer: &u64| age(&live.join(kept_name(*newer, REPOMD)));
    let goes = |index: usize| index > keep && superseded(&states[index - 1]) > keep_for;
    let first = (0..states.len()).find(|index| goes(*index)).unwrap_or(states.len());
    let (kept, dropped) = states.split_at(first);
    // To know what is needed every kept state is read: not each time, where there are many.
    if dropped.len() * 4 < kept.len() || dropped.is_empty() {
        return Ok(());
    }
    let mut needed = files_of(&live.join(REPOMD));
    needed.extend(kept.iter().flat_map(|number| files_of(&live.join(kept_name(*number, REPOMD)))));
    for number in dropped {
        let repomd = live.join(kept_name(*number, REPOMD));
        for file in files_of(&repomd).difference(&needed) {
            remove_file(&live.join(file))?;
        }
        remove_file(&live.join(kept_name(*number, SIGNATURE)))?;
        remove_file(&repomd)?;
    }
    Ok(())
}

/// Removes files that no state names: what a run left that died, and what other programs' states were made of.
/// Only names as metadata has them are touched, and nothing younger than `keep_for`.
pub fn sweep(tree: &Path, keep_for: Duration) -> Result<(), FileError> {
    let live = tree.join("repodata");
    let names = names(&live)?;
    let mut needed = files_of(&live.join(REPOMD));
    for name in names.iter().filter(|name| number(name).is_some()) {
        needed.extend(files_of(&live.join(name)));
    }
    for name in &names {
        let text = name.to_string_lossy();
        let is_left = text.starts_with('.') && text.ends_with(".tmp");
        if (is_left || is_checksummed(&text)) && !needed.contains(&*text) && age(&live.join(name)) > keep_for
        {
            remove_file(&live.join(name))?;
        }
    }
    Ok(())
}

/// `<MD5 or longer, hexadecimal>-…`
fn is_checksummed(name: &str) -> bool {
    let checksum = name.split_once('-').map_or("", |(checksum, _)| checksum);
    checksum.len() >= 32 && checksum.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The number of the state that a file name is about: `12-repomd.xml`.
fn number(name: &OsString) -> Option<u64> {
    name.to_str()?.strip_suffix(REPOMD)?.strip_suffix('-')?.parse().ok()
}

fn files_of(repomd: &Path) -> BTreeSet<String> {
    let read = std::fs::read(repomd).ok().and_then(|text| Repomd::parse(&text).ok());
    read.iter().flat_map(Repomd::files).map(str::to_owned).collect()
}

fn age(path: &Path) -> Duration {
    let modified = std::fs::metadata(path).and_then(|found| found.modified());
    modified.ok().and_then(|then| SystemTime::now().duration_since(then).ok()).unwrap_or_default()
}

fn names(folder: &Path) -> Result<Vec<OsString>, FileError> {
    let entries = std::fs::read_dir(folder).map_err(FileError::at("read", folder))?;
    Ok(entries.flatten().map(|entry| entry.file_name()).collect())
}

/// Gives a file a second name; on a file system that cannot, a second file.
pub(super) fn link(from: &Path, to: &Path) -> Result<(), FileError> {
    match std::fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(FileError::at("link to", from)(error))
        }
        Err(_) => fs::copy_whole(from, to),
    }
}

fn remove_file(path: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(FileError::at("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// `tree/repodata/repomd.xml`.
pub fn live(tree: &Path) -> PathBuf {
    tree.join("repodata").join(REPOMD)
}

/// Whether a signature lies beside the live one.
pub fn is_signed(tree: &Path) -> bool {
    tree.join("repodata").join(SIGNATURE).exists()
}

/// The number after all those given out so far.
pub fn next_number(tree: &Path, last: Option<u64>) -> Result<u64, FileError> {
    let kept = names(&tree.join("repodata"))?;
    let last = kept.iter().filter_map(number).chain(last).max();
    Ok(last.unwrap_or_default().saturating_add(1))
}

/// What the engines make themselves.
const MADE: [&str; 3] = ["primary", "filelists", "other"];

/// Takes over into `new` what `old` has besides what the engines make: comps, updateinfo, modules …, as far as the
/// files are there.
pub fn carry_on(tree: &Path, old: &Repomd, new: &mut Repomd) {
    let is_made = |kind: &str| {
        let plain = kind.trim_end_matches("_zck").trim_end_matches("_db").trim_end_matches("-ext");
        MADE.contains(&plain)
    };
    for data in &old.data {
        let is_there = data.file().is_some_and(|file| tree.join("repodata").join(file).is_file());
        if !is_made(&data.kind) && new.of(&data.kind).is_none() && is_there {
            new.data.push(data.clone());
        }
    }
}
