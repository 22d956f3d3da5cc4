//! What `docs/runtime.md` shows and promises.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{config, entries, within, Word};
use omnipaxos_runtime::{spawn_actor, Node, NodeEvent, OmniPaxosHandle, OutgoingMessages};
use omnipaxos_storage::memory_storage::MemoryStorage;
use std::fs;

/// The part of a program from its commands to the end of `answer`.
fn server(program: &str) -> &str {
    let start =
        program.find("#[derive(Clone, Debug, Serialize, Deserialize)]\nenum Command").unwrap();
    let end = start + program[start..].find("or get KEY\".into(),\n    })\n}\n").unwrap();
    &program[start..end]
}

#[test]
fn the_example_is_the_program_of_the_guide() {
    let folder = env!("CARGO_MANIFEST_DIR");
    let guide = fs::read_to_string(format!("{folder}/../docs/runtime.md")).unwrap();
    let example = fs::read_to_string(format!("{folder}/examples/three_processes.rs")).unwrap();
    assert_eq!(server(&guide), server(&example));
    let start = guide.find("```rust,no_run\n").unwrap() + "```rust,no_run\n".len();
    let lines = guide[start..].lines().take_while(|line| *line != "```").count();
    assert!(guide.contains(&format!("({lines} lines):")), "the guide has {lines} lines");
}

async fn carry(mut outgoing: OutgoingMessages<Word>, to: Vec<OmniPaxosHandle<Word>>) {
    while let Some(message) = outgoing.recv().await {
        if let Some(to) = to.iter().find(|to| to.pid() == message.get_receiver()) {
            // A server that is busy or has ended loses it, as in a network.
            let _ = to.handle_incoming(message);
        }
    }
}

#[tokio::test]
async fn the_names_of_the_published_runtime_are_there() {
    let (mut nodes, mut outgoing) = (Vec::new(), Vec::new());
    for pid in 1..=3 {
        let storage = MemoryStorage::<Word>::default();
        let (node, messages) = spawn_actor(config(pid, 3), storage).await.unwrap();
        nodes.push(node);
        outgoing.push(messages);
    }
    let handles: Vec<OmniPaxosHandle<Word>> = nodes.iter().map(Node::handle).collect();
    let mut events = handles[1].subscribe_events();
    for messages in outgoing {
        tokio::spawn(carry(messages, handles.clone()));
    }
    let appending = handles[0].append_notify(Word::new("an entry")).unwrap();
    assert_eq!(within("append", appending).await.unwrap(), 0);
    let mut log = handles[1].subscribe_decided(0);
    assert_eq!(entries(&mut log, 0, 1).await, ["an entry"]);
    let leads = async { while !matches!(events.next().await, Some(Ok(NodeEvent::Replica(_)))) {} };
    within("an event of the replica", leads).await;
}
