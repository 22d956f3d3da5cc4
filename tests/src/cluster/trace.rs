//! What happened, in words; and messages as bytes.

use crate::{
    checker::{violated, Check, Violation},
    value::SimEntry,
};
use omnipaxos::messages::Message;

/// What happened, one line an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trace {
    /// Is not kept.
    Off,
    /// Is kept.
    Kept(Vec<String>),
    /// Is printed.
    Printed,
}

impl Trace {
    /// Adds a line.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        match self {
            Trace::Off => {}
            Trace::Kept(lines) => lines.push(line()),
            Trace::Printed => println!("{}", line()),
        }
    }

    /// Takes the lines that another has kept.
    pub(super) fn take_over(&mut self, other: &mut Trace) {
        if let (Trace::Kept(lines), Trace::Kept(others)) = (self, other) {
            lines.append(others);
        }
    }

    /// Whether lines are wanted.
    pub fn is_on(&self) -> bool {
        match self {
            Trace::Off => false,
            Trace::Kept(_) | Trace::Printed => true,
        }
    }
}

/// Encodes a message and decodes it again.
pub(super) fn through_bytes<T: SimEntry>(message: &Message<T>) -> Result<Message<T>, Violation> {
    let config = bincode::config::standard();
    let bytes = match bincode::serde::encode_to_vec(message, config) {
        Ok(bytes) => bytes,
        Err(error) => return violated(Check::Encoding, format!("{message:?}: {error}")),
    };
    match bincode::serde::decode_from_slice(&bytes, config) {
        Ok((decoded, read)) if read == bytes.len() => Ok(decoded),
        Ok((_, read)) => {
            violated(Check::Encoding, format!("{message:?}: {read} of {} bytes", bytes.len()))
        }
        Err(error) => violated(Check::Encoding, format!("{message:?}: {error}")),
    }
}
