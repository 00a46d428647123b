//! Requests as a caller hands them in: RESP arrays of bulk strings, one after the other.

use core::str;

use alloc::vec::Vec;

/// How many digits a count or a length has at most: those of a 64-bit number.
const DIGITS_MAX: usize = 20;

/// Why bytes are no requests. Each is one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A request is no array.
    #[error("a request begins with byte {0:#04x} instead of '*'")]
    NoArray(u8),
    /// An array holds something else than bulk strings.
    #[error("an argument begins with byte {0:#04x} instead of '$'")]
    NoBulkString(u8),
    /// An array's count or a string's length.
    #[error("a count or length is no number that a request can have")]
    Number,
    /// A string is longer or shorter than its length says, or a line does not end in CR LF.
    #[error("CR LF is missing behind a line or a string")]
    LineEnd,
    /// The bytes end too early.
    #[error("the last request is cut off")]
    CutOff,
}

/// Takes the first request off `rest`, and puts its name and arguments into `args`. Gives the
/// request's bytes; `None` at the end. An empty array is a request without a name.
///
/// ```
/// let mut rest: &[u8] = b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n*1\r\n$4\r\nPING\r\n";
/// let mut args = Vec::new();
/// keyslot_core::resp::take_request(&mut rest, &mut args)?;
/// assert_eq!(args, [&b"GET"[..], b"key"]);
/// assert_eq!(rest, b"*1\r\n$4\r\nPING\r\n");
/// # Ok::<(), keyslot_core::resp::RequestError>(())
/// ```
///
/// # Errors
/// Says what is wrong; `rest` and `args` are of no use then.
pub fn take_request<'a>(
    rest: &mut &'a [u8],
    args: &mut Vec<&'a [u8]>,
) -> Result<Option<&'a [u8]>, RequestError> {
    let whole = *rest;
    args.clear();
    let Some((marker, after)) = whole.split_first() else {
        return Ok(None);
    };
    if *marker != b'*' {
        return Err(RequestError::NoArray(*marker));
    }
    let (count, mut after) = number(after)?;
    for _ in 0..count {
        let (marker, line) = after.split_first().ok_or(RequestError::CutOff)?;
        if *marker != b'$' {
            return Err(RequestError::NoBulkString(*marker));
        }
        let (length, text) = number(line)?;
        let arg = text.get(..length).ok_or(RequestError::CutOff)?;
        after = match text.get(length..).unwrap_or_default() {
            [b'\r', b'\n', after @ ..] => after,
            [] | [b'\r'] => return Err(RequestError::CutOff),
            _ => return Err(RequestError::LineEnd),
        };
        args.push(arg);
    }
    *rest = after;
    Ok(whole.get(..whole.len() - after.len()))
}

/// The number on a line, and what follows the line.
#[inline]
fn number(line: &[u8]) -> Result<(usize, &[u8]), RequestError> {
    match line {
        // Most have a digit or two.
        [digit @ b'0'..=b'9', b'\r', b'\n', after @ ..] => Ok((usize::from(digit - b'0'), after)),
        [tens @ b'1'..=b'9', ones @ b'0'..=b'9', b'\r', b'\n', after @ ..] => {
            Ok((usize::from(tens - b'0') * 10 + usize::from(ones - b'0'), after))
        }
        _ => long_number(line),
    }
}

#[cold]
fn long_number(line: &[u8]) -> Result<(usize, &[u8]), RequestError> {
    let end = line.iter().take(DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
    let digits = line.get(..end).unwrap_or_default();
    match line.get(end) {
        _ if end > DIGITS_MAX => return Err(RequestError::Number),
        None => return Err(RequestError::CutOff),
        Some(b'\r') if end > 0 => {}
        Some(_) => return Err(RequestError::Number),
    }
    let number = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    let after = match line.get(end..).unwrap_or_default() {
        [b'\r', b'\n', after @ ..] => after,
        [_] => return Err(RequestError::CutOff),
        _ => return Err(RequestError::LineEnd),
    };
    Ok((number.ok_or(RequestError::Number)?, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut bytes: &[u8]) -> Result<Vec<Vec<&[u8]>>, RequestError> {
        let mut requests = Vec::new();
        let mut args = Vec::new();
        while take_request(&mut bytes, &mut args)?.is_some() {
            requests.push(args.clone());
        }
        assert!(bytes.is_empty());
        Ok(requests)
    }

    #[test]
    fn requests_follow_each_other() {
        let bytes = b"*1\r\n$4\r\nPING\r\n*0\r\n*2\r\n$3\r\nGET\r\n$11\r\na\r\nb*1\r\n$0x\r\n";
        let expected: &[&[&[u8]]] = &[&[b"PING"], &[], &[b"GET", b"a\r\nb*1\r\n$0x"]];
        assert_eq!(all(bytes).unwrap(), expected);
        assert_eq!(all(b""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_request_is_told() {
        for (bytes, error) in [
            (&b"PING\r\n"[..], RequestError::NoArray(b'P')),
            (b"*1\r\n:1\r\n", RequestError::NoBulkString(b':')),
            (b"*-1\r\n", RequestError::Number),
            (b"*1048577\r\n", RequestError::CutOff),
            (b"*99999999999999999999\r\n", RequestError::Number),
            (b"*1\r\n$-1\r\n", RequestError::Number),
            (b"*1\r\n$\r\n", RequestError::Number),
            (b"*1\rx", RequestError::LineEnd),
            (b"*100\rx", RequestError::LineEnd),
            (b"*2\n$3\nGET\n$1\nk\n", RequestError::Number),
            (b"*x", RequestError::Number),
            (b"*000000000000000000001", RequestError::Number),
            (b"*1\r\n$1\r\nabc\r\n", RequestError::LineEnd),
        ] {
            assert_eq!(all(bytes), Err(error), "{}", bytes.escape_ascii());
        }
        let whole = b"*2\r\n$3\r\nGET\r\n$10\r\n0123456789\r\n";
        for length in 1..whole.len() {
            assert_eq!(all(&whole[..length]), Err(RequestError::CutOff), "{length}");
        }
    }
}
