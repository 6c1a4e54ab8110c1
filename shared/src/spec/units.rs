//! Sizes and counts with their units in the type.

use serde::{Deserialize, Serialize};

/// A size or count that is refused, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not {kind}: {rule}")]
pub struct UnitError {
    kind: &'static str,
    shown: String,
    rule: &'static str,
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The largest size that is read. Beyond it a float no longer counts bytes, sums of a few sizes
    /// would overflow, and no machine has that much.
    pub const MOST: Self = Self(1 << 53);

    const KIND: &'static str = "a size";
    const RULE: &'static str = "give bytes or a number with K, M or G, such as \"256M\"";

    /// From a number of bytes, up to [`ByteSize::MOST`].
    ///
    /// # Errors
    /// [`UnitError`] for zero and for more.
    pub fn from_bytes(bytes: u64) -> Result<Self, UnitError> {
        if (1..=Self::MOST.0).contains(&bytes) {
            return Ok(Self(bytes));
        }
        Err(UnitError {
            kind: Self::KIND,
            shown: bytes.to_string(),
            rule: Self::RULE,
        })
    }

    /// Reads `256M`, `1.5G`, `512MiB`, `1048576`: units are powers of 1024, as Docker has them.
    ///
    /// # Errors
    /// [`UnitError`] for anything else, zero included.
    pub fn parse(text: &str) -> Result<Self, UnitError> {
        let refused = || UnitError {
            kind: Self::KIND,
            shown: crate::name::shown(text),
            rule: Self::RULE,
        };
        let text = text.trim();
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            _ => return Err(refused()),
        };
        let number: f64 = number.parse().map_err(|_| refused())?;
        let bytes = number * factor as f64;
        if bytes < 1.0 || bytes > Self::MOST.0 as f64 {
            return Err(refused());
        }
        Ok(Self(bytes as u64))
    }
}

impl std::fmt::Display for ByteSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (unit, letter) = [(1u64 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")]
            .into_iter()
            .find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit))
            .unwrap_or((1, ""));
        write!(f, "{}{letter}", self.0 / unit)
    }
}

/// Processors, in thousandths of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CpuCount(pub u32);

impl CpuCount {
    /// From a number of cores, such as 0.5; up to 1024.
    ///
    /// # Errors
    /// [`UnitError`] when it is not above 0.001 or beyond 1024.
    pub fn from_cores(cores: f64) -> Result<Self, UnitError> {
        if (0.001..=1024.0).contains(&cores) {
            Ok(Self((cores * 1000.0) as u32))
        } else {
            Err(UnitError {
                kind: "a number of processors",
                shown: cores.to_string(),
                rule: "give cores, such as 0.5 or 2",
            })
        }
    }

    /// As the engine takes it: billionths of a core.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0 as i64 * 1_000_000
    }
}

/// Reads a duration such as `500ms`, `5s`, `2m` or `1h`: a whole number and its unit.
#[must_use]
pub fn parse_duration(text: &str) -> Option<std::time::Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let factor_ms: u64 = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number
        .checked_mul(factor_ms)
        .map(std::time::Duration::from_millis)
}

/// Durations as whole milliseconds on the wire.
pub(super) mod millis {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(in crate::spec) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }

    pub(in crate::spec) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_and_without_units() {
        for (text, bytes) in [
            ("1", 1),
            ("256M", 256 << 20),
            ("512MiB", 512 << 20),
            ("1.5g", 3 << 29),
            ("64 k", 64 << 10),
        ] {
            assert_eq!(ByteSize::parse(text), Ok(ByteSize(bytes)), "{text}");
        }
        for text in [
            "",
            "0",
            "-1",
            "1T",
            "M",
            "1e999",
            "nan",
            "1.2.3",
            "99999999999999999G",
        ] {
            assert!(ByteSize::parse(text).is_err(), "{text}");
        }
        assert_eq!(ByteSize(256 << 20).to_string(), "256M");
        for bytes in [1, ByteSize::MOST.0] {
            assert_eq!(ByteSize::from_bytes(bytes), Ok(ByteSize(bytes)));
        }
        for bytes in [0, ByteSize::MOST.0 + 1, u64::MAX] {
            assert!(ByteSize::from_bytes(bytes).is_err(), "{bytes}");
        }
    }

    #[test]
    fn processors() {
        assert_eq!(
            CpuCount::from_cores(0.5).map(CpuCount::nanos),
            Ok(500_000_000)
        );
        for cores in [0.0, -1.0, f64::NAN, f64::INFINITY, 2000.0] {
            assert!(CpuCount::from_cores(cores).is_err());
        }
    }
}
