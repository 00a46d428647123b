//! Comments and prose that are too wide to be read.
//!
//! A table's row cannot be broken, nor can a line of one word, as an address is. They count as
//! narrow.

use std::str::FromStr as _;

use anyhow::anyhow;
use proc_macro2::{LineColumn, TokenStream, TokenTree};

/// The widest line, in characters.
const COLUMNS_MAX: usize = 100;

/// How many lines of a text or of an interface in WIT are too wide.
pub(super) fn of_text(text: &str) -> usize {
    text.lines().filter(|line| is_wide(line, line)).count()
}

/// How many lines of a Rust file are too wide and end in a comment. Wide code is rustfmt's matter.
pub(super) fn of_rust(text: &str) -> anyhow::Result<usize> {
    let lines: Vec<&str> = text.lines().collect();
    // Up to which column each line is code, a literal of several lines included.
    let mut code = vec![0; lines.len() + 1];
    let tokens = TokenStream::from_str(text).map_err(|error| anyhow!("not Rust: {error}"))?;
    cover(tokens, &lines, &mut code);
    let comments = lines.iter().zip(&code).map(|(line, &columns)| {
        let comment: String = line.chars().skip(columns).collect();
        (line, comment)
    });
    Ok(comments.filter(|(line, comment)| !comment.trim().is_empty() && is_wide(line, comment.trim())).count())
}

/// Marks what is code: all tokens but those that a documentation comment stands for.
fn cover(tokens: TokenStream, lines: &[&str], code: &mut [usize]) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                if is_comment(group.span_open().start(), lines) {
                    continue;
                }
                mark(group.span_open().start(), group.span_open().end(), code);
                cover(group.stream(), lines, code);
                mark(group.span_close().start(), group.span_close().end(), code);
            }
            token => {
                if !is_comment(token.span().start(), lines) {
                    mark(token.span().start(), token.span().end(), code);
                }
            }
        }
    }
}

/// Whether what stands here is a comment: documentation has the place of the attribute that it is.
fn is_comment(start: LineColumn, lines: &[&str]) -> bool {
    let line = start.line.checked_sub(1).and_then(|index| lines.get(index)).copied().unwrap_or_default();
    let rest: String = line.chars().skip(start.column).take(2).collect();
    rest == "//" || rest == "/*"
}

fn mark(start: LineColumn, end: LineColumn, code: &mut [usize]) {
    for line in start.line..=end.line {
        if let Some(columns) = line.checked_sub(1).and_then(|index| code.get_mut(index)) {
            *columns = if line == end.line { end.column.max(*columns) } else { usize::MAX };
        }
    }
}

/// Whether a line, with this prose in it, should have been broken.
fn is_wide(line: &str, prose: &str) -> bool {
    let prose = prose.trim_start().trim_start_matches(['/', '!', '#']).trim_start();
    let can_be_broken = !prose.starts_with('|') && prose.trim_end().contains(' ');
    line.chars().count() > COLUMNS_MAX && can_be_broken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text of words that is so wide.
    fn words(columns: usize) -> String {
        "a ".repeat(columns).chars().take(columns - 1).chain(['b']).collect()
    }

    #[test]
    fn prose_may_have_a_hundred_columns() {
        assert_eq!(of_text(&words(100)), 0);
        assert_eq!(of_text(&format!("{}\n{}\nshort", words(101), words(150))), 2);
        assert_eq!(of_text(&"é ".repeat(50)), 0, "characters, not bytes");
    }

    #[test]
    fn what_cannot_be_broken_is_not_counted() {
        let (row, address) = (format!("| {} |", words(120)), "x".repeat(120));
        assert_eq!(of_text(&format!("{row}\n{address}\n/// {row}\n")), 0);
        assert_eq!(of_rust(&format!("//! {row}\n// {address}\n")).unwrap(), 0);
    }

    #[test]
    fn comments_of_rust_are_counted_and_code_is_not() {
        let (wide, narrow) = (words(110), words(40));
        let code = format!("//! {wide}\n/// {wide}\nfn a() {{\n    // {wide}\n    b(); // {wide}\n}}\n");
        assert_eq!(of_rust(&code).unwrap(), 4);
        let code = format!("const A: &str = \"{wide}\";\nconst B: &str = \"\n// {wide}\n\"; // {narrow}\n");
        assert_eq!(of_rust(&code).unwrap(), 0);
        assert_eq!(of_rust(&format!("/* {narrow}\n{wide}\n*/\n")).unwrap(), 1);
        assert_eq!(of_rust(&format!("const A: &str = \"{}\"; // {narrow}\n", words(70))).unwrap(), 1);
    }
}
