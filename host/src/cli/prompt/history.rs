//! The file that remembers what was typed, and what it must not remember.

use std::io;
use std::path::PathBuf;

use directories::ProjectDirs;
use keyslot_terminal::escape;
use reedline::{
    FileBackedHistory, History, HistoryItem, HistoryItemId, HistorySessionId, ReedlineError,
    ReedlineErrorVariants, Result, SearchQuery,
};

use crate::cli::line;

/// How many lines are kept.
const LINES_MAX: usize = 10_000;

/// The history: in the file that `KEYSLOT_HISTORY` names, else in the user's data folder. None when
/// that variable is empty, or there is no such folder.
pub(super) fn open() -> io::Result<Option<Box<dyn History>>> {
    let file = match std::env::var_os("KEYSLOT_HISTORY") {
        Some(name) if name.is_empty() => None,
        Some(name) => Some(PathBuf::from(name)),
        None => ProjectDirs::from("", "", "keyslot").map(|folders| folders.data_dir().join("history")),
    };
    let Some(file) = file else {
        return Ok(None);
    };
    let history = FileBackedHistory::with_file(LINES_MAX, file).map_err(io::Error::other)?;
    Ok(Some(Box::new(DiscreetHistory(history))))
}

/// A history that takes no line with a password, and gives none with control characters: the editor
/// writes its lines to the terminal as they are, and whoever can write the file could write there.
struct DiscreetHistory(FileBackedHistory);

impl History for DiscreetHistory {
    fn save(&mut self, item: HistoryItem) -> Result<HistoryItem> {
        if holds_secret(&item.command_line) {
            return Err(ReedlineError(ReedlineErrorVariants::OtherHistoryError("the line holds a password")));
        }
        self.0.save(item)
    }

    fn load(&self, id: HistoryItemId) -> Result<HistoryItem> {
        self.0.load(id).map(shown)
    }

    fn count(&self, query: SearchQuery) -> Result<i64> {
        self.0.count(query)
    }

    fn search(&self, query: SearchQuery) -> Result<Vec<HistoryItem>> {
        Ok(self.0.search(query)?.into_iter().map(shown).collect())
    }

    fn update(&mut self, id: HistoryItemId, updater: &dyn Fn(HistoryItem) -> HistoryItem) -> Result<()> {
        self.0.update(id, updater)
    }

    fn clear(&mut self) -> Result<()> {
        self.0.clear()
    }

    fn delete(&mut self, id: HistoryItemId) -> Result<()> {
        self.0.delete(id)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }

    fn session(&self) -> Option<HistorySessionId> {
        self.0.session()
    }
}

/// A line as it may be shown, and used again: in double quotes the escapes mean what they stand
/// for.
fn shown(mut item: HistoryItem) -> HistoryItem {
    item.command_line = escape::lines(&item.command_line);
    item
}

/// Whether the command of a line takes a password: AUTH, HELLO, MIGRATE, ACL SETUSER, or CONFIG SET
/// of one.
fn holds_secret(text: &str) -> bool {
    // A line whose quotes do not match is no command, but may have been meant as one.
    let words = line::split(text.as_bytes())
        .unwrap_or_else(|_| text.split_whitespace().map(|word| word.as_bytes().to_vec()).collect());
    let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word).to_ascii_uppercase()).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let is_count = |word: &str| word.parse::<i64>().is_ok();
    match words.as_slice() {
        [count, rest @ ..] if is_count(count) => names_secret(rest),
        words => names_secret(words),
    }
}

fn names_secret(words: &[&str]) -> bool {
    match words {
        ["AUTH", ..] | ["ACL", "SETUSER", ..] => true,
        ["HELLO" | "MIGRATE", rest @ ..] => rest.iter().any(|word| word.starts_with("AUTH")),
        ["CONFIG", "SET", rest @ ..] => {
            rest.iter().any(|word| word.contains("PASS") || word.contains("AUTH"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_remembered() {
        for line in [
            "AUTH secret",
            " auth app secret",
            "2 AUTH secret",
            "auth \"secret",
            "hello 3 auth app secret",
            "ACL SETUSER app on >secret",
            "config set requirepass secret",
            "CONFIG SET masterauth secret",
            "MIGRATE h 1 k 0 9 AUTH2 app secret",
        ] {
            assert!(holds_secret(line), "{line}");
        }
        for line in ["", "GET auth", "HELLO 3", "CONFIG GET requirepass", "SET password x", "get \"a"] {
            assert!(!holds_secret(line), "{line}");
        }
    }

    #[test]
    fn a_refused_line_is_in_no_file() {
        let folder = std::env::temp_dir().join(format!("keyslot-history-{}", std::process::id()));
        let file = folder.join("history");
        let mut history = DiscreetHistory(FileBackedHistory::with_file(10, file.clone()).unwrap());
        history.save(HistoryItem::from_command_line("GET k")).unwrap();
        assert!(history.save(HistoryItem::from_command_line("AUTH secret")).is_err());
        history.sync().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
        assert!(text.contains("GET k") && !text.contains("secret"), "{text}");
    }

    #[test]
    fn what_the_file_has_is_shown_without_control_characters() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("history");
        std::fs::write(&file, b"GET \x1b]0;title\x07\xc2\x9b\rk\nSET k v\n").unwrap();
        let history = DiscreetHistory(FileBackedHistory::with_file(10, file).unwrap());
        let query = SearchQuery::everything(reedline::SearchDirection::Forward, None);
        let lines: Vec<_> = history.search(query).unwrap();
        let lines: Vec<_> = lines.into_iter().map(|item| item.command_line).collect();
        let expected = "GET \\x1b]0;title\\a\\xc2\\x9b\\rk";
        assert_eq!(lines, [expected, "SET k v"]);
        let begun = SearchQuery::last_with_prefix("GET".to_owned(), None);
        assert_eq!(history.search(begun).unwrap()[0].command_line, expected);
        assert_eq!(history.load(HistoryItemId::new(0)).unwrap().command_line, expected);
    }
}
