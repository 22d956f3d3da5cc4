use omnipaxos::macros::Entry;

#[derive(Clone, Debug, Entry)]
#[entry]
struct Number(u64);

fn main() {}
