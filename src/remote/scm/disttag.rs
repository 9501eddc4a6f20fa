//! Finding the disttag of a request that names none: by the site's helper, from the newest import, or from the branch.

use std::path::Path;

use super::ScmError;
use super::checkout::{Checkout, Git, bare};
use crate::model::text::plain;
use crate::model::{Disttag, GitRef};
use crate::sys::process::{self, End};

/// What a helper may take.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);

pub async fn find(git: &Git<'_>, checkout: &Checkout, branch: &GitRef) -> Result<Disttag, ScmError> {
    if let Some((program, arguments)) = git.scm.disttag_command.split_first() {
        return by_helper(program, arguments, git.work, checkout).await;
    }
    let newest = ["log", "--max-count=1", "--format=%H %s", "--grep=^import ", &checkout.commit, "--"];
    let newest = git.ask(&checkout.folder, &newest).await?;
    let imported =
        newest.split_once(' ').and_then(|(commit, subject)| of_import(subject, commit == checkout.commit));
    let found = imported.or_else(|| of_branch(branch.as_str()));
    let found = found.ok_or_else(|| {
        ScmError::refused(format!(
            "no disttag can be told from branch {branch}: it has no commit 'import NAME-VERSION-RELEASE' with .el in \
             it, and is not called c<N>; give one with -d"
        ))
    })?;
    found.parse().map_err(|error| ScmError::refused(format!("the disttag found in git is none: {error}")))
}

/// `import bash-4.2.46-29.el7_4` is `.el7_4`, or `.el7_4.centos` where it is not the last commit.
fn of_import(subject: &str, is_last: bool) -> Option<String> {
    let nvr = subject.strip_prefix("import ")?.split_whitespace().next()?;
    let release = nvr.trim_end_matches(".src.rpm").rsplit_once('-')?.1;
    let tag = &release[release.find(".el")?..];
    Some(if is_last { tag.to_owned() } else { format!("{tag}.centos") })
}

/// `c7`, `c7-plus` and `c10s` are `.el7`, `.el7` and `.el10`.
fn of_branch(branch: &str) -> Option<String> {
    let digits: String = branch.strip_prefix('c')?.chars().take_while(char::is_ascii_digit).collect();
    (!digits.is_empty()).then(|| format!(".el{digits}"))
}

async fn by_helper(
    program: &str,
    arguments: &[String],
    home: &Path,
    checkout: &Checkout,
) -> Result<Disttag, ScmError> {
    // Helpers ask git, which would run what a .gitconfig of the checkout says if its home were there.
    let mut helper = bare(program, home).args(arguments);
    helper.cwd = Some(checkout.folder.clone());
    let said = tokio::time::timeout(LIMIT, process::output(&helper)).await;
    let said = said.map_err(|_| ScmError::refused(format!("{program} found no disttag in time")))??;
    match (said.end, said.stdout.trim()) {
        (End::Exited(0), "") => {
            Err(ScmError::refused(format!("{program} printed no disttag for this branch; give one with -d")))
        }
        (End::Exited(0), tag) => tag
            .parse()
            .map_err(|error| ScmError::refused(format!("{program} printed what is no disttag: {error}"))),
        (end, _) => {
            let last = plain(said.stderr.lines().last().unwrap_or_default());
            Err(ScmError::refused(format!("{program} found no disttag and ended by {end}: {last}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disttag_is_the_newest_imports_or_the_branchs() {
        assert_eq!(of_import("import bash-4.2.46-29.el7_4", true).as_deref(), Some(".el7_4"));
        assert_eq!(of_import("import bash-4.2.46-29.el7_4", false).as_deref(), Some(".el7_4.centos"));
        assert_eq!(of_import("import python-x-1-2.el8.1.src.rpm", true).as_deref(), Some(".el8.1"));
        assert_eq!(of_import("import bash-4-1", true), None);
        assert_eq!(of_import("import ", true), None);
        assert_eq!(of_branch("c7-plus").as_deref(), Some(".el7"));
        assert_eq!((of_branch("main"), of_branch("c")), (None, None));
    }
}
