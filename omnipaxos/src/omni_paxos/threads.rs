//! A replica and its messages can be sent to another thread if its entries can: no entry need be
//! `Sync`.

#![expect(dead_code, reason = "that it compiles is the test")]

use super::OmniPaxos;
use crate::{
    messages::Message,
    storage::{Entry, SharedEntries, Storage, StorageOp},
};
use std::panic::{RefUnwindSafe, UnwindSafe};

/// An entry of which all parts can be sent.
#[cfg(not(feature = "unicache"))]
trait Sent: Entry<Snapshot: Send> + Send {}

/// An entry of which all parts can be sent.
#[cfg(feature = "unicache")]
trait Sent: Entry<Snapshot: Send, EncodeResult: Send, UniCache: Send> + Send {}

/// An entry of which all parts can be shared.
#[cfg(not(feature = "unicache"))]
trait Both: Sent + Entry<Snapshot: Sync> + Sync {}

/// An entry of which all parts can be shared.
#[cfg(feature = "unicache")]
trait Both: Sent + Entry<Snapshot: Sync, EncodeResult: Sync, UniCache: Sync> + Sync {}

fn is_send<X: Send>() {}
fn takes_what_a_thread_takes(_: impl FnOnce() + Send + 'static) {}
fn is_sync<X: Sync>() {}
fn is_unwind_safe<X: UnwindSafe>() {}
fn is_ref_unwind_safe<X: RefUnwindSafe>() {}

fn sent<T: Sent + 'static, B: Storage<T> + Send + 'static>(replica: OmniPaxos<T, B>) {
    is_send::<Message<T>>();
    is_send::<Vec<Message<T>>>();
    is_send::<StorageOp<T>>();
    takes_what_a_thread_takes(move || drop(replica));
}

fn shared<T: Both, B: Storage<T> + Sync>() {
    is_sync::<Message<T>>();
    is_sync::<StorageOp<T>>();
    is_sync::<OmniPaxos<T, B>>();
}

fn caught<T: UnwindSafe, R: RefUnwindSafe>() {
    is_unwind_safe::<SharedEntries<T>>();
    is_ref_unwind_safe::<SharedEntries<R>>();
}
