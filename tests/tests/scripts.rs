//! Plays the stories in `tests/scripts` and compares their outcome with what they expect.
//!
//! `UPDATE_SCRIPTS=1 cargo test -p omnipaxos_tests --test scripts` writes the outcomes into the
//! files instead: read the difference before you believe it.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos_tests::script;
use std::{fs, path::PathBuf};

fn stories() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_story_ends_as_expected() {
    let update = std::env::var_os("UPDATE_SCRIPTS").is_some();
    let mut wrong = Vec::new();
    for file in stories() {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let outcome = script::play(&text).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        if update {
            fs::write(&file, script::with_outcome(&text, &outcome)).unwrap();
        } else if outcome != script::expected(&text) {
            wrong
                .push(format!("{name}\n-- got\n{outcome}-- expected\n{}", script::expected(&text)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_are_as_many_stories_as_promised() {
    assert!(stories().len() >= 40, "{} stories", stories().len());
}

#[test]
fn a_story_with_a_mistake_is_refused_with_its_line() {
    let table = [
        ("append 1 a", "line 1: `append 1 a`: a story begins with `cluster`"),
        ("cluster 1 2 3\nfly 1", "line 2: `fly 1`: not a command"),
        ("cluster 1 2 3\nelect 4", "line 2: `elect 4`: server 4 does not run"),
        ("cluster 1 two", "line 1: `cluster 1 two`: `two` is not a number"),
        ("cluster 1 color=red", "line 1: `cluster 1 color=red`: `color` is not a setting"),
        (
            "cluster 1 2\ndrop 1->2 Acept\nelect 1",
            "no such message was sent: [Pick { from: Some(1), to: Some(2), kind: Some(\"Acept\") }]",
        ),
    ];
    for (text, problem) in table {
        assert_eq!(script::play(text), Err(problem.to_string()));
    }
}
