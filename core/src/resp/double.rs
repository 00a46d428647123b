//! Doubles as servers write them.
//!
//! `core` parses doubles, too, with tables of ten kilobytes that make it fast; a component that
//! reads scores now and then is better off without them. The grammar and the results are the same,
//! which a test compares.

use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// How many digits decide a double, and its rounding; of more, it matters whether any is not zero.
const DIGITS_MAX: usize = 800;

/// The powers of ten that doubles hold exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Whether [`parse_double`] finds a value.
pub(super) fn is_double(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    let is = |word: &[u8]| text.eq_ignore_ascii_case(word);
    if is(b"inf") || is(b"infinity") || is(b"nan") {
        return true;
    }
    let end = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
    let (mantissa, exponent) = text.split_at_checked(end.unwrap_or(text.len())).unwrap_or((text, &[]));
    let points = mantissa.iter().filter(|byte| **byte == b'.').count();
    let digits = mantissa.iter().filter(|byte| byte.is_ascii_digit()).count();
    let is_mantissa = digits > 0 && points <= 1 && digits + points == mantissa.len();
    is_mantissa && exponent.get(1..).is_none_or(|exponent| parse_exponent(exponent).is_some())
}

/// The value of a decimal number with or without a point and an exponent, of an infinity or of NaN,
/// in any case and with any sign: a superset of the specification's grammar, since servers print
/// what their C library does.
pub(crate) fn parse_double(text: &[u8]) -> Option<f64> {
    let (sign, text) = match text {
        [b'-', rest @ ..] => (-1.0, rest),
        [b'+', rest @ ..] => (1.0, rest),
        _ => (1.0, text),
    };
    let is = |word: &[u8]| text.eq_ignore_ascii_case(word);
    if is(b"inf") || is(b"infinity") {
        return Some(sign * f64::INFINITY);
    }
    if is(b"nan") {
        return Some(f64::NAN);
    }
    Decimal::parse(text).map(|decimal| sign * decimal.to_double())
}

/// `digits · 10^exponent`.
struct Decimal {
    /// From the first one that is not zero.
    digits: Vec<u8>,
    exponent: i32,
}

impl Decimal {
    fn parse(text: &[u8]) -> Option<Self> {
        let end = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (mantissa, exponent) = match end {
            Some(end) => (text.get(..end)?, parse_exponent(text.get(end + 1..)?)?),
            None => (text, 0),
        };
        let mut decimal = Self { digits: Vec::new(), exponent };
        let mut point = false;
        let mut any = false;
        for byte in mantissa {
            match byte {
                b'0'..=b'9' => {
                    any = true;
                    let scale = decimal.push(byte - b'0');
                    decimal.exponent = decimal.exponent.saturating_add(scale - i32::from(point));
                }
                b'.' if !point => point = true,
                _ => return None,
            }
        }
        any.then_some(decimal)
    }

    /// Takes the next digit. Gives 1 when it is left out, so that what stands before it counts ten
    /// times as much.
    fn push(&mut self, digit: u8) -> i32 {
        if self.digits.len() < DIGITS_MAX {
            if digit > 0 || !self.digits.is_empty() {
                self.digits.push(digit);
            }
            return 0;
        }
        if let Some(last) = self.digits.last_mut().filter(|last| digit > 0 && **last == 0) {
            *last = 1;
        }
        1
    }

    fn to_double(&self) -> f64 {
        let length = i64::try_from(self.digits.len()).unwrap_or(i64::MAX);
        // Where the point stands, counted from the first digit.
        match length + i64::from(self.exponent) {
            _ if length == 0 => return 0.0,
            ..-330 => return 0.0,
            330.. => return f64::INFINITY,
            _ => {}
        }
        if length <= 15 {
            let digits =
                self.digits.iter().fold(0u64, |number, digit| number * 10 + u64::from(*digit)) as f64;
            let power = EXACT_POWERS.get(self.exponent.unsigned_abs() as usize);
            if let Some(power) = power {
                return if self.exponent < 0 { digits / power } else { digits * power };
            }
        }
        if let Some(double) = self.short_to_double() {
            return double;
        }
        let mut numerator = vec![0];
        self.digits.iter().for_each(|digit| multiply(&mut numerator, 10, u32::from(*digit)));
        let mut denominator = vec![1];
        let scaled = if self.exponent < 0 { &mut denominator } else { &mut numerator };
        (0..self.exponent.unsigned_abs()).for_each(|_| multiply(scaled, 10, 0));
        nearest(numerator, denominator)
    }
}

impl Decimal {
    /// As servers print fractions: up to 19 digits, most of them behind the point.
    fn short_to_double(&self) -> Option<f64> {
        let places = self.exponent.unsigned_abs();
        if self.digits.len() > 19 || self.exponent > 0 || places > 19 {
            return None;
        }
        let digits = self.digits.iter().fold(0u64, |number, digit| number * 10 + u64::from(*digit));
        let numerator = u128::from(digits) << 64;
        let denominator = u128::from(10u64.checked_pow(places)?);
        let (quotient, rest) = (numerator / denominator, numerator % denominator);
        let dropped = (128 - quotient.leading_zeros()).checked_sub(55)?;
        let kept = u64::try_from(quotient >> dropped).ok()?;
        let is_exact = rest == 0 && quotient.trailing_zeros() >= dropped;
        Some(rounded(kept, is_exact, 64 - i64::from(dropped)))
    }
}

/// Digits with a sign. Beyond what doubles have, one is as good as another.
fn parse_exponent(text: &[u8]) -> Option<i32> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let most = 1_000_000;
    let number = digits.iter().fold(0, |number, digit| (number * 10 + i32::from(digit - b'0')).min(most));
    Some(if negative { -number } else { number })
}

/// The double nearest to a fraction of two numbers that are not zero; of two that are as near, the
/// even one.
fn nearest(mut numerator: Vec<u32>, mut denominator: Vec<u32>) -> f64 {
    // The quotient of the fraction times 2^shift has 54 or 55 bits.
    let shift = 54 - (bits(&numerator) - bits(&denominator));
    if shift >= 0 {
        shift_left(&mut numerator, shift.unsigned_abs());
    } else {
        shift_left(&mut denominator, shift.unsigned_abs());
    }
    shift_left(&mut denominator, 55);
    let mut quotient = 0u64;
    for step in 0..56 {
        if step > 0 {
            quotient <<= 1;
            halve(&mut denominator);
        }
        if compare(&numerator, &denominator) != Ordering::Less {
            subtract(&mut numerator, &denominator);
            quotient |= 1;
        }
    }
    rounded(quotient, numerator.iter().all(|word| *word == 0), shift)
}

/// The double nearest to `quotient / 2^shift`, or to a little more when that is not exact. The
/// quotient has 54 or 55 bits.
fn rounded(quotient: u64, is_exact: bool, shift: i64) -> f64 {
    // The exponent of the last bit that a double keeps.
    let msb = 63 - i64::from(quotient.leading_zeros());
    let last = (msb - shift - 52).max(-1_074);
    let dropped = last + shift;
    let Some(half) = u32::try_from(dropped - 1).ok().and_then(|bit| 1u64.checked_shl(bit)) else {
        return 0.0;
    };
    let mut kept = quotient.checked_shr(u32::try_from(dropped).unwrap_or(u32::MAX)).unwrap_or(0);
    let rest = quotient & (half | (half - 1));
    let rounds_up = rest > half || (rest == half && (!is_exact || kept & 1 == 1));
    kept += u64::from(rounds_up);
    // A carry into the next power of two moves into the exponent by itself: the fraction's bits are
    // zero then.
    let fraction_bits = 1u64 << 52;
    if kept < fraction_bits {
        return f64::from_bits(kept);
    }
    let exponent = u64::try_from(last + 1_074).unwrap_or(0);
    let bits = kept.saturating_add(exponent << 52);
    let infinity = f64::INFINITY.to_bits();
    f64::from_bits(if exponent > 2_046 { infinity } else { bits.min(infinity) })
}

/// How many bits a number has.
fn bits(number: &[u32]) -> i64 {
    let high = number.iter().rposition(|word| *word != 0).unwrap_or(0);
    let top = number.get(high).copied().unwrap_or(0);
    high as i64 * 32 + 32 - i64::from(top.leading_zeros())
}

fn multiply(number: &mut Vec<u32>, factor: u32, addend: u32) {
    let mut carry = u64::from(addend);
    for word in number.iter_mut() {
        let product = u64::from(*word) * u64::from(factor) + carry;
        *word = product as u32;
        carry = product >> 32;
    }
    if carry > 0 {
        number.push(carry as u32);
    }
}

fn shift_left(number: &mut Vec<u32>, count: u64) {
    (0..count % 32).for_each(|_| multiply(number, 2, 0));
    let words = usize::try_from(count / 32).unwrap_or(0);
    number.splice(..0, vec![0; words]);
}

fn halve(number: &mut [u32]) {
    let mut carry = 0;
    for word in number.iter_mut().rev() {
        let low = *word & 1;
        *word = *word >> 1 | carry << 31;
        carry = low;
    }
}

fn compare(a: &[u32], b: &[u32]) -> Ordering {
    let word = |number: &[u32], index: usize| number.get(index).copied().unwrap_or(0);
    let length = a.len().max(b.len());
    let differs = (0..length).rev().map(|index| word(a, index).cmp(&word(b, index)));
    differs.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// Takes `b` from `a`, which is not smaller.
fn subtract(a: &mut [u32], b: &[u32]) {
    let mut borrow = false;
    for (index, word) in a.iter_mut().enumerate() {
        let (less, first) = word.overflowing_sub(b.get(index).copied().unwrap_or(0));
        let (less, second) = less.overflowing_sub(u32::from(borrow));
        *word = less;
        borrow = first || second;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use proptest::prelude::*;

    fn assert_same(text: &str) {
        let expected = text.parse::<f64>().ok();
        let found = parse_double(text.as_bytes());
        let bits = |value: f64| if value.is_nan() { None } else { Some(value.to_bits()) };
        assert_eq!(found.map(bits), expected.map(bits), "{text}");
        assert_eq!(is_double(text.as_bytes()), expected.is_some(), "{text}");
    }

    #[test]
    fn the_edges_are_as_cores() {
        for text in [
            "0",
            "-0",
            "0.0",
            "00.00e5",
            "1",
            "1.",
            ".5",
            ".",
            "",
            "+",
            "-",
            "e5",
            "1e",
            "1e+",
            "1e5",
            "1E-5",
            "1e5.0",
            "--1",
            "1 ",
            "inf",
            "-Infinity",
            "+INF",
            "nan",
            "-NaN",
            "infin",
            "1_0",
            "0x1",
            "1.2.3",
            "2.2250738585072014e-308",
            "2.2250738585072011e-308",
            "4.9406564584124654e-324",
            "2.4703282292062327e-324",
            "2.4703282292062328e-324",
            "2.47e-324",
            "1e-400",
            "1.7976931348623157e308",
            "1.7976931348623158e308",
            "1.7976931348623159e308",
            "1e309",
            "9007199254740993",
            "9007199254740992.5",
            "9007199254740993.00000000000000000000000000001",
            "1e99999999999",
            "1e-99999999999",
            "0e99999999999",
            "123456789012345678901234567890",
            "1e22",
            "1e23",
            "8.5",
            "0.1",
            "3.14159265358979312",
            "179769313486231580793728971405301e276",
        ] {
            assert_same(text);
        }
        let long = |digits: usize, last: &str| format!("1.{}{last}", "0".repeat(digits));
        for text in [long(2_000, "1"), long(2_000, ""), format!("9007199254740993{}1", "0".repeat(900))] {
            assert_same(&text);
        }
        assert_same(&format!("9007199254740993.{}1", "0".repeat(900)));
    }

    proptest! {
        #[test]
        fn every_double_comes_back(bits: u64) {
            let value = f64::from_bits(bits);
            if value.is_finite() {
                assert_same(&format!("{value:e}"));
                assert_same(&format!("{value:.17e}"));
                assert_same(&format!("{value}"));
            }
        }

        #[test]
        fn every_decimal_is_as_cores(digits in "[0-9]{1,40}(\\.[0-9]{0,40})?", exponent in -400i32..400) {
            assert_same(&digits);
            assert_same(&format!("{digits}e{exponent}"));
        }

        #[test]
        fn short_fractions_are_as_cores(digits in "[0-9]{15,20}", point in 0usize..20) {
            let point = point.min(digits.len());
            assert_same(&format!("{}.{}", &digits[..point], &digits[point..]));
        }

        #[test]
        fn every_text_is_as_cores(text in "[-+0-9.eEinfa]{0,12}") {
            assert_same(&String::from_iter(text.chars()));
        }
    }
}
