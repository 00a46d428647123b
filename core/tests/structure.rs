//! Shows that no file of the machine imports a file that imports it.
//!
//! A part of the machine (a folder of `src/cluster`) has files that keep its state and decide about
//! it, and files with the machine's own steps (`impl Cluster`), which know several parts. The first
//! do not know the second. `cargo xtask check-source` counts calls as well, and lengths.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The files below a folder by their paths from there, with what they hold.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().replace('\\', "/");
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// What is not for tests: those come last in a file.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap()
}

/// Every path that a tree of imports names: `a::{b, c::{d, e}}` has three.
fn paths(tree: &str, before: &str, found: &mut Vec<String>) {
    let Some(open) = tree.find('{') else {
        found.push(format!("{before}{}", tree.trim()));
        return;
    };
    let before = format!("{before}{}", tree[..open].trim());
    let inner = tree[open + 1..].trim_end().strip_suffix('}').unwrap();
    let (mut depth, mut begin) = (0, 0);
    for (at, letter) in inner.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                paths(&inner[begin..at], &before, found);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if !inner[begin..].trim().is_empty() {
        paths(&inner[begin..], &before, found);
    }
}

/// Which files of the machine each of them imports something of.
fn imports(files: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeSet<&str>> {
    let module = |file: &str| {
        let path = file.strip_suffix(".rs").unwrap();
        let path = path.strip_suffix("/mod").unwrap_or(path);
        if path == "mod" { String::new() } else { path.to_string() }
    };
    let by_module: BTreeMap<_, _> = files.keys().map(|file| (module(file), file.as_str())).collect();
    let mut all = BTreeMap::new();
    for (file, text) in files {
        let own = module(file);
        let parent = own.rsplit_once('/').map_or("", |(parent, _)| parent);
        let mut found = Vec::new();
        let mut lines = without_tests(text).lines();
        while let Some(line) = lines.next() {
            let Some((before, tree)) = line.split_once("use ") else { continue };
            if !["", "pub ", "pub(crate) ", "pub(super) ", "pub(in crate::cluster) "].contains(&before) {
                continue;
            }
            let mut tree = tree.to_string();
            while !tree.ends_with(';') {
                tree.push_str(lines.next().unwrap().trim());
            }
            paths(tree.trim_end_matches(';'), "", &mut found);
        }
        let mut known = BTreeSet::new();
        for path in found {
            let (mut at, rest) = if let Some(rest) = path.strip_prefix("crate::cluster::") {
                (String::new(), rest)
            } else if let Some(rest) = path.strip_prefix("super::") {
                (parent.to_string(), rest)
            } else {
                (own.clone(), &path[..])
            };
            let from_here = at == own;
            let mut is_inside = !from_here;
            for name in rest.split("::") {
                let next = if at.is_empty() { name.to_string() } else { format!("{at}/{name}") };
                if !by_module.contains_key(&next) {
                    break;
                }
                (at, is_inside) = (next, true);
            }
            known.extend(by_module.get(&at).filter(|other| is_inside && **other != file));
        }
        all.insert(file.as_str(), known);
    }
    all
}

#[test]
fn no_file_of_the_machine_imports_one_that_imports_it() {
    let files = files(&source().join("cluster"));
    let mut left = imports(&files);
    assert!(left.values().map(BTreeSet::len).sum::<usize>() > 100, "imports are found: {left:?}");
    // Takes away those that import none that are left, or that none of them imports, until there
    // are only circles.
    loop {
        let is_known = |file: &str| left.values().any(|known| known.contains(file));
        let free = left.iter().filter(|(file, known)| known.is_empty() || !is_known(file));
        let free: Vec<_> = free.map(|(file, _)| *file).collect();
        if free.is_empty() {
            break;
        }
        left.retain(|file, _| !free.contains(file));
        left.values_mut().for_each(|known| known.retain(|other| !free.contains(other)));
    }
    assert!(left.is_empty(), "these import each other in a circle: {left:#?}");
}

#[test]
fn what_a_part_keeps_and_decides_does_not_know_the_machine() {
    let files = files(&source().join("cluster"));
    let is_step = |file: &str| files[file].contains("\nimpl Cluster {");
    let (mut steps, mut wrong) = (0, Vec::new());
    for (file, known) in imports(&files) {
        steps += usize::from(is_step(file));
        let machine = known.into_iter().find(|other| is_step(other)).filter(|_| !is_step(file));
        wrong.extend(machine.map(|machine| format!("{file} imports {machine}")));
    }
    assert!(steps > 10 && wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_parts_fields_are_seen_in_its_folder_only() {
    let files = files(&source().join("cluster"));
    let (mut fields, mut wide) = (0, Vec::new());
    for (file, text) in files.iter().filter(|(file, _)| file.contains('/')) {
        for (number, line) in (1..).zip(without_tests(text).lines()) {
            let line = line.trim_start();
            // A field, or an argument, has its type behind its name; a function has not.
            let is_field = |rest: &str| rest.split_once(':').is_some_and(|(name, _)| is_name(name));
            fields += usize::from(line.strip_prefix("pub(super) ").is_some_and(is_field));
            let seen_widely = ["pub(in crate::cluster) ", "pub(crate) "];
            if seen_widely.iter().filter_map(|seen| line.strip_prefix(seen)).any(is_field) {
                wide.push(format!("{file}:{number}: {line}"));
            }
        }
    }
    assert!(
        fields > 50 && wide.is_empty(),
        "{fields} fields, and these are seen widely:\n{}",
        wide.join("\n")
    );
}

/// Whether this is a name as fields have them.
fn is_name(text: &str) -> bool {
    text.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}

#[test]
fn news_are_carried_in_one_place() {
    let files = files(&source().join("cluster"));
    let takes = |what: &str| {
        let takers = files.iter().filter(|(_, text)| without_tests(text).contains(what));
        takers.map(|(file, _)| file.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(takes("news.pop_front()"), ["carry.rs"]);
    // Steps tell, and do not carry: what the driver calls does.
    assert_eq!(takes(".carry_on()"), ["callers.rs", "carry.rs", "mod.rs"]);
    assert!(takes("news.push_back(").len() > 3);
}
