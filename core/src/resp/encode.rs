//! Commands as the arrays of bulk strings that every server takes, under both protocol versions.

use alloc::vec::Vec;
use core::str;

use bytes::BytesMut;

/// Appends a command, its name first, to what is to be sent.
///
/// ```
/// let mut buffer = bytes::BytesMut::new();
/// keyslot_core::resp::encode_command(&["GET", "key"], &mut buffer);
/// assert_eq!(buffer, "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n");
/// ```
pub fn encode_command<A: AsRef<[u8]>>(args: &[A], into: &mut BytesMut) {
    into.reserve(encoded_length(args));
    put_header(b'*', args.len() as u64, into);
    for arg in args {
        let arg = arg.as_ref();
        put_header(b'$', arg.len() as u64, into);
        into.extend_from_slice(arg);
        into.extend_from_slice(b"\r\n");
    }
}

/// How many bytes [`encode_command`] appends.
pub fn encoded_length<A: AsRef<[u8]>>(args: &[A]) -> usize {
    let args_length: usize = args
        .iter()
        .map(|arg| {
            let length = arg.as_ref().len();
            header_length(length) + length + 2
        })
        .sum();
    header_length(args.len()) + args_length
}

/// The name and the arguments of what [`encode_command`] has written; of anything else, those that
/// can be told.
///
/// ```
/// let frame = b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n";
/// assert_eq!(keyslot_core::resp::decode_command(frame), [&b"GET"[..], b"key"]);
/// ```
#[must_use]
pub fn decode_command(frame: &[u8]) -> Vec<&[u8]> {
    let mut args = Vec::new();
    let mut rest = header(frame, b'*').map_or(&[][..], |(_, rest)| rest);
    while let Some((length, after)) = header(rest, b'$') {
        let (Some(arg), Some(next)) = (after.get(..length), after.get(length.saturating_add(2)..)) else {
            break;
        };
        args.push(arg);
        rest = next;
    }
    args
}

/// The number after the marker, and what follows its line.
fn header(bytes: &[u8], marker: u8) -> Option<(usize, &[u8])> {
    let line = bytes.strip_prefix(&[marker])?;
    let end = line.iter().position(|byte| *byte == b'\r')?;
    let number = str::from_utf8(line.get(..end)?).ok()?.parse().ok()?;
    Some((number, line.get(end + 2..)?))
}

fn header_length(number: usize) -> usize {
    // The type byte, the digits, CR LF.
    1 + number.checked_ilog10().map_or(1, |log| log as usize + 1) + 2
}

/// Appends a line with an integer.
pub(crate) fn put_integer_line(marker: u8, value: i64, into: &mut BytesMut) {
    if value < 0 {
        into.extend_from_slice(&[marker]);
        put_header(b'-', value.unsigned_abs(), into);
    } else {
        put_header(marker, value.unsigned_abs(), into);
    }
}

fn put_header(marker: u8, mut number: u64, into: &mut BytesMut) {
    // From the right: CR LF, the digits of a 64-bit number (at most 20), the type byte.
    let mut header = [0; 23];
    let mut start = header.len();
    let mut put = |byte| {
        start -= 1;
        if let Some(place) = header.get_mut(start) {
            *place = byte;
        }
    };
    put(b'\n');
    put(b'\r');
    loop {
        put(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    put(marker);
    into.extend_from_slice(header.get(start..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec};

    use super::*;

    fn encode(args: &[&[u8]]) -> BytesMut {
        let mut buffer = BytesMut::new();
        encode_command(args, &mut buffer);
        assert_eq!(buffer.len(), encoded_length(args));
        buffer
    }

    #[test]
    fn arguments_are_binary_safe() {
        let expected: &[u8] = b"*3\r\n$3\r\nSET\r\n$4\r\na\r\nb\r\n$2\r\n\0\xff\r\n";
        assert_eq!(encode(&[b"SET", b"a\r\nb", b"\0\xff"]), expected);
    }

    #[test]
    fn empty_arguments_and_commands() {
        assert_eq!(encode(&[]), "*0\r\n");
        assert_eq!(encode(&[b""]), "*1\r\n$0\r\n\r\n");
    }

    #[test]
    fn commands_follow_each_other() {
        let mut buffer = encode(&[b"PING"]);
        encode_command(&["PING"], &mut buffer);
        assert_eq!(buffer, "*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n");
    }

    #[test]
    fn the_length_is_exact_at_every_number_of_digits() {
        for length in [9, 10, 99, 100, 999, 1000, 9999, 10_000, 99_999, 100_000] {
            let arg = vec![b'x'; length];
            let encoded = encode(&[&arg]);
            assert!(encoded.starts_with(format!("*1\r\n${length}\r\n").as_bytes()));
        }
    }

    #[test]
    fn the_largest_number_fits() {
        let mut buffer = BytesMut::new();
        put_header(b'$', u64::MAX, &mut buffer);
        assert_eq!(buffer, format!("${}\r\n", u64::MAX).as_bytes());
        assert_eq!(buffer.len(), header_length(usize::MAX));
    }
}
