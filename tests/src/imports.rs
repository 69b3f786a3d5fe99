//! Which source file of a crate imports which: a scanner of `use` declarations and paths, as far as this project's source needs one.
//!
//! A name that a module only passes on (`pub use`) is traced to the file that defines it, so that a facade ties nothing together. Importing a
//! module is no import of a file; what is named through it is. Nor is it an import when the head of a folder (`mod.rs`) names its parts. Code under `#[cfg(test)]` does not count. Names that macros make are not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Files of a crate by their paths below `src`, each with the files that it imports.
pub type Imports = BTreeMap<String, BTreeSet<String>>;

/// The imports of a crate's folder `src`, `main.rs` left out.
pub fn of_folder(src: &Path) -> Imports {
    let mut texts = BTreeMap::new();
    collect(src, src, &mut texts);
    of_texts(&texts)
}

fn collect(root: &Path, folder: &Path, texts: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(root, &path, texts);
        } else if path.extension().is_some_and(|e| e == "rs") && path.file_name().is_some_and(|name| name != "main.rs") {
            let name = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
            texts.insert(name, fs::read_to_string(&path).expect("source"));
        }
    }
}

/// The imports of files given by path and text.
pub fn of_texts(texts: &BTreeMap<String, String>) -> Imports {
    let all: Vec<(String, Source)> = texts.iter().map(|(path, text)| (path.clone(), Source::new(path, text))).collect();
    let tests: Vec<Vec<String>> = all.iter().flat_map(|(_, s)| s.tests.iter().map(|name| child(&s.module, name))).collect();
    let files = all.into_iter().filter(|(_, s)| !tests.iter().any(|test| s.module.starts_with(test)));
    let mut paths = BTreeMap::new();
    let mut modules = BTreeMap::new();
    for (path, source) in files {
        paths.insert(source.module.clone(), path);
        modules.insert(source.module.clone(), source);
    }
    let modules = Modules(modules);
    let path_of = |module: &Vec<String>| paths[module].clone();
    modules.0.values().map(|s| (path_of(&s.module), modules.imports(s).iter().map(path_of).collect())).collect()
}

/// The groups of files that import each other, directly or through others, each in order; empty where there is no circle.
pub fn circles(imports: &Imports) -> Vec<BTreeSet<String>> {
    let reach: BTreeMap<&String, BTreeSet<&String>> = imports.keys().map(|file| (file, reachable(imports, file))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (file, others) in &reach {
        if others.contains(file) && !found.iter().any(|circle| circle.contains(*file)) {
            found.push(others.iter().filter(|other| reach[*other].contains(file)).map(|&other| other.clone()).collect());
        }
    }
    found
}

fn reachable<'i>(imports: &'i Imports, from: &str) -> BTreeSet<&'i String> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(file) = open.pop() {
        for next in imports.get(file).into_iter().flatten() {
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    seen
}

fn child(module: &[String], name: &str) -> Vec<String> {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

/// One name that a `use` declaration brings in; `*` for all.
struct Use {
    name: String,
    path: Vec<String>,
    /// The inline modules around it.
    inline: Vec<String>,
    public: bool,
}

/// A file: its module, its tokens outside of tests and `use` declarations, and what it declares.
struct Source {
    module: Vec<String>,
    tokens: Vec<(String, Vec<String>)>,
    uses: Vec<Use>,
    /// Modules under `#[cfg(test)]`.
    tests: Vec<String>,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let stem = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let module = if matches!(stem, "lib" | "mod") { Vec::new() } else { stem.split('/').map(str::to_owned).collect() };
        let mut source = Self { module, tokens: Vec::new(), uses: Vec::new(), tests: Vec::new() };
        source.read(&tokens(text));
        source
    }

    /// Sorts tokens into uses and others, with the inline modules around each; leaves tests out.
    fn read(&mut self, tokens: &[String]) {
        let (mut at, mut depth) = (0, 0);
        let mut inline: Vec<(String, usize)> = Vec::new();
        let around = |inline: &[(String, usize)]| inline.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        while let Some(token) = tokens.get(at) {
            if is_test(&tokens[at..]) {
                at = self.skip_item(tokens, at);
                continue;
            }
            match token.as_str() {
                // `impl Trait + use<'a>` declares nothing.
                "use" if tokens.get(at + 1).is_some_and(|t| t != "<") => {
                    let public = at > 0 && (tokens[at - 1] == "pub" || tokens[at - 1] == ")");
                    at = read_use(tokens, at + 1, &mut Vec::new(), &mut |path, name| {
                        self.uses.push(Use { name, path: path.to_vec(), inline: around(&inline), public });
                    });
                    continue;
                }
                "mod" => {
                    let end = at + tokens[at..].iter().position(|t| t == "{" || t == ";").unwrap_or(0);
                    if tokens[end] == "{" {
                        inline.push((tokens[end - 1].clone(), depth));
                        depth += 1;
                    }
                    at = end + 1;
                    continue;
                }
                "{" => depth += 1,
                "}" => {
                    depth = depth.saturating_sub(1);
                    inline.pop_if(|(_, from)| *from == depth);
                }
                _ => (),
            }
            self.tokens.push((token.clone(), around(&inline)));
            at += 1;
        }
    }

    /// The place after an item under `#[cfg(test)]`.
    fn skip_item(&mut self, tokens: &[String], mut at: usize) -> usize {
        while tokens.get(at).is_some_and(|t| t == "#") {
            at = after_block(tokens, at + 1);
        }
        let is_use = tokens[at..].iter().take(5).take_while(|t| *t != ";" && *t != "{").any(|t| t == "use");
        if tokens.get(at).is_some_and(|t| t == "mod") && tokens.get(at + 2).is_some_and(|t| t == ";") {
            self.tests.push(tokens[at + 1].clone());
        }
        while let Some(token) = tokens.get(at) {
            match token.as_str() {
                ";" => return at + 1,
                "{" if is_use => at = after_block(tokens, at),
                "{" => return after_block(tokens, at),
                _ => at += 1,
            }
        }
        at
    }

    /// Whether an item of that name is defined here.
    fn defines(&self, name: &str) -> bool {
        const WORDS: [&str; 9] = ["fn", "struct", "enum", "trait", "type", "const", "static", "union", "!"];
        self.tokens.windows(2).any(|pair| pair[1].0 == name && WORDS.contains(&pair[0].0.as_str()))
    }
}

/// Whether tokens begin with `#[cfg(test)]` or `#[cfg(all(test, …))]`.
fn is_test(tokens: &[String]) -> bool {
    let begins = |with: &[&str]| tokens.len() >= with.len() && tokens.iter().zip(with).all(|(token, word)| token == word);
    begins(&["#", "[", "cfg", "(", "test", ")"]) || begins(&["#", "[", "cfg", "(", "all", "(", "test"])
}

/// The place after the bracket that closes the one at `at`.
fn after_block(tokens: &[String], mut at: usize) -> usize {
    let mut depth = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.as_str() {
            "{" | "[" | "(" => depth += 1,
            "}" | "]" | ")" => depth -= 1,
            _ => (),
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Reads a tree of a `use` declaration and tells every path with the name that it brings in; gives the place after it.
fn read_use(tokens: &[String], mut at: usize, path: &mut Vec<String>, tell: &mut impl FnMut(&[String], String)) -> usize {
    let outer = path.len();
    loop {
        match tokens.get(at).map_or(";", String::as_str) {
            "::" => at += 1,
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|t| t != "}" && t != ";") {
                    at = read_use(tokens, at, path, tell);
                    at += usize::from(tokens.get(at).is_some_and(|t| t == ","));
                }
                path.truncate(outer);
                return at + 1;
            }
            "*" => {
                tell(path, "*".to_owned());
                at += 1;
                path.truncate(outer);
                return at;
            }
            "self" if !path.is_empty() => at += 1,
            "," | "}" | ";" | "as" => {
                let mut name = path.last().cloned().unwrap_or_default();
                if tokens.get(at).is_some_and(|t| t == "as") {
                    name.clone_from(&tokens[at + 1]);
                    at += 2;
                }
                // A group ends without a name of its own.
                if path.len() > outer || tokens.get(at - 1).is_some_and(|t| t == "self") {
                    tell(path, name);
                }
                path.truncate(outer);
                return at;
            }
            segment => {
                path.push(segment.to_owned());
                at += 1;
            }
        }
    }
}

/// All files by module.
struct Modules(BTreeMap<Vec<String>, Source>);

/// What a path names.
enum Target {
    Module(Vec<String>),
    /// Something in the file of a module.
    Item(Vec<String>),
}

impl Modules {
    /// The modules whose files a file imports.
    fn imports(&self, source: &Source) -> BTreeSet<Vec<String>> {
        let mentions = |name: &str| source.tokens.iter().any(|(token, _)| token == name);
        let mut paths: Vec<(Vec<String>, &[String])> = Vec::new();
        for u in source.uses.iter().filter(|u| !u.public || mentions(&u.name)) {
            let all = if u.name == "*" { vec!["*".to_owned()] } else { Vec::new() };
            paths.push((u.path.iter().cloned().chain(all).collect(), &u.inline));
        }
        let mut at = 0;
        while at < source.tokens.len() {
            let (path, next) = path_at(&source.tokens, at);
            if path.len() > 1 {
                paths.push((path, &source.tokens[at].1));
            }
            at = next;
        }
        let targets = paths.iter().filter_map(|(path, inline)| match self.resolve(source, inline, path, 8)? {
            // A folder's head may name its parts.
            Target::Item(module) if !module.starts_with(&source.module) => Some(module),
            _ => None,
        });
        targets.collect()
    }

    /// Follows a path that stands in `source`, in some inline modules of it.
    fn resolve(&self, source: &Source, inline: &[String], path: &[String], patience: u32) -> Option<Target> {
        let mut here: Vec<String> = source.module.iter().chain(inline).cloned().collect();
        let (first, mut rest) = path.split_first()?;
        match first.as_str() {
            "crate" => here.clear(),
            "self" => (),
            "super" => drop(here.pop()),
            name if self.0.contains_key(&child(&here, name)) => here.push(name.to_owned()),
            name => {
                let u = source.uses.iter().find(|u| u.name == name && u.path != path)?;
                return self.through(source, u, rest, patience);
            }
        }
        while let Some((_, more)) = rest.split_first().filter(|(word, _)| *word == "super") {
            here.pop();
            rest = more;
        }
        self.walk(here, rest, patience)
    }

    /// Follows a path from a module on.
    fn walk(&self, mut here: Vec<String>, mut path: &[String], patience: u32) -> Option<Target> {
        while let Some((name, rest)) = path.split_first() {
            if self.0.contains_key(&child(&here, name)) {
                here.push(name.clone());
                path = rest;
                continue;
            }
            let Some(source) = self.0.get(&here) else { break };
            if !source.defines(name) && name != "*" {
                if let Some(u) = source.uses.iter().find(|u| u.name == *name) {
                    return self.through(source, u, rest, patience);
                }
                let globs = source.uses.iter().filter(|u| u.name == "*");
                let mut modules = globs.filter_map(|u| self.through(source, u, &[], patience));
                let defines = |target: &Target| matches!(target, Target::Module(m) if self.0[m].defines(name));
                if let Some(Target::Module(module)) = modules.find(defines) {
                    return Some(Target::Item(module));
                }
            }
            return Some(Target::Item(here));
        }
        // An inline module stands in the file around it.
        if self.0.contains_key(&here) {
            return Some(Target::Module(here));
        }
        while !self.0.contains_key(&here) {
            here.pop()?;
        }
        Some(Target::Item(here))
    }

    /// Follows a path through the declaration that brings in its first name.
    fn through(&self, source: &Source, u: &Use, rest: &[String], patience: u32) -> Option<Target> {
        match self.resolve(source, &u.inline, &u.path, patience.checked_sub(1)?)? {
            Target::Module(module) => self.walk(module, rest, patience - 1),
            item @ Target::Item(_) => Some(item),
        }
    }
}

/// The path that begins at a token, empty where none does, and the place of the next token to look at.
fn path_at(tokens: &[(String, Vec<String>)], mut at: usize) -> (Vec<String>, usize) {
    let word = |at: usize| tokens.get(at).map(|(token, _)| token.as_str()).filter(|t| t.starts_with(is_name));
    let is = |at: usize, what: &str| tokens.get(at).is_some_and(|(token, _)| token == what);
    let mut path = Vec::new();
    while let Some(name) = word(at) {
        path.push(name.to_owned());
        at += 1;
        if !is(at, "::") || word(at + 1).is_none() {
            return (path, at);
        }
        at += 1;
    }
    // What follows `::` without a name before it belongs to a type in brackets.
    (path, at + 1 + usize::from(is(at, "::") || is(at, ".")))
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Names, `::` and single characters of Rust source, without comments, texts, characters and lifetimes.
fn tokens(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment_len(rest)
        } else if let Some(len) = text_len(rest) {
            len
        } else if c == '\'' {
            quote_len(rest)
        } else if is_name(c) {
            rest.find(|c| !is_name(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            c.len_utf8()
        };
        let (token, after) = rest.split_at(len);
        let is_text = token.ends_with(['"', '#']) && token.len() > 1;
        if !c.is_whitespace() && c != '\'' && !token.starts_with("//") && !token.starts_with("/*") && !is_text {
            found.push(token.to_owned());
        }
        rest = after;
    }
    found
}

/// Bytes of a comment between `/*` and `*/`, which may hold others.
fn comment_len(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let pair = &text.as_bytes()[at..text.len().min(at + 2)];
        match pair {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Bytes of a text literal of any kind, if one begins here.
fn text_len(text: &str) -> Option<usize> {
    let prefix = text.find(|c| !matches!(c, 'b' | 'c' | 'r'))?;
    if prefix > 2 {
        return None;
    }
    let hashes = text[prefix..].chars().take_while(|&c| c == '#').count();
    let inside = text[prefix + hashes..].strip_prefix('"')?;
    let begun = prefix + hashes + 1;
    if text[..prefix].ends_with('r') {
        let end = format!("\"{}", "#".repeat(hashes));
        return Some(begun + inside.find(&end).map_or(inside.len(), |at| at + end.len()));
    }
    let mut escaped = false;
    let end = inside.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    (hashes == 0).then(|| begun + end.map_or(inside.len(), |at| at + 1))
}

/// Bytes of a character literal or a lifetime.
fn quote_len(text: &str) -> usize {
    let inside = &text[1..];
    let Some(first) = inside.chars().next() else { return 1 };
    if first == '\\' {
        return 3 + inside[2..].find('\'').map_or(0, |at| at + 1);
    }
    if inside[first.len_utf8()..].starts_with('\'') {
        return 2 + first.len_utf8();
    }
    1 + inside.find(|c| !is_name(c)).unwrap_or(inside.len())
}
