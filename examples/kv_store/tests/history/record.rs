//! Clients that put and get, and what they recorded of it.

#![allow(dead_code, reason = "no suite uses all of it")]

use super::{Asked, Moment, Operation};
use crate::common::Asker;
use std::{
    mem,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        Condvar, Mutex,
    },
    time::{Duration, Instant},
};

/// Xorshift: what is done next.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What all clients share.
#[derive(Default)]
pub(crate) struct Record {
    clock: AtomicU64,
    next_value: AtomicU64,
    operations: Mutex<Vec<Operation>>,
    /// Gets each operation.
    grows: Condvar,
    is_over: AtomicBool,
    answers: Mutex<Answers>,
}

/// When answers came.
#[derive(Default)]
struct Answers {
    last: Option<Instant>,
    longest_pause: Duration,
}

impl Record {
    fn now(&self) -> Moment {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn put(&self, key: u64, asker: &mut Asker) {
        let value = self.next_value.fetch_add(1, Ordering::SeqCst);
        let begun = self.now();
        let answer = asker.ask(&format!("put key{key} {value}"));
        let answered = answer.starts_with("ok, ").then(|| self.now());
        assert!(answered.is_some() || answer.contains("it may be done or not"), "{answer}");
        self.add(key, Asked::Put(value), begun, answered);
    }

    pub(crate) fn get(&self, key: u64, asker: &mut Asker) {
        let begun = self.now();
        let answer = asker.ask(&format!("get key{key}"));
        let answered = Some(self.now());
        match answer.parse() {
            Ok(value) => self.add(key, Asked::Get(Some(value)), begun, answered),
            Err(_) if answer == "error: there is no such key" => {
                self.add(key, Asked::Get(None), begun, answered);
            }
            Err(_) => assert!(answer.contains("no answer in time"), "{answer}"),
        }
    }

    fn add(&self, key: u64, asked: Asked, begun: Moment, answered: Option<Moment>) {
        if answered.is_some() {
            self.answers.lock().unwrap().add();
        }
        let operation = Operation { key: key as usize, asked, begun, answered };
        self.operations.lock().unwrap().push(operation);
        self.grows.notify_all();
    }

    /// The longest time without an answer since the last call.
    pub(crate) fn longest_pause(&self) -> Duration {
        let mut answers = self.answers.lock().unwrap();
        let last = answers.last.map_or(Duration::ZERO, |last| last.elapsed());
        mem::take(&mut answers.longest_pause).max(last)
    }

    /// The number of operations until now.
    pub(crate) fn number(&self) -> usize {
        self.operations.lock().unwrap().len()
    }

    /// Waits for this number of operations in total, but not for long. Returns whether there are.
    pub(crate) fn wait_for(&self, enough: usize, longest: Duration) -> bool {
        let operations = self.operations.lock().unwrap();
        let waited = self
            .grows
            .wait_timeout_while(operations, longest, |operations| operations.len() < enough);
        waited.unwrap().0.len() >= enough
    }

    /// A client, which asks at random until it is over, by one of these.
    pub(crate) fn ask_until_over(&self, mut askers: Vec<Asker>, keys: u64, mut dice: Dice) {
        while !self.is_over() {
            let at = dice.below(askers.len() as u64) as usize;
            let asker = &mut askers[at];
            let key = dice.below(keys);
            match dice.below(2) {
                0 => self.put(key, asker),
                _ => self.get(key, asker),
            }
        }
    }

    /// Whether the clients end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    /// All operations, at the end.
    pub(crate) fn into_operations(self) -> Vec<Operation> {
        self.operations.into_inner().unwrap()
    }
}

impl Answers {
    fn add(&mut self) {
        let now = Instant::now();
        let pause = self.last.map_or(Duration::ZERO, |last| now - last);
        self.longest_pause = self.longest_pause.max(pause);
        self.last = Some(now);
    }
}

/// Ends the clients, also when the faults cannot continue.
pub(crate) struct Over<'a>(pub(crate) &'a Record);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}
