use omnipaxos::macros::Entry;

#[derive(Clone, Debug, Entry)]
#[entry(krate = op)]
struct Number(u64);

fn main() {}
