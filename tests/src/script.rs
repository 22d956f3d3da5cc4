//! Cluster stories as text: commands above a line of dashes, the outcome below it.
//!
//! ```text
//! # A follower that missed an accept is sent it again.
//! cluster 1 2 3
//! elect 1
//! drop 1->2 AcceptDecide
//! append 1 a b
//! settle
//! ----
//! 1: leader 1, a b |
//! ```
//!
//! The outcome has a line for each running server: the leader it knows, and its log, with a bar
//! after what is decided. What was refused stands before that, in order.
//!
//! | command | does |
//! |---|---|
//! | `cluster 1 2 3 batch_size=4` | starts servers; settings are those of `ServerConfig` |
//! | `no-disk-ids` | no disk of a server that starts later has an id |
//! | `observe 7 1 2` | starts server 7 as an observer, which asks servers 1 and 2 |
//! | `join 4 1 2` | starts server 4 with an empty storage, to join a log that continues: it asks servers 1 and 2 |
//! | `change 1 2: 1 3 4` | proposes configuration 2, of servers 1, 3 and 4, at server 1, and follows it; a word `waits=quorum`, `waits=nobody` or `rounds=5` may stand before the colon |
//! | `epoch 4` | prints the configuration of server 4, its members, and what it is there |
//! | `wipe 4` | stops a server, and starts it with an empty disk |
//! | `observers 1` | prints the observers that server 1 serves |
//! | `elect 1` | makes server 1 the leader |
//! | `take-over 1` | calls `try_become_leader` |
//! | `append 1 a b` | appends words at server 1 |
//! | `propose 1 a b` | proposes words at server 1, and follows them |
//! | `outcomes 1` | prints how proposals of server 1 have ended since it was asked last |
//! | `reconfigure 1 2` | proposes configuration 2 at server 1 |
//! | `propose-configuration 1 2` | the same, and follows it |
//! | `trim 1 3`, `trim 1` | trims at server 1 |
//! | `snapshot 1 3`, `snapshot 1`, `local-snapshot 1 3` | snapshots |
//! | `drop 1->2 Accepted 2` | drops the next 2 (or 1) such messages; `*` for any server |
//! | `hold 1->2 Accepted`, `release` | holds messages back, and lets them go |
//! | `cut 1 2`, `cut 1->2`, `isolate 1`, `heal` | cuts and mends links |
//! | `links 1-2 2-3` | cuts all links but these, which are mended |
//! | `reconnected 1 2` | tells server 1 that its link to 2 is back |
//! | `crash 1`, `restart 1` | stops a server, and starts it with what its disk holds |
//! | `read 1` | requests a linearizable read at server 1 |
//! | `read-state 1` | prints how far the last read of server 1 is |
//! | `transfer 1 2 30` | server 1 transfers leadership to server 2, for 30 ticks at most |
//! | `transferring 1` | prints whom server 1 transfers leadership to |
//! | `settle` | delivers until nothing is in flight; time stands still |
//! | `run 20` | lets ticks pass; a message takes one |
//! | `show` | prints the state here too |
//! | `sent CatchUpChunk` | prints how many messages of a kind have left servers so far |

use crate::lab::{Lab, Pick};
use omnipaxos::{
    errors::with_causes,
    events::Event,
    members::{MemberChange, WaitsFor},
    proposals::{Outcome, ProposalId},
    reads::ReadState,
    status::Role,
    ClusterConfig, ServerConfig,
};
use std::{collections::BTreeMap, fmt::Write};

/// The line between the story and its outcome.
const RULE: &str = "----";

/// Plays a story.
///
/// # Errors
/// The error names the line that is not a command, or does not fit the cluster.
pub fn play(text: &str) -> Result<String, String> {
    let story = text.split(RULE).next().unwrap_or_default();
    let mut player = Player { lab: None, proposed: BTreeMap::new(), outcome: String::new() };
    for (number, line) in story.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() || line.starts_with('#') {
            continue;
        }
        player
            .command(line, &words)
            .map_err(|problem| format!("line {}: `{line}`: {problem}", number + 1))?;
    }
    player.show()?;
    player.check_orders()?;
    Ok(player.outcome)
}

/// The outcome that a story expects.
pub fn expected(text: &str) -> &str {
    text.split_once(RULE).map_or("", |(_, outcome)| outcome.trim_start_matches('\n'))
}

/// The story with another outcome.
pub fn with_outcome(text: &str, outcome: &str) -> String {
    let story = text.split(RULE).next().unwrap_or_default();
    format!("{}\n{RULE}\n{outcome}", story.trim_end())
}

struct Player {
    lab: Option<Lab>,
    /// The words that are followed.
    proposed: BTreeMap<ProposalId, String>,
    outcome: String,
}

fn number<N: std::str::FromStr>(word: &str) -> Result<N, String> {
    word.parse().map_err(|_| format!("`{word}` is not a number"))
}

impl Player {
    /// Whether each order to drop messages or to hold them back met one.
    fn check_orders(&self) -> Result<(), String> {
        let never_picked = self.lab.as_ref().map_or(Vec::new(), |lab| lab.never_picked());
        match never_picked.is_empty() {
            true => Ok(()),
            false => Err(format!("no such message was sent: {never_picked:?}")),
        }
    }

    fn command(&mut self, line: &str, words: &[&str]) -> Result<(), String> {
        if let ["cluster", servers @ ..] = words {
            self.check_orders()?;
            self.lab = Some(cluster(servers)?);
            return Ok(());
        }
        if *words == ["show"] {
            return self.show();
        }
        let lab = self.lab.as_mut().ok_or("a story begins with `cluster`")?;
        if let ["sent", kind] = words {
            let count = lab.sent(kind);
            return writeln!(self.outcome, "{line}: {count}").map_err(|error| error.to_string());
        }
        let answer = match words {
            ["outcomes", pid] => Some(outcomes(lab, &self.proposed, pid)?),
            ["epoch", pid] => Some(epoch(lab, pid)?),
            _ => answer(lab, words)?,
        };
        if let Some(answer) = answer {
            return writeln!(self.outcome, "{line}: {answer}").map_err(|error| error.to_string());
        }
        let refusal = match words {
            ["propose", pid, words @ ..] => propose(lab, &mut self.proposed, pid, words)?,
            ["propose-configuration", pid, id] => {
                propose_configuration(lab, &mut self.proposed, pid, id)?
            }
            ["change", pid, config_id, ..] => {
                change(lab, &mut self.proposed, pid, config_id, line)?
            }
            _ => act(lab, words)?,
        };
        if let Some(refusal) = refusal {
            writeln!(self.outcome, "{line}: {refusal}").map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn show(&mut self) -> Result<(), String> {
        let lab = self.lab.as_mut().ok_or("a story begins with `cluster`")?;
        for pid in lab.running() {
            let line = state_of(lab, pid);
            writeln!(self.outcome, "{pid}: {line}").map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

fn state_of(lab: &mut Lab, pid: u64) -> String {
    let leader = lab.server(pid).get_current_leader();
    let leader = leader.map_or("no leader".to_string(), |leader| format!("leader {leader}"));
    let (decided, log) = (lab.decided(pid), lab.log(pid));
    let tail = log.get(decided.len()..).unwrap_or_default();
    let compacted = match lab.server(pid).get_compacted_idx() {
        0 => String::new(),
        idx => format!(", compacted {idx}"),
    };
    let words: Vec<&str> = decided
        .iter()
        .map(String::as_str)
        .chain(["|"])
        .chain(tail.iter().map(String::as_str))
        .collect();
    format!("{leader}{compacted}, {}", words.join(" "))
}

fn cluster(words: &[&str]) -> Result<Lab, String> {
    let mut nodes = Vec::new();
    let mut settings = ServerConfig::default();
    for word in words {
        match word.split_once('=') {
            None => nodes.push(number(word)?),
            Some((name, value)) => set(&mut settings, name, value)?,
        }
    }
    Ok(Lab::with(&nodes, |config| *config = ServerConfig { pid: config.pid, ..settings.clone() }))
}

fn set(settings: &mut ServerConfig, name: &str, value: &str) -> Result<(), String> {
    match name {
        "batch_size" => settings.batch_size = number(value)?,
        "flush_batch_tick_timeout" => settings.flush_batch_tick_timeout = number(value)?,
        "election_tick_timeout" => settings.election_tick_timeout = number(value)?,
        "takes_delta_snapshots" => settings.takes_delta_snapshots = value == "true",
        "max_message_bytes" => settings.max_message_bytes = number(value)?,
        "max_message_entries" => settings.max_message_entries = number(value)?,
        "max_in_flight_bytes" => settings.max_in_flight_bytes = number(value)?,
        "max_in_flight_entries" => settings.max_in_flight_entries = number(value)?,
        "max_pending_bytes" => settings.max_pending_bytes = number(value)?,
        "keeps_undecided_appends" => settings.keeps_undecided_appends = number(value)?,
        "continues" => settings.continues = value == "true",
        "max_observers" => settings.max_observers = number(value)?,
        "max_pending_entries" => settings.max_pending_entries = number(value)?,
        _ => return Err(format!("`{name}` is not a setting")),
    }
    Ok(())
}

/// A server that runs.
fn running(lab: &Lab, word: &str) -> Result<u64, String> {
    let pid = number(word)?;
    match lab.running().contains(&pid) {
        true => Ok(pid),
        false => Err(format!("server {pid} does not run")),
    }
}

/// Proposes words. Returns what was refused.
fn propose(
    lab: &mut Lab,
    proposed: &mut BTreeMap<ProposalId, String>,
    pid: &str,
    words: &[&str],
) -> Result<Option<String>, String> {
    let pid = running(lab, pid)?;
    let mut refused = None;
    for word in words {
        match lab.server(pid).propose(crate::lab::Word(word.to_string())) {
            Ok(id) => drop(proposed.insert(id, word.to_string())),
            Err(error) => refused = refused.or(Some(with_causes(&error))),
        }
    }
    Ok(refused)
}

/// Proposes a configuration. Returns why it was refused, if it was.
fn propose_configuration(
    lab: &mut Lab,
    proposed: &mut BTreeMap<ProposalId, String>,
    pid: &str,
    config_id: &str,
) -> Result<Option<String>, String> {
    let (pid, next) = (running(lab, pid)?, next_configuration(lab, config_id)?);
    match lab.server(pid).propose_reconfiguration(next, None) {
        Ok(id) => {
            proposed.insert(id, format!("configuration {config_id}"));
            Ok(None)
        }
        Err(error) => Ok(Some(with_causes(&error))),
    }
}

/// Proposes other members. Returns why that was refused, if it was.
fn change(
    lab: &mut Lab,
    proposed: &mut BTreeMap<ProposalId, String>,
    pid: &str,
    config_id: &str,
    line: &str,
) -> Result<Option<String>, String> {
    let (before, nodes) = line.split_once(':').ok_or("the servers stand after a colon")?;
    let nodes: Result<Vec<u64>, _> = nodes.split_whitespace().map(number).collect();
    let config_id = config_id.trim_end_matches(':');
    let next =
        ClusterConfig { configuration_id: number(config_id)?, nodes: nodes?, ..Default::default() };
    let mut change = MemberChange::default();
    for option in before.split_whitespace().skip(3) {
        match option.split_once('=') {
            Some(("waits", "quorum")) => change.waits_for = WaitsFor::Quorum,
            Some(("waits", "nobody")) => change.waits_for = WaitsFor::Nobody,
            Some(("rounds", rounds)) => change.most_silent_rounds = number(rounds)?,
            _ => return Err(format!("`{option}` is no option of a change")),
        }
    }
    let pid = running(lab, pid)?;
    match lab.server(pid).change_members(next, change) {
        Ok(id) => {
            proposed.insert(id, format!("configuration {config_id}"));
            Ok(None)
        }
        Err(error) => Ok(Some(with_causes(&error))),
    }
}

/// The configuration of a server, and what it is there.
fn epoch(lab: &mut Lab, pid: &str) -> Result<String, String> {
    let pid = running(lab, pid)?;
    let status = lab.server(pid).status();
    let nodes: Vec<String> = status.nodes.iter().map(u64::to_string).collect();
    let role = match (status.role, status.may_stop) {
        (_, Some(true)) => "may be stopped".to_string(),
        (_, Some(false)) => "was removed".to_string(),
        (Role::Observing, None) => "observes".to_string(),
        (role, None) => role.to_string(),
    };
    Ok(format!("configuration {} of {}, {role}", status.configuration_id, nodes.join(" ")))
}

fn next_configuration(lab: &Lab, config_id: &str) -> Result<ClusterConfig, String> {
    let (configuration_id, nodes) = (number(config_id)?, lab.nodes().to_vec());
    Ok(ClusterConfig { configuration_id, nodes, flexible_quorum: None })
}

/// How proposals ended, or `none`.
fn outcomes(
    lab: &mut Lab,
    proposed: &BTreeMap<ProposalId, String>,
    pid: &str,
) -> Result<String, String> {
    let pid = running(lab, pid)?;
    let mut told = Vec::new();
    for event in lab.server(pid).take_events() {
        if let Event::ProposalEnded { id, outcome } = event {
            let word = proposed.get(&id).ok_or(format!("{id:?} was not proposed"))?;
            told.push(match outcome {
                Outcome::Decided(idx) => format!("{word} is decided at {idx}"),
                Outcome::DecidedBefore(idx) => format!("{word} is decided before {idx}"),
                Outcome::NotDecided => format!("{word} is not decided"),
                Outcome::Refused(why) => format!("{word} is refused: {why}"),
                Outcome::NotJoined(missing) => format!("{word}: {missing:?} have not joined"),
                _ => format!("{word} is unknown"),
            });
        }
    }
    Ok(if told.is_empty() { "none".to_string() } else { told.join(", ") })
}

/// The observers that a server serves, and how many entries are decided there.
fn observers(lab: &mut Lab, pid: u64) -> String {
    let served = lab.server(pid).status().observers;
    let served: Vec<String> = served
        .iter()
        .map(|observer| match observer.pid == observer.via {
            true => format!("{} has {}", observer.pid, observer.decided_idx),
            false => format!("{} through {}", observer.pid, observer.via),
        })
        .collect();
    if served.is_empty() {
        "none".to_string()
    } else {
        served.join(", ")
    }
}

/// Answers a question.
fn answer(lab: &mut Lab, words: &[&str]) -> Result<Option<String>, String> {
    Ok(match words {
        ["read-state", pid] => Some(match lab.read_state(number(pid)?) {
            ReadState::Waiting => "waits".to_string(),
            ReadState::Ready(idx) => format!("ready at {idx}"),
            ReadState::Refused(reason) => format!("refused, {reason}"),
            other => format!("{other:?}"),
        }),
        ["observers", pid] => Some(observers(lab, number(pid)?)),
        ["transferring", pid] => Some(match lab.server(number(pid)?).leadership_transfer() {
            Some(to) => format!("to {to}"),
            None => "none".to_string(),
        }),
        _ => None,
    })
}

/// Executes a line. Returns what was refused.
fn act(lab: &mut Lab, words: &[&str]) -> Result<Option<String>, String> {
    let refused = match words {
        ["elect", pid] => {
            let pid = running(lab, pid)?;
            lab.elect(pid);
            None
        }
        ["observe", pid, sources @ ..] => {
            let sources: Result<Vec<u64>, _> = sources.iter().map(|word| number(word)).collect();
            lab.observe(number(pid)?, &sources?);
            None
        }
        ["join", pid, sources @ ..] => {
            let sources: Result<Vec<u64>, _> = sources.iter().map(|word| number(word)).collect();
            lab.join(number(pid)?, &sources?);
            None
        }
        ["no-disk-ids"] => {
            lab.omit_disk_ids();
            None
        }
        ["wipe", pid] => {
            let pid = number(pid)?;
            if !lab.knows(pid) {
                return Err(format!("there is no server {pid}"));
            }
            lab.wipe(pid);
            None
        }
        ["take-over", pid] => {
            let pid = running(lab, pid)?;
            lab.server(pid).try_become_leader();
            None
        }
        ["append", pid, entries @ ..] => {
            let pid = running(lab, pid)?;
            let mut refused = None;
            for word in entries {
                let appended = lab.server(pid).try_append(crate::lab::Word(word.to_string()));
                refused = refused.or(appended.err().map(|error| error.to_string()));
            }
            refused
        }
        ["reconfigure", pid, config_id] => {
            let (pid, next) = (running(lab, pid)?, next_configuration(lab, config_id)?);
            lab.server(pid).reconfigure(next, None).err().map(|error| with_causes(&error))
        }
        ["trim", pid, idx @ ..] => {
            let (pid, idx) = (running(lab, pid)?, index(idx)?);
            lab.server(pid).trim(idx).err().map(|error| error.to_string())
        }
        ["snapshot", pid, idx @ ..] => {
            let (pid, idx) = (running(lab, pid)?, index(idx)?);
            lab.server(pid).snapshot(idx, false).err().map(|error| error.to_string())
        }
        ["local-snapshot", pid, idx @ ..] => {
            let (pid, idx) = (running(lab, pid)?, index(idx)?);
            lab.server(pid).snapshot(idx, true).err().map(|error| error.to_string())
        }
        ["reconnected", pid, peer] => {
            let (pid, peer) = (running(lab, pid)?, number(peer)?);
            lab.server(pid).reconnected(peer);
            None
        }
        ["read", pid] => {
            let pid = running(lab, pid)?;
            lab.request_read(pid).err().map(|refused| refused.to_string())
        }
        ["transfer", pid, to, ticks] => {
            let (pid, to, ticks) = (running(lab, pid)?, number(to)?, number(ticks)?);
            lab.server(pid).transfer_leadership(to, ticks).err().map(|error| error.to_string())
        }
        ["crash", pid] => {
            let pid = running(lab, pid)?;
            lab.crash(pid);
            None
        }
        ["restart", pid] => {
            let pid = number(pid)?;
            if !lab.knows(pid) || lab.running().contains(&pid) {
                return Err(format!("server {pid} cannot be restarted"));
            }
            lab.restart(pid);
            None
        }
        ["settle"] => {
            lab.settle();
            None
        }
        ["run", ticks] => {
            lab.run(number(ticks)?);
            None
        }
        _ => return act_on_network(lab, words).map(|()| None),
    };
    Ok(refused)
}

fn act_on_network(lab: &mut Lab, words: &[&str]) -> Result<(), String> {
    match words {
        ["drop", link, kind, count @ ..] => lab.drop_next(pick(link, kind)?, how_many(count)?),
        ["hold", link, kind, count @ ..] => lab.hold_next(pick(link, kind)?, how_many(count)?),
        ["release"] => lab.release(),
        ["cut", link] => {
            let (from, to) = link.split_once("->").ok_or("a link is `1->2` or `1 2`")?;
            lab.cut_one_way(number(from)?, number(to)?);
        }
        ["cut", a, b] => lab.cut(number(a)?, number(b)?),
        ["isolate", pid] => lab.isolate(number(pid)?),
        ["links", links @ ..] => {
            let links: Result<Vec<_>, _> = links.iter().map(|link| two_way(link)).collect();
            lab.cut_all_but(&links?);
        }
        ["heal"] => lab.heal_all(),
        ["heal", a, b] => lab.heal(number(a)?, number(b)?),
        _ => return Err("not a command".to_string()),
    }
    Ok(())
}

fn two_way(link: &str) -> Result<(u64, u64), String> {
    let (a, b) = link.split_once('-').ok_or("a link is `1-2`")?;
    Ok((number(a)?, number(b)?))
}

fn index(words: &[&str]) -> Result<Option<u64>, String> {
    match words {
        [] => Ok(None),
        [idx] => number(idx).map(Some),
        _ => Err("one index at most".to_string()),
    }
}

fn how_many(words: &[&str]) -> Result<usize, String> {
    match words {
        [] => Ok(1),
        [count] => number(count),
        _ => Err("one count at most".to_string()),
    }
}

fn pick(link: &str, kind: &str) -> Result<Pick, String> {
    let (from, to) = link.split_once("->").ok_or("a link is `1->2`")?;
    let end = |word: &str| if word == "*" { Ok(None) } else { number(word).map(Some) };
    Ok(Pick { from: end(from)?, to: end(to)?, kind: Some(kind.to_string()) })
}
