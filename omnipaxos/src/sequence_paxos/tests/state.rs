//! The state of a server, as the tables write it.

use super::{notation::shown_ballot, Server};
use crate::sequence_paxos::{
    progress::{Followers, Stage},
    state::{Leading, Preparing, State},
};
use std::fmt::Write;

impl Server {
    pub(super) fn state(&self) -> String {
        let disk = self.paxos.clone().into_storage();
        let (n, na) = (shown_ballot(disk.promise), shown_ballot(disk.accepted_round));
        let log = disk.shown(self.paxos.log.decided_idx());
        let mut shown = match &self.paxos.state {
            State::Recovering => format!("recovering {n} {na} {log}"),
            State::Promised { .. } => format!("promised {n} {na} {log}"),
            State::Following(_) => format!("following {n} {log}"),
            State::Preparing(Preparing { followers, .. }) => {
                format!("preparing {n} {na} {log}{}", self.shown_followers(followers))
            }
            State::Leading(Leading { followers, .. }) => {
                format!("leading {n} {log}{}", self.shown_followers(followers))
            }
        };
        for (what, entries) in
            [("waits", self.paxos.waiting().entries), ("pending", self.paxos.pending().entries)]
        {
            if entries > 0 {
                let _ = write!(shown, " {what}={entries}");
            }
        }
        shown
    }

    fn shown_followers(&self, followers: &Followers) -> String {
        let mut shown = String::new();
        for pid in self.paxos.members.peers() {
            let progress = followers.get(*pid).unwrap();
            let (accepted, decided) = (progress.accepted_idx, progress.decided_idx);
            let _ = match &progress.stage {
                Stage::Unpromised { .. } => Ok(()),
                Stage::Promised(_) => write!(shown, " {pid}:promised"),
                Stage::CatchingUp(_) => write!(shown, " {pid}:redirected"),
                Stage::Syncing(..) => write!(shown, " {pid}:sync"),
                Stage::Replicating(_) => write!(shown, " {pid}:{accepted}/{decided}"),
            };
        }
        shown
    }
}
