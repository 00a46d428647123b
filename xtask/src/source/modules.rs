//! A crate's modules, one a file, and which of them each uses.
//!
//! A name counts as used where it is defined, not where it is handed on by `pub use`. Tests are
//! left out. A method counts as used where it is called on `self` in another file of the same
//! type's.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use super::rust::type_name;

/// A module's name within its crate; the crate itself has the empty one.
type Name = Vec<String>;

/// The modules of one crate.
pub(super) struct Crate {
    modules: BTreeMap<Name, Module>,
    /// Where each method of a type is: by the type's module and name, and the method's name.
    methods: BTreeMap<(Name, String, String), Name>,
}

/// One file.
struct Module {
    path: String,
    /// What it defines itself.
    defined: BTreeSet<String>,
    /// The names that it brings into scope, and from where.
    imported: BTreeMap<String, Path>,
    /// From where it brings all names into scope.
    globs: Vec<Path>,
    /// Other paths in its code.
    mentioned: BTreeSet<Path>,
    /// Methods of types, by the type's name as it stands here.
    methods: BTreeSet<(String, String)>,
    /// Methods that are called on `self` in a method of such a type.
    calls: BTreeSet<(String, String)>,
}

/// The names of a path.
type Path = Vec<String>;

impl Crate {
    /// Takes the files of a folder, by their paths there, that belong to the crate with this root.
    pub(super) fn new<'a>(root: &str, files: impl Iterator<Item = (&'a str, &'a syn::File)>) -> Self {
        let mut files: BTreeMap<Name, (&str, &syn::File)> = files
            .filter(|(path, _)| *path == root || !matches!(*path, "lib.rs" | "main.rs"))
            .map(|(path, file)| (name_of(path), (path, file)))
            .collect();
        let mut modules = BTreeMap::new();
        let mut to_read = vec![Name::new()];
        while let Some(name) = to_read.pop() {
            if let Some((path, file)) = files.remove(&name) {
                let (module, children) = Module::of(path, file);
                to_read.extend(children.iter().map(|of| child(&name, of)));
                modules.insert(name, module);
            }
        }
        let mut this = Self { modules, methods: BTreeMap::new() };
        for (name, module) in &this.modules {
            for (of, method) in &module.methods {
                let key = (this.module_of_type(name, of), of.clone(), method.clone());
                this.methods.insert(key, name.clone());
            }
        }
        this
    }

    /// The files, each with those that it uses.
    pub(super) fn uses(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let path_of = |name: &Name| self.modules[name].path.as_str();
        let uses = self.modules.iter().map(|(name, module)| {
            let paths = module.imported.values().chain(&module.mentioned).chain(&module.globs);
            let by_path = paths.filter_map(|path| self.resolve(name, path, 0));
            let by_call = module.calls.iter().filter_map(|(of, method)| {
                let key = (self.module_of_type(name, of), of.clone(), method.clone());
                self.methods.get(&key).cloned()
            });
            let used: BTreeSet<&str> = by_path.chain(by_call).map(|used| path_of(&used)).collect();
            (module.path.as_str(), used.into_iter().filter(|used| *used != module.path).collect())
        });
        uses.collect()
    }

    /// The module that defines a type which has this name in this module.
    fn module_of_type(&self, module: &Name, name: &str) -> Name {
        let imported = self.modules[module].imported.get(name);
        imported.and_then(|path| self.resolve(module, path, 0)).unwrap_or_else(|| module.clone())
    }

    /// The module that defines what a path in this module leads to. None for other crates.
    fn resolve(&self, from: &Name, path: &[String], depth: usize) -> Option<Name> {
        let mut module = from.clone();
        let mut rest = path;
        let first = path.first()?;
        // A name of the module's own, a child's or one that it imports; everything else is a crate.
        let is_relative = matches!(first.as_str(), "crate" | "self" | "super");
        let is_own = self.modules.contains_key(&child(from, first))
            || self.modules[from].defined.contains(first)
            || self.modules[from].imported.contains_key(first) && depth > 0;
        if !is_relative && !is_own {
            return None;
        }
        while let [name, others @ ..] = rest {
            match name.as_str() {
                "crate" => module.clear(),
                "self" => {}
                "super" => drop(module.pop()),
                _ if self.modules.contains_key(&child(&module, name)) => module.push(name.clone()),
                _ => return Some(self.follow(module, name, depth)),
            }
            rest = others;
        }
        Some(module)
    }

    /// The module that defines a name which this module knows.
    fn follow(&self, module: Name, name: &str, depth: usize) -> Name {
        /// More than any name is handed on. Two modules may hand on each other's names.
        const DEPTH_MAX: usize = 8;
        let known = &self.modules[&module];
        if known.defined.contains(name) || depth > DEPTH_MAX {
            return module;
        }
        if let Some(path) = known.imported.get(name) {
            return self.resolve(&module, path, depth + 1).unwrap_or(module);
        }
        let globs = known.globs.iter().filter_map(|path| self.resolve(&module, path, depth + 1));
        let mut defining = globs.filter(|globbed| self.modules[globbed].defined.contains(name));
        defining.next().unwrap_or(module)
    }
}

fn child(module: &[String], name: &str) -> Name {
    module.iter().map(String::as_str).chain([name]).map(str::to_owned).collect()
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`; `lib.rs` and `main.rs` are the crate.
fn name_of(path: &str) -> Name {
    let path = path.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "lib" | "main" => Name::new(),
        _ => path.split('/').map(str::to_owned).collect(),
    }
}

impl Module {
    /// What a file defines and uses, and the names of its modules that are files and no tests.
    fn of(path: &str, file: &syn::File) -> (Self, Vec<String>) {
        let items = file.items.iter().filter(|item| !is_test(attributes(item)));
        let children: Vec<String> = items.filter_map(module_name).collect();
        let mut reader = Reader { children, of: None, module: Self::empty(path) };
        for item in &file.items {
            if let Some(name) = item_name(item) {
                reader.module.defined.insert(name);
            }
        }
        reader.visit_file(file);
        (reader.module, reader.children)
    }

    fn empty(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            defined: BTreeSet::new(),
            imported: BTreeMap::new(),
            globs: Vec::new(),
            mentioned: BTreeSet::new(),
            methods: BTreeSet::new(),
            calls: BTreeSet::new(),
        }
    }
}

struct Reader {
    /// The module's children that are files.
    children: Vec<String>,
    /// The type whose methods these are.
    of: Option<String>,
    module: Module,
}

impl Reader {
    fn import(&mut self, tree: &syn::UseTree, before: &Path) {
        match tree {
            syn::UseTree::Path(path) => self.import(&path.tree, &child(before, &path.ident.to_string())),
            syn::UseTree::Name(name) => self.name(name.ident.to_string(), &name.ident.to_string(), before),
            syn::UseTree::Rename(rename) => {
                self.name(rename.rename.to_string(), &rename.ident.to_string(), before);
            }
            syn::UseTree::Glob(_) => self.module.globs.push(before.clone()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, before)),
        }
    }

    fn name(&mut self, as_name: String, name: &str, before: &Path) {
        let (as_name, path) = match (name, before.last()) {
            // `use a::{self}` is `use a`.
            ("self", Some(last)) => (if as_name == "self" { last.clone() } else { as_name }, before.clone()),
            _ => (as_name, child(before, name)),
        };
        self.module.imported.insert(as_name, path);
    }

    /// Notes a path that says itself that it leads to this crate.
    fn mention(&mut self, path: Path) {
        let is_ours = path.first().is_some_and(|first| {
            matches!(first.as_str(), "crate" | "self" | "super") || self.children.contains(first)
        });
        if path.len() > 1 && is_ours {
            self.module.mentioned.insert(path);
        }
    }

    fn called_on_self(&mut self, method: &syn::Ident) {
        if let Some(of) = &self.of {
            self.module.calls.insert((of.clone(), method.to_string()));
        }
    }

    /// The paths in what a macro is given, which is no syntax yet.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path = Path::new();
        // Whether `::` stands behind the path.
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(name) if path.is_empty() || colons == 2 => {
                    path.push(name.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Ident(name) => {
                    self.mention(std::mem::replace(&mut path, vec![name.to_string()]));
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && colons < 2 => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.tokens(group.stream()),
                _ => {}
            }
            self.mention(std::mem::take(&mut path));
            colons = 0;
        }
        self.mention(path);
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&item.tree, &Path::new());
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let before = std::mem::replace(&mut self.of, type_name(&item.self_ty));
        visit::visit_item_impl(self, item);
        self.of = before;
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if is_test(&item.attrs) {
            return;
        }
        if let Some(of) = &self.of {
            self.module.methods.insert((of.clone(), item.sig.ident.to_string()));
        }
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if matches!(&*call.receiver, syn::Expr::Path(path) if path.path.is_ident("self")) {
            self.called_on_self(&call.method);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Path = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        match (names.as_slice(), path.segments.last()) {
            ([first, _], Some(last)) if first == "Self" => self.called_on_self(&last.ident),
            _ => self.mention(names),
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {
        // Who may see something is no use of it.
    }

    fn visit_attribute(&mut self, _: &'ast syn::Attribute) {}
}

/// Whether these attributes leave something to the tests.
fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            condition == "test" || condition.starts_with("all") && condition.contains("test")
        }
        meta => meta.path().is_ident("test"),
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Const(item) => &item.attrs,
        _ => &[],
    }
}

/// The name of a module that is a file.
fn module_name(item: &syn::Item) -> Option<String> {
    match item {
        syn::Item::Mod(module) if module.content.is_none() => Some(module.ident.to_string()),
        _ => None,
    }
}

fn item_name(item: &syn::Item) -> Option<String> {
    let name = match item {
        syn::Item::Const(item) => &item.ident,
        syn::Item::Enum(item) => &item.ident,
        syn::Item::Fn(item) => &item.sig.ident,
        syn::Item::Mod(item) => item.content.as_ref().map(|_| &item.ident)?,
        syn::Item::Static(item) => &item.ident,
        syn::Item::Struct(item) => &item.ident,
        syn::Item::Trait(item) => &item.ident,
        syn::Item::Type(item) => &item.ident,
        syn::Item::Union(item) => &item.ident,
        syn::Item::Macro(item) => item.ident.as_ref()?,
        _ => return None,
    };
    Some(name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which files use which, of a crate with these files.
    fn uses(files: &[(&str, &str)]) -> Vec<(String, String)> {
        let files: Vec<_> =
            files.iter().map(|(path, text)| (*path, syn::parse_file(text).unwrap())).collect();
        let of_crate = Crate::new("lib.rs", files.iter().map(|(path, file)| (*path, file)));
        let uses = of_crate.uses();
        let pairs = uses.iter().flat_map(|(file, used)| used.iter().map(move |used| (file, used)));
        pairs.map(|(file, used)| ((*file).to_owned(), (*used).to_owned())).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(file, used)| ((*file).to_owned(), (*used).to_owned())).collect()
    }

    #[test]
    fn a_name_is_used_where_it_is_defined() {
        let files = [
            ("lib.rs", "mod a; mod b; mod c;"),
            ("a/mod.rs", "mod inner; pub use inner::{Thing, Other as Renamed}; pub struct Own;"),
            ("a/inner.rs", "pub struct Thing; pub struct Other;"),
            ("b.rs", "use crate::a::{self, Thing}; use std::fmt; fn f(_: Thing) {}"),
            ("c.rs", "fn f() -> crate::a::Renamed { assert!(matches!(x, super::b::Y)); super::a::Own }"),
        ];
        let expected = [
            ("a/mod.rs", "a/inner.rs"),
            ("b.rs", "a/inner.rs"),
            ("b.rs", "a/mod.rs"),
            ("c.rs", "a/inner.rs"),
            ("c.rs", "a/mod.rs"),
            ("c.rs", "b.rs"),
        ];
        assert_eq!(uses(&files), pairs(&expected));
    }

    #[test]
    fn a_method_is_used_where_it_is_called_on_self() {
        let files = [
            ("lib.rs", "mod a; mod b; pub struct Machine; impl Machine { fn start(&self) { self.run(); } }"),
            (
                "a.rs",
                "use super::Machine; impl Machine { fn run(&self) { Self::stop(self); other.start(); } }",
            ),
            ("b.rs", "use crate::Machine; impl Machine { fn stop(&self) {} }"),
        ];
        let expected = [("a.rs", "b.rs"), ("a.rs", "lib.rs"), ("b.rs", "lib.rs"), ("lib.rs", "a.rs")];
        assert_eq!(uses(&files), pairs(&expected));
    }

    #[test]
    fn what_tests_and_other_crates_use_is_left_out() {
        let files = [
            ("lib.rs", "mod a; mod b; #[cfg(test)] mod tests;"),
            ("a.rs", "pub(in crate::b) struct A; #[cfg(test)] mod tests { use crate::b::B; }"),
            ("b.rs", "use bytes::Bytes; fn f() { std::mem::take(x); } #[cfg(test)] use crate::a::A;"),
            ("tests.rs", "use crate::a::A;"),
            ("main.rs", "mod command; use command::run;"),
            ("command.rs", "use crate::main_only::X;"),
        ];
        assert_eq!(uses(&files), []);
    }
}
