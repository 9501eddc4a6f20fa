//! By which name the program was called: the old commands are symlinks to this one, with the same letters.

use std::ffi::OsString;
use std::path::Path;

/// The old names, without the `.py` that some sites have them with, and what each means today.
///
/// Scripts read the lines that `reimzul_query` prints, all of them.
const OLD: [(&str, &[&str]); 6] = [
    ("reimzul_submit", &["submit"]),
    ("reimzul_client", &["request"]),
    ("reimzul_query", &["query", "--classic", "--limit", "0"]),
    ("reimzul_fix_build", &["override"]),
    ("submit_repogen", &["repogen"]),
    ("stats", &["stats"]),
];

/// The command line as it reads under our own name.
pub fn arguments(typed: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut typed: Vec<OsString> = typed.collect();
    let called = typed.first().and_then(|first| Path::new(first).file_name());
    let called = called.unwrap_or_default().to_string_lossy();
    let called = called.strip_suffix(".py").unwrap_or(&called);
    if let Some((_, means)) = OLD.iter().find(|(old, _)| *old == called) {
        let means = std::iter::once("reimzul").chain(means.iter().copied()).map(OsString::from);
        typed.splice(..1, means);
    }
    typed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &[&str]) -> String {
        let words = arguments(typed.iter().map(OsString::from));
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn an_old_name_is_todays_command_wherever_it_lies() {
        assert_eq!(read(&["/usr/bin/reimzul_submit.py", "-s", "x"]), "reimzul submit -s x");
        assert_eq!(read(&["reimzul_fix_build", "-c", "why"]), "reimzul override -c why");
        assert_eq!(read(&["./submit_repogen.py", "mini.x86_64"]), "reimzul repogen mini.x86_64");
        assert_eq!(read(&["stats.py"]), "reimzul stats");
        assert_eq!(read(&["/opt/stats/reimzul", "query"]), "/opt/stats/reimzul query");
        assert_eq!(read(&["reimzul_client", "-p", "bash"]), "reimzul request -p bash");
    }
}
