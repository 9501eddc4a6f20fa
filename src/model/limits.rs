//! What a build may use at most, and amounts as people write them: `8G`, `512M`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What one build may use of its builder. Unset: as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Processes and threads at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// How many processors' time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Of the build root and the results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Size>,
}

/// What a build did use, as far as that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes, with what the kernel cached of files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Bytes of the build root and the results, whenever they were measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_disk: Option<u64>,
}

impl Resources {
    pub fn is_unknown(&self) -> bool {
        *self == Resources::default()
    }
}

/// An amount of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Size(pub u64);

/// A text that is no [`Size`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is no size such as 512M, 8G or 1.5T")]
pub struct BadSize(String);

/// Powers of 1024, as systemd and `ulimit` mean them.
const UNITS: &str = "KMGT";

impl FromStr for Size {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Size, BadSize> {
        let bad = || BadSize(text.to_owned());
        let upper = text.trim().to_ascii_uppercase();
        let short = upper.strip_suffix("IB").or_else(|| upper.strip_suffix('B')).unwrap_or(&upper);
        let unit = short.chars().last().and_then(|last| UNITS.find(last));
        let (number, power) = match unit {
            Some(place) => (short[..short.len() - 1].trim_end(), place + 1),
            None => (short, 0),
        };
        let plain = number.starts_with(|c: char| c.is_ascii_digit())
            && number.chars().all(|c| c.is_ascii_digit() || c == '.');
        let number: f64 = number.parse().ok().filter(|_| plain).ok_or_else(bad)?;
        let bytes = number * 1024_f64.powi(i32::try_from(power).unwrap_or_default());
        // More than any machine has would not fit a cgroup's file.
        if bytes >= 2_f64.powi(62) {
            return Err(bad());
        }
        // Neither negative nor too large, as was just seen.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(Size(bytes as u64))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = None;
        for next in UNITS.chars() {
            if value < 1024.0 {
                break;
            }
            value /= 1024.0;
            unit = Some(next);
        }
        match unit {
            None => write!(f, "{} bytes", self.0),
            Some(unit) if value.fract() < 0.05 => write!(f, "{value:.0} {unit}iB"),
            Some(unit) => write!(f, "{value:.1} {unit}iB"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("8G", 8 << 30),
            ("512m", 512 << 20),
            ("1.5 GiB", 3 << 29),
            ("2KB", 2048),
            ("4096", 4096),
            ("0", 0),
            ("3T", 3 << 40),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in ["", "G", "8X", "-1G", "1e9", "inf", "8 G G", "9999999999T", ".", "1.2.3"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_short() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (8 << 30, "8 GiB"),
            (1_288_490_189, "1.2 GiB"),
            (300 << 20, "300 MiB"),
            (5 << 50, "5120 TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
