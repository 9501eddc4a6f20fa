//! Running dnf: on the host's file system and network, in mount and process namespaces of its own, with the
//! chroot mounted and furnished so that scriptlets work.
//!
//! It is dnf 4 (`dnf-3`, as Fedora names it beside dnf 5), for a plugin of ours tells exactly what a transaction
//! would install. Nothing of the host's configuration counts: no repositories, no variables, no plugins but
//! builddep. What remains is the host's librpm with its own macros.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::place::Place;
use super::target::TargetFile;
use super::work::{Work, run_plan};
use crate::build::engine::{diagnose, states};
use crate::model::record::RepositoryState;
use crate::model::{Arch, Class, Failure};
use crate::sys::fs::FileError;
use crate::sys::process::{self, Program};
use crate::sys::sandbox::{Bind, Failing, Launcher, Layers, Plan, Report, Step, View};

/// The plugin that writes transactions down.
const PLUGIN: &str = include_str!("reimzul.py");
/// Where dnf finds its cache, in every chroot.
const CACHE: &str = "/var/cache/dnf";
/// How long metadata of repositories elsewhere is good for, unless a target file says otherwise. A BuildRequires
/// that nothing provides is looked for again in fresh metadata before that is believed.
const METADATA_EXPIRE: &str = "60";
/// mock's format of installed_pkgs.log.
pub const PACKAGE_FORMAT: &str = "%{nevra} %{buildtime} %{size} %{pkgid} installed\n";

/// NEVRA -> checksum of everything a transaction installs.
pub type Transaction = BTreeMap<String, String>;

/// One run of dnf.
#[derive(Debug)]
pub struct Call<'a> {
    /// What to do: `install`, `@buildsys-build`.
    pub verb: Vec<String>,
    /// The chroot.
    pub at: PathBuf,
    pub layers: Option<Layers>,
    /// Where dnf's output goes.
    pub log: &'a Path,
    /// Name in, and path of, the state log.
    pub label: String,
    pub state_log: Option<PathBuf>,
    /// A folder for the report and what dnf writes down.
    pub scratch: &'a Path,
    /// Where the list of packages goes that the chroot then holds.
    pub package_list: Option<PathBuf>,
    /// Resolve only.
    pub dry: bool,
    /// Give the chroot what a base needs beyond its packages.
    pub furnish: bool,
}

/// What dnf did.
#[derive(Debug)]
pub struct Done {
    /// What was, or would be, installed; `None` where nothing was to be done.
    pub transaction: Option<Transaction>,
    /// The states of the repositories that it was resolved against.
    pub repositories: Vec<RepositoryState>,
}

/// dnf for one target.
#[derive(Debug, Clone)]
pub struct Dnf {
    pub launcher: Launcher,
    pub place: Place,
    pub target: TargetFile,
    pub arch: Arch,
    /// Whether every run looks for new metadata, however young the copy at hand is.
    pub fresh: bool,
}

impl Dnf {
    /// Runs dnf; where that fails for want of a package, once more with fresh metadata.
    pub async fn run(&self, call: &Call<'_>, work: &Work<'_>) -> Result<Done, Failure> {
        let (folder, _lock) = self.place.dnf().map_err(|error| disk(&error))?;
        let first = self.run_once(call, work, &folder, false).await;
        let elsewhere = self.target.repositories().iter().any(|repository| repository.folder.is_none());
        match first {
            Err(failure) if failure.class == Class::Buildroot && elsewhere => {
                self.run_once(call, work, &folder, true).await
            }
            other => other,
        }
    }

    async fn run_once(
        &self,
        call: &Call<'_>,
        work: &Work<'_>,
        folder: &Path,
        refresh: bool,
    ) -> Result<Done, Failure> {
        self.prepare(folder).await.map_err(|error| disk(&error))?;
        let written = call.scratch.join(format!("transaction-{}.json", uuid::Uuid::new_v4().simple()));
        let plan = self.plan(call, folder, &written, refresh)?;
        let before = std::fs::metadata(call.log).map_or(0, |metadata| metadata.len());
        let report = run_plan(&self.launcher, plan, call.scratch, work, "builddep").await?;
        let transaction: Option<Transaction> =
            std::fs::read(&written).ok().and_then(|json| serde_json::from_slice(&json).ok());
        // A dry run ends with "Operation aborted." and status 1 once it has resolved.
        let resolved = call.dry && (transaction.is_some() || dnf_status(&report) == 0);
        if dnf_status(&report) == 0 || resolved {
            let repositories = states::of_copies(&folder.join("cache"), &self.target.baseurls());
            return Ok(Done { transaction, repositories });
        }
        Err(diagnose::dnf(&diagnose::read_tail(call.log, before), report.full))
    }

    fn plan(&self, call: &Call<'_>, folder: &Path, written: &Path, refresh: bool) -> Result<Plan, Failure> {
        let mut steps = vec![Step {
            label: call.label.clone(),
            argv: self.argv(call, folder, refresh)?,
            env: environment(folder, written),
            as_user: false,
            log: call.log.to_owned(),
            failing: Failing::Ends,
        }];
        if let Some(list) = &call.package_list {
            let rpm = ["rpm", "--root", &text(&call.at), "-qa", "--qf", PACKAGE_FORMAT].map(str::to_owned);
            steps.push(Step {
                label: String::new(),
                argv: rpm.to_vec(),
                env: environment(folder, written),
                as_user: false,
                log: list.clone(),
                failing: Failing::Ignored,
            });
        }
        Ok(Plan {
            at: call.at.clone(),
            layers: call.layers.clone(),
            view: View::Host,
            binds: vec![Bind { from: folder.join("cache"), to: CACHE.into(), read_only: false }],
            copies: Vec::new(),
            files: Vec::new(),
            steps,
            furnish: call.furnish,
            collect: Vec::new(),
            collect_to: None,
            state_log: call.state_log.clone(),
            report: call.scratch.join(format!("report-{}.json", uuid::Uuid::new_v4().simple())),
            bits32: bits32(self.arch),
        })
    }

    fn argv(&self, call: &Call<'_>, folder: &Path, refresh: bool) -> Result<Vec<String>, Failure> {
        let program = program().ok_or_else(|| {
            Failure::new(
                Class::Config,
                "base",
                "dnf 4 is not installed: install the package dnf (Debian) or \
                                                 python3-dnf (Fedora)",
            )
            .retried(true)
        })?;
        let mut argv = vec![
            text(program),
            format!("--config={}", text(&folder.join("dnf.conf"))),
            format!("--installroot={}", text(&call.at)),
            "--disableplugin=*".into(),
            "--enableplugin=reimzul".into(),
            "--enableplugin=builddep".into(),
        ];
        argv.extend(self.target.releasever().map(|version| format!("--releasever={version}")));
        if foreign(self.arch) {
            argv.push(format!("--forcearch={}", self.arch.rpm_target()));
        }
        for repository in self.target.repositories() {
            if repository.folder.is_some() {
                // A look at a folder costs nothing, and what was built just now counts.
                argv.push(format!("--setopt={}.metadata_expire=0", repository.id));
            }
        }
        if refresh || self.fresh {
            argv.push("--refresh".into());
        }
        argv.push(if call.dry { "--assumeno" } else { "--assumeyes" }.into());
        argv.extend(call.verb.iter().cloned());
        Ok(argv)
    }

    /// Writes what dnf reads, into a folder that is ours alone.
    async fn prepare(&self, folder: &Path) -> Result<(), FileError> {
        for part in ["cache", "home", "plugins", "nothing"] {
            crate::sys::fs::make_dir(&folder.join(part))?;
        }
        // Left by a dnf that was killed; its process number may be another's by now.
        for stale in super::place::files_ending(&folder.join("cache"), ".pid") {
            let _ = std::fs::remove_file(stale);
        }
        for repository in self.target.repositories() {
            if let Some(origin) = &repository.folder {
                forget_outdated(&folder.join("cache"), &repository.id, origin)?;
            }
        }
        write(&folder.join("dnf.conf"), &self.conf(folder))?;
        write(&folder.join("plugins/reimzul.py"), PLUGIN)?;
        write(&folder.join("home/.rpmmacros"), &macros(self.target.rpmdb()).await)
    }

    fn conf(&self, folder: &Path) -> String {
        let mut plugins = vec![text(&folder.join("plugins"))];
        plugins.extend(plugin_folders().iter().map(|path| text(path)));
        // An empty folder of ours: any path outside may come to exist, with anything in it.
        let nothing = text(&folder.join("nothing"));
        format!(
            "[main]\nreposdir={nothing}\nvarsdir={nothing}\npluginconfpath={nothing}\n\
             plugins=True\npluginpath={}\ncachedir={CACHE}\nlogdir={CACHE}/log\nlogfilelevel=0\ndebuglevel=2\n\
             keepcache=True\ninstall_weak_deps=False\nbest=True\nobsoletes=True\ngpgcheck=False\n\
             skip_if_unavailable=False\nmetadata_expire={METADATA_EXPIRE}\nprotected_packages=\n\
             retries=3\ntimeout=20\n\n{}",
            plugins.join(","),
            self.target.repositories_conf()
        )
    }
}

/// Whether dnf must be told the arch, since the machine's own is another.
fn foreign(arch: Arch) -> bool {
    arch != Arch::Noarch && Arch::of_this_machine() != Some(arch)
}

/// Whether the chroot is a 32-bit one on a 64-bit machine.
pub fn bits32(arch: Arch) -> bool {
    foreign(arch) && [Arch::I386, Arch::Ppc, Arch::Armv7l].contains(&arch)
}

/// Removes dnf's copy of a local repository's metadata that is not the repository's any more. To dnf even a copy that
/// expires at once is good to the end of the second that it was made in, and in that second much can be built.
fn forget_outdated(cache: &Path, id: &str, origin: &Path) -> Result<(), FileError> {
    let current = std::fs::read(origin.join(states::REPOMD)).ok();
    for (of, copy) in states::copies(cache) {
        if of == id && std::fs::read(copy.join(states::REPOMD)).ok() != current {
            crate::sys::fs::remove_dir(&copy)?;
        }
    }
    Ok(())
}

fn dnf_status(report: &Report) -> i32 {
    report.steps.first().map_or(255, |step| step.status)
}

fn environment(folder: &Path, written: &Path) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = [
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("HOME", text(&folder.join("home"))),
        // What dnf says is read by us.
        ("LC_ALL", "C.UTF-8".to_owned()),
        ("REIMZUL_TRANSACTION", text(written)),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .to_vec();
    for proxy in
        ["http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"]
    {
        env.extend(std::env::var(proxy).ok().map(|value| (proxy.to_owned(), value)));
    }
    env
}

/// The macros that the host's librpm must have for a chroot: most of all, where its database lies.
async fn macros(rpmdb: Option<&str>) -> String {
    let dbpath = match rpmdb {
        Some(path) => Some(path.to_owned()),
        // Debian's rpm has it below the home folder, lest it touch a Debian system's files.
        None => (!usual_dbpath().await).then(|| "/var/lib/rpm".to_owned()),
    };
    let dbpath = dbpath.map(|path| format!("%_dbpath {path}\n")).unwrap_or_default();
    // dnf checks signatures, where the repository asks for that; what we have built ourselves has none yet.
    // What the sandbox mounts there is not for a package to own, nor can an ordinary user's have it owned.
    let mounted = "%_netsharedpath /dev:/proc:/sys\n";
    format!("{dbpath}{mounted}%_pkgverify_level digest\n%__transaction_systemd_inhibit %{{nil}}\n")
}

async fn usual_dbpath() -> bool {
    static USUAL: tokio::sync::OnceCell<bool> = tokio::sync::OnceCell::const_new();
    let ask = async || {
        let output = process::output(&Program::new("rpm").args(["--eval", "%{_dbpath}"])).await;
        output.is_ok_and(|output| ["/var/lib/rpm", "/usr/lib/sysimage/rpm"].contains(&output.stdout.trim()))
    };
    *USUAL.get_or_init(ask).await
}

/// dnf 4's program.
pub fn program() -> Option<&'static Path> {
    ["/usr/bin/dnf-3", "/usr/bin/dnf4"].into_iter().map(Path::new).find(|path| path.exists())
}

/// Where the plugins are that dnf's packages bring.
pub fn plugin_folders() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for lib in ["/usr/lib", "/usr/lib64"] {
        for python in super::place::files_starting(Path::new(lib), "python3") {
            for packages in ["dist-packages", "site-packages"] {
                found.push(python.join(packages).join("dnf-plugins"));
            }
        }
    }
    found.retain(|folder| folder.join("builddep.py").exists());
    found.sort();
    found
}

fn write(path: &Path, content: &str) -> Result<(), FileError> {
    // Left alone where it is right, so that Python need not compile it again.
    if std::fs::read_to_string(path).is_ok_and(|found| found == content) {
        return Ok(());
    }
    std::fs::write(path, content).map_err(FileError::at("write", path))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A file operation of the engine's own failed: the builder's fault.
pub fn disk(error: &FileError) -> Failure {
    let class = if error.is_full() { Class::Disk } else { Class::Config };
    Failure::new(class, "base", error.to_string()).retried(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_outdated_copies_of_the_repository_itself_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let holding = |name: &str, content: &str| {
            let folder = dir.path().join(name);
            std::fs::create_dir_all(folder.join("repodata")).unwrap();
            std::fs::write(folder.join("repodata/repomd.xml"), content).unwrap();
            folder
        };
        let origin = holding("origin", "new");
        let cases = [
            ("a-0123456789abcdef", "old", false),
            ("a-fedcba9876543210", "new", true),
            ("a-b-0123456789abcdef", "old", true),
        ];
        let copies = cases.map(|(name, content, _)| holding(&format!("cache/{name}"), content));
        forget_outdated(&dir.path().join("cache"), "a", &origin).unwrap();
        for (copy, (name, _, stays)) in copies.iter().zip(cases) {
            assert_eq!(copy.exists(), stays, "{name}");
        }
    }
}
