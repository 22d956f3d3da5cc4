//! The success of a server as a leader: whether its ballots come to anything.
//!
//! A server may reach a quorum in one round of several: enough to take over, and not enough to decide before
//! another such server takes over from it. These two may take turns without end. So a leader that was overtaken
//! before it decided anything rests for some rounds, and for more each time. Then the other one has the time that
//! it needs, or a better server takes over.

use super::takeover::ROUNDS_OF_A_CHANGE;

/// A server that reached a quorum in this number of rounds in a row can decide in them: it takes over at the end
/// of the first, is promised in the second, and decides in the third.
const ROUNDS_TO_DECIDE: u32 = 3;

/// For this number of rounds after that, it does not rest when it is overtaken. Its links may be open for some
/// rounds and then closed for some, and it must not miss the next time.
const ENDURES_FOR: u32 = 16;

/// The success of this server as a leader.
#[derive(Clone, Debug)]
pub(super) struct Success {
    /// Number of rounds in a row, up to the last one, in which this server reached a read and a write quorum.
    in_a_row: u32,
    /// For this number of rounds this server counts as one that reaches a quorum for long enough.
    endures_for: u32,
    /// Number of its ballots in a row after which it had to rest.
    in_vain: u32,
    /// For this number of rounds, with the present one, this server does not take over.
    rests: u32,
    /// Whether this server has decided something in its last ballot.
    has_decided: bool,
}

impl Default for Success {
    /// At the start, every server counts as one that reaches a quorum for long enough.
    fn default() -> Self {
        Self { in_a_row: 0, endures_for: ENDURES_FOR, in_vain: 0, rests: 0, has_decided: false }
    }
}

impl Success {
    /// Ends a round.
    pub(super) fn end_round(&mut self, reaches_quorums: bool) {
        self.rests = self.rests.saturating_sub(1);
        self.endures_for = self.endures_for.saturating_sub(1);
        self.in_a_row = if reaches_quorums { self.in_a_row.saturating_add(1) } else { 0 };
        if self.in_a_row >= ROUNDS_TO_DECIDE {
            (self.endures_for, self.in_vain, self.rests) = (ENDURES_FOR, 0, 0);
        }
    }

    /// Returns whether this server does not rest.
    pub(super) fn is_rested(&self) -> bool {
        self.rests == 0
    }

    /// This server leads in a new ballot.
    pub(super) fn begin_ballot(&mut self) {
        self.has_decided = false;
        self.rests = 0;
    }

    /// This leader has decided something, in its present ballot or in an earlier one.
    pub(super) fn record(&mut self, is_present: bool) {
        self.has_decided |= is_present;
        self.in_vain = 0;
    }

    /// Another server has taken over. If this one decided nothing, it rests, for at most `most` rounds.
    pub(super) fn be_overtaken(&mut self, most: u32) {
        if self.has_decided || self.endures_for > 0 {
            return;
        }
        let times = 1_u32.checked_shl(self.in_vain).unwrap_or(u32::MAX);
        self.rests = ROUNDS_OF_A_CHANGE.saturating_mul(times).min(most);
        self.in_vain = self.in_vain.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::Success;

    fn rounds(success: &mut Success, reaches_quorums: &[bool]) {
        reaches_quorums.iter().for_each(|reaches| success.end_round(*reaches));
    }

    /// It is overtaken again and again. Returns for how many rounds it rests each time.
    fn overtaken(success: &mut Success, times: usize) -> Vec<u32> {
        let mut once = || {
            success.begin_ballot();
            success.be_overtaken(20);
            success.rests
        };
        (0..times).map(|_| once()).collect()
    }

    #[test]
    fn a_server_that_takes_over_in_vain_rests_longer_each_time() {
        let mut success = Success::default();
        assert_eq!(overtaken(&mut success, 1), [0], "nothing is known of it");
        rounds(&mut success, &[true, true, false, false].repeat(4));
        assert_eq!(overtaken(&mut success, 5), [4, 8, 16, 20, 20]);
        assert_eq!(overtaken(&mut success, 40)[39], 20);
        success.begin_ballot();
        success.record(true);
        success.be_overtaken(20);
        assert!(success.is_rested(), "it has decided something");
        success.begin_ballot();
        success.record(false);
        assert_eq!(overtaken(&mut success, 2), [4, 8], "from the beginning");
    }

    #[test]
    fn a_server_that_reaches_quorums_for_long_enough_does_not_rest() {
        let mut success = Success::default();
        rounds(&mut success, &[false; 20]);
        assert_eq!(overtaken(&mut success, 2), [4, 8]);
        rounds(&mut success, &[true; 2]);
        assert!(!success.is_rested());
        rounds(&mut success, &[true]);
        assert!(success.is_rested(), "at once");
        rounds(&mut success, &[false; 15]);
        assert_eq!(overtaken(&mut success, 2), [0, 0]);
        rounds(&mut success, &[false]);
        assert_eq!(overtaken(&mut success, 1), [4]);
    }
}
