//! Runs the program as CI does: without a terminal.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use std::{
    process::{Command, Output, Stdio},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

/// Longer than any run takes on a machine that does anything at all.
const DEADLINE: Duration = Duration::from_secs(300);

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dashboard"));
    command.args(arguments).stdin(Stdio::null());
    let (ended, end) = channel();
    thread::spawn(move || ended.send(command.output().unwrap()));
    end.recv_timeout(DEADLINE).expect("an end before the deadline")
}

#[test]
fn all_servers_agree_after_cuts_a_kill_a_restart_and_changes_of_members() {
    let output = run(&["--plain", "--seconds", "6", "--servers", "3"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for says in [
        " of the leader\n",
        "healed all links\n",
        ", the leader\n",
        "from its disk\n",
        "cut all links of server",
        "started a new server, which joins\n",
        " s  leader ",
        ", configuration 2: ",
        ", the leader, from the members\n",
        "all 3 servers agree in configuration 3: decided ",
    ] {
        assert!(text.contains(says), "`{says}` is not in:\n{text}");
    }
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(1));
    let says = String::from_utf8(output.stderr).unwrap();
    assert!(says.contains("is no terminal. Without one: --plain --seconds 20"), "{says}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for arguments in [
        &["--plain", "--seconds", "0"][..],
        &["--seconds", "5"],
        &["--plain", "--servers", "2"],
        &["--plain", "--servers", "10"],
    ] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

/// As `dashboard --plain | head` does.
#[test]
fn it_ends_quietly_when_nobody_reads_its_lines() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_dashboard"));
    command.args(["--plain", "--servers", "3"]).stdin(Stdio::null()).stdout(writer);
    let output = command.stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*stderr), (Some(141), ""));
}
