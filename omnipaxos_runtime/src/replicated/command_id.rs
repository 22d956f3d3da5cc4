//! The name of a command.

use serde::{Deserialize, Serialize};

/// Names a command. It stays the same if the command is repeated, at any server.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommandId {
    /// The number of the client, which no other client has.
    pub client: u64,
    /// The number of the command among those of the client. It may begin at 0 or at any other number, and
    /// numbers may be left out.
    ///
    /// It is less than [`MAX_OUTPUTS`](crate::MAX_OUTPUTS) above each number to which the client has no
    /// answer yet. Servers keep that many outputs: a command whose number is below all of them is not applied.
    pub number: u64,
    /// The client has the answers to all commands with lower numbers, so servers forget their
    /// outputs.
    pub oldest: u64,
}
