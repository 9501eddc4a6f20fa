//! createrepo_c is the oracle: both engines' metadata of the same RPMs, read by its own parser, says the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use reimzul::config::{Compression, RepoEngine, RepoOptions};
use reimzul::metadata::{Made, Repository, Wanted};

use crate::rpms;

/// A repository in a folder of its own.
pub struct Place {
    folder: tempfile::TempDir,
    pub repository: Repository,
}

impl Place {
    pub fn new(engine: RepoEngine) -> Place {
        let folder = tempfile::Builder::new().prefix("reimzul-metadata-").tempdir().unwrap();
        let (tree, cache) = (folder.path().join("tree"), folder.path().join("cache"));
        std::fs::create_dir(&tree).unwrap();
        let options = RepoOptions { engine, ..RepoOptions::default() };
        Place { repository: Repository { tree, cache, options }, folder }
    }

    pub fn tree(&self) -> &Path {
        &self.repository.tree
    }

    pub fn wanted(&self) -> Wanted {
        let tree = self.tree().to_owned();
        Wanted { all: Arc::new(move || Ok(found(&tree))), only: None }
    }

    /// All RPMs of the tree are wanted.
    pub async fn update(&self) -> Made {
        self.repository.lock().await.unwrap().update(self.wanted(), None).await.unwrap()
    }

    /// Only the folder of an RPM is looked at.
    pub async fn update_only(&self, folder: &Path) -> Made {
        let relative = folder.strip_prefix(self.tree()).unwrap().to_owned();
        let files = found(folder).iter().map(|file| relative.join(file)).collect();
        let only = Some(BTreeMap::from([(relative, files)]));
        let wanted = Wanted { only, ..self.wanted() };
        self.repository.lock().await.unwrap().update(wanted, None).await.unwrap()
    }

    /// The metadata that createrepo_c makes of the same files from scratch, in a folder that links to them.
    pub fn oracle(&self) -> PathBuf {
        let oracle = self.folder.path().join("oracle");
        let _ = std::fs::remove_dir_all(&oracle);
        for file in found(self.tree()) {
            let to = oracle.join(&file);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::hard_link(self.tree().join(&file), to).unwrap();
        }
        std::fs::create_dir_all(&oracle).unwrap();
        let mut command = Command::new("createrepo_c");
        let output = command.args(["--quiet", "--no-database"]).arg(&oracle).output();
        assert!(output.expect("cannot run createrepo_c: install createrepo-c").status.success());
        oracle
    }

    /// Nothing differs from what createrepo_c says.
    pub fn agrees(&self) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/metadata/describe.py");
        let mut command = Command::new("/usr/bin/python3");
        let output = command.arg(script).arg(self.tree()).arg(self.oracle()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!error.contains("No module named"), "install the package python3-createrepo-c\n{error}");
        assert!(output.status.success(), "{said}\n{error}");
        said
    }
}

/// The RPMs below a folder, relative to it.
pub fn found(folder: &Path) -> Vec<PathBuf> {
    fn gather(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && entry.file_name() != "repodata" {
                gather(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rpm") {
                into.push(path);
            }
        }
    }
    let mut all = Vec::new();
    gather(folder, &mut all);
    let mut all: Vec<PathBuf> =
        all.iter().map(|path| path.strip_prefix(folder).unwrap().to_owned()).collect();
    all.sort();
    all
}

#[tokio::test]
async fn thousands_of_rpms_are_described_as_createrepo_c_does() {
    let mut place = Place::new(RepoEngine::Incremental);
    rpms::varied(&place.tree().join("varied"), 2048);
    rpms::by_rpmbuild(&place.tree().join("rpmbuild"));
    let real = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/mini-distro");
    assert!(real.is_dir(), "make fixtures makes {}", real.display());
    let links = place.tree().join("real");
    std::fs::create_dir(&links).unwrap();
    for file in found(&real) {
        std::fs::copy(real.join(&file), links.join(file.file_name().unwrap())).unwrap();
    }
    let made = place.update().await;
    assert!(made.packages > 2150 && made.excluded.is_empty(), "{made:?}");
    assert_eq!(place.agrees().trim(), format!("{} packages, 0 differences", made.packages));
    // In the other format what is said is the same; createrepo_c's parser of Debian 12 does not read it.
    place.repository.options.compression = Compression::Zstd;
    let again = place.update().await;
    assert_eq!((again.packages, again.state, again.is_new), (made.packages, made.state + 1, true));
}
