//! A package's fragments, laid out as createrepo_c does.

use std::fmt::Write as _;

use super::Package;
use super::dependencies::Dependency;
use super::files::{self, File, Kind};
use crate::metadata::xml::{attribute, text};

mod tag {
    pub const SUMMARY: u32 = 1004;
    pub const DESCRIPTION: u32 = 1005;
    pub const BUILDTIME: u32 = 1006;
    pub const BUILDHOST: u32 = 1007;
    pub const SIZE: u32 = 1009;
    pub const VENDOR: u32 = 1011;
    pub const LICENSE: u32 = 1014;
    pub const PACKAGER: u32 = 1015;
    pub const GROUP: u32 = 1016;
    pub const URL: u32 = 1020;
    pub const SOURCERPM: u32 = 1044;
    pub const LONG_SIZE: u32 = 5009;
}

// Writing to a String cannot fail.

pub fn primary(package: &Package) -> String {
    let mut out = String::from("<package type=\"rpm\">\n");
    element(&mut out, "  ", "name", package.name);
    element(&mut out, "  ", "arch", package.arch);
    version(&mut out, package);
    let _ = writeln!(out, "  <checksum type=\"sha256\" pkgid=\"YES\">{}</checksum>", package.sha256);
    for (name, tag) in [
        ("summary", tag::SUMMARY),
        ("description", tag::DESCRIPTION),
        ("packager", tag::PACKAGER),
        ("url", tag::URL),
    ] {
        element(&mut out, "  ", name, package.string(tag));
    }
    let built = package.header.number(tag::BUILDTIME).unwrap_or_default();
    let _ = writeln!(out, "  <time file=\"{}\" build=\"{built}\"/>", package.stat.seconds());
    let installed = package.header.number(tag::LONG_SIZE).or_else(|| package.header.number(tag::SIZE));
    let _ = writeln!(
        out,
        "  <size package=\"{}\" installed=\"{}\" archive=\"{}\"/>",
        package.stat.size,
        installed.unwrap_or_default(),
        package.archive_size
    );
    let _ = writeln!(out, "  <location href=\"{}\"/>", attribute(package.location.as_bytes()));
    format(&mut out, package);
    out.push_str("</package>\n");
    out
}

fn format(out: &mut String, package: &Package) {
    out.push_str("  <format>\n");
    for (name, tag) in [
        ("rpm:license", tag::LICENSE),
        ("rpm:vendor", tag::VENDOR),
        ("rpm:group", tag::GROUP),
        ("rpm:buildhost", tag::BUILDHOST),
        ("rpm:sourcerpm", tag::SOURCERPM),
    ] {
        element(out, "    ", name, package.string(tag));
    }
    let (start, end) = package.range;
    let _ = writeln!(out, "    <rpm:header-range start=\"{start}\" end=\"{end}\"/>");
    let all = &package.dependencies;
    for (name, list) in [
        ("rpm:provides", &all.provides),
        ("rpm:requires", &all.requires),
        ("rpm:conflicts", &all.conflicts),
        ("rpm:obsoletes", &all.obsoletes),
        ("rpm:suggests", &all.suggests),
        ("rpm:enhances", &all.enhances),
        ("rpm:recommends", &all.recommends),
        ("rpm:supplements", &all.supplements),
    ] {
        dependencies(out, name, list);
    }
    for one in &package.files {
        let path = one.path();
        if files::is_primary(&path) {
            file(out, "    ", one, &path);
        }
    }
    out.push_str("  </format>\n");
}

pub fn filelists(package: &Package) -> String {
    let mut out = begun(package);
    for one in &package.files {
        file(&mut out, "  ", one, &one.path());
    }
    out.push_str("</package>\n");
    out
}

pub fn other(package: &Package) -> String {
    let mut out = begun(package);
    for entry in &package.changelog {
        let author = attribute(entry.author);
        let _ = writeln!(
            out,
            "  <changelog author=\"{author}\" date=\"{}\">{}</changelog>",
            entry.date,
            text(entry.text)
        );
    }
    out.push_str("</package>\n");
    out
}

/// How a package begins in the lists that only say which one it is.
fn begun(package: &Package) -> String {
    let (name, arch) = (attribute(package.name), attribute(package.arch));
    let mut out = format!("<package pkgid=\"{}\" name=\"{name}\" arch=\"{arch}\">\n", package.sha256);
    version(&mut out, package);
    out
}

fn version(out: &mut String, package: &Package) {
    let (version, release) = (attribute(package.version), attribute(package.release));
    let _ = writeln!(out, "  <version epoch=\"{}\" ver=\"{version}\" rel=\"{release}\"/>", package.epoch);
}

fn element(out: &mut String, indent: &str, name: &str, value: &[u8]) {
    let _ = match value {
        [] => writeln!(out, "{indent}<{name}/>"),
        value => writeln!(out, "{indent}<{name}>{}</{name}>", text(value)),
    };
}

fn dependencies(out: &mut String, name: &str, list: &[Dependency]) {
    if list.is_empty() {
        return;
    }
    let _ = writeln!(out, "    <{name}>");
    for one in list.iter().filter(|one| !one.name.is_empty()) {
        let _ = write!(out, "      <rpm:entry name=\"{}\"", attribute(one.name));
        if let Some(flags) = one.flags {
            let _ = write!(out, " flags=\"{flags}\"");
            for (name, value) in [("epoch", one.epoch), ("ver", one.version), ("rel", one.release)] {
                if !value.is_empty() {
                    let _ = write!(out, " {name}=\"{}\"", attribute(value));
                }
            }
        }
        out.push_str(if one.pre { " pre=\"1\"/>\n" } else { "/>\n" });
    }
    let _ = writeln!(out, "    </{name}>");
}

fn file(out: &mut String, indent: &str, file: &File, path: &[u8]) {
    let kind = match file.kind {
        Kind::File => "",
        Kind::Folder => " type=\"dir\"",
        Kind::Ghost => " type=\"ghost\"",
    };
    let _ = writeln!(out, "{indent}<file{kind}>{}</file>", text(path));
}

impl<'a> Package<'a> {
    /// A text of the header; one that cannot be read is none.
    fn string(&self, tag: u32) -> &'a [u8] {
        self.header.string(tag).unwrap_or_default()
    }
}
