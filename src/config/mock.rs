//! How mock is used.

use std::time::Duration;

use super::{ConfigError, Values};

/// How mock is used. Where its configurations are, the [`Layout`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MockOptions {
    /// What `http://repohost` stands for in a site's configurations.
    pub base_url: String,
    /// Whether git updates the site's configurations before a build; none: where git knows how.
    pub update: Option<bool>,
    /// How old configurations may get that git cannot update.
    pub stale_after: Duration,
}

const MOCK_BASE_URL: &str = "http://localhost:11081/bstore";

impl Values<'_> {
    pub(super) fn mock(&self) -> Result<MockOptions, ConfigError> {
        let base_url = self.get("mock", "base_url").unwrap_or(MOCK_BASE_URL);
        // It becomes part of a configuration that mock runs as a program.
        let plain = |c: char| c.is_ascii_graphic() && !"'\"\\{}<>`".contains(c);
        let scheme = ["http://", "https://", "file:///"].iter().any(|scheme| base_url.starts_with(scheme));
        if !scheme || !base_url.chars().all(plain) {
            let wanted = "a plain URL that begins with http://, https:// or file:///";
            return Err(self.bad("mock", "base_url", base_url, wanted));
        }
        let update = match self.get("mock", "update") {
            None | Some("auto") => None,
            Some(_) => Some(self.boolean("mock", "update", true)?),
        };
        let stale_after = self.number("mock", "stale_after", 3600, 0..=31_536_000)? as u64;
        Ok(MockOptions {
            base_url: base_url.trim_end_matches('/').to_owned(),
            update,
            stale_after: Duration::from_secs(stale_after),
        })
    }
}
