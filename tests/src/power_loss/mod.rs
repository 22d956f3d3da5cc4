//! Loss of power, simulated: a process writes to its disk and a recorder takes down each write and
//! sync. From that we build what the disk may hold if power is lost at any moment, and see whether
//! what was acknowledged is there.

mod record;
mod replay;
mod workload;

pub use self::{
    record::{read_record, Recorder},
    replay::{Controls, Folders, LogSyncs, Loss, Replay},
    workload::{config_for, open, storage_below, verify, Acknowledged, Plan, Verdict},
};
