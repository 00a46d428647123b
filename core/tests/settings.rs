//! Shows that every setting of the list is wherever settings are offered: in the WIT package, in
//! the crate's builder, in README. What is missing is printed as it should stand there.

use std::fs;
use std::path::Path;

use keyslot_core::config::Config;
use keyslot_core::settings::SETTINGS;

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// The rows of the table of settings that WIT and README have.
fn rows() -> Vec<String> {
    let default = Config::new(Vec::new());
    SETTINGS
        .iter()
        .map(|setting| {
            let default = setting.show(&default);
            let default = if default.is_empty() { "none".to_owned() } else { format!("`{default}`") };
            let takes = match setting.words() {
                [] => setting.placeholder().to_owned(),
                words => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
            };
            format!("| `{}` | {takes} | {default} |", setting.name)
        })
        .collect()
}

/// Says which of the rows a text lacks, and which of its own are none.
fn compare(what: &str, text: &str) {
    let expected = rows();
    let has: Vec<_> = text.lines().map(|line| line.trim_start().trim_start_matches("/// ")).collect();
    let begin = has.iter().position(|line| line.starts_with("| `client-name` |"));
    let begin = begin.unwrap_or_else(|| panic!("{what} has no table of settings:\n{}", expected.join("\n")));
    let found: Vec<_> = has[begin..].iter().take_while(|line| line.starts_with("| `")).collect();
    let same = found.iter().map(|row| **row).eq(expected.iter().map(String::as_str));
    assert!(same, "the table of settings in {what} should be\n{}", expected.join("\n"));
}

#[test]
fn the_wit_package_has_every_setting() {
    let wit = file("wit/redis-cluster.wit");
    compare("wit/redis-cluster.wit", &wit);
    // The typed setters, next to `set`: a function, or a case of `pool-setting` or `limit`.
    for setting in SETTINGS {
        let name = setting.name;
        let case = name.strip_prefix("pool-").or(name.strip_prefix("limit-"));
        let any_of = match case {
            Some(case) => [format!("\n    {case},"), format!("\n    {case}-ms,")],
            None if name == "map-address" => ["map-address: func(".to_owned(), String::from("no other")],
            None => [format!("set-{name}: func("), format!("set-{name}-ms: func(")],
        };
        assert!(any_of.iter().any(|text| wit.contains(text)), "the WIT package has none of {any_of:?}");
    }
}

#[test]
fn the_setters_of_the_component_and_of_the_crate_have_every_setting() {
    for path in ["guest/src/options.rs", "host/src/options.rs"] {
        let text = file(path);
        for setting in SETTINGS {
            assert!(text.contains(&format!("\"{}\"", setting.name)), "{path} has no {}", setting.name);
        }
    }
}

#[test]
fn readme_has_every_setting() {
    compare("README.md", &file("README.md"));
}
