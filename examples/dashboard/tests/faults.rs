//! Faults that no key has caused, in a run without a terminal.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use std::{
    fs,
    io::{BufRead, BufReader, Lines},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

/// Longer than any run takes on a machine that does anything at all.
const DEADLINE: Duration = Duration::from_secs(120);

/// A run, and the folder in which it makes its own.
struct Run {
    program: Child,
    lines: Lines<BufReader<ChildStdout>>,
    start: Instant,
    folder: PathBuf,
}

impl Run {
    fn start(name: &str, seconds: u32) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dashboard"));
        command.args(["--plain", "--servers", "3", "--seconds", &seconds.to_string()]);
        command.env("TMPDIR", &folder).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut program = command.spawn().unwrap();
        let lines = BufReader::new(program.stdout.take().unwrap()).lines();
        Self { program, lines, start: Instant::now(), folder }
    }

    /// Reads lines until one contains this text, and returns it.
    fn line_with(&mut self, text: &str) -> String {
        loop {
            let line =
                self.lines.next().unwrap_or_else(|| panic!("no line with `{text}`")).unwrap();
            assert!(self.start.elapsed() < DEADLINE, "no line with `{text}`, but {line}");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The process id of a server.
    fn server(&self, pid: u64) -> String {
        let of_dashboard = self.folder.to_str().unwrap();
        let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let mut servers = processes.filter(|path| {
            let arguments = fs::read_to_string(path.join("cmdline")).unwrap_or_default();
            arguments.contains(&format!("\0--pid={pid}\0")) && arguments.contains(of_dashboard)
        });
        servers.next().unwrap().file_name().unwrap().to_str().unwrap().to_owned()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        signal("-TERM", &self.program.id().to_string());
        drop(self.program.wait());
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn signal(signal: &str, process: &str) {
    assert!(Command::new("kill").args([signal, process]).status().unwrap().success());
}

#[test]
fn a_server_that_a_signal_has_ended_is_killed_and_the_others_go_on() {
    for name in ["-KILL", "-TERM"] {
        let mut run = Run::start(&format!("signal{name}"), 600);
        run.line_with(" s  leader ");
        signal(name, &run.server(3));
        run.line_with("3 killed");
    }
}

#[test]
fn a_server_without_its_disk_does_not_start_again() {
    let mut run = Run::start("disk", 6);
    let line = run.line_with("killed server");
    let pid: u64 = line.split("killed server ").nth(1).unwrap()[..1].parse().unwrap();
    let folder = fs::read_dir(&run.folder).unwrap().next().unwrap().unwrap().path();
    fs::remove_dir_all(folder.join(format!("data{pid}"))).unwrap();
    run.line_with("from its disk");
    // Time for it to be there again, with an empty disk.
    run.line_with(" 4 s  leader");
    let line = run.line_with(" 5 s  leader");
    assert!(line.contains(&format!(" {pid} killed")), "{line}");
    assert!(!folder.join(format!("data{pid}")).exists());
}
