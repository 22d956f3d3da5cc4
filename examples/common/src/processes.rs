//! Servers as child processes.

use anyhow::{bail, Context, Result};
use std::{
    collections::BTreeMap,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

/// How long a process that was killed may take to end.
const END: Duration = Duration::from_secs(5);

/// The servers that run, by pid. They are killed when this is dropped, and end when this process
/// does if they heed [`signals::stdin_closed`](crate::signals::stdin_closed).
#[derive(Debug, Default)]
pub struct Processes {
    running: BTreeMap<u64, Child>,
}

impl Processes {
    /// Starts this program again, with these arguments, as a server. `complaints` is where its
    /// standard error goes.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start<S: AsRef<std::ffi::OsStr>>(
        &mut self,
        pid: u64,
        arguments: impl IntoIterator<Item = S>,
        complaints: Stdio,
    ) -> Result<()> {
        let program = std::env::current_exe().context("where is this program?")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stderr(complaints).kill_on_drop(true);
        // Ctrl-C goes to this program alone, which ends the servers in its own way.
        #[cfg(unix)]
        command.process_group(0);
        self.running.insert(pid, command.spawn().context("cannot start a server")?);
        Ok(())
    }

    /// Kills servers with SIGKILL, all at once: they have no time to send or write anything.
    ///
    /// # Errors
    /// One of them does not run, or cannot be killed.
    pub async fn kill(&mut self, pids: &[u64]) -> Result<()> {
        let mut killed = Vec::new();
        for pid in pids {
            let mut process = self.running.remove(pid).context("the server does not run")?;
            process.start_kill().context("cannot kill a server")?;
            killed.push(process);
        }
        for mut process in killed {
            process.wait().await.context("cannot wait for a server")?;
        }
        Ok(())
    }

    /// Whether this server was started and not killed.
    pub fn runs(&self, pid: u64) -> bool {
        self.running.contains_key(&pid)
    }

    /// The process id of each server that runs.
    pub fn ids(&self) -> BTreeMap<u64, u32> {
        self.running.iter().filter_map(|(pid, process)| Some((*pid, process.id()?))).collect()
    }

    /// Makes sure that no server ended by itself.
    ///
    /// # Errors
    /// One did.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.take_ended()? {
            Some((pid, status)) => bail!("server {pid} ended by itself: {status}"),
            None => Ok(()),
        }
    }

    /// Takes out a server that ended and was not killed by this program, if there is one.
    ///
    /// # Errors
    /// The system refuses the question.
    pub fn take_ended(&mut self) -> Result<Option<(u64, ExitStatus)>> {
        for (pid, process) in &mut self.running {
            if let Some(status) = process.try_wait()? {
                let pid = *pid;
                self.running.remove(&pid);
                return Ok(Some((pid, status)));
            }
        }
        Ok(None)
    }
}

impl Drop for Processes {
    /// Waits until the processes have ended: their files can be removed then.
    fn drop(&mut self) {
        for process in self.running.values_mut() {
            if let Err(cause) = process.start_kill() {
                tracing::debug!("cannot kill a server: {cause}");
            }
        }
        let start = Instant::now();
        while self.running.values_mut().any(|process| matches!(process.try_wait(), Ok(None)))
            && start.elapsed() < END
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
