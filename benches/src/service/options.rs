//! The command line.

use crate::{plan::System, Failure};
use std::{str::FromStr, time::Duration};

pub(crate) const USAGE: &str = "\
usage: service [--systems ours,kv_store,openraft,openraft-rocksdb,etcd] [--clients 1,16,256] [--seconds 5] [--runs 3]
               [--keys 10000] [--part load|scenarios|all]";

/// What is run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Load,
    Scenarios,
    All,
}

impl FromStr for Part {
    type Err = Failure;

    fn from_str(name: &str) -> Result<Self, Failure> {
        match name {
            "load" => Ok(Self::Load),
            "scenarios" => Ok(Self::Scenarios),
            "all" => Ok(Self::All),
            _ => Err(format!("no part is named {name}").into()),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) systems: Vec<System>,
    pub(crate) clients: Vec<usize>,
    /// The time that a row of a run measures.
    pub(crate) duration: Duration,
    pub(crate) runs: usize,
    /// The number of keys of the store.
    pub(crate) keys: u64,
    pub(crate) part: Part,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            systems: System::ALL.to_vec(),
            clients: vec![1, 16, 256],
            duration: Duration::from_secs(5),
            runs: 3,
            keys: 10_000,
            part: Part::All,
        }
    }
}

impl Options {
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, Failure> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(USAGE)?;
            match name.as_str() {
                "--systems" => {
                    options.systems =
                        value.split(',').map(System::named).collect::<Result<_, _>>()?;
                }
                "--clients" => {
                    options.clients = value.split(',').map(str::parse).collect::<Result<_, _>>()?;
                }
                "--seconds" => options.duration = Duration::try_from_secs_f64(value.parse()?)?,
                "--runs" => options.runs = value.parse()?,
                "--keys" => options.keys = value.parse()?,
                "--part" => options.part = value.parse()?,
                _ => return Err(USAGE.into()),
            }
        }
        let counts = options.runs > 0 && options.keys > 0 && !options.clients.contains(&0);
        match counts && !options.duration.is_zero() {
            true => Ok(options),
            false => Err("runs, keys and clients are at least 1, and seconds are above 0".into()),
        }
    }
}
