//! The configuration that mock is given.
//!
//! One of mock's own is used where it is. One of the site's is a template: `http://repohost` and `TARGETNAME` stand
//! for what they are here, and mock wants `site-defaults.cfg`, `logging.ini` and whatever it includes beside it. So
//! it is generated, into `cache/mock/configs/<root name>/<n>/`. mock discards its root cache when the configuration's
//! mtime is newer: a version stays as it is for as long as its text would be the same, and a change makes a new
//! folder rather than changing files that a mock is reading.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::running;
use crate::model::{Arch, Class, Failure, Layout, PkgName, Target, VersionRelease};
use crate::sys::fs::{FileError, make_dir, remove_dir};
use crate::targets::{self, MockConfig};

/// What mock is told to use.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Prepared {
    /// For `-r`.
    pub config: PathBuf,
    /// For `--configdir`.
    pub configdir: PathBuf,
}

/// What a configuration is looked for by.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub pkgname: &'a PkgName,
    pub evr: &'a VersionRelease,
    pub target: &'a Target,
    pub arch: Arch,
}

/// Files by their names below the configdir.
type Texts = BTreeMap<PathBuf, String>;

/// Finds the configuration, and generates it where it is a template. To be called by one process at a time.
pub fn prepare(layout: &Layout, base_url: &str, wanted: Wanted<'_>) -> Result<Prepared, Failure> {
    let Wanted { pkgname, evr, target, arch } = wanted;
    let found = targets::mock_config(layout, Some((pkgname, evr)), target, arch)
        .ok_or_else(|| failed(targets::unknown_to_mock(layout, target, arch).to_string()))?;
    if let MockConfig::Own(config) = found {
        return Ok(Prepared { config, configdir: layout.mock_own_configs().to_owned() });
    }
    let name = root_name(&found, wanted);
    let texts = generate(layout, found.path(), &name, base_url)?;
    let folder = super::cache(layout).join("configs").join(&name);
    let configdir = current(&folder, &texts).map_err(|error| disk(&error))?;
    forget_others(layout, &folder, &configdir);
    Ok(Prepared { config: configdir.join(format!("{name}.cfg")), configdir })
}

/// What `TARGETNAME` stands for: the same for all builds that may share a root cache, and for no others.
fn root_name(found: &MockConfig, wanted: Wanted<'_>) -> String {
    let Wanted { pkgname, evr, target, arch } = wanted;
    let mut name = target.configured_as(arch).to_string();
    if !name.ends_with(&format!(".{arch}")) {
        name = format!("{name}.{arch}");
    }
    if matches!(found, MockConfig::Package(_)) { format!("{name}.{pkgname}-{evr}") } else { name }
}

/// Everything that belongs into the configdir.
fn generate(layout: &Layout, template: &Path, name: &str, base_url: &str) -> Result<Texts, Failure> {
    let mut texts = Texts::new();
    let folders = [layout.mock_configs(), layout.mock_own_configs()];
    let substituted = |text: &str| text.replace("http://repohost", base_url).replace("TARGETNAME", name);
    let config = substituted(&read(template)?);
    let mut includes = included(&config);
    texts.insert(format!("{name}.cfg").into(), config);
    while let Some(include) = includes.pop() {
        // mock says itself what it cannot find.
        let Some(path) = first_of(&folders, &include).filter(|_| !texts.contains_key(&include)) else {
            continue;
        };
        let text = substituted(&read(&path)?);
        includes.extend(included(&text));
        texts.insert(include, text);
    }
    for beside in ["site-defaults.cfg", "logging.ini"] {
        if let Some(path) = first_of(&folders, Path::new(beside)) {
            texts.insert(beside.into(), read(&path)?);
        }
    }
    Ok(texts)
}

/// The site's configurations by which dnf may take metadata that it has for new enough, so that a build does not see
/// what was built a moment ago. Includes that are no literals are not looked at.
pub fn without_expiry(layout: &Layout, base_url: &str) -> Vec<String> {
    let entries = std::fs::read_dir(layout.mock_configs()).into_iter().flatten().flatten();
    let names =
        entries.filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".cfg").map(str::to_owned));
    let says_so = |name: &String| {
        let texts = generate(layout, &layout.mock_configs().join(format!("{name}.cfg")), name, base_url);
        // What cannot be read is told when it is to be used.
        texts.map_or(true, |texts| texts.values().any(|text| text.lines().any(is_no_expiry)))
    };
    let mut found: Vec<String> = names.filter(|name| name != "site-defaults" && !says_so(name)).collect();
    found.sort();
    found
}

/// `metadata_expire=0`
fn is_no_expiry(line: &str) -> bool {
    let parts = line.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
    parts == Some(("metadata_expire", "0"))
}

fn first_of(folders: &[&Path], name: &Path) -> Option<PathBuf> {
    folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The files that a configuration includes from its configdir. mock looks for lines `include(…)` and evaluates what
/// stands in the parentheses; other than literals we leave to it.
fn included(text: &str) -> Vec<PathBuf> {
    let literal = |line: &str| {
        let rest = line.trim_start().strip_prefix("include(")?.trim_start();
        let quote = rest.chars().next().filter(|c| ['\'', '"'].contains(c))?;
        let (path, _) = rest[1..].split_once(quote)?;
        Some(PathBuf::from(path))
    };
    let is_below = |path: &PathBuf| {
        let mut parts = path.components().peekable();
        parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_)))
    };
    text.lines().filter_map(literal).filter(is_below).collect()
}

/// The newest version below `folder` if it has these texts; else one that is made.
fn current(folder: &Path, texts: &Texts) -> Result<PathBuf, FileError> {
    let newest = versions(folder).into_iter().max();
    if let Some(path) = newest.map(|n| folder.join(n.to_string())).filter(|path| holds(path, texts)) {
        return Ok(path);
    }
    make_dir(folder)?;
    let making = folder.join(format!(".{}.tmp", uuid::Uuid::new_v4().simple()));
    for (name, text) in texts {
        let path = making.join(name);
        make_dir(path.parent().unwrap_or(&making))?;
        std::fs::write(&path, text).map_err(FileError::at("write", &path))?;
    }
    let path = folder.join((newest.unwrap_or(0) + 1).to_string());
    std::fs::rename(&making, &path).map_err(FileError::at("put into place", &path))?;
    Ok(path)
}

fn holds(folder: &Path, texts: &Texts) -> bool {
    let same = texts
        .iter()
        .all(|(name, text)| std::fs::read_to_string(folder.join(name)).is_ok_and(|there| there == *text));
    // One that is there no longer counts too: mock would still read it.
    same && ["site-defaults.cfg", "logging.ini"]
        .iter()
        .all(|name| texts.contains_key(Path::new(name)) || !folder.join(name).exists())
}

fn versions(folder: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Removes the versions that no build uses, and what a dead process has left half made.
fn forget_others(layout: &Layout, folder: &Path, current: &Path) {
    let in_use: Vec<PathBuf> =
        running::notes(layout).into_iter().map(|note| note.prepared.configdir).collect();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path != current && !in_use.contains(&path) {
            let _ = remove_dir(&path);
        }
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| failed(format!("cannot read mock's configuration {}: {error}", path.display())))
}

fn failed(line: String) -> Failure {
    Failure::new(Class::Config, "config", line)
}

fn disk(error: &FileError) -> Failure {
    Failure::new(Class::Disk, "config", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_includes_below_the_configdir_are_found() {
        let text = "include('templates/a.tpl')\n  include( \"b.cfg\" )\n# include('c')\ninclude(x + 'd')\n\
                    include('../e')\ninclude('/f')\ninclude('')\ninclude('g\nincluded('h')\n";
        assert_eq!(included(text), [Path::new("templates/a.tpl"), Path::new("b.cfg")]);
    }
}
