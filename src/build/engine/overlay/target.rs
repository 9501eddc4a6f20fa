//! A target of the overlay engine: `targets/<target>.repo`, an ordinary `.repo` file of dnf's and a section
//! `[reimzul]` of ours.
//!
//! | key | meaning | default |
//! | --- | --- | --- |
//! | `buildroot` | packages and `@groups` of every build root, separated by spaces | needed |
//! | `disttag` | `%dist` where a submitter asks for none | empty |
//! | `timeout` | seconds that installing BuildRequires and building may take together | 14400 |
//! | `own_repository` | whether what was built for the target can be build-required | yes |
//! | `releasever` | dnf's `$releasever` | what the host's dnf finds |
//! | `rpmdb` | the RPM database's folder in the build root | what the host's rpm uses |
//!
//! `$root` (or `${root}`) stands for the root folder, everywhere in the file; dnf's own variables are dnf's.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use configparser::ini::Ini;

use crate::model::{Arch, Disttag, Layout, Target};
use crate::sys::ini::{self, Double};
use crate::targets::{self, UnknownTarget};

const SECTION: &str = "reimzul";
const KEYS: [&str; 6] = ["buildroot", "disttag", "timeout", "own_repository", "releasever", "rpmdb"];
const TIMEOUT: Duration = Duration::from_secs(4 * 3600);

/// A target file, read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetFile {
    name: Target,
    path: PathBuf,
    root: PathBuf,
    /// Without our section; `$root` not yet expanded.
    repositories_text: String,
    repositories: Vec<Repository>,
    buildroot: Vec<String>,
    disttag: Disttag,
    timeout: Duration,
    own_repository: Option<PathBuf>,
    releasever: Option<String>,
    rpmdb: Option<String>,
}

/// A repository of a target file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    pub id: String,
    /// Its baseurl, or where a list of its mirrors is.
    pub url: String,
    /// Where it lies, if that is a folder of this machine.
    pub folder: Option<PathBuf>,
}

/// A target that cannot be built for.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error(transparent)]
    Unknown(#[from] UnknownTarget),
    #[error("cannot read the target file {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("the target file {} {what}", path.display())]
    Wrong { path: PathBuf, what: String },
}

impl TargetFile {
    /// Reads the file for builds of `arch` into `target`. A companion arch has a file of its own: that of
    /// `c7.u.x86_64` for i386 is `c7.u.i386.repo`. For noarch it may have one.
    pub fn for_arch(layout: &Layout, target: &Target, arch: Arch) -> Result<TargetFile, TargetError> {
        let file = &targets::overlay_name(layout, target, arch);
        let path = layout.target_file(file);
        let text = match ini::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(targets::unknown_to_overlay(layout, target, arch).into());
            }
            Err(source) => return Err(TargetError::Unreadable { path, source }),
        };
        let root = std::path::absolute(layout.root())
            .map_err(|source| TargetError::Unreadable { path: path.clone(), source })?;
        let own =
            root.join(layout.repository(target, false).strip_prefix(layout.root()).unwrap_or(Path::new("")));
        TargetFile::parse(file, &path, &root, &own, &text).map_err(|what| TargetError::Wrong { path, what })
    }

    fn parse(name: &Target, path: &Path, root: &Path, own: &Path, text: &str) -> Result<TargetFile, String> {
        let (ours, repositories_text) = split(text);
        let values = read_section(&ours)?;
        let value = |key: &str| values.get(key).map(|value| expand(value, root));
        let buildroot: Vec<String> =
            value("buildroot").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        if buildroot.is_empty() {
            return Err("lacks the line 'buildroot = …' in its section [reimzul]: give the packages and \
                        @groups of a build root, such as @buildsys-build"
                .into());
        }
        if let Some(option) = buildroot.iter().find(|word| word.starts_with('-')) {
            return Err(format!("names '{option}' as a package of the build root"));
        }
        Ok(TargetFile {
            name: name.clone(),
            path: path.to_owned(),
            root: root.to_owned(),
            repositories: repositories(&expand(&repositories_text, root))?,
            repositories_text,
            buildroot,
            disttag: value("disttag")
                .unwrap_or_default()
                .parse()
                .map_err(|error| format!("has a wrong value: {error}"))?,
            timeout: seconds(value("timeout"))?,
            own_repository: yes(value("own_repository").as_deref())?.then(|| own.to_owned()),
            releasever: value("releasever"),
            rpmdb: value("rpmdb"),
        })
    }

    /// The file's own name, which a companion arch makes differ from the target built into.
    pub fn name(&self) -> &Target {
        &self.name
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `%dist` where a submitter asks for none.
    pub fn disttag(&self) -> &Disttag {
        &self.disttag
    }

    /// What a submitter asked for, or the target's own where he asked for none.
    pub fn disttag_for<'a>(&'a self, asked: &'a Disttag) -> &'a Disttag {
        if asked.as_str().is_empty() { &self.disttag } else { asked }
    }

    /// How long installing BuildRequires and building may take together.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What every build root holds.
    pub fn buildroot(&self) -> &[String] {
        &self.buildroot
    }

    pub fn releasever(&self) -> Option<&str> {
        self.releasever.as_deref()
    }

    pub fn rpmdb(&self) -> Option<&str> {
        self.rpmdb.as_deref()
    }

    /// The repositories there are now: the file's, and the target's own once it has metadata.
    pub fn repositories(&self) -> Vec<Repository> {
        let mut all = self.repositories.clone();
        if let Some(folder) = self.own() {
            let url = format!("file://{}", folder.display());
            all.push(Repository { id: OWN_ID.into(), url, folder: Some(folder.to_owned()) });
        }
        all
    }

    /// Where each of them lies, by id, as the file says it.
    pub fn baseurls(&self) -> BTreeMap<String, String> {
        self.repositories().into_iter().map(|one| (one.id, self.unexpanded(&one.url))).collect()
    }

    /// With `$root` in the place of the root folder, which may move.
    fn unexpanded(&self, url: &str) -> String {
        let path = url.strip_prefix("file://").and_then(|path| Path::new(path).strip_prefix(&self.root).ok());
        path.map_or_else(|| url.to_owned(), |below| format!("file://$root/{}", below.display()))
    }

    /// The repositories' part of a dnf.conf, the target's own repository included.
    pub fn repositories_conf(&self) -> String {
        let mut text = expand(&self.repositories_text, &self.root);
        if let Some(folder) = self.own() {
            let own = format!(
                "\n[{OWN_ID}]\nname=What was built for {}\nbaseurl=file://{}\ngpgcheck=0\n",
                self.name,
                folder.display()
            );
            text.push_str(&own);
        }
        text
    }

    /// What makes two versions of the file different for a build root. The root folder does not: it may move.
    pub fn identity(&self) -> String {
        format!("{:?} {:?} {:?}\n{}", self.buildroot, self.releasever, self.rpmdb, self.repositories_text)
    }

    fn own(&self) -> Option<&Path> {
        self.own_repository.as_deref().filter(|folder| folder.join("repodata/repomd.xml").exists())
    }
}

/// The id of the target's own repository.
const OWN_ID: &str = "reimzul-own";

/// What stands in the file's name for a companion arch; `None` where it is the target's own.
/// The name of the file for builds of `arch` into `target`.
/// Our section's lines, and all others.
fn split(text: &str) -> (String, String) {
    let (mut ours, mut theirs, mut in_ours) = (String::new(), String::new(), false);
    for line in text.lines() {
        if line.starts_with('[') {
            in_ours =
                line.trim_end().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) == Some(SECTION);
        }
        let part = if in_ours { &mut ours } else { &mut theirs };
        part.push_str(line);
        part.push('\n');
    }
    (ours, theirs)
}

fn read_section(text: &str) -> Result<BTreeMap<String, String>, String> {
    match ini::first_double(text) {
        Some(Double::Section(_)) => return Err("has the section [reimzul] twice; make it one".into()),
        Some(Double::Key { key, .. }) => {
            return Err(format!("has the key '{}' twice in its section [reimzul]", key.escape_debug()));
        }
        None => {}
    }
    let mut ini = Ini::new_cs();
    ini.set_multiline(true);
    let sections = ini
        .read(text.to_owned())
        .map_err(|error| format!("has a section [reimzul] that cannot be read: {error}"))?;
    let mut values = BTreeMap::new();
    for (key, value) in sections.into_values().flatten() {
        if !KEYS.contains(&key.as_str()) {
            return Err(format!(
                "has an unknown key '{}' in its section [reimzul]{}",
                key.escape_debug(),
                nearest(&key)
            ));
        }
        values.insert(key, value.unwrap_or_default());
    }
    Ok(values)
}

fn nearest(key: &str) -> String {
    ini::nearest(key, KEYS.into_iter()).map(|near| format!(", did you mean '{near}'?")).unwrap_or_default()
}

/// Puts the root folder in place of `$root` and `${root}`; `$rootfs` is another variable, and none of ours.
fn expand(text: &str, root: &Path) -> String {
    let root = root.to_string_lossy();
    let mut pieces = text.split('$');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let bare = piece
            .strip_prefix("root")
            .filter(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
        match piece.strip_prefix("{root}").or(bare) {
            Some(rest) => out.extend([root.as_ref(), rest]),
            None => out.extend(["$", piece]),
        }
    }
    out
}

fn repositories(text: &str) -> Result<Vec<Repository>, String> {
    let mut ini = Ini::new_cs();
    ini.set_inline_comment_symbols(Some(&[]));
    ini.set_multiline(true);
    let sections = ini.read(text.to_owned()).map_err(|error| format!("cannot be read: {error}"))?;
    if sections.contains_key("main") {
        return Err("has a section [main]: dnf's own settings are given by the engine".into());
    }
    let mut found = Vec::new();
    for (id, keys) in sections {
        let value = |key: &str| keys.get(key).cloned().flatten().unwrap_or_default();
        if ["0", "no", "false", "off"].contains(&value("enabled").to_lowercase().as_str()) {
            continue;
        }
        let urls = ["baseurl", "mirrorlist", "metalink"].into_iter().map(value);
        let Some(url) = urls.into_iter().find(|url| !url.is_empty()) else {
            return Err(format!("has a section [{id}] with neither baseurl, mirrorlist nor metalink"));
        };
        let folder =
            value("baseurl").strip_prefix("file://").filter(|path| !path.contains('$')).map(PathBuf::from);
        found.push(Repository { id, url, folder });
    }
    if found.is_empty() {
        return Err("names no repository: add a section with a baseurl, as in any .repo file".into());
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

fn seconds(value: Option<String>) -> Result<Duration, String> {
    let Some(text) = value else { return Ok(TIMEOUT) };
    match text.parse() {
        Ok(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("has 'timeout = {text}': give a number of seconds")),
    }
}

fn yes(value: Option<&str>) -> Result<bool, String> {
    match value.map(str::to_lowercase).as_deref() {
        None | Some("yes" | "true" | "1" | "on") => Ok(true),
        Some("no" | "false" | "0" | "off") => Ok(false),
        Some(other) => Err(format!("has 'own_repository = {other}': give yes or no")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# a comment\n[reimzul]\nbuildroot = @buildsys-build make\ndisttag = .x1\n\n\
                        [one]\nbaseurl = file://$root/repo/\n[two]\nbaseurl=http://host/$basearch/#x\n";

    fn parse(text: &str) -> Result<TargetFile, String> {
        let name = "t.x86_64".parse().unwrap();
        TargetFile::parse(&name, Path::new("t.repo"), Path::new("/r"), Path::new("/r/own"), text)
    }

    #[test]
    fn the_sections_part_and_root_is_expanded() {
        let file = parse(TEXT).unwrap();
        assert_eq!(file.buildroot(), ["@buildsys-build", "make"]);
        assert_eq!(file.disttag().as_str(), ".x1");
        assert_eq!(file.timeout(), TIMEOUT);
        let conf = file.repositories_conf();
        assert!(conf.contains("file:///r/repo/") && conf.contains("$basearch"), "{conf}");
        assert!(!conf.contains("[reimzul]") && !conf.contains("buildroot"), "{conf}");
        let folders: Vec<_> = file.repositories().into_iter().map(|repository| repository.folder).collect();
        assert_eq!(folders, [Some(PathBuf::from("/r/repo/")), None]);
        let urls: Vec<String> = file.baseurls().into_values().collect();
        assert_eq!(urls, ["file://$root/repo", "http://host/$basearch/#x"]);
    }

    #[test]
    fn faults_are_named_in_a_sentence() {
        let fault = |text: &str| parse(text).unwrap_err();
        insta::assert_snapshot!(
            [
                fault(&TEXT.replace("disttag", "distag")),
                fault(&TEXT.replace("buildroot = @buildsys-build make", "")),
                fault("[reimzul]\nbuildroot = x\n"),
                fault(&format!("{TEXT}[main]\nx=1\n")),
                fault(&format!("{TEXT}[three]\nname=3\n")),
                fault(&TEXT.replace("disttag = .x1", "timeout = soon")),
                fault(&TEXT.replace("disttag = .x1", "own_repository = perhaps")),
                fault(&TEXT.replace(".x1", "a b")),
                fault(&TEXT.replace(" make", " --nogpgcheck")),
            ]
            .join("\n"),
            @r"
        has an unknown key 'distag' in its section [reimzul], did you mean 'disttag'?
        lacks the line 'buildroot = …' in its section [reimzul]: give the packages and @groups of a build root, such as @buildsys-build
        names no repository: add a section with a baseurl, as in any .repo file
        has a section [main]: dnf's own settings are given by the engine
        has a section [three] with neither baseurl, mirrorlist nor metalink
        has 'timeout = soon': give a number of seconds
        has 'own_repository = perhaps': give yes or no
        has a wrong value: disttag 'a b' has characters other than letters, digits and . _ + ~ ^ -
        names '--nogpgcheck' as a package of the build root
        "
        );
    }

    #[test]
    fn an_unknown_target_lists_those_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let load = || {
            TargetFile::for_arch(&layout, &"no.x86_64".parse().unwrap(), Arch::X86_64)
                .unwrap_err()
                .to_string()
        };
        assert!(load().ends_with("targets here: none"), "{}", load());
        std::fs::create_dir(layout.targets()).unwrap();
        std::fs::write(layout.targets().join("a.x86_64.repo"), TEXT).unwrap();
        assert!(load().ends_with("targets here: a.x86_64"), "{}", load());
    }

    #[test]
    fn only_the_variable_itself_is_expanded() {
        let root = Path::new("/$root/x");
        assert_eq!(expand("$root/a $rootfs ${root}b $root", root), "/$root/x/a $rootfs /$root/xb /$root/x");
    }
}
