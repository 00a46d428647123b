//! How the formats write doubles and errors.

use keyslot::ServerError;

/// An error as the server has sent it, but for bytes that are no UTF-8.
pub(super) fn error_text(error: &ServerError) -> String {
    let ServerError { code, message } = error;
    if message.is_empty() { code.clone() } else { format!("{code} {message}") }
}

/// A double with the fewest digits that mean the same number, laid out as C's `%.17g` does it.
///
/// Servers since Redis 7.2 write doubles this way; Redis 7.0 writes 17 digits, and
/// `0.1` as `0.10000000000000001`.
pub(super) fn double(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..17).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_as_c_writes_them() {
        let cases = [
            (1.5, "1.5"),
            (3.0, "3"),
            (-0.1, "-0.1"),
            (0.0, "0"),
            (-0.0, "-0"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1.25e30, "1.25e+30"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (1e-300, "1e-300"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
        ];
        for (number, text) in cases {
            assert_eq!(double(number), text);
        }
    }
}
