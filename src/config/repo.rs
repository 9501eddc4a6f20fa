//! How repository metadata is made: section [repo].

use std::time::Duration;

use super::{ConfigError, Values};

/// What makes the metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepoEngine {
    /// Built in: only what changed is written anew.
    Incremental,
    /// createrepo_c, over the whole repository each time.
    CreaterepoC,
}

impl RepoEngine {
    pub fn as_str(self) -> &'static str {
        match self {
            RepoEngine::Incremental => "incremental",
            RepoEngine::CreaterepoC => "createrepo_c",
        }
    }
}

/// How the built-in engine compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    /// What a compressed file's name ends in.
    pub fn extension(self) -> &'static str {
        match self {
            Compression::Gzip => "gz",
            Compression::Zstd => "zst",
        }
    }
}

/// How repository metadata is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoOptions {
    pub engine: RepoEngine,
    pub compression: Compression,
    /// After how many runs the built-in engine's metadata is compared with createrepo_c's; 0: never by itself.
    pub verify_every: usize,
    /// How many states before the last one stay readable, however old they are.
    pub keep: usize,
    /// For how long a state stays readable after the next one came.
    pub keep_for: Duration,
    /// What the engine createrepo_c is given, beside what we decide.
    pub createrepo_options: Vec<String>,
}

const CREATEREPO_OPTIONS: &str = "--no-database --update";
/// What we decide: where it writes, what it reads, and the state's number. Names without checksums would be
/// overwritten under their readers.
const OURS: [&str; 7] =
    ["-o", "--outputdir", "-i", "--pkglist", "--revision", "--simple-md-filenames", "--recycle-pkglist"];

impl Default for RepoOptions {
    fn default() -> RepoOptions {
        RepoOptions {
            engine: RepoEngine::Incremental,
            compression: Compression::Gzip,
            verify_every: 0,
            keep: 3,
            keep_for: Duration::from_secs(60),
            createrepo_options: CREATEREPO_OPTIONS.split(' ').map(str::to_owned).collect(),
        }
    }
}

impl Values<'_> {
    pub(super) fn repo(&self) -> Result<RepoOptions, ConfigError> {
        let usual = RepoOptions::default();
        let engine = match self.get("repo", "engine") {
            None => usual.engine,
            Some("incremental") => RepoEngine::Incremental,
            Some("createrepo_c") => RepoEngine::CreaterepoC,
            Some(value) => return Err(self.bad("repo", "engine", value, "incremental or createrepo_c")),
        };
        let compression = match self.get("repo", "compression") {
            None => usual.compression,
            Some("gzip") => Compression::Gzip,
            Some("zstd") => Compression::Zstd,
            Some(value) => return Err(self.bad("repo", "compression", value, "gzip or zstd")),
        };
        Ok(RepoOptions {
            engine,
            compression,
            verify_every: self.number("repo", "verify_every", usual.verify_every, 0..=1_000_000)?,
            keep: self.number("repo", "keep", usual.keep, 0..=1000)?,
            keep_for: Duration::from_secs(self.number("repo", "keep_for", 60, 0..=86_400)? as u64),
            createrepo_options: self.createrepo_options()?,
        })
    }

    fn createrepo_options(&self) -> Result<Vec<String>, ConfigError> {
        let text = self.get("repo", "createrepo_options").unwrap_or(CREATEREPO_OPTIONS);
        let options: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let ours = |option: &String| OURS.contains(&option.split('=').next().unwrap_or_default());
        match options.iter().find(|option| ours(option)) {
            None => Ok(options),
            Some(option) => {
                let wanted = format!("without {option}, which is decided for each run");
                Err(self.bad("repo", "createrepo_options", text, wanted))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn repo(text: &str) -> Result<RepoOptions, String> {
        let config = Config::from_text(text, Some(Path::new("test.ini")), Some(Path::new("/r")));
        config.map(|config| config.repo).map_err(|error| error.to_string())
    }

    #[test]
    fn the_old_systems_option_line_is_accepted() {
        let old =
            "[repo]\nengine = createrepo_c\ncreaterepo_options = -d --update --workers 64 --cachedir /c\n";
        let options = repo(old).unwrap();
        assert_eq!(options.engine, RepoEngine::CreaterepoC);
        assert_eq!(options.createrepo_options, ["-d", "--update", "--workers", "64", "--cachedir", "/c"]);
        assert_eq!(repo(""), Ok(RepoOptions::default()));
    }

    #[test]
    fn what_each_run_decides_cannot_be_configured() {
        for bad in ["-o /x", "--outputdir=/x", "--update --pkglist l", "--revision 1"] {
            let said = repo(&format!("[repo]\ncreaterepo_options = {bad}\n")).unwrap_err();
            assert!(said.contains("but must be without -"), "{said}");
        }
        for bad in ["engine = yum", "compression = xz", "keep = many", "verify_every = -1"] {
            assert!(repo(&format!("[repo]\n{bad}\n")).is_err(), "{bad}");
        }
    }
}
