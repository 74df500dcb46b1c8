//! Byte sizes and durations, as an operator types and reads them.

use std::time::Duration;

/// Units of 1024, as in Redis's configuration with a `b`.
const UNITS: [(&str, u64); 4] = [
    ("TB", 1 << 40),
    ("GB", 1 << 30),
    ("MB", 1 << 20),
    ("KB", 1 << 10),
];

/// Reads `100MB`, `1.5g`, `64k` or plain bytes.
///
/// # Errors
/// What was expected, for the command line.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let expected = || format!("`{text}` is no size: use bytes or a number with KB, MB, GB or TB");
    let upper = text.trim().to_ascii_uppercase();
    let digits_end = upper
        .find(|c: char| c != '.' && !c.is_ascii_digit())
        .unwrap_or(upper.len());
    let (number, unit) = upper.split_at(digits_end);
    let factor = match unit.trim() {
        "" | "B" => 1,
        unit => UNITS
            .iter()
            .find(|(name, _)| *name == unit || name.strip_suffix('B') == Some(unit))
            .map(|(_, factor)| *factor)
            .ok_or_else(expected)?,
    };
    let number: f64 = number.parse().map_err(|_| expected())?;
    let bytes = number * factor as f64;
    if !(1.0..1e18).contains(&bytes) {
        return Err(format!("`{text}` must be at least one byte and below 2^59"));
    }
    Ok(bytes as u64)
}

/// Reads `200ms`, `1.5s` or plain milliseconds.
///
/// # Errors
/// What was expected, for the command line.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let lower = text.trim().to_ascii_lowercase();
    let (number, factor) = match (lower.strip_suffix("ms"), lower.strip_suffix('s')) {
        (Some(number), _) => (number, 0.001),
        (None, Some(number)) => (number, 1.0),
        (None, None) => (lower.as_str(), 0.001),
    };
    let seconds: f64 = number
        .trim()
        .parse::<f64>()
        .map_err(|_| format!("`{text}` is no duration: use 200ms or 1s"))?
        * factor;
    if !(0.001..=3600.0).contains(&seconds) {
        return Err(format!("`{text}` must lie between 1ms and 3600s"));
    }
    Ok(Duration::from_secs_f64(seconds))
}

/// `1.2 GB`.
pub fn bytes(n: u64) -> String {
    match UNITS.iter().find(|(_, factor)| n >= *factor) {
        Some((name, factor)) => format!("{:.1} {name}", n as f64 / *factor as f64),
        None => format!("{n} B"),
    }
}

/// `1h02m`, `3m20s`, `12s`, `0.4s`.
pub fn duration(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..10 => format!("{:.1}s", d.as_secs_f64()),
        10..60 => format!("{s}s"),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        _ => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_an_operator_types_them() {
        for (text, n) in [
            ("100MB", 100 << 20),
            ("1.5g", 3 << 29),
            ("64k", 64 << 10),
            ("7", 7),
            ("7B", 7),
        ] {
            assert_eq!(parse_bytes(text), Ok(n), "{text}");
        }
        for bad in [
            "",
            "MB",
            "-1",
            "0",
            "1XB",
            "1e3",
            "nan",
            "1.2.3",
            "99999999999999TB",
        ] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_read_as_an_operator_types_them() {
        for (text, ms) in [("200ms", 200), ("1.5s", 1500), ("250", 250), (" 2 s", 2000)] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
        for bad in ["", "ms", "0", "-1s", "2h", "9999s", "inf"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_and_durations_read_well() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1536), "1.5 KB");
        assert_eq!(bytes(5 << 40), "5.0 TB");
        assert_eq!(duration(Duration::from_millis(430)), "0.4s");
        assert_eq!(duration(Duration::from_secs(200)), "3m20s");
        assert_eq!(duration(Duration::from_secs(3720)), "1h02m");
    }
}
