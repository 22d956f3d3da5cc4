//! The reader of what a program prints goes away, as `| head` does: the program ends quietly.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod common;

use common::{kv_store, wait_for_end, Cluster};
use std::{
    io::{pipe, Write},
    process::{Command, Output, Stdio},
};

/// The status of other tools that write to a closed pipe.
const ENDED_BY_SIGPIPE: i32 = 141;

/// Runs a program whose standard output nobody reads.
fn unread(command: &mut Command, lines: &str) -> Output {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    command.stdin(Stdio::piped()).stdout(writer).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    process.wait_with_output().unwrap()
}

#[track_caller]
fn assert_quiet(output: &Output, what: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*stderr), (Some(ENDED_BY_SIGPIPE), ""), "{what}");
}

#[test]
fn every_subcommand_of_a_client() {
    let mut cluster = Cluster::start();
    cluster.ask(&["put", "a", "1"]);
    for (arguments, lines) in [
        (vec!["put", "a", "2"], ""),
        (vec!["get", "a"], ""),
        (vec!["get", "a", "--stale"], ""),
        (vec!["delete", "a"], ""),
        (vec!["status"], ""),
        (vec!["lines"], "get a\nput a 3\n"),
        (vec!["lines"], "this is no request\n"),
    ] {
        assert_quiet(&unread(&mut cluster.client_command(&arguments), lines), &arguments.join(" "));
    }
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut watch = cluster.client_command(&["watch"]).stdout(writer).spawn().unwrap();
    // It may begin to watch only after some of these.
    while watch.try_wait().unwrap().is_none() {
        cluster.ask(&["put", "a", "4"]);
    }
    assert_eq!(wait_for_end(&mut watch), Some(ENDED_BY_SIGPIPE));
    cluster.assert_alive();
}

#[test]
fn a_status_of_servers_that_are_not_there() {
    let mut command = kv_store();
    command.args(["client", "--servers", "127.0.0.1:1", "status"]);
    assert_quiet(&unread(&mut command, ""), "status");
}

#[test]
fn the_demonstration() {
    assert_quiet(&unread(kv_store().arg("demo"), ""), "demo");
}

/// A server prints nothing but its log, to the standard error.
#[test]
fn a_server_goes_on_when_nobody_reads_its_log() {
    let mut cluster = Cluster::start();
    cluster.kill(0);
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let mut server = kv_store();
    server.env("RUST_LOG", "info").args(["server", "--until-stdin-closes", "--config"]);
    server.arg(cluster.config_file(0)).stdin(Stdio::piped()).stderr(writer);
    cluster.servers[0] = server.spawn().unwrap();
    while !cluster.client(&["status"]).status.success() {
        cluster.assert_alive();
    }
    drop(cluster.servers[0].stdin.take());
    assert_eq!(wait_for_end(&mut cluster.servers[0]), Some(0));
}
