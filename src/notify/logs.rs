//! The ends of a build's logs, from the root folder or over HTTP from the bstore, as a mail can carry them.

use std::path::PathBuf;

use reqwest::Url;

use crate::config::Config;
use crate::model::text::plain_lines;
use crate::model::{Event, Layout};
use crate::sys::fs;
use crate::sys::http::Http;
use crate::sys::tls::{Tls, TlsFiles};

/// As much of a log is looked at.
const MOST: usize = 256 << 10;
/// A longer line is cut: it is a mail, and the log is one click away.
const LONGEST_LINE: usize = 2000;

/// Where builds lie.
#[derive(Debug, Clone)]
pub struct Logs {
    pub layout: Layout,
    /// `repo/` of the bstore, as people see it.
    pub base_url: Option<Url>,
    pub scratch_in_repo: bool,
    pub tls: TlsFiles,
}

impl Logs {
    pub fn of(config: &Config) -> Logs {
        Logs {
            layout: config.layout.clone(),
            base_url: config.base_url.clone(),
            scratch_in_repo: config.scratch_in_repo,
            tls: config.tls.clone(),
        }
    }

    /// Where the full logs are, for people.
    pub fn place(&self, event: &Event) -> String {
        let folder = self.folder(event);
        match self.url(event, "") {
            Some(url) => url.to_string(),
            None => folder.display().to_string(),
        }
    }

    /// The last lines of a log. Where they cannot be had, a line that says why: the mail is worth more than its end.
    pub async fn tail(&self, event: &Event, log: &str, lines: usize) -> String {
        match self.end(event, log).await {
            Ok(bytes) => last_lines(&bytes, lines),
            Err(reason) => format!("({log} cannot be had: {reason})\n"),
        }
    }

    async fn end(&self, event: &Event, log: &str) -> Result<Vec<u8>, String> {
        let folder = self.folder(event);
        match self.url(event, log) {
            Some(url) if !folder.is_dir() => {
                let tls = Tls::open(&self.tls).map_err(|error| error.to_string())?;
                let http = Http::new(&tls).map_err(|error| error.to_string())?;
                http.tail(&url, MOST).await.map_err(|error| format!("{url}: {error}"))
            }
            _ => fs::tail(&folder.join(log), MOST as u64).map_err(|error| error.to_string()),
        }
    }

    fn is_apart(&self, event: &Event) -> bool {
        event.scratch && !self.scratch_in_repo
    }

    fn folder(&self, event: &Event) -> PathBuf {
        self.layout.build(&event.path(), self.is_apart(event))
    }

    /// Where people find a file of the build; with an empty name its folder.
    pub fn url(&self, event: &Event, file: &str) -> Option<Url> {
        let tree = if self.is_apart(event) { "../scratch/" } else { "" };
        self.base_url.as_ref()?.join(&format!("{tree}{}/{file}", event.path())).ok()
    }
}

/// The last lines of what a build printed, whatever that was.
fn last_lines(bytes: &[u8], most: usize) -> String {
    let text = plain_lines(&String::from_utf8_lossy(bytes));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(most)..].iter().map(|line| shortened(line) + "\n").collect()
}

fn shortened(line: &str) -> String {
    match line.char_indices().nth(LONGEST_LINE) {
        Some((cut, _)) => format!("{} …", &line[..cut]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_log_holds_becomes_lines_of_text() {
        assert_eq!(last_lines(b"a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last_lines(b"", 2), "");
        assert_eq!(last_lines(b"\xff\x00\x1b[31mred\x1b[0m\r\n.\n\ttab", 30), "\u{fffd}red\n.\n\ttab\n");
        let long = last_lines(&[b'x'; 10_000], 30);
        assert_eq!(long.chars().count(), LONGEST_LINE + 3);
    }
}
