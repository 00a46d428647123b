//! Makes text safe to show: what servers send, or others have written, must not move the cursor,
//! set a title or begin a line of its own.
//!
//! What is escaped:
//!
//! | | source |
//! |---|---|
//! | C0 controls and DEL, and C1 controls as UTF-8 (U+0080 to U+009F) | ECMA-48 |
//! | bytes that are no UTF-8, among them the C1 controls as single bytes | |
//! | line and paragraph separators (U+2028, U+2029) | Unicode 5.8 |
//! | what turns the direction of text, and so shows it in another order | Unicode Annex 9, `Bidi_Control` |
//!
//! The notation is the one that `redis-cli` has for strings, byte by byte: `\n`, `\x1b`,
//! `\xc2\x9b`. So it can be typed in double quotes. JSON has its own, `\u009b`.

use std::fmt::Write as _;

use serde_json::Value;

/// As one line: line breaks and tabs are escaped, too.
#[must_use]
pub fn line(text: impl AsRef<[u8]>) -> String {
    escape(text.as_ref(), |_, _| false)
}

/// As lines: line breaks (`\n`, `\r\n`) and tabs stay. A carriage return without a line feed would
/// begin the line anew, and is escaped.
#[must_use]
pub fn lines(text: impl AsRef<[u8]>) -> String {
    escape(text.as_ref(), |character, next| match character {
        '\n' | '\t' => true,
        '\r' => next == Some('\n'),
        _ => false,
    })
}

/// As one line for people: a space stands for line breaks and the blanks around them.
#[must_use]
pub fn message(text: &str) -> String {
    let parts = text.split(['\r', '\n']).map(str::trim).filter(|part| !part.is_empty());
    parts.map(line).collect::<Vec<_>>().join(" ")
}

/// The beginning of a [`message`], of at most so many characters. However long the text is, no more
/// of it is looked at.
#[must_use]
pub fn beginning(text: &str, characters_max: usize) -> String {
    let end = text.char_indices().nth(characters_max).map_or(text.len(), |(index, _)| index);
    let mut message = message(&text[..end]);
    if let Some((end, _)) = message.char_indices().nth(characters_max) {
        message.truncate(end);
    }
    message
}

/// A value as JSON on one line.
#[must_use]
pub fn json(value: &Value) -> String {
    // Outside of its strings JSON has nothing that is escaped.
    let text = value.to_string();
    if !text.contains(is_escaped) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_escaped(character) {
            // All of them have four digits.
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Writes one byte as an escape.
pub fn byte(out: &mut String, byte: u8) {
    match byte {
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        0x07 => out.push_str("\\a"),
        0x08 => out.push_str("\\b"),
        _ => {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// Escapes all that is not to be shown, but for what `stays`, which is told the character and the
/// next one.
fn escape(text: &[u8], stays: impl Fn(char, Option<char>) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        let mut characters = chunk.valid().chars().peekable();
        while let Some(character) = characters.next() {
            if !is_escaped(character) || stays(character, characters.peek().copied()) {
                out.push(character);
            } else {
                character.encode_utf8(&mut [0; 4]).bytes().for_each(|part| byte(&mut out, part));
            }
        }
        chunk.invalid().iter().for_each(|&part| byte(&mut out, part));
    }
    out
}

fn is_escaped(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_a_terminal_obeys_is_escaped() {
        for code in (0..0x20).chain(0x7f..0xa0) {
            let character = char::from(code);
            for shown in [line(character.to_string()), line([code])] {
                assert!(!shown.contains(char::is_control) && shown.starts_with('\\'), "{shown:?}");
            }
            let shown = lines(character.to_string());
            assert_eq!(shown.contains(char::is_control), matches!(character, '\n' | '\t'), "{shown:?}");
            let shown = json(&Value::from(character.to_string()));
            assert!(!shown.contains(char::is_control), "{shown:?}");
            assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), character.to_string());
        }
        for character in "\u{61c}\u{200e}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}\u{2028}\u{2029}".chars() {
            assert!(line(character.to_string()).is_ascii());
            assert!(json(&Value::from(character.to_string())).is_ascii());
        }
    }

    #[test]
    fn everything_else_stays() {
        let text = "plain \\ \"quoted\" ü €\u{a0}e\u{301} 👩\u{200d}🚀";
        assert_eq!((line(text), lines(text), message(text)), (text.into(), text.into(), text.into()));
        assert_eq!(json(&Value::from("ü")), "\"ü\"");
    }

    #[test]
    fn the_notation_is_that_of_redis_cli() {
        assert_eq!(line(b"\x07\x08\n\r\t\x1b\x7f\xc2\x9b\x9b"), "\\a\\b\\n\\r\\t\\x1b\\x7f\\xc2\\x9b\\x9b");
        assert_eq!(lines("a\r\nb\rc\n\td\x1b"), "a\r\nb\\rc\n\td\\x1b");
        assert_eq!(json(&Value::from("a\u{7f}\u{9b}\n")), "\"a\\u007f\\u009b\\n\"");
    }

    #[test]
    fn a_message_is_one_line_without_control_characters() {
        assert_eq!(message("a:\r\n  b\x1b[31m\n"), "a: b\\x1b[31m");
        assert_eq!(beginning("a\nbcd", 4), "a bc");
        assert_eq!(beginning("üüü", 2), "üü");
        assert_eq!(beginning(&"\x1b".repeat(1_000), 6), "\\x1b\\x");
    }
}
