//! What logs give up, and who asked for it. Invariants I16 and I17.

use super::{ensure, Check, Checker, Violation};
use crate::plan::{Compaction, ServerSetting, Setting};

/// Who may give up what.
#[derive(Debug)]
pub(super) struct GivenUp {
    /// What each application has reported that it has applied; `None` where logs are compacted
    /// otherwise.
    applied: Option<Vec<u64>>,
    /// Some server was asked to compact this many entries, or may have been.
    asked: u64,
    /// Whether some server takes delta snapshots, which it then passes on to others.
    wants_deltas: bool,
}

impl GivenUp {
    /// Not watched: anything may be given up.
    pub(super) fn anything() -> Self {
        Self { applied: None, asked: u64::MAX, wants_deltas: false }
    }

    pub(super) fn of(setting: &Setting) -> Self {
        let applied = match setting.compaction {
            Compaction::AsAsked => None,
            Compaction::AsApplied => Some(vec![0; setting.all().count()]),
        };
        let wants = |server: &ServerSetting| server.config.takes_delta_snapshots;
        Self { applied, asked: 0, wants_deltas: setting.all().any(wants) }
    }
}

impl Checker {
    /// An application reports to its server how much it has applied.
    pub fn say_applied(&mut self, server: usize, idx: u64) {
        if let Some(reported) = self.given_up.applied.as_mut().and_then(|all| all.get_mut(server)) {
            *reported = idx.max(*reported);
        }
    }

    /// A user asks to compact: anything may be given up now. Returns what was asked for before.
    pub fn begin_compaction(&mut self) -> u64 {
        std::mem::replace(&mut self.given_up.asked, u64::MAX)
    }

    /// The user has asked for a compaction, and this much is given up; `before` was asked for before.
    pub fn end_compaction(&mut self, before: u64, compacted_idx: u64) {
        self.given_up.asked = before.max(compacted_idx);
    }

    /// A server shows that it has given up the entries before `idx`.
    pub(super) fn check_given_up(&self, server: usize, idx: u64) -> Result<(), Violation> {
        let pid = self.pids[server];
        let GivenUp { applied, asked, wants_deltas } = &self.given_up;
        if let Some(applied) = applied {
            // An observer compacts for itself.
            let by_all = match self.is_observer(server) {
                true => applied[server],
                false => applied.iter().take(self.members).copied().min().unwrap_or(0),
            };
            ensure!(
                idx <= by_all,
                Check::AppliedFirst,
                "server {pid} has given up {idx} entries, and the applications have applied {applied:?}"
            );
            return Ok(());
        }
        ensure!(
            idx <= *asked || *wants_deltas,
            Check::GivenUp,
            "server {pid} has given up {idx} entries, and no server was asked for more than {asked}"
        );
        Ok(())
    }

    /// A server reports how much its application has applied.
    pub(super) fn check_report(&self, server: usize, idx: u64) -> Result<(), Violation> {
        let reported = self.given_up.applied.as_ref().and_then(|all| all.get(server)).copied();
        ensure!(
            reported.is_some_and(|reported| idx <= reported),
            Check::AppliedFirst,
            "server {} reports that {idx} entries are applied, and its application reported {reported:?}",
            self.pids[server]
        );
        Ok(())
    }
}
