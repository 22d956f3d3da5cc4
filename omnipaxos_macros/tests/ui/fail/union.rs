use omnipaxos::macros::Entry;

#[derive(Entry)]
union Bits {
    float: f32,
    int: u32,
}

fn main() {}
