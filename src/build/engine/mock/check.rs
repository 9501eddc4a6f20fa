//! Whether this machine and user can build with mock: for `engine = auto`, and for `check-config`.

use nix::unistd::{Group, Uid, User, getegid, getgroups};

use super::update::{self, Git};
use super::{Mock, config};
use crate::build::engine::check::{Finding, bad, good};
use crate::sys::process::on_path;
use crate::sys::process::{self, Program};

/// The group whose members may run mock.
const GROUP: &str = "mock";

/// Why mock cannot be used here; nothing where it can.
pub fn unusable(program: &std::ffi::OsStr) -> Option<String> {
    if !on_path(program) {
        return Some("mock is not installed".into());
    }
    allowed().err()
}

/// mock refuses plain root, and whoever is not in its group.
fn allowed() -> Result<String, String> {
    let uid = acting_user()?;
    let name = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    let Some(group) = Group::from_name(GROUP).ok().flatten() else {
        return Err(format!("the group {GROUP}, which mock needs, is missing: run groupadd -r {GROUP}"));
    };
    // Root brings the group along for the user it works for.
    let is_root = Uid::effective().is_root();
    let is_ours = getegid() == group.gid || getgroups().is_ok_and(|groups| groups.contains(&group.gid));
    if is_root || is_ours {
        return Ok(format!("mock works for user {name}, group {GROUP}"));
    }
    Err(format!(
        "user {name} is not in the group {GROUP}: run usermod -a -G {GROUP} {name} as root, and log in again"
    ))
}

/// Whom mock works for: us, or who called sudo.
fn acting_user() -> Result<Uid, String> {
    let uid = Uid::effective();
    if !uid.is_root() {
        return Ok(uid);
    }
    super::sudo_ids().map(|(uid, _)| uid).ok_or_else(|| {
        "mock does not run for root: start the worker as an ordinary user in the group mock (or by sudo, as one)".into()
    })
}

/// See [`Mock::check`].
pub async fn check(mock: &Mock) -> Vec<Finding> {
    let mut found = vec![version(mock).await, as_finding(allowed())];
    let (site, own) = (mock.layout.mock_configs(), mock.layout.mock_own_configs());
    let count = |folder: &std::path::Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "cfg")).count()
    };
    let (ours, theirs) = (count(site), count(own));
    let text = format!(
        "{ours} configurations of the site in {}, {theirs} of mock's own in {}",
        site.display(),
        own.display()
    );
    found.push(if ours + theirs > 0 {
        good(text)
    } else {
        bad(format!("{text}: there is nothing to build with"))
    });
    if site.is_dir() {
        found.push(git(mock).await);
        found.extend(expiry(mock));
    }
    found
}

fn as_finding(result: Result<String, String>) -> Finding {
    result.map_or_else(bad, good)
}

async fn version(mock: &Mock) -> Finding {
    let program = &mock.settings.program;
    match process::output(&Program::new(program).arg("--version")).await {
        Ok(said) if said.end.success() => good(format!("mock {} is installed", said.stdout.trim())),
        Ok(said) => {
            let why =
                said.stderr.lines().find(|line| line.starts_with("ERROR: ")).unwrap_or("it gave no reason");
            bad(format!("mock --version fails: {}", why.trim_start_matches("ERROR: ")))
        }
        Err(error) => bad(error.to_string()),
    }
}

/// No reason to fail: what a site builds may not build on itself.
fn expiry(mock: &Mock) -> Option<Finding> {
    let names = config::without_expiry(&mock.layout, &mock.settings.options.base_url);
    (!names.is_empty()).then(|| {
        good(format!(
            "look at this: by {}.cfg dnf may use metadata that is two days old, and builds then miss what was built since; \
             set metadata_expire=0 in [main] of its dnf.conf",
            names.join(".cfg, ")
        ))
    })
}

async fn git(mock: &Mock) -> Finding {
    let site = mock.layout.mock_configs().display();
    match update::look(mock.layout.mock_configs(), &mock.settings.options).await {
        Git::Unmanaged => good(format!("{site} is used as it is: git does not update it")),
        Git::NoUpstream => good(format!("{site} is used as it is: its git branch has no upstream")),
        Git::Follows(branch) => good(format!("{site} is updated by git from {branch} before each build")),
        Git::Broken(why) => {
            bad(format!("git cannot update {site}: {why}; mend that, or set update = no in [mock]"))
        }
    }
}
