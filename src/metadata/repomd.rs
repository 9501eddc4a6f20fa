//! `repodata/repomd.xml`: which files a repository's metadata is made of. Read whoever wrote it, and written.
//!
//! Format: createrepo_c's `xml_dump_repomd.c`; the schema is libzypp's `repomd.rng`.

use std::fmt::Write as _;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::xml;

/// What a repomd.xml says. What is not here is of no use to anybody, and is not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repomd {
    /// The state's number, where the text is one.
    pub revision: Option<u64>,
    pub data: Vec<Data>,
}

/// There is room above it to go on counting, also in SQLite.
const NOBODY_COUNTS_SO_FAR: u64 = 1 << 62;

/// One file of the metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Data {
    /// `primary`, `filelists`, `other`, `group`, `updateinfo` …
    pub kind: String,
    /// From the repository's folder: `repodata/<checksum>-primary.xml.gz`.
    pub href: String,
    pub checksum: Option<Checksum>,
    /// Of what is in it, unpacked.
    pub open_checksum: Option<Checksum>,
    /// When it was made, seconds since 1970.
    pub timestamp: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// Bytes, unpacked.
    pub open_size: Option<u64>,
    /// Of SQLite databases.
    pub database_version: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checksum {
    /// `sha256`, say.
    pub kind: String,
    /// Hexadecimal.
    pub hex: String,
}

impl Data {
    /// The file's name, where the file lies in `repodata/` itself; a link that leads elsewhere is nobody's of ours.
    pub fn file(&self) -> Option<&str> {
        let name = self.href.strip_prefix("repodata/")?;
        let is_plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        is_plain.then_some(name)
    }
}

impl Repomd {
    /// Reads one; the error is a part of a sentence.
    pub fn parse(text: &[u8]) -> Result<Repomd, String> {
        let mut reader = Reader::from_reader(text);
        let mut found = Repomd::default();
        let (mut data, mut word, mut checksum) = (None::<Data>, String::new(), String::new());
        let mut is_repomd = false;
        loop {
            match reader.read_event().map_err(|error| error.to_string())? {
                Event::Start(tag) | Event::Empty(tag) => {
                    word.clear();
                    match tag.local_name().as_ref() {
                        "repomd" => is_repomd = true,
                        "data" => {
                            data = Some(Data { kind: attribute(&tag, "type"), ..Data::default() });
                        }
                        "checksum" | "open-checksum" => checksum = attribute(&tag, "type"),
                        "location" => {
                            if let Some(data) = &mut data {
                                data.href = attribute(&tag, "href");
                            }
                        }
                        _ => {}
                    }
                }
                Event::Text(text) => word.push_str(&text),
                Event::End(tag) => {
                    let text = word.trim();
                    let sum = || Some(Checksum { kind: checksum.clone(), hex: text.to_owned() });
                    match (tag.local_name().as_ref(), &mut data) {
                        ("revision", None) => {
                            found.revision =
                                text.parse().ok().filter(|number| *number < NOBODY_COUNTS_SO_FAR);
                        }
                        ("data", _) => found.data.extend(data.take()),
                        ("checksum", Some(data)) => data.checksum = sum(),
                        ("open-checksum", Some(data)) => data.open_checksum = sum(),
                        ("timestamp", Some(data)) => data.timestamp = Some(text.to_owned()),
                        ("size", Some(data)) => data.size = text.parse().ok(),
                        ("open-size", Some(data)) => data.open_size = text.parse().ok(),
                        ("database_version", Some(data)) => data.database_version = Some(text.to_owned()),
                        _ => {}
                    }
                    word.clear();
                }
                Event::Eof if is_repomd => return Ok(found),
                Event::Eof => return Err("it has no element repomd".into()),
                _ => {}
            }
        }
    }

    /// The file of a kind.
    pub fn of(&self, kind: &str) -> Option<&Data> {
        self.data.iter().find(|data| data.kind == kind)
    }

    /// The names of its files that lie in `repodata/`.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.data.iter().filter_map(Data::file)
    }

    pub fn to_xml(&self) -> Vec<u8> {
        let mut text = String::from(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <repomd xmlns=\"http://linux.duke.edu/metadata/repo\" xmlns:rpm=\"http://linux.duke.edu/metadata/rpm\">\n",
        );
        let _ = writeln!(text, "  <revision>{}</revision>", self.revision.unwrap_or_default());
        for data in &self.data {
            write_data(&mut text, data);
        }
        text.push_str("</repomd>\n");
        text.into_bytes()
    }
}

fn write_data(text: &mut String, data: &Data) {
    let _ = writeln!(text, "  <data type=\"{}\">", xml::attribute(data.kind.as_bytes()));
    for (name, checksum) in [("checksum", &data.checksum), ("open-checksum", &data.open_checksum)] {
        if let Some(Checksum { kind, hex }) = checksum {
            let (kind, hex) = (xml::attribute(kind.as_bytes()), xml::text(hex.as_bytes()));
            let _ = writeln!(text, "    <{name} type=\"{kind}\">{hex}</{name}>");
        }
    }
    let _ = writeln!(text, "    <location href=\"{}\"/>", xml::attribute(data.href.as_bytes()));
    let numbers = [
        ("timestamp", data.timestamp.clone()),
        ("size", data.size.map(|size| size.to_string())),
        ("open-size", data.open_size.map(|size| size.to_string())),
        ("database_version", data.database_version.clone()),
    ];
    for (name, value) in numbers {
        if let Some(value) = value {
            let _ = writeln!(text, "    <{name}>{}</{name}>", xml::text(value.as_bytes()));
        }
    }
    text.push_str("  </data>\n");
}

fn attribute(tag: &BytesStart, name: &str) -> String {
    let value = tag.try_get_attribute(name).ok().flatten();
    value
        .and_then(|value| Some(quick_xml::escape::unescape(&value.value).ok()?.into_owned()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let data = Data {
            kind: "primary".into(),
            href: "repodata/a&b-primary.xml.gz".into(),
            checksum: Some(Checksum { kind: "sha256".into(), hex: "ab".into() }),
            open_checksum: None,
            timestamp: Some("1700000000".into()),
            size: Some(10),
            open_size: Some(20),
            database_version: None,
        };
        let repomd = Repomd { revision: Some(7), data: vec![data] };
        assert_eq!(Repomd::parse(&repomd.to_xml()), Ok(repomd));
    }

    #[test]
    fn a_link_that_leads_out_of_the_folder_is_no_file() {
        let file = |href: &str| Data { href: href.into(), ..Data::default() }.file().map(str::to_owned);
        assert_eq!(file("repodata/x.xml"), Some("x.xml".into()));
        for bad in
            ["repodata/../../etc/passwd", "/etc/passwd", "repodata/", "repodata/.x", "http://h/repodata/x"]
        {
            assert_eq!(file(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_repomd_is_an_error() {
        for bad in ["", "<metadata/>", "<repomd><data", "\0\u{1}"] {
            assert!(Repomd::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let foreign = Repomd::parse(b"<repomd><revision>today</revision></repomd>").unwrap();
        assert_eq!(foreign.revision, None);
        let huge = Repomd::parse(format!("<repomd><revision>{}</revision></repomd>", u64::MAX).as_bytes());
        assert_eq!(huge.unwrap().revision, None);
    }
}
