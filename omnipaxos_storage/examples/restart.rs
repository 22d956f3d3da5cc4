//! A server stops, and starts again from what its storage holds on disk.

use omnipaxos::{macros::Entry, ClusterConfig, OmniPaxos, ServerConfig};
use omnipaxos_storage::persistent_storage::{PersistentStorage, PersistentStorageConfig};
use serde::{Deserialize, Serialize};
use std::{error::Error, path::Path};

#[derive(Clone, Debug, Serialize, Deserialize, Entry)]
struct Note(String);

type Server = OmniPaxos<Note, PersistentStorage<Note>>;

/// Starts the only server of a cluster.
fn start(folder: &Path) -> Result<Server, Box<dyn Error>> {
    let folder = folder.to_str().ok_or("the name of the folder is not UTF-8")?;
    let storage = PersistentStorage::try_open(PersistentStorageConfig::with_path(folder))?;
    let cluster = ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() };
    let config = ServerConfig { pid: 1, ..Default::default() };
    let mut server: Server = cluster.try_build_for_server(config, storage)?;
    while server.get_current_leader().is_none() {
        server.tick();
    }
    Ok(server)
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let mut server = start(folder.path())?;
    server.append(Note("written before the restart".to_string()))?;
    // This writes the entry to the disk.
    server.outgoing_messages();
    assert_eq!(server.get_decided_idx(), 1);
    drop(server);

    let mut server = start(folder.path())?;
    server.outgoing_messages();
    let mut notes = Vec::new();
    server.for_each_decided(0, |Note(note)| notes.push(note.clone()));
    println!("after the restart: {notes:?}");
    assert_eq!(notes, ["written before the restart"]);
    Ok(())
}
