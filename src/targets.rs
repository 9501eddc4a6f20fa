//! Which targets this machine knows: the overlay engine's target files (`targets/<target>.repo`), and mock's
//! configurations, the site's (`<target>.cfg`) and mock's own (`/etc/mock/<target>-<arch>.cfg`).
//!
//! Who takes jobs in, who builds them and who words the errors all look here.

use std::path::{Path, PathBuf};

use crate::model::{Arch, Layout, PkgName, Target, VersionRelease};

/// What lies beside the configurations and is none.
const NOT_TARGETS: [&str; 2] = ["site-defaults", "chroot-aliases"];

/// A configuration for mock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MockConfig {
    /// Of the site, for one package's one version.
    Package(PathBuf),
    /// Of the site.
    Site(PathBuf),
    /// Brought along by mock.
    Own(PathBuf),
}

impl MockConfig {
    pub fn path(&self) -> &Path {
        match self {
            MockConfig::Package(path) | MockConfig::Site(path) | MockConfig::Own(path) => path,
        }
    }
}

/// A target that this machine's configuration has nothing for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no target {target}{nearest}: there is {}; targets here: {known}", none_of(looked_for))]
pub struct UnknownTarget {
    target: Target,
    looked_for: Vec<PathBuf>,
    nearest: String,
    known: String,
}

fn none_of(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    match paths.as_slice() {
        [] => "no configuration for it".into(),
        [only] => format!("no file {only}"),
        more => format!("neither {}", more.join(" nor ")),
    }
}

/// The target file that builds of `arch` into `target` use, or would use.
pub fn overlay_file(layout: &Layout, target: &Target, arch: Arch) -> PathBuf {
    layout.target_file(&overlay_name(layout, target, arch))
}

/// What that file is called. For noarch a target may have a file of its own, or serve itself.
pub fn overlay_name(layout: &Layout, target: &Target, arch: Arch) -> Target {
    let name = target.configured_as(arch);
    if arch == Arch::Noarch && !layout.target_file(&name).exists() { target.clone() } else { name }
}

/// The configuration that mock is given: the first that exists of the package's own, the target's, and mock's own.
pub fn mock_config(
    layout: &Layout,
    package: Option<(&PkgName, &VersionRelease)>,
    target: &Target,
    arch: Arch,
) -> Option<MockConfig> {
    mock_configs(layout, package, target, arch).into_iter().find(|config| config.path().is_file())
}

/// Where [`mock_config`] looks, in this order.
fn mock_configs(
    layout: &Layout,
    package: Option<(&PkgName, &VersionRelease)>,
    target: &Target,
    arch: Arch,
) -> Vec<MockConfig> {
    let site = layout.mock_configs();
    let name = target.configured_as(arch);
    let mut configs = Vec::new();
    if let Some((pkgname, evr)) = package {
        configs.push(MockConfig::Package(site.join(format!("{pkgname}-{evr}.{arch}.cfg"))));
    }
    configs.push(MockConfig::Site(site.join(format!("{name}.cfg"))));
    let own = own_names(&name, arch).into_iter();
    configs.extend(own.map(|name| MockConfig::Own(layout.mock_own_configs().join(format!("{name}.cfg")))));
    configs
}

/// What mock may call a target: `epel-9.x86_64` is its `epel-9-x86_64`, `epel-9.i386` is `epel-9-i386` or
/// `epel-9-i686`.
fn own_names(name: &Target, arch: Arch) -> Vec<String> {
    let Some((stem, last)) = name.as_str().rsplit_once('.') else { return Vec::new() };
    if last.parse() != Ok(arch) {
        return Vec::new();
    }
    let other: &[&str] = match arch {
        Arch::I386 | Arch::I686 => &["i386", "i686"],
        Arch::Armv7l | Arch::Armhfp => &["armhfp", "armv7hl", "armv7l"],
        _ => &[],
    };
    let mut arches = vec![last];
    arches.extend(other.iter().copied().filter(|other| *other != last));
    arches.into_iter().map(|arch| format!("{stem}-{arch}")).collect()
}

/// Tells a wrong target before it is queued, where this machine can tell: where it has target files or a site's
/// configurations for mock. What mock brings along it may have by chance, so that alone forbids nothing.
pub fn check(
    layout: &Layout,
    package: Option<(&PkgName, &VersionRelease)>,
    target: &Target,
    arch: Arch,
) -> Result<(), UnknownTarget> {
    let can_tell = [layout.targets().as_path(), layout.mock_configs()]
        .iter()
        .any(|folder| std::fs::read_dir(folder).is_ok());
    let is_known =
        overlay_file(layout, target, arch).exists() || mock_config(layout, package, target, arch).is_some();
    if is_known || !can_tell { Ok(()) } else { Err(unknown(layout, target, arch)) }
}

/// The error for a target that neither engine has a file for.
fn unknown(layout: &Layout, target: &Target, arch: Arch) -> UnknownTarget {
    let mut error = unknown_to_overlay(layout, target, arch);
    if layout.targets().is_dir() && !layout.mock_configs().is_dir() {
        return error;
    }
    let UnknownTarget { looked_for, .. } = unknown_to_mock(layout, target, arch);
    if layout.targets().is_dir() {
        error.looked_for.extend(looked_for);
    } else {
        error.looked_for = looked_for;
    }
    error.tell_of(known_to_overlay(layout).into_iter().chain(known_to_mock(layout)), &own_targets(layout))
}

/// The error for a target that the overlay engine has no file for.
pub fn unknown_to_overlay(layout: &Layout, target: &Target, arch: Arch) -> UnknownTarget {
    let looked_for = vec![overlay_file(layout, target, arch)];
    UnknownTarget { target: target.clone(), looked_for, nearest: String::new(), known: String::new() }
        .tell_of(known_to_overlay(layout), &[])
}

/// The error for a target that mock has no configuration for.
pub fn unknown_to_mock(layout: &Layout, target: &Target, arch: Arch) -> UnknownTarget {
    let configs = mock_configs(layout, None, target, arch);
    let looked_for = configs.iter().map(|config| config.path().to_owned()).collect();
    UnknownTarget { target: target.clone(), looked_for, nearest: String::new(), known: String::new() }
        .tell_of(known_to_mock(layout), &own_targets(layout))
}

impl UnknownTarget {
    /// Names the targets there are, and the one that was perhaps meant: also of mock's own, which are too many to
    /// be listed.
    fn tell_of(self, known: impl IntoIterator<Item = String>, more: &[String]) -> UnknownTarget {
        let mut known: Vec<String> = known.into_iter().collect();
        known.sort();
        known.dedup();
        let asked = self.target.as_str();
        let distance = |name: &String| (strsim::damerau_levenshtein(asked, name), name.clone());
        let nearest = known.iter().chain(more).map(distance).min();
        let nearest = nearest.filter(|(distance, name)| *distance <= 1 + name.len() / 4);
        UnknownTarget {
            nearest: nearest.map_or_else(String::new, |(_, name)| format!(" (did you mean {name}?)")),
            known: if known.is_empty() { "none".into() } else { known.join(", ") },
            ..self
        }
    }
}

fn known_to_overlay(layout: &Layout) -> Vec<String> {
    stems(&layout.targets(), ".repo")
}

fn known_to_mock(layout: &Layout) -> Vec<String> {
    let mut names = stems(layout.mock_configs(), ".cfg");
    names.retain(|name| !NOT_TARGETS.contains(&name.as_str()));
    names
}

/// mock's own, as they are called on the wire.
fn own_targets(layout: &Layout) -> Vec<String> {
    let on_the_wire = |name: String| {
        let (stem, arch) = name.rsplit_once('-')?;
        arch.parse::<Arch>().ok().map(|_| format!("{stem}.{arch}"))
    };
    stems(layout.mock_own_configs(), ".cfg").into_iter().filter_map(on_the_wire).collect()
}

/// The names of the files in `folder` that end with `end`, without that end.
fn stems(folder: &Path, end: &str) -> Vec<String> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(end).map(str::to_owned))
        .filter(|name| !name.starts_with('.'))
        .collect()
}

#[cfg(test)]
mod tests;
