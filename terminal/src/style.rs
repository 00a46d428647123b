//! Colours, where they are welcome.

use std::fmt::Display;
use std::io::{self, IsTerminal};

/// Whether text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    coloured: bool,
}

impl Style {
    /// No colours.
    pub const PLAIN: Self = Self { coloured: false };

    /// For standard output: coloured when it is a terminal, unless NO_COLOR is set
    /// (<https://no-color.org>) or the terminal can do nothing.
    #[must_use]
    pub fn for_stdout() -> Self {
        Self::on(io::stdout().is_terminal())
    }

    /// The same for standard error.
    #[must_use]
    pub fn for_stderr() -> Self {
        Self::on(io::stderr().is_terminal())
    }

    fn on(is_terminal: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { coloured: is_terminal && !unwanted }
    }

    /// Whether text is coloured.
    #[must_use]
    pub const fn is_coloured(self) -> bool {
        self.coloured
    }

    /// The text in bold.
    #[must_use]
    pub fn bold(self, text: impl Display) -> String {
        self.paint("1", text)
    }

    /// The text in faint letters.
    #[must_use]
    pub fn dim(self, text: impl Display) -> String {
        self.paint("2", text)
    }

    /// The text in cyan.
    #[must_use]
    pub fn cyan(self, text: impl Display) -> String {
        self.paint("36", text)
    }

    /// The text in green.
    #[must_use]
    pub fn green(self, text: impl Display) -> String {
        self.paint("32", text)
    }

    /// The text in red.
    #[must_use]
    pub fn red(self, text: impl Display) -> String {
        self.paint("31", text)
    }

    fn paint(self, code: &str, text: impl Display) -> String {
        if self.coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}
