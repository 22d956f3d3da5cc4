//! Draws the dashboard in many situations and compares it with the files in `tests/screens`.
//!
//! `UPDATE_SCREENS=1 cargo test -p omnipaxos_ui --test screens` writes what is drawn into the files
//! instead: read the difference before you believe it.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{
    ballot_leader_election::Ballot,
    macros::Entry,
    members::MemberChange,
    messages::ballot_leader_election::HeartbeatReply,
    status::Status,
    util::{FlexibleQuorum, NodeId},
    utils::ui::{ClusterState, OmniPaxosStates},
    ClusterConfig, OmniPaxosConfig, ServerConfig,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use omnipaxos_ui::{
    ratatui::{backend::TestBackend, buffer::Buffer, layout::Rect, widgets::Widget, Terminal},
    App, LogItem, LogLine,
};
use std::{fs, path::PathBuf, time::Duration};

/// A server of a cluster, and what it reports.
struct Reported {
    pid: NodeId,
    nodes: Vec<NodeId>,
    leader: Option<NodeId>,
    /// Those that answered, with the servers that they follow.
    answered: Vec<(NodeId, Option<NodeId>)>,
    accepted: Vec<u64>,
    decided: u64,
}

impl Reported {
    fn config(&self) -> OmniPaxosConfig {
        OmniPaxosConfig {
            cluster_config: ClusterConfig {
                configuration_id: 4,
                nodes: self.nodes.clone(),
                ..Default::default()
            },
            server_config: ServerConfig { pid: self.pid, ..Default::default() },
        }
    }

    fn states(&self) -> OmniPaxosStates {
        let heartbeats: Vec<_> = self.answered.iter().map(|(from, of)| reply(*from, *of)).collect();
        OmniPaxosStates {
            current_ballot: ballot(self.pid),
            current_leader: self.leader,
            decided_idx: self.decided,
            heartbeats: heartbeats.clone(),
            cluster_state: ClusterState { accepted_indexes: self.accepted.clone(), heartbeats },
        }
    }

    /// An app that got this report once.
    fn app(&self) -> App {
        let mut app = App::new(self.config().into());
        app.observe(self.states(), Duration::ZERO);
        app
    }

    /// An app that got this report after `seconds` seconds, in which the decided index grew.
    fn app_after(&self, seconds: u64) -> App {
        let mut app = App::new(self.config().into());
        let mut states = self.states();
        let growth = |second| 20 + 37 * second % 90;
        states.decided_idx -= (0..seconds).map(growth).sum::<u64>();
        app.observe(states.clone(), Duration::ZERO);
        for second in 0..seconds {
            states.decided_idx += growth(second);
            app.observe(states.clone(), Duration::from_secs(second + 1));
        }
        app
    }
}

fn ballot(pid: NodeId) -> Ballot {
    Ballot::with(4, u32::try_from(pid % 100).unwrap() + 5, 0, pid)
}

fn reply(from: NodeId, follows: Option<NodeId>) -> HeartbeatReply {
    let leader = follows.map(ballot).unwrap_or_default();
    HeartbeatReply { round: 9, ballot: ballot(from), leader, happy: follows.is_some() }
}

fn five(pid: NodeId, leader: Option<NodeId>, answered: &[NodeId]) -> Reported {
    Reported {
        pid,
        nodes: vec![3, 1, 2, 5, 4],
        leader,
        answered: answered.iter().map(|from| (*from, leader)).collect(),
        accepted: vec![0; 6],
        decided: 52_345,
    }
}

fn leader() -> Reported {
    let accepted = vec![0, 52_400, 52_350, 52_400, 9_000, 0];
    Reported { accepted, ..five(3, Some(3), &[1, 2, 4]) }
}

fn fifteen() -> Reported {
    let nodes: Vec<_> = (1..=15).collect();
    Reported {
        answered: (2..=14).map(|from| (from, Some(1))).collect(),
        accepted: (0..=15).map(|pid| 1_000_000 - 10 * pid).collect(),
        decided: 999_900,
        ..Reported { nodes, ..five(1, Some(1), &[]) }
    }
}

fn huge() -> Reported {
    let (most, sparse) = (u64::MAX, 9_000_000_000);
    Reported {
        pid: most,
        nodes: vec![most, 7, sparse],
        leader: Some(most),
        answered: vec![(7, Some(most)), (sparse, Some(most))],
        accepted: vec![0, 0, 0, 0, 0, 0, 0, 90],
        decided: 1_000,
    }
}

#[derive(Clone, Debug, Entry)]
struct Number(u64);

/// The only member, for whose log that continues server 4 is to be a member, too, and does not come.
fn waits_for_joiner() -> Status {
    let cluster_config =
        ClusterConfig { configuration_id: 4, nodes: vec![3], ..Default::default() };
    let server_config = ServerConfig { pid: 3, continues: true, ..Default::default() };
    let config = OmniPaxosConfig { cluster_config, server_config };
    let mut replica = config.build(MemoryStorage::default()).unwrap();
    replica.try_become_leader();
    for number in 0..2_000 {
        replica.append(Number(number)).unwrap();
        replica.outgoing_messages();
    }
    let next = ClusterConfig { configuration_id: 5, nodes: vec![3, 4], ..Default::default() };
    replica.change_members(next, MemberChange::default()).unwrap();
    replica.status()
}

/// A server of a log that continues, with the members of a later configuration.
fn of_later_epoch(pid: NodeId, change: impl FnOnce(&mut Status)) -> App {
    let config = Reported { pid, ..five(3, None, &[]) }.config();
    let mut status = waits_for_joiner();
    (status.pid, status.leader, status.joiners) = (pid, Some(5), Vec::new());
    (status.configuration_id, status.epoch_idx) = (8, Some(1_234));
    status.nodes = vec![4, 5, 6];
    change(&mut status);
    let mut app = App::new(config.into());
    app.observe(&status, Duration::ZERO);
    app
}

/// Before a server that joins has learned anything.
fn learns_members(status: &mut Status) {
    (status.configuration_id, status.epoch_idx) = (0, None);
    (status.leader, status.decided_idx) = (None, 0);
    status.nodes.clear();
}

/// Two servers on this side of a cut, three on the other.
fn partition() -> Reported {
    let mut told = five(3, Some(5), &[4]);
    told.answered = vec![(4, None)];
    told
}

fn with_log(mut app: App, lines: u64) -> App {
    let line = |number| {
        use slog::Level::{Debug, Error, Info, Warning};
        let level = [Info, Warning, Debug, Error][usize::try_from(number % 4).unwrap()];
        let text = format!("line {number}: follows, n: {number}, leader: 2, idx: 12, pid: 3");
        LogItem::Line(LogLine { at: Duration::from_millis(1_234 * number), level, text })
    };
    app.log_mut().extend((0..lines).map(line));
    app
}

/// The situations, each with the size in which it is kept in a file.
fn situations() -> Vec<(&'static str, App, (u16, u16))> {
    let mut dropped = with_log(leader().app_after(5), 2_000);
    dropped.log_mut().extend([LogItem::Dropped(1_500)]);
    let mut flexible = leader().config();
    flexible.cluster_config.flexible_quorum =
        Some(FlexibleQuorum { read_quorum_size: 5, write_quorum_size: 2 });
    let mut flexible = App::new(flexible.into());
    flexible.observe(leader().states(), Duration::ZERO);
    let mut joiner = App::new(five(3, None, &[]).config().into());
    joiner.observe(&waits_for_joiner(), Duration::ZERO);
    vec![
        ("leader", with_log(leader().app_after(90), 3), (80, 24)),
        ("follower", with_log(five(2, Some(3), &[1, 3, 4, 5]).app_after(20), 9), (80, 24)),
        ("no_leader", five(2, None, &[1]).app(), (80, 24)),
        ("partition", partition().app_after(3), (80, 24)),
        ("preparing", Reported { accepted: vec![0; 6], ..leader() }.app(), (80, 24)),
        ("tiny", leader().app_after(2), (18, 4)),
        ("one_cell", leader().app(), (1, 1)),
        ("low", leader().app_after(2), (80, 10)),
        ("narrow", leader().app_after(2), (30, 24)),
        ("wide", with_log(leader().app_after(200), 40), (140, 40)),
        ("huge_ids", huge().app_after(1), (80, 24)),
        ("fifteen_servers", with_log(fifteen().app_after(8), 5), (80, 24)),
        ("fifteen_servers_high", with_log(fifteen().app_after(8), 5), (80, 40)),
        ("many_lines", dropped, (80, 24)),
        ("no_history", leader().app(), (80, 24)),
        ("not_fed", App::new(leader().config().into()), (80, 24)),
        ("flexible_quorum", flexible, (80, 24)),
        ("joiner", joiner, (80, 12)),
        ("joins", of_later_epoch(9, learns_members), (80, 12)),
        ("later_epoch", of_later_epoch(4, |_| {}), (80, 12)),
        ("removed", of_later_epoch(3, |status| status.may_stop = Some(false)), (80, 12)),
        ("may_stop", of_later_epoch(3, |status| status.may_stop = Some(true)), (80, 12)),
    ]
}

fn drawn(app: &App, (width, height): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| frame.render_widget(app, frame.area())).unwrap();
    let buffer = terminal.backend().buffer();
    (0..height)
        .map(|y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>())
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

#[test]
fn every_situation_is_drawn_as_expected() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/screens");
    let update = std::env::var_os("UPDATE_SCREENS").is_some();
    let mut wrong = Vec::new();
    for (name, app, size) in situations() {
        let file = folder.join(format!("{name}.txt"));
        let got = drawn(&app, size);
        if update {
            fs::write(&file, got).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if got != expected {
            wrong.push(format!("{name}\n-- got\n{got}-- expected\n{expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_situation_is_drawn_in_every_size() {
    for (_, app, _) in situations() {
        for height in (0..=30).chain([45, 60]) {
            for width in (0..=40).step_by(2).chain([1, 3, 23, 25, 79, 80, 250]) {
                let area = Rect::new(0, 0, width, height);
                app.render(area, &mut Buffer::empty(area));
            }
        }
    }
}

#[test]
fn an_area_that_the_screen_does_not_have_is_cut_off() {
    let app = leader().app();
    for (x, y, width, height) in
        [(5, 5, 80, 24), (40, 12, 80, 24), (200, 200, 9, 9), (79, 0, 2, 30)]
    {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
        app.render(Rect::new(x, y, width, height), &mut buffer);
    }
}

#[test]
fn the_smallest_area_says_what_matters_most() {
    assert_eq!(drawn(&five(2, None, &[]).app(), (12, 2)), "2: no leader\nno quorum, 1\n");
}
