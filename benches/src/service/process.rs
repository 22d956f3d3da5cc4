//! Server processes: started, killed, and what they use.

use crate::Failure;
use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The length of a clock tick in `/proc/PID/stat`: 10 ms on every Linux.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// A server process, which is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts a process. Its standard input ends with this process, and servers of ours end then. Those of
    /// etcd do not: they are left if this process is killed.
    pub(crate) fn start(command: &mut Command) -> Result<Self, Failure> {
        Ok(Self(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?))
    }

    /// Returns the CPU time that the process has used in all its threads.
    pub(crate) fn cpu_time(&self) -> Result<Duration, Failure> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        // The name of the program, in parentheses, may contain spaces.
        let (_, fields) = stat.rsplit_once(')').ok_or("no name in /proc/PID/stat")?;
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<u32>);
        let (user, system) = (times.next(), times.next());
        let user = user.ok_or("no user time in /proc/PID/stat")??;
        let system = system.ok_or("no system time in /proc/PID/stat")??;
        Ok(CLOCK_TICK * (user + system))
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        Ok(kilobytes.ok_or("no memory in /proc/PID/status")?.parse::<u64>()? << 10)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
