//! Hints behind the cursor: the arguments that a command still takes, or how a line of the history
//! goes on.

use reedline::{Color, DefaultHinter, Hinter, History};

use crate::cli::{help, line};

/// Shows the syntax after a space, and the history within a word. Only the history's hint can be
/// accepted.
#[derive(Default)]
pub(super) struct SyntaxHinter {
    history: DefaultHinter,
    shows_syntax: bool,
}

impl Hinter for SyntaxHinter {
    fn handle(&mut self, line: &str, pos: usize, history: &dyn History, coloured: bool, cwd: &str) -> String {
        let syntax = if line.ends_with(' ') { remaining_syntax(line) } else { None };
        self.shows_syntax = syntax.is_some();
        match syntax {
            Some(text) if coloured => Color::DarkGray.paint(text).to_string(),
            Some(text) => text,
            None => self.history.handle(line, pos, history, coloured, cwd),
        }
    }

    fn complete_hint(&self) -> String {
        if self.shows_syntax { String::new() } else { self.history.complete_hint() }
    }

    fn next_hint_token(&self) -> String {
        if self.shows_syntax { String::new() } else { self.history.next_hint_token() }
    }
}

/// The arguments that the command of a line takes after those that are there: `value [NX | XX] …`
/// for `SET k `. None when the command is unknown, or when the arguments are beyond the fixed ones
/// at its beginning.
fn remaining_syntax(text: &str) -> Option<String> {
    let words = line::split(text.as_bytes()).ok()?;
    let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
    let subcommand = match words.as_slice() {
        [name, subcommand, ..] => help::command(&format!("{name} {subcommand}")),
        _ => None,
    };
    let (command, taken) = match subcommand {
        Some(command) => (command, 2),
        None => (help::command(words.first()?)?, 1),
    };
    let mut rest = command.syntax.strip_prefix(command.name)?.trim_start();
    for _ in taken..words.len() {
        let (argument, after) = rest.split_once(' ').unwrap_or((rest, ""));
        if argument.is_empty() || argument.starts_with(['[', '<']) {
            return None;
        }
        rest = after;
    }
    (!rest.is_empty()).then(|| rest.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_arguments_are_counted_off() {
        assert_eq!(remaining_syntax("append ").as_deref(), Some("key value"));
        assert_eq!(remaining_syntax("APPEND k ").as_deref(), Some("value"));
        assert_eq!(remaining_syntax("APPEND k v "), None);
        assert_eq!(remaining_syntax("APPEND k v w "), None);
        assert_eq!(remaining_syntax("config get ").as_deref(), Some("parameter [parameter ...]"));
        assert_eq!(remaining_syntax("config get a b "), None);
        for text in ["", " ", "nope ", "get 'a ", "ü "] {
            assert_eq!(remaining_syntax(text), None, "{text}");
        }
    }
}
