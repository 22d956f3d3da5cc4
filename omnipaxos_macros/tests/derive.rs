//! What `derive(Entry)` takes, and its errors.

use std::fs::File;

/// Waits until no other test of the workspace runs trybuild.
///
/// trybuild builds the programs of all packages in one folder of `target`, under names that repeat in
/// each package: a test may run the program of another one, or find none. Its own lock is one for each
/// package, and counts as abandoned when its owner gets no processor time for 1.5 s.
fn lock() -> File {
    let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/trybuild.lock");
    let file = File::create(path).expect("cargo makes the folder");
    file.lock().expect("the file system has locks");
    file
}

#[test]
fn ui() {
    let _lock = lock();
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*.rs");
}
