//! What a dashboard does where there is no terminal: run as a process whose output goes elsewhere.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};
use omnipaxos_storage::memory_storage::MemoryStorage;
use omnipaxos_ui::{screen::StartError, OmniPaxosUI};
use std::process::{Command, Stdio};

/// Set where this test is run by itself, with the output that it is about.
const INSIDE: &str = "OMNIPAXOS_UI_TEST_WITHOUT_TERMINAL";

#[derive(Clone, Debug, omnipaxos::macros::Entry)]
struct Number(u64);

#[test]
fn the_program_goes_on_without_a_dashboard() {
    if std::env::var_os(INSIDE).is_some() {
        return run_without_terminal();
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_program_goes_on_without_a_dashboard", "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("no dashboard: the standard output is no terminal\n"), "{told}");
    assert!(!output.stdout.contains(&b'\x1b'), "no escape sequences where there is no terminal");
}

fn run_without_terminal() {
    let config = OmniPaxosConfig {
        cluster_config: ClusterConfig { configuration_id: 1, nodes: vec![1], ..Default::default() },
        server_config: ServerConfig {
            pid: 1,
            custom_logger: Some(OmniPaxosUI::logger()),
            ..Default::default()
        },
    };
    let mut ui = OmniPaxosUI::with(config.clone().into());
    assert!(matches!(ui.try_start(), Err(StartError::NoTerminal)));
    assert!(ui.error().is_none());
    ui.start();
    assert!(!ui.is_started());
    assert!(matches!(ui.error(), Some(StartError::NoTerminal)));
    let mut replica = config.build(MemoryStorage::<Number>::default()).unwrap();
    for _ in 0..100 {
        replica.tick();
        ui.tick(replica.get_ui_states());
        replica.take_outgoing_messages(&mut Vec::new());
    }
    ui.stop();
    assert!(!ui.is_started());
}
