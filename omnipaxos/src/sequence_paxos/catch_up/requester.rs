//! Decides which server is asked for decided entries, and when.

use super::super::Contact;
use crate::ids::NodeId;

/// Rounds after which a silent source is asked again.
const ASKED_AGAIN_AFTER: u32 = 2;

/// Rounds after which a silent source is dropped.
const GIVEN_UP_AFTER: u32 = 4;

/// Rounds of the first and of the longest pause.
const SHORTEST_PAUSE: u32 = 2;
const LONGEST_PAUSE: u32 = 8;

/// The requests of one server. If a method returns a server, the caller requests a chunk from it.
#[derive(Clone, Debug, Default)]
pub(in crate::sequence_paxos) struct Requester {
    /// The source: the server that is asked until it has no more to send.
    source: Option<NodeId>,
    /// Heartbeat rounds since the last request to the source, or its last chunk.
    waited: u32,
    /// Unless it is kept, the peers are asked in turn.
    contact: Contact,
    /// The peer asked last in turn.
    turn: usize,
    /// Heartbeat rounds for which a server that has promised catches up no further.
    pause: u32,
    /// The length of the last pause in the promised ballot.
    last_pause: u32,
}

impl Requester {
    /// Returns whether this server reaches its leader, or as a leader the quorum that it needs.
    pub(super) fn contact(&self) -> Contact {
        self.contact
    }

    /// Returns whether a server that has promised waits for its leader now.
    pub(super) fn is_paused(&self) -> bool {
        self.pause > 0
    }

    /// Ends the pause, since a server reported decided entries that this one lacks.
    pub(super) fn resume(&mut self) {
        self.pause = 0;
    }

    /// The server that is asked until it has no more to send.
    pub(super) fn source(&self) -> Option<NodeId> {
        self.source
    }

    /// Something came from another server that was asked besides.
    pub(super) fn progress(&mut self) {
        self.waited = 0;
    }

    /// Asks `source`, unless another source was asked in this round and may still answer.
    pub(super) fn begin(&mut self, source: NodeId) -> Option<NodeId> {
        (self.source.is_none() || self.waited > 0).then(|| self.ask(source))
    }

    /// Asks `source` until it has no more to send.
    pub(super) fn ask(&mut self, source: NodeId) -> NodeId {
        (self.source, self.waited) = (Some(source), 0);
        source
    }

    /// Records that `source` has no more to send.
    pub(super) fn finish(&mut self, source: NodeId) {
        self.source.take_if(|asked| *asked == source);
    }

    /// Stops catching up, since a quorum has promised this server, which leads.
    pub(super) fn stop(&mut self) {
        self.source = None;
        self.contact = Contact::Kept;
    }

    /// Repeats the last pause: the leader has got another report of the decided index here.
    pub(super) fn wait_again(&mut self) {
        self.pause = self.last_pause;
    }

    /// Begins a longer pause, since an AcceptSync arrived too late.
    pub(super) fn pause(&mut self) {
        let pause = (2 * self.last_pause).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        (self.pause, self.last_pause) = (pause, pause);
        self.source = None;
    }

    /// Ends the pauses: this server has promised another ballot, or replicates.
    pub(super) fn end_pauses(&mut self) {
        (self.pause, self.last_pause) = (0, 0);
    }

    /// Ends a heartbeat round.
    pub(super) fn begin_round(&mut self, contact: Contact) {
        self.contact = contact;
        self.pause = self.pause.saturating_sub(1);
    }

    /// Returns the server to ask in this round; it is not called during a pause. A silent source is
    /// asked again, and then dropped: the leader names another, or the `reachable` peers are asked
    /// in turn.
    pub(super) fn repeat(&mut self, reachable: &[NodeId]) -> Option<NodeId> {
        if let Some(source) = self.source {
            self.waited += 1;
            match self.waited {
                ASKED_AGAIN_AFTER => return Some(source),
                GIVEN_UP_AFTER.. => self.source = None,
                0..ASKED_AGAIN_AFTER | ASKED_AGAIN_AFTER..GIVEN_UP_AFTER => {}
            }
        }
        match (self.source, self.contact) {
            (None, Contact::Unheard | Contact::Lost) => self.next_in_turn(reachable),
            (None, Contact::Kept) | (Some(_), _) => None,
        }
    }

    fn next_in_turn(&mut self, reachable: &[NodeId]) -> Option<NodeId> {
        self.turn = self.turn.wrapping_add(1) % reachable.len().max(1);
        reachable.get(self.turn).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::{Contact, Requester};

    /// Returns the server that it asks in each of the rounds, among servers 2, 5 and 7.
    fn asked(requester: &mut Requester, contact: Contact, rounds: usize) -> Vec<Option<u64>> {
        let round = |_| {
            requester.begin_round(contact);
            requester.repeat(&[2, 5, 7])
        };
        (0..rounds).map(round).collect()
    }

    #[test]
    fn a_source_that_is_silent_is_asked_again_and_given_up() {
        let mut requester = Requester::default();
        assert_eq!(requester.begin(5), Some(5));
        assert_eq!(requester.begin(7), None, "5 may answer");
        let again = [None, Some(5), None, None, None];
        assert_eq!(asked(&mut requester, Contact::Kept, 5), again);
        assert_eq!(requester.begin(7), Some(7));
    }

    #[test]
    fn another_source_is_asked_after_a_round() {
        let mut requester = Requester::default();
        requester.begin(5);
        asked(&mut requester, Contact::Kept, 1);
        assert_eq!(requester.begin(7), Some(7));
        requester.finish(5);
        assert_eq!(requester.begin(5), None, "7 may answer");
        requester.finish(7);
        assert_eq!(requester.begin(5), Some(5));
    }

    #[test]
    fn peers_are_asked_in_turn_while_the_leader_is_lost() {
        let mut requester = Requester::default();
        let in_turn = [Some(5), Some(7), Some(2), Some(5)];
        assert_eq!(asked(&mut requester, Contact::Lost, 4), in_turn);
        requester.ask(2);
        let source_first = [None, Some(2), None, Some(7)];
        assert_eq!(asked(&mut requester, Contact::Lost, 4), source_first);
        requester.begin_round(Contact::Lost);
        assert_eq!(requester.repeat(&[]), None, "nobody is there");
    }

    #[test]
    fn each_pause_is_longer_than_the_last() {
        let mut requester = Requester::default();
        let mut lengths = Vec::new();
        for _ in 0..4 {
            requester.pause();
            let mut rounds = 0;
            while requester.is_paused() {
                requester.begin_round(Contact::Kept);
                rounds += 1;
            }
            lengths.push(rounds);
        }
        assert_eq!(lengths, [2, 4, 8, 8]);
        requester.wait_again();
        assert!(requester.is_paused());
        requester.resume();
        assert!(!requester.is_paused());
        requester.end_pauses();
        requester.wait_again();
        assert!(!requester.is_paused(), "another ballot");
    }

    #[test]
    fn what_comes_from_others_counts_for_the_source() {
        let mut requester = Requester::default();
        requester.begin(5);
        for _ in 0..9 {
            assert_eq!(asked(&mut requester, Contact::Kept, 1), [None]);
            requester.progress();
            assert_eq!((requester.source(), requester.begin(7)), (Some(5), None));
        }
    }
}
