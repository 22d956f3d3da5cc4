//! Progress while faults last. A heartbeat round has 10 ticks. Each figure is the longest time without a
//! decision, in ticks.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

use omnipaxos::{messages::Message, reads::ReadState, ServerConfig};
use omnipaxos_tests::{
    lab::{kind, Word},
    rng::Rng,
    scheduled::{Fate, Scheduled, Start},
};
use std::collections::BTreeMap;

const ROUND: u64 = 10;

fn link(message: &Message<Word>) -> (u64, u64) {
    let (from, to) = (message.get_sender(), message.get_receiver());
    (from.min(to), from.max(to))
}

fn together(n: u64) -> Vec<Start> {
    vec![Start::default(); n as usize]
}

/// When the links of a cluster are up. The links of one server to a quorum always are.
#[derive(Clone, Debug)]
struct Flaps {
    n: u64,
    /// For each other link its period, for how much of that it is up, and its phase.
    links: BTreeMap<(u64, u64), (u64, u64, u64)>,
}

impl Flaps {
    fn of(seed: u64) -> Self {
        Self::of_size(seed, 2 + seed % 4)
    }

    fn of_size(seed: u64, n: u64) -> Self {
        let mut rng = Rng::of(&[seed]);
        let centre = 1 + rng.below(n);
        let most = rng.pick(&[6, 6, 6, 15, 40]);
        let mut links = BTreeMap::new();
        let (common_period, is_common) = (rng.between(3, most), rng.chance(1, 2));
        for a in 1..=n {
            for b in a + 1..=n {
                let period = if is_common { common_period } else { rng.between(3, most) };
                links.insert((a, b), (period, rng.between(1, period - 1), rng.below(period)));
            }
        }
        let mut others: Vec<u64> = (1..=n).filter(|pid| *pid != centre).collect();
        for _ in 0..n / 2 {
            let other = others.remove(rng.index(others.len()));
            links.remove(&(centre.min(other), centre.max(other)));
        }
        Self { n, links }
    }

    fn is_up(&self, now: u64, link: (u64, u64)) -> bool {
        let flaps = self.links.get(&link);
        flaps.is_none_or(|(period, up, phase)| (now + phase) % period < *up)
    }

    /// The longest time without a decision in 100 rounds from the start on, and the highest ballot.
    fn run(&self) -> (u64, u32) {
        let mut cluster = Scheduled::new(
            &together(self.n),
            None,
            |_| {},
            |now, message| match self.is_up(now, link(message)) {
                true => Fate::Arrives(1),
                false => Fate::Lost,
            },
        );
        cluster.measure();
        cluster.run(100 * ROUND);
        (cluster.longest_wait(), cluster.highest_ballot())
    }
}

/// One server keeps a quorum, and the other links flap. `LASTING_PATTERNS` asks for more patterns.
///
/// The bound: what is lost between a leader and followers whose heartbeats come and go is sent again after
/// `resend_message_tick_timeout`, ten rounds, at the latest, if no heartbeat brings it about. A leader that
/// reaches no quorum is unhappy within two rounds, and the centre, which gets its report, needs one to lead.
#[test]
fn links_that_flap_while_one_server_keeps_a_quorum() {
    let patterns = std::env::var("LASTING_PATTERNS").ok();
    let patterns = patterns.and_then(|number| number.parse().ok()).unwrap_or(240);
    let mut waits: Vec<(u64, u32, u64)> = (0..patterns)
        .map(|seed| {
            let (wait, ballot) = Flaps::of(seed).run();
            (wait, ballot, seed)
        })
        .collect();
    waits.sort_unstable();
    for (wait, ballot, seed) in waits.iter().rev().take(10) {
        println!("{wait} ticks, ballot {ballot}: pattern {seed}, {:?}", Flaps::of(*seed));
    }
    let ballots = waits.iter().map(|(_, ballot, _)| ballot).max();
    println!("{patterns} patterns, ballots up to {ballots:?}");
    let worst = waits.last().map_or(0, |(wait, ..)| *wait);
    assert!(worst <= 13 * ROUND, "{worst} ticks");
}

/// Two servers whose links flap took turns in leading, each overtaken just before it had decided
/// something, and the centre left it to them. Before: no decision in 100 rounds.
#[test]
fn a_server_that_keeps_its_quorum_goes_before_those_that_lose_theirs() {
    for seed in [938, 1894, 2122, 2683, 3038, 3511, 4122, 4406, 4654, 4810] {
        let (wait, ballot) = Flaps::of(seed).run();
        println!("pattern {seed}: {wait} ticks, ballot {ballot}");
        assert!(wait <= 13 * ROUND, "pattern {seed}: {wait} ticks");
    }
}

/// The server that keeps its quorum took over in the same tick as a server that does not, and the
/// higher ballot of the other won, again and again; or it waited for others that cannot lead. Now a
/// server is not steady after a round in which it lost its quorum, whether or not it leads, and
/// leaves it to each steady server that sent it a heartbeat.
#[test]
fn a_server_that_keeps_its_quorum_does_not_compete_with_those_that_lose_theirs() {
    for (seed, before) in
        [(723, 1000), (295, 148), (1175, 136), (11979, 1000), (12607, 1000), (20691, 164)]
    {
        let (wait, ballot) = Flaps::of(seed).run();
        println!("pattern {seed}: {wait} ticks, {before} before, ballot {ballot}");
        assert!(wait <= 8 * ROUND, "pattern {seed}: {wait} ticks");
        assert!(ballot <= 5, "pattern {seed}: ballot {ballot}");
    }
}

/// A leader reaches a quorum in each round, but parts of it in turn, and each link is open for an
/// exchange of heartbeats only. What it sent again one round after an answer was lost each time. Now a
/// leader without progress sends a little of what each server lacks with each heartbeat.
#[test]
fn a_leader_that_does_not_get_on_sends_again_with_each_heartbeat() {
    for (seed, before) in [(2587, 1000), (13215, 186)] {
        let (wait, ballot) = Flaps::of(seed).run();
        println!("pattern {seed}: {wait} ticks, {before} before, ballot {ballot}");
        assert!(wait <= 8 * ROUND, "pattern {seed}: {wait} ticks");
    }
}

/// As [`links_that_flap_while_one_server_keeps_a_quorum`], with six and seven servers. The patterns that
/// come first exceeded the bound under other rules that were tried.
#[test]
fn links_of_larger_clusters_flap_while_one_server_keeps_a_quorum() {
    let first = [(6, 11252), (6, 10648), (6, 642), (6, 20843), (7, 810), (7, 11386), (7, 1052)];
    let more = (0..50).flat_map(|seed| [(6, seed), (7, seed)]);
    for (n, seed) in first.into_iter().chain(more) {
        let (wait, ballot) = Flaps::of_size(seed, n).run();
        assert!(wait <= 13 * ROUND, "{n} servers, pattern {seed}: {wait} ticks, ballot {ballot}");
    }
}

/// Links of the leader are open for a heartbeat and its answer, and no longer: what is sent after the
/// answer is lost, and so is the answer to what is sent with the next heartbeat. Before: one decision in
/// 100 rounds or none.
#[test]
fn what_was_lost_comes_again_with_the_heartbeats() {
    for seed in [1135, 3855, 3883, 4007] {
        let (wait, ballot) = Flaps::of(seed).run();
        println!("pattern {seed}: {wait} ticks, ballot {ballot}");
        assert!(wait <= 13 * ROUND, "pattern {seed}: {wait} ticks");
    }
}

/// The most rounds of a read: those after which a server knows that its link to the leader is unsteady, and
/// a few in which a message may be lost.
const ROUNDS_OF_A_READ: u64 = 8;

/// How many of the proposals of server 1, one a tick, are decided in the end, while its link to the
/// leader is up and down for this number of ticks; and how many of as many reads became ready.
fn proposals_and_reads(up: u64, down: u64, phase: u64) -> (u64, u64, u64) {
    let flaps = |now: u64| now > 50 && (now + phase) % (up + down) >= up;
    let mut cluster = Scheduled::new(
        &together(3),
        None,
        |_| {},
        |now, message| match link(message) == (1, 3) && flaps(now) {
            true => Fate::Lost,
            false => Fate::Arrives(1),
        },
    );
    cluster.run(60);
    assert_eq!(cluster.server(1).get_current_leader(), Some(3));
    let (mut proposed, mut ready) = (0, 0);
    for tick in 0..900 {
        let proposal = cluster.server(1).propose(Word(tick.to_string()));
        assert!(proposal.is_ok());
        proposed += 1;
        cluster.run(1);
        if tick % 30 == 0 {
            ready += u64::from(is_read_ready(&mut cluster, ROUNDS_OF_A_READ * ROUND));
        }
    }
    cluster.run(60);
    (proposed, cluster.server(2).get_decided_idx(), ready)
}

/// Whether a read at server 1 becomes ready in this number of ticks. A refused read is requested again.
fn is_read_ready<F>(cluster: &mut Scheduled<F>, ticks: u64) -> bool
where
    F: FnMut(u64, &Message<Word>) -> Fate,
{
    let mut requested = cluster.server(1).request_read();
    for _ in 0..ticks {
        cluster.run(1);
        match requested.clone().map(|read| cluster.server(1).read_state(read)) {
            Ok(ReadState::Ready(_)) => return true,
            Ok(ReadState::Waiting) => {}
            _ => requested = cluster.server(1).request_read(),
        }
    }
    false
}

#[test]
fn proposals_and_reads_over_a_link_that_is_up_half_the_time() {
    // A heartbeat round, a message to and fro, and what a read takes fit into the time that it is up.
    for (up, down) in [(15, 15), (17, 17), (30, 30)] {
        for phase in (0..up + down).step_by(4) {
            let (proposed, decided, ready) = proposals_and_reads(up, down, phase);
            println!("up {up}, down {down}, phase {phase}: {decided} of {proposed}, {ready} of 30");
            assert_eq!((decided, ready), (proposed, 30), "up {up}, down {down}, phase {phase}");
        }
    }
}

/// The link to the leader is open for a heartbeat and its answer, if that, and what is sent after the answer is
/// lost. A link that is in step with the rounds may stay so for ever. Before: in 322 of these 1,658 patterns
/// not all was decided or read, in the worst ones 90 of 900 proposals and no read. Now a server whose leader
/// does not answer each time rather uses a relay.
#[test]
fn proposals_and_reads_over_a_link_that_is_open_for_heartbeats() {
    for period in 3..=44 {
        for up in (1..=5).filter(|up| *up < period) {
            for phase in (0..period).step_by(1 + period as usize / 10) {
                let (proposed, decided, ready) = proposals_and_reads(up, period - up, phase);
                let pattern = format!("up {up} of {period}, phase {phase}");
                assert_eq!((decided, ready), (proposed, 30), "{pattern}");
            }
        }
    }
}

#[test]
fn a_user_who_asks_to_lead_all_the_time_stops_nobody() {
    // At one server, at all, and at two that are cut off from each other.
    let cases: [(&[u64], bool); 4] =
        [(&[1], false), (&[1, 2, 3], false), (&[1], true), (&[1, 3], false)];
    for (askers, is_cut_off) in cases {
        for every in [1, 2, 3, 5] {
            for phases in [[0, 0, 0], [0, 3, 6], [0, 5, 9]] {
                let starts = phases.map(|ticks_from| Start { built_at: 0, ticks_from });
                let mut cluster = Scheduled::new(
                    &starts,
                    None,
                    |_| {},
                    |now, message| {
                        let is_of_1 = link(message).0 == 1;
                        match is_cut_off && is_of_1 && (100..5000).contains(&now) {
                            true => Fate::Lost,
                            false => Fate::Arrives(1),
                        }
                    },
                );
                cluster.run(60);
                cluster.measure();
                for tick in 0..6000 {
                    if tick % every == 0 {
                        askers.iter().for_each(|pid| cluster.server(*pid).try_become_leader());
                    }
                    cluster.run(1);
                }
                let (wait, ballot) = (cluster.longest_wait(), cluster.highest_ballot());
                println!("{askers:?} every {every}, cut off {is_cut_off}, {phases:?}: {wait} ticks, ballot {ballot}");
                assert!(wait <= 6 * ROUND, "{wait} ticks");
                let decided: Vec<u64> =
                    cluster.running().map(|server| server.get_decided_idx()).collect();
                assert!(decided.iter().all(|idx| idx + 10 > decided[0]), "{decided:?}");
                match askers.len() {
                    1 => assert!(ballot <= 4, "{ballot}"),
                    askers => assert!(u64::from(ballot) <= 600 * askers as u64, "{ballot}"),
                }
            }
        }
    }
}

/// The longest time without a decision in 4,000 ticks, after the first 3,000 if it is not decided there.
fn with_delays(n: u64, least: u64, most: u64, seed: u64) -> u64 {
    let mut rng = Rng::of(&[seed, most]);
    let mut cluster =
        Scheduled::new(&together(n), None, |_| {}, |_, _| Fate::Arrives(rng.between(least, most)));
    cluster.measure();
    cluster.run(4000);
    cluster.longest_wait()
}

#[test]
fn round_trips_of_one_heartbeat_round_and_more() {
    for n in 2..=5 {
        for delay in [5, 8, 10, 20, 50, 70] {
            let wait = with_delays(n, delay, delay, 0);
            println!("{n} servers, {delay} ticks one way: {wait} ticks");
            // Replies to the first round come after a round trip; the next round that is long enough
            // follows, within one more; then it is elected, promised and accepted: three round trips.
            assert!(wait <= 8 * 2 * delay + 6 * ROUND, "{n} servers, delay {delay}: {wait}");
        }
    }
}

#[test]
fn jitter_of_several_rounds() {
    for n in 2..=5 {
        for most in [10, 20, 50] {
            let waits: Vec<u64> = (0..10).map(|seed| with_delays(n, 1, most, seed)).collect();
            println!("{n} servers, up to {most} ticks one way: {waits:?}");
            assert!(waits.iter().all(|wait| *wait <= 1500), "{n}, {most}: {waits:?}");
        }
    }
}

#[test]
fn rounds_are_short_again_after_a_slow_time() {
    let mut cluster = Scheduled::new(
        &together(3),
        None,
        |_| {},
        |now, _| Fate::Arrives(if now < 1000 { 40 } else { 1 }),
    );
    cluster.measure();
    cluster.run(1600);
    let leader = cluster.server(1).get_current_leader().unwrap();
    cluster.crash(leader);
    cluster.measure();
    cluster.run(200);
    assert!(cluster.longest_wait() <= 30, "{} ticks", cluster.longest_wait());
}

/// The rounds of all servers are long since messages were slow. Now they are quick, but one server is gone,
/// and each of the others waits for its answer to the end of the round. A message that is lost then is sent
/// again at the end of that round, and the next is short: so what was proposed is decided, and its end known
/// at its origin, after one longest round and a few short ones, whichever message is lost.
#[test]
fn what_is_lost_in_a_long_round_is_repeated_after_it() {
    let longest = ROUND * ServerConfig::default().max_election_tick_factor;
    let kinds = ["ForwardedProposals", "AcceptDecide", "Accepted", "Decide"];
    let mut worst = BTreeMap::new();
    for (lost, cut_at) in kinds.iter().flat_map(|kind| (1000..1090).map(move |at| (*kind, at))) {
        let mut is_lost = false;
        let mut cluster = Scheduled::new(
            &together(3),
            None,
            |_| {},
            |now, message| {
                let is_gone = now >= cut_at && link(message).0 == 1;
                let is_first = now > cut_at && kind(message) == lost && !is_lost;
                is_lost |= is_first && !is_gone;
                match (is_gone || is_first, now < cut_at) {
                    (true, _) => Fate::Lost,
                    (false, true) => Fate::Arrives(40),
                    (false, false) => Fate::Arrives(1),
                }
            },
        );
        cluster.run(cut_at + 1);
        assert_eq!(cluster.server(2).get_current_leader(), Some(3));
        let before = cluster.server(2).get_decided_idx();
        cluster.server(2).propose(Word("a".to_string())).unwrap();
        let mut waited = 0;
        while cluster.server(2).get_decided_idx() == before {
            cluster.run(1);
            waited += 1;
            assert!(waited <= longest + 4 * ROUND, "{lost} is lost, cut at {cut_at}");
        }
        let longest_wait: &mut u64 = worst.entry(lost).or_default();
        *longest_wait = waited.max(*longest_wait);
    }
    println!("longest waits: {worst:?} ticks");
}

/// The promises to one server never come, as where each holds a snapshot that is too large.
#[test]
fn a_leader_without_promises_resigns_in_time() {
    for n in 2..=5_u64 {
        for mute in 1..=n {
            let mut cluster = Scheduled::new(
                &together(n),
                None,
                |_| {},
                |_, message| match kind(message) == "Promise" && message.get_receiver() == mute {
                    true => Fate::Lost,
                    false => Fate::Arrives(1),
                },
            );
            cluster.run(20);
            cluster.server(mute).try_become_leader();
            cluster.measure();
            cluster.run(300);
            let (wait, ballot) = (cluster.longest_wait(), cluster.highest_ballot());
            println!("{n} servers, no promises to {mute}: {wait} ticks, ballot {ballot}");
            // Four rounds without a promise, one in which all learn that, and one to elect another.
            assert!(wait <= 7 * ROUND, "{n} servers, {mute}: {wait} ticks");
            assert!(ballot <= 4, "{n} servers, {mute}: ballot {ballot}");
        }
    }
}

/// As the paper's case, where the rounds of the servers have phases.
#[test]
fn a_leader_crashes_where_rounds_have_phases() {
    let mut worst = 0;
    for n in [3, 5] {
        for seed in 0..40 {
            let mut rng = Rng::of(&[seed]);
            let starts: Vec<Start> =
                (0..n).map(|_| Start { built_at: 0, ticks_from: rng.below(10) }).collect();
            let mut cluster = Scheduled::new(&starts, None, |_| {}, |_, _| Fate::Arrives(1));
            cluster.run(60 + rng.below(10));
            let leader = cluster.server(1).get_current_leader().unwrap();
            cluster.crash(leader);
            cluster.measure();
            cluster.run(100);
            worst = worst.max(cluster.longest_wait());
        }
    }
    println!("leader crash with phases: {worst} ticks");
    assert!(worst <= 27, "{worst} ticks");
}
