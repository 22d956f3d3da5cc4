//! The commands that were proposed at this server, and who waits for their ends.

use crate::{
    protocol::{Answer, Why},
    state::{Known, State},
    waiter::Waiter,
};
use omnipaxos::proposals::{Outcome, ProposalId};
use std::collections::HashMap;

/// Names a command, however often and wherever it is proposed: its client, and its number there.
type Name = (u64, u64);

/// What was proposed here and is not answered. The library bounds how much that is: it gives no
/// more ids while as many proposals wait as may wait.
#[derive(Debug, Default)]
pub(crate) struct Proposals {
    by_id: HashMap<ProposalId, Proposed>,
    ids: HashMap<Name, ProposalId>,
    /// The answer may have to wait until it is applied.
    ended: Vec<(ProposalId, Outcome)>,
}

#[derive(Debug)]
struct Proposed {
    name: Name,
    waiter: Waiter,
}

impl Proposals {
    /// The client has asked again for what is on its way. The waiter is given back if it is not.
    pub(crate) fn ask_again(&mut self, name: Name, waiter: Waiter) -> Result<(), Waiter> {
        let id = self.ids.get(&name);
        match id.and_then(|id| self.by_id.get_mut(id)) {
            Some(proposed) => {
                proposed.waiter = waiter;
                Ok(())
            }
            None => Err(waiter),
        }
    }

    /// A command was proposed.
    pub(crate) fn add(&mut self, id: ProposalId, name: Name, waiter: Waiter) {
        self.by_id.insert(id, Proposed { name, waiter });
        self.ids.insert(name, id);
    }

    /// The library has told how a proposal ended.
    pub(crate) fn end(&mut self, id: ProposalId, outcome: Outcome) {
        self.ended.push((id, outcome));
    }

    /// Number of those without an answer.
    pub(crate) fn len(&self) -> u64 {
        self.by_id.len() as u64
    }

    /// Answers what has ended, as the state after `applied_idx` entries knows it.
    pub(crate) fn answer(&mut self, state: &State, applied_idx: u64) {
        let Self { by_id, ids, ended } = self;
        ended.retain(|(id, outcome)| {
            let is_applied = match outcome {
                Outcome::Decided(idx) => *idx < applied_idx,
                Outcome::DecidedBefore(idx) => *idx <= applied_idx,
                _another => true,
            };
            if !is_applied {
                return true;
            }
            if let Some(Proposed { name, waiter }) = by_id.remove(id) {
                ids.remove(&name);
                waiter.answer(answer(state.known(name.0, name.1), outcome.clone()));
            }
            false
        });
    }
}

/// What to say of a command that was proposed here. It may have been decided earlier, when its
/// client asked another server; and the state knows what was decided also where the library does
/// not, since it goes with the snapshots.
fn answer(known: Known, outcome: Outcome) -> Answer {
    match (known, outcome) {
        (Known::Decided { idx }, _) => Answer::Done { idx },
        (Known::Answered, _) => Answer::answered_before(),
        // So many clients came after it that it is forgotten.
        (Known::No, Outcome::Decided(idx)) => Answer::Done { idx },
        (Known::No, Outcome::NotDecided) => Answer::AskAgain(Why::NotDecided),
        (Known::No, Outcome::Refused(why)) => Answer::Refused(why),
        // The library has forgotten the index, too.
        (Known::No, Outcome::DecidedBefore(_)) => Answer::Refused("it was done before".to_owned()),
        (Known::No, _) => Answer::AskAgain(Why::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, ProposalId, Proposals, Waiter};
    use crate::{
        protocol::{Answer, Response, Why},
        state::{Change, Command, State},
    };
    use tokio::sync::mpsc;

    fn id(number: u64) -> ProposalId {
        ProposalId { origin: 1, incarnation: 1, number }
    }

    fn applied(names: &[(u64, u64)]) -> State {
        let mut state = State::default();
        for (client, number) in names {
            let change = Change { key: "a".to_owned(), value: None };
            state.apply(&Command { client: *client, number: *number, oldest: 0, change });
        }
        state
    }

    #[test]
    fn each_end_has_its_answer_once_it_is_applied() {
        let state = applied(&[(7, 0), (7, 1)]);
        let table = [
            ((7, 0), Outcome::Decided(0), Answer::Done { idx: 0 }),
            // It was decided before, through another server.
            ((7, 0), Outcome::Decided(1), Answer::Done { idx: 0 }),
            ((7, 1), Outcome::DecidedBefore(2), Answer::Done { idx: 1 }),
            ((7, 1), Outcome::Unknown, Answer::Done { idx: 1 }),
            ((7, 2), Outcome::Unknown, Answer::AskAgain(Why::Unknown)),
            ((7, 2), Outcome::NotDecided, Answer::AskAgain(Why::NotDecided)),
            ((7, 2), Outcome::Refused("no".to_owned()), Answer::Refused("no".to_owned())),
        ];
        for (name, outcome, answer) in table {
            let (to, mut answers) = mpsc::channel(1);
            let mut proposals = Proposals::default();
            proposals.add(id(3), name, Waiter::new(name.1, to));
            proposals.answer(&state, 2);
            assert!(answers.try_recv().is_err(), "answered before its end");
            proposals.end(id(3), outcome.clone());
            if let Outcome::DecidedBefore(idx) = outcome {
                proposals.answer(&state, idx - 1);
                assert!(answers.try_recv().is_err(), "answered before it is applied");
            }
            if let Outcome::Decided(idx) = outcome {
                proposals.answer(&state, idx);
                assert!(answers.try_recv().is_err(), "answered before it is applied");
            }
            proposals.answer(&state, 2);
            assert_eq!(answers.try_recv().unwrap(), Response { number: name.1, answer });
            assert!(proposals.by_id.is_empty() && proposals.ids.is_empty());
        }
    }

    #[test]
    fn who_asks_again_waits_for_the_same_proposal() {
        let (first, mut first_answers) = mpsc::channel(1);
        let (second, mut second_answers) = mpsc::channel(1);
        let mut proposals = Proposals::default();
        let waiter = proposals.ask_again((7, 0), Waiter::new(0, first)).unwrap_err();
        proposals.add(id(3), (7, 0), waiter);
        proposals.ask_again((7, 0), Waiter::new(0, second)).unwrap();
        proposals.end(id(3), Outcome::Decided(0));
        proposals.answer(&applied(&[(7, 0)]), 1);
        assert!(first_answers.try_recv().is_err());
        assert_eq!(second_answers.try_recv().unwrap().answer, Answer::Done { idx: 0 });
    }
}
