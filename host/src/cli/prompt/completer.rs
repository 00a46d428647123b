//! Completion: names of commands, of subcommands, and of what `help` explains.

use reedline::{Completer, CompletionResult, Span, Suggestion};

use crate::cli::help;
use crate::help_table::COMMAND_HELP;

/// Completes from the generated table of commands. Asks no server.
pub(super) struct CommandCompleter;

impl Completer for CommandCompleter {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let typed = line.get(..pos).unwrap_or(line);
        let (start, names) = names_for(typed);
        let suggestions: Vec<_> = names
            .into_iter()
            .map(|name| Suggestion {
                description: help::command(&name).map(|command| command.syntax.to_owned()),
                value: name,
                span: Span::new(start, pos),
                append_whitespace: true,
                ..Suggestion::default()
            })
            .collect();
        CompletionResult::fresh(suggestions)
    }
}

/// Where the text to complete begins, and what it may become, in the case that was begun with.
fn names_for(typed: &str) -> (usize, Vec<String>) {
    let blank = typed.len() - typed.trim_start().len();
    let text = &typed[blank..];
    let is_help = text.get(..5).is_some_and(|word| word.eq_ignore_ascii_case("help "));
    let start = if is_help { blank + 5 } else { blank };
    let begun = &typed[start..];
    if is_help && let Some(group) = begun.strip_prefix('@') {
        let groups = help::groups().into_iter().filter(|name| name.starts_with(&group.to_ascii_lowercase()));
        return (start, groups.map(|name| format!("@{name}")).collect());
    }

    let prefix = begun.to_ascii_uppercase();
    let mut names: Vec<&str> = COMMAND_HELP
        .iter()
        .map(|command| command.name)
        .map(|name| if prefix.contains(' ') { name } else { name.split(' ').next().unwrap_or(name) })
        .chain(if is_help { [""; 4] } else { ["HELP", "QUIT", "EXIT", "CLEAR"] })
        .filter(|name| !name.is_empty() && name.starts_with(&prefix))
        .collect();
    names.sort_unstable();
    names.dedup();
    let lower = begun.chars().next().is_some_and(|first| first.is_ascii_lowercase());
    (
        start,
        names
            .into_iter()
            .map(|name| if lower { name.to_ascii_lowercase() } else { name.to_owned() })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let (start, names) = names_for("  getr");
        assert_eq!((start, names), (2, vec!["getrange".to_owned()]));
        assert!(names_for("CONF").1.contains(&"CONFIG".to_owned()));
        assert_eq!(names_for("GET key").1, [""; 0]);
        assert!(names_for("").1.contains(&"HELP".to_owned()));
    }

    #[test]
    fn subcommands() {
        let (start, names) = names_for("config re");
        assert_eq!((start, names), (0, vec!["config resetstat".to_owned(), "config rewrite".to_owned()]));
    }

    #[test]
    fn topics_of_help() {
        assert_eq!(names_for("help GETR"), (5, vec!["GETRANGE".to_owned()]));
        assert_eq!(names_for("help @bit"), (5, vec!["@bitmap".to_owned()]));
    }

    #[test]
    fn any_text_at_any_position_is_no_panic() {
        for line in ["ü", "help ü", "héllo wörld", "hel\u{301}p "] {
            for pos in 0..=line.len() + 1 {
                CommandCompleter.complete(line, pos.min(line.len()));
            }
        }
    }
}
