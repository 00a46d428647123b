//! What `help` says at the prompt, from the generated table of commands.

use keyslot_terminal::{Style, escape};

use crate::help_table::{COMMAND_HELP, CommandHelp};

/// The answer to `help WORDS…`.
pub(crate) fn text(words: &[Vec<u8>], style: Style) -> String {
    let words: Vec<_> = words.iter().map(escape::line).collect();
    let topic = words.join(" ");
    match topic.strip_prefix('@') {
        _ if topic.is_empty() => general(),
        Some(group) => about_group(group, style),
        None => about_command(&topic, style),
    }
}

/// The names of all groups, sorted.
pub(crate) fn groups() -> Vec<&'static str> {
    let mut groups: Vec<_> = COMMAND_HELP.iter().map(|command| command.group).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// The command of this name, whatever its case.
pub(crate) fn command(name: &str) -> Option<&'static CommandHelp> {
    COMMAND_HELP.iter().find(|command| command.name.eq_ignore_ascii_case(name))
}

fn general() -> String {
    format!(
        "keyslot {}\n\
         To get help about commands type:\n      \
         \"help <command>\" for help on <command>, as in \"help GET\"\n      \
         \"help @<group>\" for the commands of a group: {}\n      \
         \"3 <command>\" to run a command three times\n      \
         \"clear\" to clear the screen\n      \
         \"quit\" to exit\n\
         <tab> completes the names of commands, after \"help\" too.\n",
        env!("CARGO_PKG_VERSION"),
        groups().join(", "),
    )
}

/// One line for each command of a group.
fn about_group(group: &str, style: Style) -> String {
    let group = group.to_ascii_lowercase();
    let same = |name: &str| name.replace('_', "-") == group.replace('_', "-");
    let lines: String = COMMAND_HELP
        .iter()
        .filter(|command| same(command.group))
        .map(|command| format!("  {}\n", syntax(command, style)))
        .collect();
    if lines.is_empty() {
        return format!("There is no group '{group}'. The groups are: {}\n", groups().join(", "));
    }
    format!("\n{lines}\n")
}

/// A command, and its subcommands if it has some.
fn about_command(name: &str, style: Style) -> String {
    let name = name.to_ascii_uppercase();
    let text: String = COMMAND_HELP
        .iter()
        .filter(|command| {
            command
                .name
                .strip_prefix(name.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        })
        .map(|command| entry(command, style))
        .collect();
    if text.is_empty() {
        return format!("There is no help for '{name}'. <tab> completes the names that there are.\n");
    }
    format!("\n{text}")
}

fn entry(command: &CommandHelp, style: Style) -> String {
    let mut text = format!("  {}\n", syntax(command, style));
    for (title, value) in [("since", command.since), ("group", command.group), ("time", command.complexity)] {
        if !value.is_empty() {
            text.push_str(&format!("  {} {value}\n", style.dim(format!("{title}:"))));
        }
    }
    text.push('\n');
    text
}

fn syntax(command: &CommandHelp, style: Style) -> String {
    let arguments = command.syntax.strip_prefix(command.name).unwrap_or_default();
    format!("{}{}", style.bold(command.name), style.cyan(arguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(words: &str) -> String {
        let words: Vec<_> = words.split_whitespace().map(|word| word.as_bytes().to_vec()).collect();
        text(&words, Style::PLAIN)
    }

    #[test]
    fn a_command_is_explained() {
        let get = help("get");
        assert!(
            get.contains("  GET key\n") && get.contains("group: string") && get.contains("O(1)"),
            "{get}"
        );
        assert!(!get.contains("GETEX"), "{get}");
    }

    #[test]
    fn a_container_is_explained_by_its_subcommands() {
        let config = help("CONFIG");
        assert!(
            config.contains("CONFIG GET parameter") && config.contains("CONFIG SET parameter"),
            "{config}"
        );
        assert!(help("config get").contains("CONFIG GET") && !help("config get").contains("CONFIG SET"));
    }

    #[test]
    fn a_group_lists_its_commands() {
        assert!(help("@string").contains("  GET key\n"));
        assert_eq!(help("@sorted_set"), help("@Sorted-Set"));
        assert!(help("@nope").starts_with("There is no group 'nope'. The groups are: bitmap, "));
    }

    #[test]
    fn what_is_unknown_is_said_to_be() {
        assert!(help("nope").starts_with("There is no help for 'NOPE'."));
        assert!(help("").contains("help @<group>"));
    }
}
