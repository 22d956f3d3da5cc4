//! How servers fetch states from each other. No call waits for another server for ever.

use crate::{files::Files, handle::Handle};
use anyhow::{bail, ensure, Context, Result};
use omnipaxos::util::NodeId;
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

/// How long a connection may stand still.
const PATIENCE: Duration = Duration::from_secs(2);

/// A longer request is none of ours.
const LONGEST_REQUEST: u64 = 64;

/// The number of servers that may fetch at the same time.
const MOST_CONNECTIONS: usize = 16;

/// Serves the states of this server, on a thread.
pub(crate) fn serve(listener: TcpListener, server: NodeId, files: Files) {
    thread::spawn(move || {
        let present = Arc::new(());
        for connection in listener.incoming() {
            let Ok(connection) = connection else {
                // There may be no descriptor for it, which the next call would report at once.
                thread::sleep(Duration::from_millis(100));
                continue;
            };
            if Arc::strong_count(&present) > MOST_CONNECTIONS {
                continue;
            }
            let (files, present) = (files.clone(), Arc::clone(&present));
            thread::spawn(move || {
                // After an error the receiver finds a wrong length or digest.
                let _ = answer(&connection, server, &files);
                drop(present);
            });
        }
    });
}

/// Sends the state with the index that the other server names, or the handle of the last one.
fn answer(mut connection: &TcpStream, server: NodeId, files: &Files) -> Result<()> {
    limit(connection)?;
    let mut request = String::new();
    BufReader::new(connection).take(LONGEST_REQUEST).read_line(&mut request)?;
    match request.trim_end() {
        "last" => {
            let Handle { idx, bytes, digest, .. } =
                files.last(server)?.context("there is no state")?;
            writeln!(connection, "{idx} {bytes} {digest}")?;
        }
        idx => drop(io::copy(&mut File::open(files.path(idx.parse()?))?, &mut connection)?),
    }
    Ok(())
}

/// Fetches a state from the server at this address.
pub(crate) fn fetch(address: SocketAddr, handle: &Handle) -> Result<Vec<u8>> {
    let connection = ask(address, &handle.idx.to_string())?;
    let mut state = Vec::new();
    connection.take(handle.bytes.saturating_add(1)).read_to_end(&mut state)?;
    ensure!(handle.is_of(&state), "the file is not the one that the handle names");
    Ok(state)
}

/// Asks the server at this address for the handle of its last state.
pub(crate) fn ask_for_last(address: SocketAddr, server: NodeId) -> Result<Handle> {
    let mut line = String::new();
    BufReader::new(ask(address, "last")?).take(LONGEST_REQUEST).read_line(&mut line)?;
    let numbers: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [idx, bytes, digest] = numbers[..] else {
        bail!("the server has no state");
    };
    Ok(Handle { server, idx, bytes, digest })
}

fn ask(address: SocketAddr, request: &str) -> Result<TcpStream> {
    let mut connection = TcpStream::connect_timeout(&address, PATIENCE)?;
    limit(&connection)?;
    writeln!(connection, "{request}")?;
    Ok(connection)
}

fn limit(connection: &TcpStream) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))
}
