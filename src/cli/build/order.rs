//! The order of packages that are built together: after those that make what they build-require.
//!
//! A source RPM does not tell what it will make. But nearly always that has the package's name, or one that begins
//! with it (`zlib-devel`), and where it has not, the build that lacks it is tried again later.

use crate::cli::Failure;
use crate::model::Layout;
use crate::submit::{Accepted, SubmitError};
use crate::sys::rpm;

/// A package, and which of the others must be built before it.
#[derive(Debug)]
pub struct Ordered {
    pub accepted: Accepted,
    pub number: usize,
    pub needs: Vec<usize>,
}

/// Looks into the source RPMs for who needs whom.
pub fn order(layout: &Layout, packages: Vec<Accepted>) -> Result<Vec<Ordered>, Failure> {
    let names: Vec<String> = packages.iter().map(|package| package.pkgname.to_string()).collect();
    let ordered = packages.into_iter().enumerate().map(|(number, accepted)| {
        let source = rpm::source(&layout.srpm(&accepted.srpm)).map_err(SubmitError::from)?;
        let mut needs: Vec<usize> = source.requires.iter().filter_map(|asked| maker(asked, &names)).collect();
        // What needs itself takes the one that there is.
        needs.retain(|need| *need != number);
        Ok(Ordered { accepted, number, needs })
    });
    ordered.collect()
}

/// Which of the packages makes what is asked for: `zlib` makes `zlib-devel(x86-64)` and `pkgconfig(zlib)`.
fn maker(asked: &str, names: &[String]) -> Option<usize> {
    let asked = asked.strip_prefix("pkgconfig(").unwrap_or(asked);
    let asked = asked.split(['(', ')']).next().unwrap_or_default();
    let makes =
        |name: &str| asked.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    let makers = names.iter().enumerate().filter(|(_, name)| makes(name));
    // Of `python3` and `python3-six` the latter makes `python3-six`.
    makers.max_by_key(|(_, name)| name.len()).map(|(number, _)| number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_made_by_the_package_with_the_longest_name_that_begins_it() {
        let names = ["zlib", "python3", "python3-six", "gcc"].map(str::to_owned);
        let cases = [
            ("zlib", Some(0)),
            ("zlib-devel(x86-64)", Some(0)),
            ("pkgconfig(zlib)", Some(0)),
            ("zlibrary-devel", None),
            ("python3-devel", Some(1)),
            ("python3-six", Some(2)),
            ("(gcc or clang)", None),
            ("rpmlib(CompressedFileNames)", None),
        ];
        for (asked, expected) in cases {
            assert_eq!(maker(asked, &names), expected, "{asked}");
        }
    }
}
