//! The requests of clients and their answers, to be compared with registers that clients share.
//!
//! A followed proposal writes its value into the register of the value; a linearizable read finds
//! what all registers hold. See [`linearizable`].

use super::{violated, Check, Checker, Violation};
use crate::{
    linearizable::{self, Action, Operation},
    value::{register_of, Registers, REGISTERS},
};
use std::collections::BTreeMap;

/// The operations of a run, in the order of their instants.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Counts what was invoked or answered.
    clock: u64,
    writes: BTreeMap<u64, Span>,
    reads: Vec<(Span, Registers)>,
}

/// From the request to the answer, if there was one.
#[derive(Copy, Clone, Debug)]
struct Span {
    invoked: u64,
    answered: Option<u64>,
}

impl History {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn begin_write(&mut self, value: u64) {
        let invoked = self.tick();
        self.writes.insert(value, Span { invoked, answered: None });
    }

    pub(super) fn end_write(&mut self, value: u64) {
        let now = self.tick();
        if let Some(span) = self.writes.get_mut(&value) {
            span.answered = Some(now);
        }
    }

    /// It did not happen, and its value must never be read.
    pub(super) fn withdraw_write(&mut self, value: u64) {
        self.writes.remove(&value);
    }

    fn of_register(&self, register: usize) -> Vec<Operation> {
        let writes = self.writes.iter().filter(|(value, _)| register_of(**value) == register);
        let writes = writes.map(|(value, span)| span.operation(Action::Write(*value)));
        let reads = self.reads.iter();
        let reads = reads.map(|(span, found)| span.operation(Action::Read(found[register])));
        writes.chain(reads).collect()
    }
}

impl Span {
    fn operation(self, action: Action) -> Operation {
        let Self { invoked, answered } = self;
        Operation { action, invoked, answered }
    }
}

impl Checker {
    /// A client reads: returns when.
    pub fn begin_read(&mut self) -> u64 {
        self.history.tick()
    }

    /// A client that began to read at `invoked` gets the values of the registers.
    pub fn end_read(&mut self, invoked: u64, found: Registers) {
        let answered = Some(self.history.tick());
        self.history.reads.push((Span { invoked, answered }, found));
    }

    /// The answers to clients must be linearizable.
    ///
    /// # Errors
    /// It is not.
    pub fn check_history(&self) -> Result<(), Violation> {
        for register in 0..REGISTERS {
            if let Err(fault) = linearizable::check(&self.history.of_register(register)) {
                return violated(Check::History, format!("in register {register}, {fault}"));
            }
        }
        Ok(())
    }
}
