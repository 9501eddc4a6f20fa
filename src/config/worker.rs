//! How a worker builds.

use super::{ConfigError, Values};
use crate::model::{Limits, Size};

/// Enough for a base chroot and a build of middling size, so that no build is begun that is likely to fail.
const MIN_FREE: Size = Size(2 << 30);
/// With less no build would get anywhere.
const LEAST_LIMIT: Size = Size(16 << 20);
const MOST: Size = Size(1 << 60);
/// Both ends of a log that long are still read by a person.
const LOG_LIMIT: Size = Size(64 << 20);
const LOG_LIMITS: std::ops::RangeInclusive<Size> = Size(1 << 20)..=Size(1 << 40);

/// Which build engine a worker uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineChoice {
    /// mock where it can be used and has something to build with; else overlay.
    Auto,
    Mock,
    Overlay,
    /// Builds nothing: for measuring and testing what surrounds a build.
    Null,
}

impl EngineChoice {
    pub fn as_str(self) -> &'static str {
        match self {
            EngineChoice::Auto => "auto",
            EngineChoice::Mock => "mock",
            EngineChoice::Overlay => "overlay",
            EngineChoice::Null => "null",
        }
    }
}

impl Values<'_> {
    pub(super) fn limits(&self) -> Result<Limits, ConfigError> {
        let size = |key| self.size("worker", key, LEAST_LIMIT..=MOST);
        let processes = match self.number("worker", "processes", 0, 16..=4_194_304)? {
            0 => None,
            most => Some(most as u64),
        };
        let cpus = match self.get("worker", "cpus") {
            None => None,
            Some(value) => {
                let number: Option<f64> =
                    value.parse().ok().filter(|number| (0.01..=8192.0).contains(number));
                Some(number.ok_or_else(|| {
                    self.bad("worker", "cpus", value, "a number from 0.01 to 8192, such as 2 or 0.5")
                })?)
            }
        };
        Ok(Limits { memory: size("memory")?, processes, cpus, disk: size("disk")? })
    }

    pub(super) fn engine(&self) -> Result<EngineChoice, ConfigError> {
        match self.get("worker", "engine") {
            None | Some("auto") => Ok(EngineChoice::Auto),
            Some("mock") => Ok(EngineChoice::Mock),
            Some("overlay") => Ok(EngineChoice::Overlay),
            Some("null") => Ok(EngineChoice::Null),
            Some(value) => Err(self.bad("worker", "engine", value, "auto, mock, overlay or null")),
        }
    }

    pub(super) fn log_limit(&self) -> Result<Size, ConfigError> {
        Ok(self.size("worker", "log_limit", LOG_LIMITS)?.unwrap_or(LOG_LIMIT))
    }

    pub(super) fn min_free(&self) -> Result<Size, ConfigError> {
        Ok(self.size("worker", "min_free", Size(0)..=MOST)?.unwrap_or(MIN_FREE))
    }
}
