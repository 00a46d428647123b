//! Values of settings as text: times, sizes, switches.

use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

/// The longest time that a setting takes: what 32 bits of milliseconds hold, 49 days.
const TIME_MAX_MS: u64 = u32::MAX as u64;

const TIME_UNITS: [(&str, u64); 5] = [("h", 3_600_000), ("ms", 1), ("m", 60_000), ("s", 1_000), ("", 1_000)];

const BYTE_UNITS: [(&str, u64); 5] = [("gb", 1 << 30), ("mb", 1 << 20), ("kb", 1 << 10), ("b", 1), ("", 1)];

/// `250ms`, `5s`, `1.5s`, `2m`, `1h`; a number alone is seconds. Parts of a millisecond are rounded
/// up.
pub(super) fn time(text: &str) -> Option<Duration> {
    let (number, unit) = split(text);
    let unit_ms = TIME_UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let whole = if whole.is_empty() && number.starts_with('.') { 0 } else { digits(whole)? };
    let parts = 10u64.checked_pow(fraction.len().try_into().ok().filter(|count| *count <= 9)?)?;
    let fraction = digits(fraction)?;
    let ms = whole.checked_mul(unit_ms)?.checked_add((fraction * unit_ms).div_ceil(parts))?;
    (ms <= TIME_MAX_MS).then(|| Duration::from_millis(ms))
}

/// `10ms..1s`.
pub(super) fn times(text: &str) -> Option<(Duration, Duration)> {
    let (base, cap) = text.split_once("..")?;
    time(base).zip(time(cap))
}

/// `4096`, `64kb`, `32mb`, `1gb`, in any case.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text);
    let unit = BYTE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?.1;
    digits(number)?.checked_mul(unit)
}

/// A number of 32 bits.
pub(super) fn count(text: &str) -> Option<u64> {
    digits(text).filter(|count| *count <= u32::MAX.into())
}

pub(super) fn switch(text: &str) -> Option<bool> {
    match text {
        "true" | "yes" => Some(true),
        "false" | "no" => Some(false),
        _ => None,
    }
}

/// Shows a time as [`time`] takes it: in seconds where it is whole ones.
pub(super) fn show_time(time: Duration) -> String {
    let ms = time.as_millis() as u64;
    if ms >= 1_000 && ms.is_multiple_of(1_000) { format!("{}s", ms / 1_000) } else { format!("{ms}ms") }
}

/// Shows a size as [`bytes`] takes it.
pub(super) fn show_bytes(bytes: u64) -> String {
    let unit = BYTE_UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    match unit {
        Some((name, unit)) if *unit > 1 => format!("{}{name}", bytes / unit),
        _ => bytes.to_string(),
    }
}

/// A number without a sign.
fn digits(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A number and its unit.
fn split(text: &str) -> (&str, &str) {
    let end = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()).len();
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let ms = |text| time(text).map(|time| time.as_millis() as u64);
        for (text, expected) in [
            ("500ms", 500),
            ("5s", 5_000),
            ("1.5s", 1_500),
            (".5s", 500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("3", 3_000),
            ("0.0001s", 1),
            ("0s", 0),
            ("4294967295ms", 4_294_967_295),
        ] {
            assert_eq!(ms(text), Some(expected), "{text}");
        }
        for wrong in
            ["", "s", ".", "1.", "-1s", "+1s", "5 s", "5d", "1e99s", "nan", "inf", "ms", "50d", "1193047h"]
        {
            assert_eq!(ms(wrong), None, "{wrong}");
        }
        assert_eq!(ms("18446744073709551615h"), None);
        assert_eq!(times("10ms..1s"), Some((Duration::from_millis(10), Duration::from_secs(1))));
        assert_eq!(times("10ms"), None);
    }

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, expected, shown) in [
            ("4096", 4_096, "4kb"),
            ("64kb", 64 << 10, "64kb"),
            ("32MB", 32 << 20, "32mb"),
            ("1gb", 1 << 30, "1gb"),
            ("1025b", 1_025, "1025"),
            ("0", 0, "0"),
        ] {
            assert_eq!(bytes(text), Some(expected), "{text}");
            assert_eq!(show_bytes(expected), shown);
        }
        assert_eq!((count("7"), count("+7"), count("4294967296")), (Some(7), None, None));
        for wrong in ["", "kb", "-1", "1.5mb", "1tb", "99999999999gb"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_and_switches_are_shown_as_they_are_read() {
        for text in ["1ms", "1500ms", "2s", "0ms"] {
            assert_eq!(show_time(time(text).unwrap()), text);
        }
        assert_eq!((switch("yes"), switch("no"), switch("on")), (Some(true), Some(false), None));
    }
}
