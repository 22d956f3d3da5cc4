//! A server of openraft with the rocksdb store that openraft publishes: one of the systems of the bench
//! `service`, which starts it if it is on the `PATH`.
//!
//! The ports and the calls between servers are those of the other server of openraft. Only the store differs.

mod openraft;
#[path = "../../src/service/plan.rs"]
#[allow(dead_code, reason = "the program that starts this one uses the rest")]
mod plan;
#[path = "../../src/service/protocol.rs"]
mod protocol;

use std::{io::Read, process::ExitCode};
use tokio::runtime::Builder;

/// Any error: the program ends with its text.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["--version"] {
        println!("{}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    match serve(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Is a server until its standard input ends.
fn serve(arguments: &[String]) -> Result<(), Failure> {
    let plan = plan::ServerPlan::parse(arguments)?;
    std::thread::spawn(|| {
        // Nothing is written to it, so it ends with the program that started this one.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    Builder::new_multi_thread().enable_all().build()?.block_on(openraft::serve(&plan))
}
