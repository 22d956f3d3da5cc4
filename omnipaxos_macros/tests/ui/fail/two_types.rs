use omnipaxos::macros::Entry;

#[derive(Clone, Debug, Entry)]
#[snapshot(A, B)]
struct Command(u64);

fn main() {}
