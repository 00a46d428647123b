//! Tables: aligned columns under a headline, without lines around them.

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table, presets};

use super::style::Style;

/// A table with this headline.
pub(crate) fn new(style: Style, headline: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if style.is_coloured() {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(headline.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// The table's text, every line ended, without blanks at the end of lines.
pub(crate) fn text(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A cell whose digits line up on the right.
pub(crate) fn number(value: impl ToString) -> Cell {
    Cell::new(value).set_alignment(CellAlignment::Right)
}

/// A number with commas between groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
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

/// A cell that says that all is well.
pub(crate) fn good(value: impl ToString) -> Cell {
    Cell::new(value).fg(Color::Green)
}

/// A cell that says that something is not.
pub(crate) fn bad(value: impl ToString) -> Cell {
    Cell::new(value).fg(Color::Red)
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
        let mut table = new(Style::PLAIN, &["key", "slot"]);
        table.add_row([Cell::new("a long key"), number(7)]);
        table.add_row([Cell::new("k"), number(12_345)]);
        assert_eq!(text(&table), "key         slot\na long key      7\nk           12345\n");
    }
}
