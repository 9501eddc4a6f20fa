//! RPMs by the thousand, made by the `rpm` crate in a moment; and some that only rpmbuild can make.

// The bench uses a part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;

use rpm::{BuildConfig, CompressionType, Dependency, FileOptions, PackageBuilder, Scriptlet};

/// A package with `files` files, at `<tree>/<name>/…/<name>-1.0-<release>.noarch.rpm`, as a finished build.
pub fn build(tree: &Path, name: &str, release: usize, files: usize) -> PathBuf {
    let folder = tree.join(format!("{name}/20260101000000/1.0-{release}.x86_64"));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{name}-1.0-{release}.noarch.rpm"));
    let mut package = begun(name, release);
    for file in 0..files {
        let folder = if file % 7 == 0 { "bin" } else { "share/some/folder" };
        add(&mut package, &format!("/usr/{folder}/{name}-{file}"));
    }
    write(&mut package, &path);
    std::fs::write(folder.join("build.json"), "{}").unwrap();
    path
}

fn begun(name: &str, release: usize) -> PackageBuilder {
    let mut package = PackageBuilder::new(name, "1.0", "MIT", "noarch", &format!("The package {name}"));
    package
        .release(release.to_string())
        .description(format!(
            "{name} is there to be listed. It has a description of some length, as most have."
        ))
        .url(format!("https://example.org/{name}"))
        .build_host("builder.example.org")
        .using_config(plain())
        .add_changelog_entry("A Packager <a@example.org> - 1.0", "- the first one", 1_700_000_000_u32)
        .requires(Dependency::any("libc.so.6()(64bit)"))
        .requires(Dependency::greater_eq("bash", "5.0"));
    package
}

fn plain() -> BuildConfig {
    BuildConfig::v4().compression(CompressionType::None)
}

fn add(package: &mut PackageBuilder, path: &str) {
    package.with_file_contents(path, FileOptions::new(path)).unwrap();
}

fn write(package: &mut PackageBuilder, path: &Path) {
    package.build().unwrap().write_file(path).unwrap();
}

/// Packages that between them have all that the `rpm` crate can say.
pub fn varied(folder: &Path, count: usize) {
    std::fs::create_dir_all(folder).unwrap();
    for number in 0..count {
        let name = format!("varied-{number}");
        let mut package = begun(&name, number % 9 + 1);
        vary(&mut package, number);
        write(&mut package, &folder.join(format!("{name}.rpm")));
    }
}

/// What the bits of `number` say is there.
fn vary(package: &mut PackageBuilder, number: usize) {
    let has = |bit: usize| number >> bit & 1 == 1;
    if has(0) {
        package.epoch(u32::try_from(number % 5).unwrap());
        package.vendor("Vendor & <Sons>").packager("\"P\" <p@example.org>").group("Development/Tools");
    }
    if has(1) {
        package
            .provides(Dependency::eq("config(x)", "1:2.0-3"))
            .provides(Dependency::any("/usr/bin/own"))
            .requires(Dependency::any("/usr/bin/own"))
            .requires(Dependency::any("(foo if bar else (baz and qux >= 2:1-1))"))
            .requires(Dependency::less("dup", "3"))
            .requires(Dependency::less("dup", "3"))
            .requires(Dependency::less("dup", "4"));
    }
    if has(2) {
        package
            .recommends(Dependency::any("r"))
            .suggests(Dependency::eq("s", "1"))
            .enhances(Dependency::greater("e", "1:0"))
            .supplements(Dependency::any("(kernel if langpacks)"));
    }
    if has(3) {
        package
            .conflicts(Dependency::less_eq("c", "0:1.2-3"))
            .obsoletes(Dependency::less("o", "2-1"))
            .requires(Dependency::eq("bad-epoch", "x:1"));
    }
    if has(4) {
        for version in ["2.2.5", "2.34", "2.4", "2.14"] {
            package.requires(Dependency::any(format!("libc.so.6(GLIBC_{version})(64bit)")));
        }
        package.requires(Dependency::script_pre("/bin/sh")).requires(Dependency::script_post("/bin/sh"));
        package
            .requires(Dependency::script_preun("/bin/sh"))
            .requires(Dependency::rpmlib("FileDigests", "4.6.0-1"));
    }
    if has(5) {
        for entry in 0..15_u32 {
            let time = 1_600_000_000 + entry / 4 * 86400;
            package.add_changelog_entry(
                format!("Jörg <j@x>  - {entry}  "),
                format!("- <{entry}>\n- &\ttab"),
                time,
            );
        }
    }
    if has(6) {
        package.with_dir_entry(FileOptions::dir("/etc/some.d")).unwrap();
        package.with_dir_entry(FileOptions::dir("/var/bin/folder")).unwrap();
        package.with_ghost(FileOptions::ghost("/etc/ghost")).unwrap();
        package.with_ghost(FileOptions::ghost("/var/lib/ghost")).unwrap();
        package.with_symlink(FileOptions::symlink("/usr/lib/sendmail", "/usr/sbin/x")).unwrap();
        for path in ["/usr/bin/a b", "/usr/share/ü<&>\"'", "/etc/x", "/usr/bin/own", "/opt/cabin/file"] {
            add(package, path);
        }
    }
    if has(7) {
        package.using_config(BuildConfig::v4().compression(CompressionType::Zstd));
        package.description("tab\there\nline & <b>ünïcödé \u{1F600}");
    }
    if has(8) {
        package.file_trigger_in("/usr/lib", None, Scriptlet::new("true"));
        package.post_install_script(Scriptlet::new("true"));
    }
}

/// What needs rpmbuild: Latin-1, triggers of all kinds, prerequisites, source RPMs, huge file lists, its payloads.
pub fn by_rpmbuild(folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let work = tempfile::tempdir().unwrap();
    let huge: Vec<String> = (0..30_000).map(|n| format!("%ghost /srv/folder-{}/file-{n}", n % 100)).collect();
    let huge = huge.join("\n") + "\n";
    let parts: [(&str, Vec<u8>, String); 6] = [
        ("latin", b"Packager: J\xf6rg \x93x\x94 <j@example.org>\n".to_vec(), "%ghost /etc/caf\u{e9}\n".into()),
        (
            "triggers",
            b"Requires(pre): /bin/sh, pre-tool >= 1\nRequires(post): post-tool\nRequires(pretrans): lua-thing\n\
              Requires(posttrans): pt\nRequires(preun): un\nRequires: pre-tool >= 1\nRecommends: (a or b)\n"
                .to_vec(),
            String::new(),
        ),
        ("huge", Vec::new(), huge),
        ("zstd", b"%define _binary_payload w3.zstdio\n".to_vec(), "%dir %ghost /etc/z\n".into()),
        ("xz", b"%define _binary_payload w2.xzdio\nEpoch: 7\n".to_vec(), String::new()),
        (
            "libc",
            b"Requires: libc.so.6(GLIBC_2.4)(64bit), libc.so.6()(64bit), libc.so.6(GLIBC_2.34)(64bit)\n\
              Requires: rtld(GNU_HASH)\nProvides: self = 2:1, self\nRequires: self\nObsoletes: old < 2\n"
                .to_vec(),
            String::new(),
        ),
    ];
    for (name, tags, files) in parts {
        let spec = work.path().join(format!("{name}.spec"));
        std::fs::write(&spec, spec_text(name, &tags, &files)).unwrap();
        let mut command = Command::new("rpmbuild");
        command
            .args(["-ba", "--quiet", "--nodeps"])
            .arg("--define")
            .arg(format!("_topdir {}", work.path().display()));
        for name in ["_rpmdir", "_srcrpmdir"] {
            command.arg("--define").arg(format!("{name} {}", folder.display()));
        }
        command.args(["--define", "_invalid_encoding_terminates_build 0"]).arg(&spec);
        let output = command.output().expect("cannot run rpmbuild: install the package rpm");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn spec_text(name: &str, tags: &[u8], files: &str) -> Vec<u8> {
    let head =
        format!("Name: {name}\nVersion: 1.0\nRelease: 2\nSummary: A test\nLicense: MIT\nBuildArch: noarch\n");
    let scripts = "%post\ntrue\n%filetriggerin -- /usr/lib\ntrue\n%transfiletriggerpostun -P 5 -- /etc\ntrue\n\
        %triggerin -- other > 1\ntrue\n";
    let log = "%changelog\n* Fri Jan 02 2026 A <a@x> - 2\n- two\n* Fri Jan 02 2026 B <b@x> - 1\n- one\n";
    let rest = format!("%description\nText of a test.\n{scripts}%files\n{files}{log}");
    [head.as_bytes(), tags, rest.as_bytes()].concat()
}
