//! Services of three processes on loopback, measured from the outside: ours, the key-value store of the examples,
//! openraft and etcd.
//!
//! `service` starts the servers of each system in turn, puts clients in a closed loop on all of them,
//! and prints what an operation takes. `service serve ..` is one server, which it starts itself.

mod client;
mod cluster;
mod etcd;
mod kv_store;
mod load;
mod openraft;
mod options;
mod ours;
mod plan;
mod process;
mod protocol;
mod scenarios;
mod table;

use self::{
    client::Operation,
    cluster::Cluster,
    load::{fill, Load, Running},
    options::{Options, Part},
    plan::{ServerPlan, System, FOUNDERS},
    scenarios::Scenario,
    table::{head, row, Figures, OF_LOADS, OF_SCENARIOS},
};
use omnipaxos_benches::report::Report;
use std::{io::Read, process::ExitCode, time::Duration};
use tokio::{runtime::Builder, time::sleep};

/// Any error: the program ends with its text.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Commands between two snapshots, unless a scenario sets another number.
const SNAPSHOT_EVERY: u64 = 10_000;

/// What the table of loads shows.
const ABOUT_LOADS: &str = "\
Three processes on loopback. Each acknowledged put is synced to the disks of a majority, except by openraft-rocksdb. Gets are
linearizable. Values have 256 bytes. Clients are in a closed loop, each with one connection: the first at the leader, the
others spread over all servers. \"Slowest\" is the slowest operation of all runs, those under way at the end
of a run included, and \"longest pause\" the longest time of all
runs in which no client got an answer; all else are medians. CPU time is for each operation: that of the servers together, and
of the leader. Memory is that of the largest server.

- ours: `Replicated` over TCP with the persistent storage, which remembers the outputs of each client, to apply a repeated
  command once. A server that does not lead forwards commands and reads in batches with others. Clients send bincode.
- kv_store: the program of `examples/kv_store`, built on the same parts as ours. Its clients may have many requests under way,
  watch keys and change the members. Its replica and its state machine have a thread each. Its own client changes its
  members; this program does not.
- openraft: version 0.9 with a store and a network of the kind of its examples: a log file with a sync for each append, TCP with
  bincode, one call at a time for each follower, a check of the leader for each read. A server that does not lead
  passes requests on one by one. The same client protocol as ours. It does not recognise repeated commands.
- openraft-rocksdb: the same server with the store that openraft publishes, `openraft-rocksstore`. It keeps log and values
  in rocksdb, as JSON. **It syncs only when it applies.** So a follower acknowledges entries that a loss of power may take
  from it: an acknowledged put is synced to the disk of the leader only.
- etcd: the program. It keeps revisions and a database on disk, and has leases, watches and access control. Its clients use
  gRPC, which costs it something.";

/// What the table of scenarios shows.
const ABOUT_SCENARIOS: &str = "\
Puts of 16 clients, as above, while something happens. A failed attempt is repeated at the next server, and counts as one
operation with the time of all attempts. \"It took\" is the time from the start of a server until it has the log that
the others had then; or from the first call for a replacement until the new server has that log and the old one may stop.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.as_slice() {
        [serve, system, arguments @ ..] if serve == "serve" => serve_as(system, arguments),
        arguments => measure(arguments),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Is a server until its standard input ends.
fn serve_as(system: &str, arguments: &[String]) -> Result<(), Failure> {
    let plan = ServerPlan::parse(arguments)?;
    std::thread::spawn(|| {
        // Nothing is written to it, so it ends with the program that started this one.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let system = System::named(system)?;
    let runtime = match system {
        // The replica shares this thread with its clients.
        System::Ours => Builder::new_current_thread().enable_all().build()?,
        // All is in tasks, and a sync blocks one.
        System::KvStore | System::Openraft | System::OpenraftRocksdb | System::Etcd => {
            Builder::new_multi_thread().enable_all().build()?
        }
    };
    runtime.block_on(async {
        match system {
            System::Ours => ours::serve(&plan).await,
            System::Openraft => openraft::serve(&plan).await,
            System::KvStore | System::OpenraftRocksdb | System::Etcd => {
                Err(format!("{} is a program of its own", system.name()).into())
            }
        }
    })
}

fn measure(arguments: &[String]) -> Result<(), Failure> {
    let mut options = Options::parse(arguments)?;
    options.systems.retain(|system| {
        let is_installed = system.is_installed();
        if let (false, Some(program)) = (is_installed, system.program()) {
            eprintln!("{program} is not on the PATH, and is not measured");
        }
        is_installed
    });
    if options.systems.is_empty() {
        return Err("there is nothing to measure".into());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut report = Report::new("service");
        if options.part != Part::Scenarios {
            measure_loads(&options, &mut report).await?;
        }
        if options.part != Part::Load {
            measure_scenarios(&options, &mut report).await?;
        }
        Ok(report.write()?)
    })
}

/// The systems take turns in each run, so that whatever else the machine does hits all of them.
async fn measure_loads(options: &Options, report: &mut Report) -> Result<(), Failure> {
    let loads: Vec<Load> = [Operation::Put, Operation::Get]
        .into_iter()
        .flat_map(|operation| options.clients.iter().map(move |clients| (operation, *clients)))
        .map(|(operation, clients)| Load { operation, clients, keys: options.keys })
        .collect();
    let mut figures = vec![vec![Vec::new(); options.systems.len()]; loads.len()];
    for run in 1..=options.runs {
        for (at, system) in options.systems.iter().enumerate() {
            eprintln!("run {run} of {}: {}", options.runs, system.name());
            let cluster = Cluster::start(*system, FOUNDERS, SNAPSHOT_EVERY).await?;
            fill(&cluster, options.keys).await?;
            for (load, figures) in loads.iter().zip(&mut figures) {
                figures[at].push(measure_load(&cluster, *load, options.duration).await?);
            }
        }
    }
    report.paragraph(ABOUT_LOADS);
    head(report, &["operation", "clients", "system"], &OF_LOADS);
    for (load, figures) in loads.iter().zip(&figures) {
        for (system, figures) in options.systems.iter().zip(figures) {
            let clients = load.clients.to_string();
            let names = [load.operation.name(), &clients, system.name()];
            row(report, &names, figures, &OF_LOADS);
        }
    }
    Ok(())
}

async fn measure_load(
    cluster: &Cluster,
    load: Load,
    duration: Duration,
) -> Result<Figures, Failure> {
    let leader = cluster.leader().await?;
    let mut running = Running::start(cluster, leader, load)?;
    sleep(duration / 5).await;
    let (cpu, of_leader) = (cluster.cpu_time()?, cluster.cpu_time_of(leader)?);
    running.restart()?;
    sleep(duration).await;
    let of_leader = cluster.cpu_time_of(leader)?.saturating_sub(of_leader);
    let cpu = cluster.cpu_time()?.saturating_sub(cpu);
    let measured = running.end().await?;
    if let Some(failure) = measured.last_failure() {
        return Err(format!("an operation failed: {failure}").into());
    }
    Ok(Figures::of(&measured, cpu, cluster.resident_bytes()?).of_leader(of_leader))
}

async fn measure_scenarios(options: &Options, report: &mut Report) -> Result<(), Failure> {
    let scenarios = Scenario::ALL
        .into_iter()
        .flat_map(|scenario| options.systems.iter().map(move |system| (scenario, *system)))
        .filter(|(scenario, system)| scenario.is_measured(*system));
    let mut figures: Vec<_> = scenarios.map(|scenario| (scenario, Vec::new())).collect();
    for run in 1..=options.runs {
        for ((scenario, system), figures) in &mut figures {
            eprintln!("run {run} of {}: {}: {}", options.runs, system.name(), scenario.name());
            let duration = options.duration * 2;
            figures.push(scenarios::run(*scenario, *system, options.keys, duration).await?);
        }
    }
    report.paragraph(ABOUT_SCENARIOS);
    head(report, &["what happens", "system"], &OF_SCENARIOS);
    for ((scenario, system), figures) in &figures {
        row(report, &[scenario.name(), system.name()], figures, &OF_SCENARIOS);
    }
    Ok(())
}
