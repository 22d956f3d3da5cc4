//! Word between configurations: who has missed a reconfiguration finds out.

use super::OmniPaxos;
use crate::{
    messages::{validate::HigherConfiguration, Message},
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// The highest configuration above this one that a member of this one has told of, and who told
    /// it. `None` if none has.
    ///
    /// A server that was down or cut off while the others were
    /// [reconfigured](Self::reconfigure) may find nobody who takes part in this configuration any
    /// more. It goes on asking; whoever runs in a higher configuration by then
    /// answers with the id of that, if the server is a member there or
    /// [`ServerConfig::tells_removed_servers`](crate::ServerConfig::tells_removed_servers) is set
    /// there. So it works where the messages of this server reach the
    /// servers of the new configuration, and theirs come here, though either drops them otherwise.
    ///
    /// It is a hint, as [`HigherConfiguration`] says: before you stop this server, learn from the
    /// application at one that has the stop sign.
    pub fn higher_configuration(&self) -> Option<HigherConfiguration> {
        self.validator.others().highest()
    }

    /// Tells those that sent messages of a lower configuration of this one.
    pub(super) fn tell_lower_configurations(&mut self, messages: &mut Vec<Message<T>>) {
        while let Some(to) = self.validator.others_mut().pop() {
            messages.push(Message::BLE(self.ble.request(to)));
        }
    }
}
