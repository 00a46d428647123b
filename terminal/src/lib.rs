//! What the project's commands print: tables, colours where they are welcome, and text that a
//! terminal does not obey.

pub mod escape;
mod style;
pub mod table;

pub use style::Style;
pub use table::{Cell, Table};
