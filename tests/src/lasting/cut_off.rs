//! What an [`Adversary`] does, and which links are open.

use super::{Adversary, Direction, Lasting};

/// The servers that an adversary has cut off.
#[derive(Clone, Debug, Default)]
pub struct CutOff {
    /// Each until a tick.
    held: Vec<(usize, u64)>,
    next_cut: u64,
}

impl CutOff {
    /// Cuts off the leader that most of `size` servers follow, if it is time. A quorum is left together.
    /// `follows` says whom a server follows.
    pub fn attack(
        &mut self,
        adversary: Adversary,
        size: usize,
        follows: impl Fn(usize) -> Option<usize>,
        now: u64,
    ) {
        self.held.retain(|(_, until)| *until > now);
        let spare = size - (size / 2 + 1);
        if now < self.next_cut || self.held.len() >= spare {
            return;
        }
        let leader = most_followed(size, follows).filter(|at| !self.holds(*at));
        if let Some(leader) = leader {
            self.held.push((leader, now + adversary.hold));
            self.next_cut = now + adversary.every;
        }
    }

    fn holds(&self, at: usize) -> bool {
        self.held.iter().any(|(server, _)| *server == at)
    }
}

/// The server that most of `size` servers follow. `follows` says whom a server follows.
pub fn most_followed(size: usize, follows: impl Fn(usize) -> Option<usize>) -> Option<usize> {
    let followers = |at: usize| (0..size).filter(|of| follows(*of) == Some(at)).count();
    (0..size).max_by_key(|at| followers(*at)).filter(|at| followers(*at) > 0)
}

impl Lasting {
    /// Every directed link, and whether it is open at a tick.
    pub fn open_links<'a>(
        &'a self,
        cut_off: &'a CutOff,
        now: u64,
    ) -> impl Iterator<Item = (usize, usize, bool)> + 'a {
        let (size, cuts) = (self.size(), self.adversary.map(|adversary| adversary.cuts));
        self.links.iter().enumerate().map(move |(at, link)| {
            let (from, to) = (at / size, at % size);
            let is_cut = match cuts {
                None => false,
                Some(Direction::Both) => cut_off.holds(from) || cut_off.holds(to),
                Some(Direction::Incoming) => cut_off.holds(to),
                Some(Direction::Outgoing) => cut_off.holds(from),
            };
            (from, to, link.is_open(now) && !is_cut)
        })
    }
}
