//! What a machine can check of how the core is written: the import table of `ARCHITECTURE.md`,
//! bans, and the length of files.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The modules of the core by layer. A module imports from lower layers only.
const LAYERS: [&[&str]; 14] = [
    &["amount", "ids", "quorum", "clock", "bounds", "owned", "shared_entries"],
    &["ballot", "derive_support", "other_configurations", "proposals"],
    &["config"],
    &["identity"],
    &["storage", "trace", "unicache"],
    &["log_entry", "errors", "codec"],
    &["messages", "reads", "leader_transfer"],
    &["replica_log", "outbox", "ui", "peer_identities"],
    &["validate"],
    &["events"],
    &["status"],
    &["sequence_paxos", "ballot_leader_election", "export"],
    &["omni_paxos"],
    &["util", "utils", "lib"],
];

/// Imports against the table, each with its reason.
const EXCEPTIONS: [(&str, &str); 5] = [
    // `OmniPaxosConfig::build` is an item of 0.2.2 and makes an `OmniPaxos`.
    ("config", "omni_paxos"),
    // The bounds of `build` and `build_for_server`.
    ("config", "storage"),
    // `errors::ConfigError` is where 0.2.2 has it; errors name the configuration that they refuse.
    ("errors", "config"),
    // An entry names its cache, and a cache its entry.
    ("storage", "unicache"),
    ("unicache", "storage"),
];

/// Lines of a file, its tests not counted. Detects files that hold more than one thought; a subject is
/// not cut up to please it.
const LONGEST_FILE: usize = 600;

/// Keys of users that are not `Ord`, in a map that has no way to walk it.
const UNORDERED: &str = "unicache/lookup.rs";

fn core() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../omnipaxos/src")
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

/// The text of a file without its unit tests and comments.
fn code(file: &Path) -> String {
    if file.ends_with("tests.rs") {
        return String::new();
    }
    let text = fs::read_to_string(file).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_string();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The top-level module that a file belongs to.
fn module(file: &Path) -> String {
    let inside = file.strip_prefix(core()).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_string()
}

/// The top-level modules that a text imports.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut word = String::new();
            let mut names_module = true;
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.push(std::mem::take(&mut word));
                        names_module = true;
                    }
                    ':' if depth == 0 => names_module = false,
                    c if depth == 0 && names_module && !c.is_whitespace() => word.push(c),
                    _ => {}
                }
            }
            found.push(word);
        } else {
            found.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn imports_go_one_way() {
    let layer_of: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(layer, modules)| modules.iter().map(move |module| (*module, layer)))
        .collect();
    let mut wrong = Vec::new();
    for file in rust_files(&core()) {
        let module = module(&file);
        let Some(layer) = layer_of.get(module.as_str()) else {
            wrong.push(format!("{module} has no place in the table"));
            continue;
        };
        for import in imports(&code(&file)) {
            let is_exception = EXCEPTIONS.contains(&(module.as_str(), import.as_str()));
            let is_lower = layer_of.get(import.as_str()).is_some_and(|lower| lower < layer);
            if import != module && !is_lower && !is_exception {
                wrong.push(format!("{module} imports {import}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
fn no_file_grows_past_what_one_can_hold_in_mind() {
    let mut wrong = Vec::new();
    for file in rust_files(&core()) {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.split("#[cfg(test)]").next().unwrap_or_default().lines().count();
        if lines > LONGEST_FILE {
            let file = file.display();
            wrong.push(format!("{file} has {lines} lines, {LONGEST_FILE} are allowed"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
