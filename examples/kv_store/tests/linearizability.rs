//! Clients put and get while servers are killed, paused and restarted, or replaced by others; then
//! all that they were answered must be explained by one register a key.
#![allow(clippy::unwrap_used, reason = "all of this is test code")]

mod common;
mod history;

use common::{joiner::Joiner, kill, links::Links, wait_for_end, Asker, Cluster};
use history::record::{Dice, Over, Record};
use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

const CLIENTS: u64 = 5;
const KEYS: u64 = 3;
const FAULTS: usize = 30;

/// No fault begins after so long, however slow the machine is.
const LONGEST: Duration = Duration::from_secs(40);

/// A fault lasts until this number of operations is answered, or this long: some leave no quorum.
const OPERATIONS_A_FAULT: usize = 100;
const LONGEST_FAULT: Duration = Duration::from_millis(1200);

/// A client that asks this server first.
fn start(ports: &[u16], first: usize) -> Asker {
    let in_turn = ports.iter().copied().cycle().skip(first).take(ports.len());
    Asker::start(in_turn, &["--timeout", "1"])
}

/// The clients of a client that asks at random servers.
fn askers(ports: &[u16]) -> Vec<Asker> {
    (0..ports.len()).map(|first| start(ports, first)).collect()
}

/// Waits for this number of further operations, but not for long.
fn wait_for_more(record: &Record, more: usize) {
    record.wait_for(record.number() + more, LONGEST_FAULT);
}

/// Does something to the servers, lets the clients continue, and undoes it.
fn fault(cluster: &mut Cluster, record: &Record, dice: &mut Dice) -> &'static str {
    let index = dice.below(3) as usize;
    let other = (index + 1 + dice.below(2) as usize) % 3;
    let wait = |more| wait_for_more(record, more);
    match dice.below(6) {
        0 | 1 => {
            cluster.kill(index);
            wait(OPERATIONS_A_FAULT);
            cluster.restart(index);
            "kill"
        }
        2 | 3 => {
            cluster.signal(index, "-STOP");
            wait(OPERATIONS_A_FAULT);
            cluster.signal(index, "-CONT");
            "pause"
        }
        4 => {
            cluster.signal(index, "-STOP");
            wait(OPERATIONS_A_FAULT / 2);
            cluster.kill(other);
            wait(OPERATIONS_A_FAULT / 2);
            cluster.restart(other);
            cluster.signal(index, "-CONT");
            "pause and kill"
        }
        _ => {
            let to = (index + 1).to_string();
            drop(cluster.client(&["--timeout", "1", "transfer", &to]));
            "transfer"
        }
    }
}

#[test]
fn what_clients_see_through_faults_is_linearizable() {
    let mut cluster = Cluster::start();
    let ports = cluster.client_ports.clone();
    let record = Record::default();
    let seed = u64::from(std::process::id()) << 16 | u64::from(ports[0]);
    let mut dice = Dice(seed);
    let mut faults = Vec::new();
    std::thread::scope(|scope| {
        let over = Over(&record);
        for client in 1..=CLIENTS {
            let (record, ports, dice) = (&record, &ports, Dice(seed.rotate_left(13) + client));
            scope.spawn(move || record.ask_until_over(askers(ports), KEYS, dice));
        }
        wait_for_more(&record, OPERATIONS_A_FAULT);
        let start = Instant::now();
        while faults.len() < FAULTS && start.elapsed() < LONGEST {
            faults.push(fault(&mut cluster, &record, &mut dice));
            wait_for_more(&record, OPERATIONS_A_FAULT / 3);
        }
        drop(over);
    });
    cluster.status_in_step();
    for (first, key) in (0..3).flat_map(|first| (0..KEYS).map(move |key| (first, key))) {
        record.get(key, &mut start(&ports, first));
    }
    cluster.assert_alive();
    let operations = record.into_operations();
    let unknown = operations.iter().filter(|operation| operation.answered.is_none()).count();
    println!("{} operations, {unknown} of them unknown, through {faults:?}", operations.len());
    assert!(operations.len() > 10 * faults.len(), "too few operations to tell anything");
    if let Err(why) = history::check(&operations) {
        panic!("{why}\nthrough {faults:?}");
    }
}

/// Number of servers that are replaced, unless the environment variable `KV_STORE_CHANGES` says another.
const CHANGES: u64 = 12;

/// How often a change is asked for again that came to nothing, as when the server that joins was killed.
const ATTEMPTS: u32 = 30;

/// The servers, while the members change.
struct Servers {
    cluster: Cluster,
    joiners: Vec<Joiner>,
    /// The members, and the server that joins.
    present: Vec<u64>,
    /// Those that were killed, and stay so.
    dead: Vec<u64>,
}

impl Servers {
    fn joiner(&mut self, pid: u64) -> Option<&mut Joiner> {
        self.joiners.iter_mut().find(|joiner| joiner.pid == pid)
    }

    fn process(&mut self, pid: u64) -> &mut Child {
        match self.joiners.iter_mut().find(|joiner| joiner.pid == pid) {
            Some(joiner) => &mut joiner.process,
            None => &mut self.cluster.servers[pid as usize - 1],
        }
    }

    /// Whether it is to run, and has not ended by itself: a removed server does.
    fn runs(&mut self, pid: u64) -> bool {
        !self.dead.contains(&pid) && self.process(pid).try_wait().unwrap().is_none()
    }

    fn kill(&mut self, pid: u64) {
        kill(self.process(pid));
    }

    fn restart(&mut self, pid: u64) {
        match self.joiner(pid) {
            Some(joiner) => joiner.restart(),
            None => self.cluster.restart(pid as usize - 1),
        }
    }

    /// Sends a signal to a server that was there a moment ago, and may have ended.
    fn signal(&mut self, pid: u64, signal: &str) {
        let id = self.process(pid).id().to_string();
        let sent = Command::new("kill").args([signal, &id]).stderr(Stdio::null()).status();
        assert!(sent.is_ok(), "{sent:?}");
    }
}

/// Does something to one of the servers, lets the clients continue, and undoes it.
fn fault_while_changing(
    servers: &Mutex<Servers>,
    links: &Links,
    record: &Record,
    dice: &mut Dice,
) -> Option<&'static str> {
    let wait = |record: &Record| wait_for_more(record, OPERATIONS_A_FAULT / 2);
    let mut locked = servers.lock().unwrap();
    let present = locked.present.clone();
    let pid = present[dice.below(present.len() as u64) as usize];
    let others: Vec<u64> = present.into_iter().filter(|other| *other != pid).collect();
    if !locked.runs(pid) {
        drop(locked);
        wait(record);
        return None;
    }
    match dice.below(6) {
        0 | 1 => {
            locked.kill(pid);
            drop(locked);
            wait(record);
            let mut locked = servers.lock().unwrap();
            if !locked.dead.contains(&pid) {
                locked.restart(pid);
            }
            Some("kill")
        }
        2 => {
            locked.signal(pid, "-STOP");
            drop(locked);
            wait(record);
            servers.lock().unwrap().signal(pid, "-CONT");
            Some("pause")
        }
        3 | 4 => {
            drop(locked);
            let how_many = 1 + dice.below(others.len() as u64) as usize;
            links.cut(pid, others.into_iter().take(how_many));
            wait(record);
            links.heal_all();
            Some("cut")
        }
        _ => {
            drop(locked);
            links.break_all(pid);
            wait(record);
            Some("broken connections")
        }
    }
}

/// Asks for a change until the members have changed. Returns how often it came to nothing before.
fn change(anchor: u16, what: &str) -> u32 {
    let mut answers = Vec::new();
    for failed in 0..ATTEMPTS {
        // A client that continues may have learned where the members are, and know none that runs now.
        let mut operator = Asker::start([anchor], &["--timeout", "60"]);
        let answer = operator.ask(what);
        // The second, if the members are already what they are to be.
        if ["decided at index ", "configuration "].iter().any(|done| answer.starts_with(done)) {
            return failed;
        }
        let may_be_asked_again = ["given up by this server", "no answer in time"];
        assert!(may_be_asked_again.iter().any(|says| answer.contains(says)), "{answer}");
        answers.push(answer);
    }
    panic!("the members do not change: {answers:#?}");
}

/// Replaces one server after the other, of which some are dead, while members and servers that join are
/// killed, paused, cut off and restarted. The third of the first servers stays, so that a client which
/// asks seldom finds the others.
#[test]
fn what_clients_see_through_changes_of_the_members_is_linearizable() {
    let changes = std::env::var("KV_STORE_CHANGES");
    let changes = changes.map_or(CHANGES, |number| number.parse().expect("a number of changes"));
    let start_of_all = Instant::now();
    let links = Links::default();
    let cluster = Cluster::start_found(|pid, port| links.proxy(pid, port));
    let ports = cluster.client_ports.clone();
    let source = format!("3=127.0.0.1:{}", cluster.found_ports[2]);
    let record = Record::default();
    let seed = u64::from(std::process::id()) << 16 | u64::from(ports[0]);
    let (mut dice, mut faults) = (Dice(seed), BTreeMap::<&str, usize>::new());
    let (present, joiners, dead) = (vec![1, 2, 3], Vec::new(), Vec::new());
    let servers = Mutex::new(Servers { cluster, joiners, present, dead });
    let mut asked_again = 0;
    std::thread::scope(|scope| {
        let over = Over(&record);
        for client in 1..=CLIENTS {
            let (record, ports, dice) = (&record, &ports, Dice(seed.rotate_left(13) + client));
            scope.spawn(move || record.ask_until_over(askers(ports), KEYS, dice));
        }
        let (servers, links, record) = (&servers, &links, &record);
        let mut dice_of_faults = Dice(seed.rotate_left(29));
        let count = &mut faults;
        scope.spawn(move || {
            while !record.is_over() {
                let done = fault_while_changing(servers, links, record, &mut dice_of_faults);
                *count.entry(done.unwrap_or("none")).or_default() += 1;
                wait_for_more(record, OPERATIONS_A_FAULT / 4);
            }
        });
        let mut others = vec![1, 2];
        for pid in 4..4 + changes {
            wait_for_more(record, OPERATIONS_A_FAULT / 2);
            let leaves: u64 = others.remove(dice.below(2) as usize);
            others.push(pid);
            let mut locked = servers.lock().unwrap();
            let joiner = Joiner::start(&locked.cluster, pid, &source);
            let place = format!("{pid}=127.0.0.1:{}", links.proxy(pid, joiner.peer_port()));
            locked.joiners.push(joiner);
            locked.present.push(pid);
            // The first change is asked of a server that runs: it puts into the log where it finds the
            // others, and where it listens itself.
            let asked = if pid == 4 { leaves } else { 3 };
            if pid > 4 && dice.below(2) == 0 {
                locked.dead.push(leaves);
                locked.kill(leaves);
            }
            drop(locked);
            let what = format!("members replace {leaves} with {place}");
            asked_again += change(ports[asked as usize - 1], &what);
            servers.lock().unwrap().present.retain(|pid| *pid != leaves);
        }
        wait_for_more(record, OPERATIONS_A_FAULT);
        drop(over);
    });
    let mut servers = servers.into_inner().unwrap();
    for key in 0..KEYS {
        record.get(key, &mut Asker::start([ports[2]], &["--timeout", "60"]));
        for joiner in servers.joiners.iter().rev().take(1) {
            record.get(key, &mut Asker::start([joiner.client_port()], &["--timeout", "60"]));
        }
    }
    let left: Vec<u64> = (1..4 + changes)
        .filter(|pid| !servers.present.contains(pid) && !servers.dead.contains(pid))
        .collect();
    for pid in &left {
        assert_eq!(wait_for_end(servers.process(*pid)), Some(0), "server {pid} was removed");
    }
    let operations = record.into_operations();
    let unknown = operations.iter().filter(|operation| operation.answered.is_none()).count();
    println!(
        "{} operations, {unknown} of them unknown, through {changes} changes, of which {asked_again} were \
         asked for again; {} servers were dead when they were replaced, and {} ended by themselves; \
         faults: {faults:?}; {} s until the members had changed and the removed servers ended",
        operations.len(),
        servers.dead.len(),
        left.len(),
        start_of_all.elapsed().as_secs(),
    );
    assert!(operations.len() > 10 * changes as usize, "too few operations to tell anything");
    history::check(&operations).unwrap_or_else(|why| panic!("{why}"));
}
