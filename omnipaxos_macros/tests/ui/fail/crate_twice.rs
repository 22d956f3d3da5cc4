use omnipaxos::macros::Entry;

#[derive(Clone, Debug, Entry)]
#[entry(crate = ::omnipaxos)]
#[entry(crate = ::omnipaxos)]
struct Number(u64);

fn main() {}
