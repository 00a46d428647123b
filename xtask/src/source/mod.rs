//! `cargo xtask check-source`: what keeps the source readable, as figures with limits.
//!
//! | check | what is counted | limit |
//! |---|---|---|
//! | `circle` | files of a crate that import each other in a circle | 0 |
//! | `file` | lines of a Rust file | 500; some files have their own ([`FILE_LINES_MAX_OF`]) |
//! | `function` | lines of a function, its signature included and its documentation not | 70 |
//! | `wide` | comments, documentation and prose wider than 100 columns, lines for each file | 0 |
//!
//! Generated files are not measured. What is over its limit today is listed in
//! `xtask/exceptions.txt` with its figure. The list is a ratchet: the check fails when a figure
//! rises or a new one appears.

mod circles;
mod modules;
mod ratchet;
mod rust;
mod wide;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, bail};

use self::circles::Circle;
use crate::step;

/// The longest Rust file, in lines.
const FILE_LINES_MAX: usize = 500;

/// Files with a limit of their own: the one that knows all parts of the machine is to stay a table
/// of contents.
const FILE_LINES_MAX_OF: [(&str, usize); 1] = [("core/src/cluster/mod.rs", 350)];

/// The longest function, in lines.
const FUNCTION_LINES_MAX: usize = 70;

/// Where files must not import each other in a circle: a folder, and the roots of the crates there.
const CIRCLE_FREE: [(&str, &[&str]); 3] = [
    ("core/src/cluster", &["core/src/lib.rs"]),
    ("guest/src", &["guest/src/lib.rs"]),
    ("host/src", &["host/src/lib.rs", "host/src/main.rs"]),
];

/// Compares the source's figures with their limits, and with the known exceptions from them.
#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// Writes the list of exceptions anew, where it gets no longer: after something was mended,
    /// moved or split. No check's sum may rise.
    #[arg(long)]
    tighten: bool,
    /// Shows which files of each circle use which others of it.
    #[arg(long)]
    circles: bool,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Check {
    Circle,
    File,
    Function,
    Wide,
}

impl Check {
    const ALL: [Self; 4] = [Self::Circle, Self::File, Self::Function, Self::Wide];

    fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::File => "file",
            Self::Function => "function",
            Self::Wide => "wide",
        }
    }

    /// What a figure of this check counts.
    fn unit(self) -> &'static str {
        match self {
            Self::Circle => "files in circles of imports, at most 0",
            Self::File => "lines of a file, at most 500 (cluster/mod.rs: 350)",
            Self::Function => "lines of a function, at most 70",
            Self::Wide => "lines of prose over 100 columns, at most 0",
        }
    }
}

/// What is over its limit, by the check and the place: a path, and behind it the function's name.
type Figures = BTreeMap<(Check, String), usize>;

/// A file of the project.
struct Source {
    /// From the project's root, with slashes.
    path: String,
    text: String,
}

/// Prints the figures, and fails when one of them is over its limit and not a known exception.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let sources = read()?;
    let (figures, circles) = measure(&sources)?;
    let path = step::root().join("xtask/exceptions.txt");
    let known = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let known = ratchet::parse(&known)?;
    print!("{}", ratchet::table(&known, &figures));
    for circle in circles.iter().filter(|_| arguments.circles) {
        println!("\na circle:");
        circle.iter().for_each(|(file, used)| println!("  {file}: {}", used.join(", ")));
    }

    if arguments.tighten {
        let risen = ratchet::risen_sums(&known, &figures);
        if !risen.is_empty() {
            bail!("the sums have risen of: {}", risen.join(", "));
        }
        fs::write(&path, ratchet::render(&figures))
            .with_context(|| format!("cannot write {}", path.display()))?;
        return Ok(());
    }
    let (worse, better) = ratchet::compare(&known, &figures);
    if !better.is_empty() {
        println!("\nxtask/exceptions.txt can be shortened (cargo xtask check-source --tighten):");
        better.iter().for_each(|line| println!("  {line}"));
    }
    if !worse.is_empty() {
        bail!("over the limits, and no known exceptions:\n  {}", worse.join("\n  "));
    }
    Ok(())
}

/// All files that are measured: those that git knows or would add.
fn read() -> anyhow::Result<Vec<Source>> {
    let mut list = Command::new("git");
    list.args(["ls-files", "--cached", "--others", "--exclude-standard", "--", "*.rs", "*.md", "*.wit"]);
    let list = step::output(&mut list).context("cannot ask git for the project's files")?;
    let mut sources = Vec::new();
    for path in list.lines() {
        let file = step::root().join(path);
        // One that was removed, and is still in git's index.
        if !file.exists() {
            continue;
        }
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {path}"))?;
        sources.push(Source { path: path.to_owned(), text });
    }
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    sources.dedup_by(|one, other| one.path == other.path);
    Ok(sources)
}

/// What is over its limit, and the circles themselves.
fn measure(sources: &[Source]) -> anyhow::Result<(Figures, Vec<Circle>)> {
    let mut figures = Figures::new();
    let mut files = BTreeMap::new();
    for source in sources {
        let path = source.path.as_str();
        if !path.ends_with(".rs") {
            over(&mut figures, Check::Wide, path, wide::of_text(&source.text), 0);
            continue;
        }
        let file = syn::parse_file(&source.text).with_context(|| format!("cannot parse {path}"))?;
        files.insert(path, file);
        if rust::is_generated(&source.text) {
            continue;
        }
        let file = &files[path];
        let special = FILE_LINES_MAX_OF.iter().find(|(of, _)| *of == path);
        let lines_max = special.map_or(FILE_LINES_MAX, |(_, lines_max)| *lines_max);
        over(&mut figures, Check::File, path, source.text.lines().count(), lines_max);
        for (name, lines) in rust::functions(file) {
            over(&mut figures, Check::Function, &format!("{path} {name}"), lines, FUNCTION_LINES_MAX);
        }
        over(&mut figures, Check::Wide, path, wide::of_rust(&source.text)?, 0);
    }
    let mut circles = Vec::new();
    for (folder, roots) in CIRCLE_FREE {
        let mut of_folder = Vec::new();
        for root in roots {
            let (sources, root) = root.rsplit_once('/').context("a root is in no folder")?;
            let of_crate = files
                .iter()
                .filter_map(|(path, file)| Some((path.strip_prefix(sources)?.strip_prefix('/')?, file)));
            let within = folder.strip_prefix(sources).unwrap_or_default().trim_start_matches('/');
            of_folder.extend(circles::of(&modules::Crate::new(root, of_crate), within));
        }
        over(&mut figures, Check::Circle, folder, of_folder.iter().map(Circle::len).sum(), 0);
        circles.extend(of_folder);
    }
    Ok((figures, circles))
}

/// Notes a figure that is over its limit: the largest where several have the same place.
fn over(figures: &mut Figures, check: Check, place: &str, figure: usize, max: usize) {
    if figure > max {
        let noted = figures.entry((check, place.to_owned())).or_default();
        *noted = figure.max(*noted);
    }
}
