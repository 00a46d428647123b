//! Files that use each other in a circle.

use std::collections::{BTreeMap, BTreeSet};

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

use super::modules::Crate;

/// Files that reach each other, with those of them that each uses itself.
pub(super) type Circle = BTreeMap<String, Vec<String>>;

/// The circles of a crate's files that go through this folder; of each, only the files there.
pub(super) fn of(modules: &Crate, folder: &str) -> Vec<Circle> {
    let uses = modules.uses();
    let mut graph = DiGraph::<&str, ()>::new();
    let nodes: BTreeMap<&str, _> = uses.keys().map(|file| (*file, graph.add_node(file))).collect();
    for (file, used) in &uses {
        for used in used {
            graph.add_edge(nodes[file], nodes[used], ());
        }
    }
    let is_within =
        |file: &str| folder.is_empty() || file.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    let mut circles = Vec::new();
    for circle in tarjan_scc(&graph).into_iter().filter(|circle| circle.len() > 1) {
        let files: BTreeSet<&str> = circle.into_iter().map(|node| graph[node]).collect();
        let files: BTreeSet<&str> = files.into_iter().filter(|file| is_within(file)).collect();
        let used_by = |file: &str| uses[file].intersection(&files).map(|used| (*used).to_owned()).collect();
        let circle: Circle = files.iter().map(|file| ((*file).to_owned(), used_by(file))).collect();
        circles.extend((!circle.is_empty()).then_some(circle));
    }
    circles.sort();
    circles
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_has_all_files_that_reach_each_other() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c; mod d;"),
            ("a.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "use crate::c::C; pub struct B;"),
            ("c.rs", "use crate::a::A; use crate::d::D; pub struct C;"),
            ("d.rs", "pub struct D;"),
        ];
        let files: Vec<_> =
            files.iter().map(|(path, text)| (*path, syn::parse_file(text).unwrap())).collect();
        let modules = Crate::new("lib.rs", files.iter().map(|(path, file)| (*path, file)));
        let circle = [("a.rs", "b.rs"), ("b.rs", "c.rs"), ("c.rs", "a.rs")];
        let circle = circle.map(|(file, used)| (file.to_owned(), vec![used.to_owned()]));
        assert_eq!(of(&modules, ""), [Circle::from(circle)]);
        assert!(of(&modules, "elsewhere").is_empty());
    }
}
