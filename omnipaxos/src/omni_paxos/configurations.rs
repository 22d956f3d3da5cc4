//! Messages between configurations, so that a server notices a reconfiguration that it missed.

use super::OmniPaxos;
use crate::{
    messages::{validate::HigherConfiguration, Message},
    storage::{Entry, Storage},
};

impl<T: Entry, B: Storage<T>> OmniPaxos<T, B> {
    /// Returns the highest later configuration that a member has reported, and that member.
    ///
    /// It is `None` if no member has reported one. Call it at a server that was down or cut off.
    /// The others may have been [reconfigured](Self::reconfigure) meanwhile, and no peer may take
    /// part in this configuration any more. The server continues to send heartbeat requests. A
    /// server of a higher configuration answers with its configuration id under one of two
    /// conditions:
    /// - The sender of the request is a member there.
    /// - [`ServerConfig::tells_removed_servers`](crate::ServerConfig::tells_removed_servers) is set
    ///   there.
    ///
    /// So this works if messages of this server reach the servers of the new configuration, and
    /// their messages come here. Each side otherwise drops the messages of the other.
    ///
    /// The answer is a hint, as [`HigherConfiguration`] explains. Before you stop this server, get
    /// the stop sign from the application at a server that has it.
    pub fn higher_configuration(&self) -> Option<HigherConfiguration> {
        self.validator.others().highest()
    }

    /// Notifies the servers that sent messages of a lower configuration.
    pub(super) fn notify_lower_configurations(&mut self, messages: &mut Vec<Message<T>>) {
        while let Some(to) = self.validator.others_mut().pop() {
            messages.push(Message::BLE(self.ble.request(to)));
        }
    }
}
