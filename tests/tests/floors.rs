//! The floors of the house: within a crate a file imports only files on its own floor or below, and no two files import each other, be it through
//! others.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use samara_tests::imports::{Imports, circles, of_folder, of_texts};

/// Files and folders from the ground up. Those of one floor may import each other, as long as no circle closes. A longer path is more exact.
struct House {
    name: &'static str,
    floors: &'static [&'static [&'static str]],
}

const CORE: House = House {
    name: "core",
    floors: &[
        &["lib", "math", "rows", "threads"],
        // Plain functions on slices, usable without the engine.
        &["assignment", "bipartite", "tokenizer", "schedule", "decode", "rl", "detect", "measure", "transport"],
        &["shape", "dtype", "quant"],
        &["params"],
        &["graph"],
        &["plan", "cost"],
        &["exec"],
        &["gemm", "ops"],
        &["nn"],
        &["model", "tune", "objective"],
        &["file"],
        &["session"],
    ],
};

const STD_RUNTIME: House = House {
    name: "std-runtime",
    floors: &[
        &["lib", "error", "files", "compressed", "say", "stop", "memory", "tiles", "threads"],
        // The machinery of tables; whoever is configured brings a table of its own.
        &["config"],
        &["kernels"],
        &["device"],
        &["session"],
        &["assignment", "data", "detect", "tokenizer", "run", "npy", "host", "npz"],
        // Dialogues as rows and as token ids.
        &["dialogue"],
        // Folders by name maps; families, whose configuration they hold.
        &["model_folder"],
        &["model"],
        &["lm", "vision", "encoder", "sweep"],
        &["decoding", "image_text"],
        &["train", "eval", "export", "parity"],
        &["bench", "report"],
        &["align"],
        &["commands"],
        &["cli"],
    ],
};

impl House {
    fn src(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(self.name).join("src")
    }

    /// The number of a file's floor, if it is on one.
    fn floor(&self, file: &str) -> Option<usize> {
        let stem = file.trim_end_matches(".rs").trim_end_matches("/mod");
        let is_in = |part: &str| stem == part || stem.strip_prefix(part).is_some_and(|rest| rest.starts_with('/'));
        let fits = |floor: &&[&str]| floor.iter().filter(|part| is_in(part)).map(|part| part.len()).max();
        let best = self.floors.iter().enumerate().filter_map(|(number, floor)| Some((fits(floor)?, number))).max();
        best.map(|(_, number)| number)
    }

    /// Everything that is against the rules, as lines of text.
    fn trouble(&self, imports: &Imports) -> Vec<String> {
        let lost = imports.keys().filter(|file| self.floor(file).is_none());
        let mut trouble: Vec<String> = lost.map(|file| format!("{file} is on no floor: give it one in floors.rs")).collect();
        let pairs = imports.iter().flat_map(|(from, all)| all.iter().map(move |to| (from, to)));
        for (from, to) in pairs.filter(|(from, to)| self.floor(from).is_some_and(|floor| Some(floor) < self.floor(to))) {
            trouble.push(format!("{from} imports {to}, on a higher floor: move what both need below, or lend it as an argument"));
        }
        for circle in circles(imports) {
            trouble.push(format!("{} import each other: what they share belongs into a file below them", circle_line(&circle)));
        }
        trouble
    }
}

/// The files of a circle between blanks.
fn circle_line(files: &BTreeSet<String>) -> String {
    files.iter().cloned().collect::<Vec<_>>().join(" ")
}

#[test]
fn nothing_imports_upward_and_no_circle_closes() {
    let mut trouble = Vec::new();
    for house in [&CORE, &STD_RUNTIME] {
        let imports = of_folder(&house.src());
        assert!(imports.len() > 10, "{}: the sources are not there", house.name);
        trouble.extend(house.trouble(&imports).into_iter().map(|line| format!("{}: {line}", house.name)));
    }
    assert!(trouble.is_empty(), "\n{}\n", trouble.join("\n"));
}

fn sources(files: &[(&str, &str)]) -> Imports {
    of_texts(&files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
}

/// What one file imports, of a crate that has `a.rs`, `b/mod.rs` and `b/c.rs` beside it.
fn imports_of(text: &str) -> Vec<String> {
    let rest = [
        ("lib.rs", "mod a; mod b; mod x;"),
        ("a.rs", "pub struct A; pub mod inner { pub fn f() {} }"),
        ("b/mod.rs", "mod c; pub use c::C; pub(crate) use c::*; pub fn of_b() {}"),
        ("b/c.rs", "pub struct C; pub fn of_c() {} macro_rules! made { () => {} }"),
    ];
    let imports = sources(&[&rest[..], &[("x.rs", text)]].concat());
    imports["x.rs"].iter().cloned().collect()
}

#[test]
fn imports_are_found_however_they_are_written() {
    assert_eq!(imports_of("use crate::a::A;"), ["a.rs"]);
    assert_eq!(imports_of("use super::a::{self, A as Other};"), ["a.rs"]);
    assert_eq!(imports_of("use crate::{a::A, b::{of_b, C}};"), ["a.rs", "b/c.rs", "b/mod.rs"]);
    assert_eq!(imports_of("fn f() { crate::a::inner::f(); }"), ["a.rs"]);
    assert_eq!(imports_of("use crate::b; fn f() { b::of_c(); }"), ["b/c.rs"]);
    assert_eq!(imports_of("use crate::b as letters; fn f() -> letters::C { letters::C }"), ["b/c.rs"]);
    assert_eq!(imports_of("mod inline { use super::super::a::A; }"), ["a.rs"]);
    assert_eq!(imports_of("fn f() { use crate::b::*; }"), ["b/mod.rs"]);
}

#[test]
fn what_is_no_import_is_not_found() {
    assert!(imports_of("use crate::b;").is_empty());
    assert!(imports_of("pub use crate::a::A;").is_empty());
    assert_eq!(imports_of("pub use crate::a::A; struct S(A);"), ["a.rs"]);
    assert!(imports_of("// use crate::a::A;\n/* crate::a::A /* */ crate::a::A */").is_empty());
    assert!(imports_of(r##"fn f() { g("crate::a::A\"", r#"crate::a::A""#, b'"', '\'', 'x'); }"##).is_empty());
    assert!(imports_of("#[cfg(test)] mod tests { use crate::a::A; }").is_empty());
    assert!(imports_of("#[cfg(test)] use crate::{a::A, b::C};").is_empty());
    assert_eq!(imports_of("#[cfg(test)] fn f() { crate::b::of_b() } use crate::a::A;"), ["a.rs"]);
    assert!(imports_of("use std::fmt; use other::a::A; fn f<'a>(x: impl Fn() + use<'a>) { x.a::<u8>(); }").is_empty());
    let imports =
        sources(&[("lib.rs", "#[cfg(test)] mod tests; mod a;"), ("tests.rs", "use crate::a::A;"), ("a.rs", "struct A;")]);
    assert!(!imports.contains_key("tests.rs"));
}

#[test]
fn circles_are_found_and_a_folder_may_name_its_parts() {
    let imports = sources(&[
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::c::C; pub struct B;"),
        ("c.rs", "use crate::a::A; use crate::d::D; pub struct C;"),
        ("d/mod.rs", "mod e; use e::E; pub struct D(E);"),
        ("d/e.rs", "use super::D; pub struct E;"),
    ]);
    let found: Vec<String> = circles(&imports).iter().map(circle_line).collect();
    assert_eq!(found, ["a.rs b.rs c.rs"]);
}

#[test]
fn floors_are_held() {
    let house = House { name: "sample", floors: &[&["low", "high/base"], &["high"]] };
    let (rise, fall) = ("use crate::high::H; pub struct L;", "use crate::low::L; pub struct H;");
    let imports = sources(&[("low.rs", rise), ("high/mod.rs", fall), ("high/base.rs", "use crate::low::L;"), ("attic.rs", "")]);
    let trouble = house.trouble(&imports).join("\n");
    assert!(
        trouble.contains("low.rs imports high/mod.rs") && trouble.contains("high/mod.rs low.rs import each other"),
        "{trouble}"
    );
    assert!(trouble.contains("attic.rs is on no floor") && !trouble.contains("high/base.rs"), "{trouble}");
    assert!(house.trouble(&sources(&[("low.rs", "pub struct L;"), ("high/mod.rs", fall)])).is_empty());
}
