//! Splitting a typed line into a command's words, as `redis-cli` does it.

use std::borrow::Cow;

/// The line's quotes do not match, or something stands right behind a closing one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unbalanced;

/// The words of a line, on their own.
pub(crate) fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
    Ok(words(line)?.into_iter().map(Cow::into_owned).collect())
}

/// The words of a line. A word may be put in double quotes, with the escapes `\n \r \t \a \b \\ \"`
/// and `\xHH`, or in single quotes, where only `\'` is one. Quotes may open in the middle of a
/// word, and a closing one ends it.
pub(crate) fn words(line: &[u8]) -> Result<Vec<Cow<'_, [u8]>>, Unbalanced> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let (word, after) = first_word(rest)?;
        words.push(word);
        rest = after.trim_ascii_start();
    }
    Ok(words)
}

/// The first word of a text that begins with one, and what stands behind it.
fn first_word(text: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), Unbalanced> {
    let ends = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | 0 | b'"' | b'\'');
    let (plain, rest) = text.split_at(text.iter().position(ends).unwrap_or(text.len()));
    match rest {
        [b'"', inner @ ..] => finish(plain.to_vec(), double_quoted, inner),
        [b'\'', inner @ ..] => finish(plain.to_vec(), single_quoted, inner),
        _ => Ok((Cow::Borrowed(plain), rest.get(1..).unwrap_or_default())),
    }
}

/// Reads a quoted text to its closing quote, which must be the word's end.
fn finish(
    mut word: Vec<u8>,
    unit: fn(&[u8]) -> Option<(u8, usize)>,
    mut rest: &[u8],
) -> Result<(Cow<'static, [u8]>, &[u8]), Unbalanced> {
    loop {
        if let Some((byte, length)) = unit(rest) {
            word.push(byte);
            rest = &rest[length..];
            continue;
        }
        // No unit: the closing quote, or the line's end.
        return match rest {
            [_] => Ok((word.into(), &[])),
            [_, next, ..] if next.is_ascii_whitespace() => Ok((word.into(), &rest[1..])),
            _ => Err(Unbalanced),
        };
    }
}

/// The byte that a text in double quotes begins with, and how long its notation is.
fn double_quoted(rest: &[u8]) -> Option<(u8, usize)> {
    match *rest {
        [] | [b'"', ..] => None,
        [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            Some((hex(high) << 4 | hex(low), 4))
        }
        [b'\\', escape, ..] => {
            let byte = match escape {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'a' => 0x07,
                b'b' => 0x08,
                other => other,
            };
            Some((byte, 2))
        }
        [byte, ..] => Some((byte, 1)),
    }
}

/// The same for single quotes.
fn single_quoted(rest: &[u8]) -> Option<(u8, usize)> {
    match *rest {
        [] | [b'\'', ..] => None,
        [b'\\', b'\'', ..] => Some((b'\'', 2)),
        [byte, ..] => Some((byte, 1)),
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let words = split(line.as_bytes()).unwrap();
        words.into_iter().map(|word| word.escape_ascii().to_string()).collect()
    }

    #[test]
    fn words_are_split_at_blanks() {
        assert_eq!(words("  get \t key\r\n"), ["get", "key"]);
        assert_eq!(words(""), [""; 0]);
        assert_eq!(words("set k a\\nb"), ["set", "k", "a\\\\nb"]);
        assert_eq!(split(b"set k \xff\xfe").unwrap()[2], b"\xff\xfe");
    }

    #[test]
    fn quotes() {
        assert_eq!(words(r#"set k "a b" '' """#), ["set", "k", "a b", "", ""]);
        assert_eq!(words(r#""x\x00y\n\q\xzz\"""#), ["x\\x00y\\nqxzz\\\""]);
        assert_eq!(words(r"'a\nb' 'a\'b'"), ["a\\\\nb", "a\\'b"]);
        assert_eq!(words(r#"a"b c" d"#), ["ab c", "d"]);
    }

    #[test]
    fn unbalanced() {
        for line in [r#"get "a"#, r#""a"b"#, r#""ab"'cd'"#, "get 'a", r#"get "a\""#, r#"""#] {
            assert_eq!(split(line.as_bytes()), Err(Unbalanced), "{line}");
        }
    }
}
