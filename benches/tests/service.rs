//! The program that measures services runs, with tiny numbers.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::process::Command;

/// Runs the program, and returns the cells of its rows.
fn rows(arguments: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_service"));
    let output = command.args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let printed = String::from_utf8(output.stdout).unwrap();
    println!("{printed}");
    let rows = printed.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = rows.filter(|row| !row.starts_with("---") && !row.contains("per second"));
    rows.map(|row| row.split(" | ").map(str::to_owned).collect()).collect()
}

fn number(cell: &str) -> f64 {
    cell.split(' ').next().unwrap().parse().unwrap()
}

/// A row of operations of a system, whose figures fit each other.
fn check(row: &[String], operation: &str, clients: &str, system: &str) {
    assert_eq!(row[..3], [operation, clients, system]);
    let figures: Vec<f64> = row[3..].iter().map(|cell| number(cell)).collect();
    let [per_second, p50, p99, p999, slowest, pause, memory, cpu, of_leader] = figures[..] else {
        panic!("{row:?}");
    };
    assert!(per_second > 1.0 && pause > 0.0, "{row:?}");
    assert!(0.0 < p50 && p50 <= p99 && p99 <= p999 && p999 <= slowest, "{row:?}");
    assert!(of_leader <= cpu, "{row:?}");
    assert!((1.0..1000.0).contains(&memory), "{row:?}");
}

#[test]
fn a_load_has_a_row_for_each_operation_number_of_clients_and_system() {
    let rows = rows(&[
        "--part",
        "load",
        "--systems",
        "ours,openraft",
        "--clients",
        "1,4",
        "--seconds",
        "0.3",
        "--runs",
        "1",
        "--keys",
        "50",
    ]);
    let expected = [("put", "1"), ("put", "4"), ("get", "1"), ("get", "4")];
    assert_eq!(rows.len(), 2 * expected.len());
    for (pair, (operation, clients)) in rows.chunks(2).zip(expected) {
        check(&pair[0], operation, clients, "ours");
        check(&pair[1], operation, clients, "openraft");
    }
}

#[test]
fn a_scenario_has_a_row_for_each_system() {
    let rows = rows(&[
        "--part",
        "scenarios",
        "--systems",
        "ours,openraft",
        "--seconds",
        "0.2",
        "--runs",
        "1",
        "--keys",
        "50",
    ]);
    let of = |system: &str| rows.iter().filter(|row| row[1] == system).count();
    assert_eq!((of("ours"), of("openraft"), rows.len()), (4, 4, 8), "{rows:?}");
    for row in &rows {
        let [per_second, longest_pause] = [number(&row[2]), number(&row[7])];
        assert!(per_second > 1.0 && longest_pause > 0.0, "{row:?}");
        let crash = row[0].contains("killed") || row[0].contains("replaced");
        let took = row[11].parse::<f64>();
        assert_eq!(took.is_ok(), crash || row[0].contains("away"), "{row:?}");
    }
}

#[test]
fn what_would_measure_nothing_is_refused() {
    for arguments in [["--seconds", "0"], ["--runs", "0"], ["--systems", ""]] {
        let output = Command::new(env!("CARGO_BIN_EXE_service")).args(arguments).output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
    }
    // Nothing is on this path.
    let mut command = Command::new(env!("CARGO_BIN_EXE_service"));
    let output = command.args(["--systems", "etcd"]).env("PATH", "").output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
}
