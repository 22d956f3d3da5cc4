//! What a machine can check of how the crates are written: which module imports which, bans, and the
//! length of files. `ARCHITECTURE.md` describes the modules.
//!
//! `cargo test -p omnipaxos_tests --test tidy -- --nocapture` also prints the number of imports, of those
//! against the table, and of files in circles.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    iter::Peekable,
    path::{Path, PathBuf},
    str::Chars,
};

/// The modules of the core, from the lowest to the highest. A module imports from lines above its own
/// only; modules on a line do not know each other. A new module gets a place here.
const LAYERS: [(&[&str], &str); 13] = [
    (&["amount", "clock", "ids", "members"], "plain numbers and words"),
    (&["ballot", "entry", "membership", "proposals"], "the nouns of the protocol"),
    (&["config"], "what a user sets"),
    (&["identity"], "to whom a storage belongs"),
    (&["storage"], "what a disk must do"),
    (&["errors", "log_entry", "codec"], "what is returned; how entries travel"),
    (&["reads", "leader_transfer"], "what a user sees of reads and transfers"),
    (&["messages"], "what travels, and whether it is valid here"),
    (&["replica_log"], "the log and the only user of the storage"),
    (&["observe"], "what a replica shows of itself"),
    (&["ballot_leader_election", "sequence_paxos"], "the protocol"),
    (&["omni_paxos"], "wires the parts"),
    (&["lib", "util", "utils"], "re-exports"),
];

/// Imports against the table: the module, what it imports, and why. There is none.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// Lines of a file, its tests not counted. Detects files that hold more than one thought; a subject is
/// not cut up to please it.
const LONGEST_FILE: usize = 600;

/// Lines of a program in the folder `examples` of a library: it shows one thing.
const LONGEST_EXAMPLE: usize = 59;

/// Keys of users that are not `Ord`, in a map that has no way to walk it.
const UNORDERED: &str = "unicache/lookup.rs";

/// The folder of the workspace.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn core() -> PathBuf {
    root().join("omnipaxos/src")
}

fn runtime() -> PathBuf {
    root().join("omnipaxos_runtime/src")
}

fn storage() -> PathBuf {
    root().join("omnipaxos_storage/src")
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The text of a file before its unit tests.
fn before_tests(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let are_tests = |at: &usize| {
        let item: String = text[*at..].chars().take_while(|c| !['{', ';'].contains(c)).collect();
        item.ends_with("mod tests ")
    };
    let end = text.match_indices("#[cfg(test)]").map(|(at, _)| at).find(are_tests);
    text[..end.unwrap_or(text.len())].to_string()
}

/// The text of a file without its unit tests and comments: nothing of a file of tests.
fn code(file: &Path) -> String {
    if file.ends_with("tests.rs")
        || file.parent().is_some_and(|in_folder| in_folder.ends_with("tests"))
    {
        return String::new();
    }
    let text = before_tests(file);
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Where a file stands among the modules of its crate: `a/b.rs` and `a/b/mod.rs` are `[a, b]`, and
/// `lib.rs` is `[]`.
fn module_path(sources: &Path, file: &Path) -> Vec<String> {
    let inside = file.strip_prefix(sources).unwrap().with_extension("");
    let parts = inside.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "mod" && part != "lib").collect()
}

/// The paths that a text names after `crate::`, `super::` or `self::`, with that word first. Of
/// `use crate::{a::b, c::{D, e}}` they are `crate::a::b`, `crate::c::D` and `crate::c::e`.
fn paths(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(root) {
            let before = text[..at].chars().next_back();
            if !before.is_some_and(|c| c.is_alphanumeric() || ['_', ':', '$'].contains(&c)) {
                expand(&mut Vec::new(), &mut text[at..].chars().peekable(), &mut found);
            }
        }
    }
    found
}

/// Reads one path, or one tree of a `use`, that follows on `prefix`.
fn expand(prefix: &mut Vec<String>, rest: &mut Peekable<Chars<'_>>, found: &mut Vec<Vec<String>>) {
    let length = prefix.len();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        let mut name = String::new();
        while let Some(c) = rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
        }
        if !name.is_empty() {
            prefix.push(name);
        } else if rest.next_if_eq(&'{').is_some() {
            while rest.peek().is_some_and(|c| *c != '}') {
                expand(prefix, rest, found);
                while rest.next_if(|c| ![',', '}'].contains(c)).is_some() {}
                rest.next_if_eq(&',');
                while rest.next_if(|c| c.is_whitespace()).is_some() {}
            }
            rest.next();
            break;
        }
        if rest.next_if_eq(&':').is_none() || rest.next_if_eq(&':').is_none() {
            found.push(prefix.clone());
            break;
        }
    }
    prefix.truncate(length);
}

/// The module paths that a file of a crate names, from the root of the crate.
fn named_by(sources: &Path, file: &Path) -> Vec<Vec<String>> {
    let here = module_path(sources, file);
    let resolved = paths(&code(file)).into_iter().map(|path| {
        let mut from = if path[0] == "crate" { Vec::new() } else { here.clone() };
        for part in path {
            match part.as_str() {
                "crate" | "self" => {}
                "super" => drop(from.pop()),
                _ => from.push(part),
            }
        }
        from
    });
    resolved.collect()
}

/// Every import of one top-level module of the core by another, with a file where it stands.
fn arrows() -> BTreeMap<(String, String), PathBuf> {
    let mut arrows = BTreeMap::new();
    for file in rust_files(&core()) {
        let here = module_path(&core(), &file).first().cloned().unwrap_or("lib".to_string());
        for path in named_by(&core(), &file) {
            if let Some(import) = path.first().filter(|import| **import != here) {
                arrows.insert((here.clone(), import.clone()), file.clone());
            }
        }
    }
    arrows
}

/// Which file of a crate imports which. A file of a module may name the type of that module, some
/// methods of which it has: that is no arrow.
fn file_arrows(sources: &Path) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
    let files = rust_files(sources);
    let by_module: BTreeMap<Vec<String>, &PathBuf> =
        files.iter().map(|file| (module_path(sources, file), file)).collect();
    let mut arrows: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for file in &files {
        let here = module_path(sources, file);
        for path in named_by(sources, file) {
            let mut lengths = (0..=path.len()).rev();
            let module = lengths.find_map(|length| by_module.get_key_value(&path[..length]));
            if let Some((module, other)) = module.filter(|(module, _)| !here.starts_with(module)) {
                debug_assert!(!module.is_empty(), "the root is above all");
                arrows.entry(file.clone()).or_default().insert((*other).clone());
            }
        }
    }
    arrows
}

/// Whether the imports of a file lead back to it.
fn reaches_itself(file: &PathBuf, arrows: &BTreeMap<PathBuf, BTreeSet<PathBuf>>) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![file];
    while let Some(next) = open.pop() {
        for other in arrows.get(next).into_iter().flatten() {
            if other == file {
                return true;
            }
            if seen.insert(other) {
                open.push(other);
            }
        }
    }
    false
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for sources in [core(), storage(), runtime()] {
        let arrows = file_arrows(&sources);
        let in_circles = arrows.keys().filter(|file| reaches_itself(file, &arrows));
        let in_circles: Vec<_> = in_circles.map(|file| file.strip_prefix(&sources)).collect();
        let folder = sources.canonicalize().unwrap();
        println!(
            "{}: {} imports between files, {} files in circles",
            folder.strip_prefix(root().canonicalize().unwrap()).unwrap().display(),
            arrows.values().map(BTreeSet::len).sum::<usize>(),
            in_circles.len()
        );
        assert!(in_circles.is_empty(), "{in_circles:?}");
    }
}

#[test]
fn paths_are_read_as_the_compiler_reads_them() {
    let text =
        "use crate::{a::b, c::{self, D as E}};\n fn f(x: super::super::g::H) {} use self::i;";
    let expected =
        ["crate::a::b", "crate::c::self", "crate::c::D", "super::super::g::H", "self::i"];
    let found: Vec<String> = paths(text).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, expected);
}

#[test]
fn imports_go_one_way() {
    let layer_of: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(layer, (modules, _))| modules.iter().map(move |module| (*module, layer)))
        .collect();
    let arrows = arrows();
    let mut wrong = Vec::new();
    for ((module, import), file) in &arrows {
        let Some(layer) = layer_of.get(module.as_str()) else {
            wrong.push(format!("{module} has no place in LAYERS"));
            continue;
        };
        let is_exception = EXCEPTIONS
            .iter()
            .any(|(from, to, _)| (*from, *to) == (module.as_str(), import.as_str()));
        let is_lower = layer_of.get(import.as_str()).is_some_and(|lower| lower < layer);
        if !is_lower && !is_exception {
            let file = file.display();
            wrong.push(format!("{file}: {module} imports {import}, which is not below it"));
        }
    }
    for (module, import, _) in EXCEPTIONS {
        if !arrows.contains_key(&(module.to_string(), import.to_string())) {
            wrong.push(format!("EXCEPTIONS allows {module} to import {import}, which it does not"));
        }
    }
    println!(
        "{} modules, {} imports of one by another, {} against the table",
        layer_of.len(),
        arrows.len(),
        wrong.len() + EXCEPTIONS.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_place_in_the_table_is_taken() {
    let first = |file: &PathBuf| module_path(&core(), file).first().cloned();
    let mut modules: BTreeSet<String> = rust_files(&core()).iter().filter_map(first).collect();
    modules.insert("lib".to_string());
    let missing: Vec<&str> = LAYERS
        .iter()
        .flat_map(|(modules, _)| modules.iter().copied())
        .filter(|place| !modules.contains(*place))
        .collect();
    assert!(missing.is_empty(), "{missing:?} are in LAYERS and not in the core");
}

#[test]
fn the_documentation_has_the_same_table() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let section = text.split("\n## Modules\n").nth(1).unwrap();
    let table = section.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let layers =
        table.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    let documented: Vec<BTreeSet<&str>> = layers
        .map(|line| {
            let (number, rest) = line.split_once(' ').unwrap();
            let names = rest.trim().split("   ").next().unwrap();
            assert!(number.parse::<usize>().is_ok(), "{line}");
            names.split_whitespace().map(|name| name.trim_end_matches('/')).collect()
        })
        .collect();
    let layers: Vec<BTreeSet<&str>> =
        LAYERS.iter().map(|(modules, _)| modules.iter().copied().collect()).collect();
    assert_eq!(documented, layers);
}

/// The names at the beginnings of the lines of an item of the core, such as `enum PaxosMsg` or
/// `struct Progress`: its variants or fields.
fn names_in(file: &str, item: &str) -> Vec<String> {
    let text = code(&core().join(file));
    let begin = text.find(&format!("{item}<")).or_else(|| text.find(&format!("{item} {{")));
    let body = &text[begin.unwrap_or_else(|| panic!("no {item} in {file}"))..];
    let lines = body[..body.find("\n}").unwrap()].lines().skip(1);
    let names = lines.filter(|line| line.starts_with("    ") && !line.trim().starts_with('#'));
    names
        .map(|line| line.trim().trim_start_matches("pub(super) "))
        .map(|line| line.split(['(', ':', ',', ' ']).next().unwrap().to_string())
        .collect()
}

#[test]
fn the_documentation_has_every_message_and_every_field_of_progress() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let row = |cell: &str| text.contains(&format!("| {cell} |"));
    let messages = names_in("messages/sequence_paxos/mod.rs", "enum PaxosMsg");
    let actions = names_in("messages/sequence_paxos/mod.rs", "enum CompactionAction");
    let heartbeats = names_in("messages/ballot_leader_election.rs", "enum HeartbeatMsg");
    assert_eq!((messages.len(), actions.len(), heartbeats.len()), (23, 4, 2));
    let expected = (messages.iter().filter(|name| *name != "Compaction"))
        .map(|name| format!("`{name}`"))
        .chain(actions.iter().map(|name| format!("`Compaction`: `{name}`")))
        .chain(heartbeats.iter().map(|name| format!("`Heartbeat{name}`")));
    let items = [
        ("progress.rs", "struct Progress", 10),
        ("progress.rs", "struct Sent", 6),
        ("state.rs", "struct Preparing", 4),
        ("state.rs", "struct Leading", 7),
    ];
    let fields = items.into_iter().flat_map(|(file, item, count)| {
        let fields = names_in(&format!("sequence_paxos/{file}"), item);
        assert_eq!(fields.len(), count, "{item}: {fields:?}");
        fields.into_iter().map(|name| format!("`{name}`"))
    });
    let missing: Vec<String> = expected.chain(fields).filter(|cell| !row(cell)).collect();
    assert!(missing.is_empty(), "{missing:?} have no row in ARCHITECTURE.md");
}

#[test]
fn what_is_banned_is_not_there() {
    let banned = [
        (".unwrap()", "say why it cannot fail, with expect"),
        ("unsafe ", "forbidden"),
        ("HashMap", "its order differs between runs"),
        ("HashSet", "its order differs between runs"),
        ("Instant", "the core counts ticks"),
        ("todo!", "do it"),
        ("println!", "the core has no output"),
        ("_ => ", "a new variant must make the compiler ask"),
    ];
    let mut wrong = Vec::new();
    for file in rust_files(&core()) {
        for (number, line) in code(&file).lines().enumerate() {
            for (ban, why) in banned {
                let is_exception = file.ends_with(UNORDERED) && ban == "HashMap";
                if line.contains(ban) && !is_exception {
                    wrong.push(format!("{}: {}: `{ban}`: {why}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_runtime_holds_the_bans_that_concern_it() {
    let banned = [
        (".unwrap()", "say why it cannot fail, with expect"),
        ("unsafe ", "forbidden"),
        ("todo!", "do it"),
        ("println!", "it reports through tracing"),
        ("unbounded_channel", "everything is bounded"),
        ("_ => ", "a new variant must make the compiler ask"),
    ];
    let mut wrong = Vec::new();
    for file in rust_files(&runtime()) {
        for (number, line) in code(&file).lines().enumerate() {
            for (ban, why) in banned.iter().filter(|(ban, _)| line.contains(ban)) {
                wrong.push(format!("{}: {}: `{ban}`: {why}", file.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_grows_past_what_one_can_hold_in_mind() {
    let mut wrong = Vec::new();
    for file in [core(), runtime(), storage()].iter().flat_map(|folder| rust_files(folder)) {
        let lines = before_tests(&file).lines().count();
        if lines > LONGEST_FILE {
            let file = file.display();
            wrong.push(format!("{file} has {lines} lines, {LONGEST_FILE} are allowed"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_example_of_a_library_shows_one_thing() {
    let folders =
        ["omnipaxos/examples", "omnipaxos_storage/examples"].map(|path| root().join(path));
    let mut wrong = Vec::new();
    for file in folders.iter().flat_map(|folder| rust_files(folder)) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        if lines > LONGEST_EXAMPLE {
            let file = file.display();
            wrong.push(format!(
                "{file} has {lines} lines, {LONGEST_EXAMPLE} are allowed; an application belongs into the \
                 folder examples of the workspace"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
