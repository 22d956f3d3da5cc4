use omnipaxos::macros::Entry;

#[derive(Clone, Debug, Entry)]
struct Number(#[entry(crate = ::omnipaxos)] u64);

fn main() {}
