use omnipaxos::macros::Entry;

#[derive(Clone, Debug, Entry)]
#[snapshot(size = 3)]
struct Command(u64);

fn main() {}
