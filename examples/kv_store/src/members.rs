//! Changes of the members: what a client asks, and what the stop sign contains.

use omnipaxos::{util::NodeId, ClusterConfig};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

/// Where servers find each of a number of servers.
pub(crate) type Addresses = BTreeMap<NodeId, String>;

/// The most servers that a change may add. Each is named in the stop sign.
const MOST_ADDED: usize = 64;

/// The most servers that one change removes.
const MOST_REMOVED: usize = 1024;

/// The most bytes of an address.
const LONGEST_ADDRESS: usize = 300;

/// A server, and where other servers find it: `4=HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) pid: NodeId,
    pub(crate) address: String,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pid, address) = text.split_once('=').ok_or("it is not PID=HOST:PORT")?;
        let pid: NodeId = pid.parse().map_err(|_| format!("`{pid}` is not a pid"))?;
        if pid == 0 {
            return Err("a pid is not 0".to_owned());
        }
        check_address(address)?;
        Ok(Self { pid, address: address.to_owned() })
    }
}

fn check_address(address: &str) -> Result<(), String> {
    let parts = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let has_port = parts.is_some_and(|(_, port)| port.parse::<u16>().is_ok_and(|port| port > 0));
    let is_word = !address.contains(|c: char| c.is_whitespace() || c.is_control());
    match has_port && is_word && address.len() <= LONGEST_ADDRESS {
        true => Ok(()),
        false => Err(format!("`{address}` is not HOST:PORT")),
    }
}

/// A change of the members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    pub(crate) add: Addresses,
    pub(crate) remove: BTreeSet<NodeId>,
}

/// The configuration that follows, and where its members are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Next {
    pub(crate) configuration: ClusterConfig,
    pub(crate) addresses: Addresses,
    /// The servers that join.
    pub(crate) joins: Vec<NodeId>,
}

impl Change {
    /// Checks what can be checked without knowing the members.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.add.len() > MOST_ADDED {
            return Err(format!("{} servers are added: the limit is {MOST_ADDED}", self.add.len()));
        }
        if self.remove.len() > MOST_REMOVED {
            let removed = self.remove.len();
            return Err(format!("{removed} servers are removed: the limit is {MOST_REMOVED}"));
        }
        if let Some(pid) = self.add.keys().find(|pid| self.remove.contains(pid)) {
            return Err(format!("server {pid} is to be added and removed"));
        }
        self.add.values().try_for_each(|address| check_address(address))
    }

    /// Returns the configuration that follows this one; `None` if the members are already what they are to be, as
    /// when a client asks again. An error if they are those of another configuration: when a client asks again, they
    /// may have been changed so, and back.
    pub(crate) fn after(
        &self,
        configuration_id: u32,
        present: &ClusterConfig,
        known: &Addresses,
    ) -> Result<Option<Next>, String> {
        let is_member = |pid: &NodeId| present.nodes.contains(pid);
        let joins: Vec<NodeId> = self.add.keys().copied().filter(|pid| !is_member(pid)).collect();
        for (pid, address) in self.add.iter().filter(|(pid, _)| is_member(pid)) {
            if let Some(other) = known.get(pid).filter(|known| *known != address) {
                return Err(format!("server {pid} is a member already, at {other}"));
            }
        }
        let stays = |pid: &NodeId| !self.remove.contains(pid);
        let mut nodes: Vec<NodeId> = present.nodes.iter().copied().filter(stays).collect();
        if joins.is_empty() && nodes.len() == present.nodes.len() {
            return Ok(None);
        }
        if present.configuration_id != configuration_id {
            let now = present.configuration_id;
            return Err(format!(
                "the members of configuration {configuration_id} were changed, and are those of \
                 configuration {now} now: this change may be done or not"
            ));
        }
        if let Some(pid) = self.remove.iter().find(|pid| !is_member(pid)) {
            return Err(format!("server {pid} is no member"));
        }
        nodes.extend(&joins);
        nodes.sort_unstable();
        if nodes.is_empty() {
            return Err("no member would be left".to_owned());
        }
        let address = |pid: &NodeId| {
            let address = self.add.get(pid).or(known.get(pid)).cloned();
            Ok((*pid, address.ok_or_else(|| format!("no address of server {pid} is known"))?))
        };
        let addresses = nodes.iter().map(address).collect::<Result<_, String>>()?;
        // Quorum sizes are chosen for a number of members.
        let is_as_large = nodes.len() == present.nodes.len();
        let flexible_quorum = present.flexible_quorum.filter(|_| is_as_large);
        let configuration_id = present.configuration_id.saturating_add(1);
        let configuration = ClusterConfig { configuration_id, nodes, flexible_quorum };
        Ok(Some(Next { configuration, addresses, joins }))
    }
}

/// Writes the addresses of the members for the stop sign, one a line.
pub(crate) fn to_metadata(addresses: &Addresses) -> Vec<u8> {
    let lines = addresses.iter().map(|(pid, address)| format!("{pid}={address}\n"));
    lines.collect::<String>().into_bytes()
}

/// Reads the addresses in a stop sign; `None` if it contains something else.
pub(crate) fn from_metadata(metadata: &[u8]) -> Option<Addresses> {
    let lines = std::str::from_utf8(metadata).ok()?.lines();
    lines.map(|line| line.parse().ok().map(|Place { pid, address }| (pid, address))).collect()
}

/// The members, and where they are found, as far as the server knows that answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    pub(crate) configuration_id: u32,
    pub(crate) members: BTreeMap<NodeId, Found>,
}

/// Where a server is found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) by_servers: Option<String>,
    pub(crate) by_clients: Option<String>,
}

impl Members {
    /// Whether it is known where clients find one of them.
    pub(crate) fn are_found_by_clients(&self) -> bool {
        self.members.values().any(|found| found.by_clients.is_some())
    }

    /// Whether these are the members of this configuration, and it is known where servers find them; or
    /// those of a later one.
    pub(crate) fn are_of(&self, configuration_id: u32) -> bool {
        let are_found = self.members.values().all(|found| found.by_servers.is_some());
        self.configuration_id > configuration_id
            || (self.configuration_id == configuration_id && are_found)
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration {}:", self.configuration_id)?;
        for (number, (pid, found)) in self.members.iter().enumerate() {
            let address = found.by_servers.as_deref().unwrap_or("?");
            write!(f, "{} {pid}={address}", if number == 0 { "" } else { "," })?;
            if let Some(by_clients) = &found.by_clients {
                write!(f, " (clients: {by_clients})")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::type_complexity, reason = "the rows of tables")]
mod tests {
    use super::{from_metadata, to_metadata, Addresses, Change, Place};
    use omnipaxos::ClusterConfig;

    fn addresses(pids: &[u64]) -> Addresses {
        pids.iter().map(|pid| (*pid, format!("h:{pid}"))).collect()
    }

    #[test]
    fn a_place_is_a_pid_and_an_address() {
        let place = Place { pid: 4, address: "[::1]:80".to_owned() };
        assert_eq!("4=[::1]:80".parse(), Ok(place));
        for text in ["4", "x=h:1", "0=h:1", "4=h", "4=:1", "4=h:0", "4=h:x", "4=h h:1", "4=h:70000"]
        {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_metadata_holds_the_addresses() {
        let all = addresses(&[1, 22, 3]);
        assert_eq!(from_metadata(&to_metadata(&all)), Some(all));
        assert_eq!(from_metadata(b"something else"), None);
        assert_eq!(from_metadata(&[255]), None);
    }

    #[test]
    fn what_follows_a_change() {
        let nodes = vec![1, 2, 3];
        let present = ClusterConfig { configuration_id: 7, nodes, ..Default::default() };
        let table: [(&[u64], &[u64], Result<Option<&[u64]>, &str>); 9] = [
            (&[4], &[], Ok(Some(&[1, 2, 3, 4]))),
            (&[], &[2], Ok(Some(&[1, 3]))),
            (&[4], &[2], Ok(Some(&[1, 3, 4]))),
            (&[4, 5], &[1, 2, 3], Ok(Some(&[4, 5]))),
            (&[3], &[], Ok(None)),
            (&[], &[9], Ok(None)),
            (&[3], &[9], Ok(None)),
            (&[4], &[9], Err("server 9 is no member")),
            (&[], &[1, 2, 3], Err("no member would be left")),
        ];
        for (add, remove, expected) in table {
            let change = Change { add: addresses(add), remove: remove.iter().copied().collect() };
            change.check().unwrap();
            let next = change.after(7, &present, &addresses(&[1, 2, 3]));
            let nodes = next.as_ref().map(|next| next.as_ref().map(|n| &*n.configuration.nodes));
            assert_eq!(nodes.map_err(|why| &**why), expected, "{change:?}");
            if let Ok(Some(next)) = next {
                assert_eq!(next.addresses, addresses(&next.configuration.nodes));
                assert_eq!(next.configuration.configuration_id, 8);
            }
        }
        let elsewhere = Change { add: [(3, "x:1".to_owned())].into(), ..Change::default() };
        let refused = elsewhere.after(7, &present, &addresses(&[1, 2, 3]));
        assert_eq!(refused, Err("server 3 is a member already, at h:3".to_owned()));
    }

    #[test]
    fn a_change_that_is_asked_for_again_is_done_once() {
        let configuration = |configuration_id: u32, nodes: &[u64]| {
            let nodes = nodes.to_vec();
            ClusterConfig { configuration_id, nodes, ..Default::default() }
        };
        let add = Change { add: addresses(&[4]), ..Change::default() };
        let after = |present: &ClusterConfig| add.after(7, present, &addresses(&[1, 2, 3, 4]));
        let next = after(&configuration(7, &[1, 2, 3])).unwrap().unwrap().configuration;
        assert_eq!(next, configuration(8, &[1, 2, 3, 4]));
        assert_eq!(after(&next), Ok(None));
        // Another client has removed server 4 again.
        let why = after(&configuration(9, &[1, 2, 3])).unwrap_err();
        assert!(why.contains("are those of configuration 9 now"), "{why}");
    }
}
