//! Tables: aligned columns under a headline, without lines around them.
//!
//! What stands in a cell is one line without control characters, whoever has written it: there is
//! no other way to make a [`Cell`].

use comfy_table::{Attribute, CellAlignment, Color, presets};

use crate::{Style, escape};

/// A headline and rows.
pub struct Table(comfy_table::Table);

impl Table {
    /// A table with this headline.
    #[must_use]
    pub fn new(style: Style, headline: &[&str]) -> Self {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        if style.is_coloured() {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        let title = |title: &&str| comfy_table::Cell::new(title).add_attribute(Attribute::Bold);
        table.set_header(headline.iter().map(title));
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        Self(table)
    }

    /// Adds a row, whose cells stand under the headline's titles.
    pub fn add_row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.0.add_row(cells.into_iter().map(|cell| cell.0));
    }

    /// Whether it has no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The table's text, every line ended, without blanks at the end of lines.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }
}

/// What stands in one column of one row.
pub struct Cell(comfy_table::Cell);

impl Cell {
    /// A cell with this text, which may be a server's.
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        Self(comfy_table::Cell::new(escape::line(text)))
    }

    /// One whose digits line up on the right.
    #[allow(clippy::needless_pass_by_value, reason = "numbers, and texts that were made for this")]
    pub fn number(value: impl ToString) -> Self {
        Self(Self::new(value.to_string()).0.set_alignment(CellAlignment::Right))
    }

    /// The same, as something that is well.
    #[must_use]
    pub fn good(self) -> Self {
        Self(self.0.fg(Color::Green))
    }

    /// The same, as something that is not known.
    #[must_use]
    pub fn open(self) -> Self {
        Self(self.0.fg(Color::Yellow))
    }

    /// The same, as something that is wrong.
    #[must_use]
    pub fn bad(self) -> Self {
        Self(self.0.fg(Color::Red))
    }
}

/// A number with commas between groups of three digits.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")];
        for (number, text) in cases {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn columns_line_up_without_trailing_blanks() {
        let mut table = Table::new(Style::PLAIN, &["key", "slot"]);
        table.add_row([Cell::new("a long key"), Cell::number(7)]);
        table.add_row([Cell::new("k"), Cell::number(12_345)]);
        assert_eq!(table.text(), "key         slot\na long key      7\nk           12345\n");
    }

    #[test]
    fn no_cell_is_more_than_its_place() {
        let mut table = Table::new(Style::PLAIN, &["zone", "node"]);
        let forged = "a\n\x1b[2Jshard 2\u{9b}\u{202e}\r";
        table.add_row([Cell::new(forged), Cell::number(forged)]);
        table.add_row([Cell::new(forged).good(), Cell::new(b"\x9b\t").bad()]);
        let text = table.text();
        assert_eq!(text.lines().count(), 3, "{text:?}");
        assert!(
            text.replace('\n', "").is_ascii() && !text.replace('\n', "").contains(char::is_control),
            "{text:?}"
        );
    }
}
