//! The steps of rpmbuild in the chroot, as mock runs them.

use std::path::{Path, PathBuf};

use super::dnf::bits32;
use crate::model::{Arch, Disttag};
use crate::sys::sandbox::{BUILD_HOME, Failing, Layers, Plan, Step, View};

const TOPDIR: &str = "/builddir/build";

/// rpmbuild's status when %generate_buildrequires asks for packages that are not installed.
pub const BUILDREQUIRES_MISSING: i32 = 11;

/// What all of a build's sandboxes have in common.
#[derive(Debug)]
pub struct Chroot<'a> {
    pub at: PathBuf,
    pub layers: Layers,
    pub arch: Arch,
    pub disttag: &'a Disttag,
    /// NAME-VERSION-RELEASE of the source RPM, for the state log.
    pub nvr: &'a str,
    /// Name of the spec in SPECS.
    pub spec: &'a str,
    pub build_log: PathBuf,
    pub root_log: PathBuf,
    pub state_log: Option<PathBuf>,
    /// A folder for reports.
    pub scratch: PathBuf,
}

impl Chroot<'_> {
    /// Unpacks the source RPM, packs it again so that the disttag and this target's macros apply, and builds it
    /// if its BuildRequires happen to be in the base already.
    pub fn unpack_and_try(&self, srpm: &Path, to: &Path) -> Plan {
        let original = format!("{BUILD_HOME}/original.src.rpm");
        // None of rpm's plugins has a part in unpacking sources, and those of a small chroot may lack libraries.
        // --noplugins does not exist in rpm before 4.12.
        let unpack = ["rpm", "-i", "--nodeps", "--define", "__plugindir /nonexistent", &original];
        let steps = vec![
            Step { log: self.root_log.clone(), ..self.step("", &unpack, Failing::Ends) },
            self.rpmbuild("buildsrpm", &["-bs", "--nodeps"], Failing::Ends),
            self.rpmbuild("rpmbuild", &["-bb"], Failing::Probe),
        ];
        Plan {
            copies: vec![(srpm.to_owned(), original.into())],
            files: vec![(PathBuf::from(BUILD_HOME).join(".rpmmacros"), self.macros())],
            collect: vec![rpms(), srpms()],
            collect_to: Some(to.to_owned()),
            ..self.plan(steps)
        }
    }

    /// Packs a spec and its sources into a source RPM: the same one for the same files, so that asking for a build
    /// of an unchanged spec again is no new source.
    pub fn pack(&self, spec: &Path, sources: &[PathBuf], to: &Path) -> Plan {
        let place = |folder: &str, from: &Path| {
            Path::new(TOPDIR).join(folder).join(from.file_name().unwrap_or_default())
        };
        let mut copies: Vec<_> = sources.iter().map(|from| (from.clone(), place("SOURCES", from))).collect();
        copies.push((spec.to_owned(), place("SPECS", spec)));
        let mut step = self.rpmbuild("buildsrpm", &["-bs", "--nodeps"], Failing::Ends);
        step.argv.extend(["--define", "use_source_date_epoch_as_buildtime 1"].map(str::to_owned));
        step.env.push(("SOURCE_DATE_EPOCH".to_owned(), newest(&copies).to_string()));
        Plan {
            copies,
            files: vec![(PathBuf::from(BUILD_HOME).join(".rpmmacros"), self.macros())],
            collect: vec![srpms()],
            collect_to: Some(to.to_owned()),
            ..self.plan(vec![step])
        }
    }

    /// Runs %prep and %generate_buildrequires; what the latter asks for is in the collected `.nosrc.rpm`.
    pub fn generate_buildrequires(&self, to: &Path) -> Plan {
        let step =
            self.rpmbuild("rpmbuild -br", &["-br", "--nodeps"], Failing::Accepts(BUILDREQUIRES_MISSING));
        Plan { collect: vec![srpms()], collect_to: Some(to.to_owned()), ..self.plan(vec![step]) }
    }

    /// Builds. The BuildRequires are installed; the chroot's rpm may be unable to read the host's database.
    /// After [`Chroot::generate_buildrequires`] the source RPM is packed again, with what was generated.
    pub fn build(&self, generated: bool, to: &Path) -> Plan {
        let flags: &[&str] = if generated { &["-ba", "--noprep", "--nodeps"] } else { &["-bb", "--nodeps"] };
        let mut collect = vec![rpms()];
        collect.extend(generated.then(srpms));
        Plan {
            collect,
            collect_to: Some(to.to_owned()),
            ..self.plan(vec![self.rpmbuild("rpmbuild", flags, Failing::Ends)])
        }
    }

    /// The same files and macros as in mock's chroots, so that a build that runs rpm itself sees them, too.
    fn macros(&self) -> String {
        format!(
            "%_topdir {TOPDIR}\n%_rpmfilename %%{{NAME}}-%%{{VERSION}}-%%{{RELEASE}}.%%{{ARCH}}.rpm\n\
             %_buildhost localhost\n{}",
            match self.disttag.as_str() {
                "" => String::new(),
                tag => format!("%dist {tag}\n"),
            }
        )
    }

    fn rpmbuild(&self, what: &str, flags: &[&str], failing: Failing) -> Step {
        let spec = format!("{TOPDIR}/SPECS/{}", self.spec);
        let mut argv = vec!["rpmbuild", "--target", self.arch.rpm_target()];
        argv.extend(flags);
        argv.push(&spec);
        self.step(&format!("{what} {}.src.rpm", self.nvr), &argv, failing)
    }

    fn step(&self, label: &str, argv: &[&str], failing: Failing) -> Step {
        Step {
            label: label.to_owned(),
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            env: environment(),
            as_user: true,
            log: self.build_log.clone(),
            failing,
        }
    }

    fn plan(&self, steps: Vec<Step>) -> Plan {
        Plan {
            at: self.at.clone(),
            layers: Some(self.layers.clone()),
            view: View::Chroot,
            binds: Vec::new(),
            copies: Vec::new(),
            files: Vec::new(),
            steps,
            furnish: false,
            collect: Vec::new(),
            collect_to: None,
            state_log: self.state_log.clone(),
            report: self.scratch.join(format!("report-{}.json", uuid::Uuid::new_v4().simple())),
            bits32: bits32(self.arch),
        }
    }
}

/// When the last of the files was changed, in seconds of Unix time.
fn newest(copies: &[(PathBuf, PathBuf)]) -> u64 {
    let changed = |from: &Path| {
        let time = std::fs::metadata(from).and_then(|data| data.modified()).ok()?;
        Some(time.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs())
    };
    copies.iter().filter_map(|(from, _)| changed(from)).max().unwrap_or_default()
}

fn rpms() -> PathBuf {
    PathBuf::from(TOPDIR).join("RPMS")
}

fn srpms() -> PathBuf {
    PathBuf::from(TOPDIR).join("SRPMS")
}

/// mock's environment.
fn environment() -> Vec<(String, String)> {
    [
        ("HOME", BUILD_HOME),
        ("HOSTNAME", "localhost"),
        ("LANG", "C.UTF-8"),
        ("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"),
        ("SHELL", "/bin/bash"),
        ("TERM", "vt100"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec()
}
