//! The site's own helper for disttags: what it prints counts, and neither a request nor a branch makes it do anything.

use std::os::unix::fs::PermissionsExt;

use crate::stand::{POLICY, Stand, spec};

/// Asks git, as helpers do, and prints what the checkout has in `tag`.
const HELPER: &str = "#!/bin/sh
printf '%s\\n' \"$@\" > $(dirname \"$0\")/given
git status --short >&2
if grep --quiet fail tag; then echo 'there is no tag for this branch' >&2; exit 3; fi
cat tag
";

#[tokio::test(flavor = "multi_thread")]
async fn a_sites_helper_finds_disttags_and_its_answer_is_not_taken_on_trust() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (helper, marker) = (path("disttag"), path("marker"));
    std::fs::write(&helper, HELPER).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let command = format!("{helper} --site $(touch {marker}) ;touch {marker} `touch {marker}`");
    let stand = Stand::new("null", &format!("disttag_command = {command}\n{POLICY}"));
    let _roles = stand.root.start(&["mqtt-sub"]);
    // What git would run of a configuration that it takes for the user's.
    let own = format!("[core]\n\tfsmonitor = touch {marker}\n[alias]\n\tstatus = !touch {marker}\n");
    let ask = |pkg: &str, tag: &str, more: &[&str]| {
        let files = [("SPECS/x.spec", spec(pkg)), ("tag", tag.to_owned()), (".gitconfig", own.clone())];
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
        stand.repository(pkg, "c9", "import x-1-1.el9", &files);
        let asked = ["-p", pkg, "-b", "c9", "-a", "x86_64", "-t", "mini"];
        stand.request("alice", &[&asked[..], more].concat())
    };

    let ran = ask("good", ".site9\n", &[]).ok();
    assert!(ran.out.contains("/1.0-1.site9.x86_64"), "{ran:?}");
    let given = std::fs::read_to_string(folder.path().join("given")).unwrap();
    assert_eq!(given.lines().collect::<Vec<_>>().join(" "), command.split_once(' ').unwrap().1);
    // Who names one needs none.
    let ran = ask("named", "fail", &["-d", ".mine"]).ok();
    assert!(ran.out.contains("/1.0-1.mine.x86_64"), "{ran:?}");
    let shell = format!("$(touch {marker})");
    for (pkg, tag, why) in [
        (
            "failing",
            "fail",
            "disttag found no disttag and ended by exit status 3: there is no tag for this branch",
        ),
        ("silent", "\n", "disttag printed no disttag for this branch; give one with -d"),
        ("shell", &shell, "disttag printed what is no disttag: "),
        ("macro", "%(id)", "disttag printed what is no disttag: "),
        ("lines", ".el9\n.el10\n", "disttag printed what is no disttag: "),
        ("noise", "\u{1b}[2J\u{0}", "disttag printed what is no disttag: "),
    ] {
        let ran = ask(pkg, tag, &[]);
        assert!(
            ran.code == 2 && ran.err.contains("refused for x86_64: ") && ran.err.contains(why),
            "{why}: {ran:?}"
        );
    }
    assert!(!std::path::Path::new(&marker).exists(), "something was executed");
}
