//! What the simulated clusters decide on.

use bincode::{enc::write::Writer, error::EncodeError};
use omnipaxos::storage::{Entry, NoSnapshot, Snapshot, StopSign};
use serde::{de::DeserializeOwned, Deserialize, Serialize};

/// Set in the id of a position that holds a stop sign.
pub const STOP_SIGN: u64 = 1 << 63;

/// The largest entry, in bytes.
pub const LARGEST: usize = 32;

/// Number of registers that values write.
pub const REGISTERS: usize = 3;

/// What each register holds; 0 if nothing was written there.
pub type Registers = [u64; REGISTERS];

/// The register that the value of an id writes, if it writes.
pub fn register_of(id: u64) -> usize {
    (id % REGISTERS as u64) as usize
}

/// Whether the disks of some runs refuse the value of an id.
pub fn is_refused(id: u64) -> bool {
    id % 16 == 11
}

/// About how large the entry of an id is. Entries differ, so that limits in bytes are not those in
/// entries by another name.
fn size_of_entry(id: u64) -> usize {
    [8, 16, 24, LARGEST][(id % 4) as usize]
}

/// The bytes of a snapshot as it travels in pieces.
///
/// # Panics
/// It cannot be encoded.
pub fn encoded<S: Serialize>(snapshot: &S) -> Vec<u8> {
    let config = bincode::config::standard();
    bincode::serde::encode_to_vec(snapshot, config).expect("snapshots here are plain numbers")
}

/// The snapshot that takes up all of these bytes; `None` if there is none.
pub fn decoded<S: DeserializeOwned>(bytes: &[u8]) -> Option<S> {
    let config = bincode::config::standard();
    let (snapshot, used) = bincode::serde::decode_from_slice(bytes, config).ok()?;
    (used == bytes.len()).then_some(snapshot)
}

/// The number of bytes of a value when it is encoded.
///
/// # Panics
/// It cannot be encoded.
pub fn encoded_len<V: Serialize>(value: &V) -> u64 {
    let mut counted = Counted(0);
    let config = bincode::config::standard();
    bincode::serde::encode_into_writer(value, &mut counted, config)
        .expect("values here are encodable");
    counted.0
}

/// Counts what is written.
struct Counted(u64);

impl Writer for &mut Counted {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0 += bytes.len() as u64;
        Ok(())
    }
}

/// An entry that bears an id of its own.
pub trait SimEntry: Entry + PartialEq + Serialize + DeserializeOwned + 'static {
    /// The entry of the given id.
    fn with_id(id: u64) -> Self;

    /// The same, which writes its id into a register. Proposed with an id, so that it is decided once
    /// at most.
    fn writing(id: u64) -> Self;

    /// The register that it writes, if it does.
    fn register(&self) -> Option<usize>;

    /// The id; each proposal has another, below [`STOP_SIGN`].
    fn id(&self) -> u64;

    /// What a snapshot covers; `None` if the type has none.
    fn covered(snapshot: &Self::Snapshot) -> Option<Chain>;

    /// The snapshot that an application hands over; `None` if the type has none.
    fn handed_over(state: Chain) -> Option<Self::Snapshot>;
}

/// An entry with snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summed {
    id: u64,
    writes: bool,
}

/// An entry without snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plain {
    id: u64,
    writes: bool,
}

/// An entry with snapshots that only the application can make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stateful {
    id: u64,
    writes: bool,
}

/// The state of an application.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State(Chain);

impl Snapshot<Stateful> for State {
    fn create(_entries: &[Stateful]) -> Self {
        unreachable!("can_create is false")
    }

    fn merge(&mut self, _delta: Self) {
        unreachable!("can_create is false")
    }

    fn use_snapshots() -> bool {
        true
    }

    fn can_create() -> bool {
        false
    }
}

/// Sums up a run of ids: how many, a hash which depends on each of them and on their order, and what
/// they leave in the registers.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "EncodedChain", try_from = "EncodedChain")]
pub struct Chain {
    /// How many ids.
    pub count: u64,
    hash: u64,
    /// What was written last.
    pub registers: Registers,
}

/// A [`Chain`] as it is encoded: so large that it travels in many pieces where limits are tiny. Pieces of
/// two snapshots cannot be put together to one.
#[derive(Serialize, Deserialize)]
struct EncodedChain {
    count: u64,
    hash: u64,
    registers: Registers,
    /// Follow from the hash.
    filling: [u64; 4],
}

/// The largest snapshot, in bytes, when it is encoded.
pub const LARGEST_SNAPSHOT: u64 = 9 * (2 + REGISTERS as u64 + 4);

fn filling(hash: u64) -> [u64; 4] {
    [1, 2, 3, 4].map(|nth| crate::rng::mix(hash.wrapping_add(nth)))
}

impl From<Chain> for EncodedChain {
    fn from(chain: Chain) -> Self {
        let Chain { count, hash, registers } = chain;
        Self { count, hash, registers, filling: filling(hash) }
    }
}

impl TryFrom<EncodedChain> for Chain {
    type Error = &'static str;

    fn try_from(encoded: EncodedChain) -> Result<Self, Self::Error> {
        let EncodedChain { count, hash, registers, filling: found } = encoded;
        match found == filling(hash) {
            true => Ok(Self { count, hash, registers }),
            false => Err("the parts are not of one snapshot"),
        }
    }
}

impl Chain {
    const BASE: u64 = 0x9E37_79B9_7F4A_7C15;

    /// These ids and then one more.
    #[must_use]
    pub fn and(self, id: u64) -> Self {
        let hash = self.hash.wrapping_mul(Self::BASE).wrapping_add(crate::rng::mix(id));
        Self { count: self.count + 1, hash, ..self }
    }

    /// The same, where the last id was written into a register.
    #[must_use]
    pub fn writing(mut self, id: u64, register: Option<usize>) -> Self {
        if let Some(register) = register {
            self.registers[register] = id;
        }
        self
    }

    /// These ids and then those.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let (mut shift, mut power, mut left) = (1_u64, Self::BASE, next.count);
        while left > 0 {
            if left & 1 == 1 {
                shift = shift.wrapping_mul(power);
            }
            power = power.wrapping_mul(power);
            left >>= 1;
        }
        let mut registers = self.registers;
        for (register, newer) in registers.iter_mut().zip(next.registers) {
            *register = if newer == 0 { *register } else { newer };
        }
        Self {
            count: self.count + next.count,
            hash: self.hash.wrapping_mul(shift).wrapping_add(next.hash),
            registers,
        }
    }
}

impl Snapshot<Summed> for Chain {
    fn create(entries: &[Summed]) -> Self {
        let add =
            |chain: Self, entry: &Summed| chain.and(entry.id).writing(entry.id, entry.register());
        entries.iter().fold(Self::default(), add)
    }

    fn merge(&mut self, delta: Self) {
        *self = self.then(delta);
    }

    fn use_snapshots() -> bool {
        true
    }
}

impl Entry for Summed {
    type Snapshot = Chain;
    crate::with_caches!();

    fn size_hint(&self) -> usize {
        size_of_entry(self.id)
    }
}

impl SimEntry for Summed {
    fn with_id(id: u64) -> Self {
        Self { id, writes: false }
    }

    fn writing(id: u64) -> Self {
        Self { id, writes: true }
    }

    fn register(&self) -> Option<usize> {
        self.writes.then(|| register_of(self.id))
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn covered(snapshot: &Chain) -> Option<Chain> {
        Some(*snapshot)
    }

    fn handed_over(state: Chain) -> Option<Chain> {
        Some(state)
    }
}

impl Entry for Plain {
    type Snapshot = NoSnapshot;
    crate::with_caches!();

    fn size_hint(&self) -> usize {
        size_of_entry(self.id)
    }
}

impl SimEntry for Plain {
    fn with_id(id: u64) -> Self {
        Self { id, writes: false }
    }

    fn writing(id: u64) -> Self {
        Self { id, writes: true }
    }

    fn register(&self) -> Option<usize> {
        self.writes.then(|| register_of(self.id))
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn covered(_snapshot: &NoSnapshot) -> Option<Chain> {
        None
    }

    fn handed_over(_state: Chain) -> Option<NoSnapshot> {
        None
    }
}

impl Entry for Stateful {
    type Snapshot = State;
    crate::with_caches!();

    fn size_hint(&self) -> usize {
        size_of_entry(self.id)
    }
}

impl SimEntry for Stateful {
    fn with_id(id: u64) -> Self {
        Self { id, writes: false }
    }

    fn writing(id: u64) -> Self {
        Self { id, writes: true }
    }

    fn register(&self) -> Option<usize> {
        self.writes.then(|| register_of(self.id))
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn covered(snapshot: &State) -> Option<Chain> {
        Some(snapshot.0)
    }

    fn handed_over(state: Chain) -> Option<State> {
        Some(State(state))
    }
}

/// The metadata of a stop sign that is known again by `id`.
pub fn stop_sign_metadata(id: u64) -> Vec<u8> {
    id.to_be_bytes().to_vec()
}

/// The id at the position of a stop sign.
pub fn stop_sign_id(stopsign: &StopSign) -> u64 {
    let bytes = stopsign.metadata.as_deref().and_then(|m| <[u8; 8]>::try_from(m).ok());
    STOP_SIGN | bytes.map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::{Chain, SimEntry, Summed};
    use omnipaxos::storage::Snapshot;

    #[test]
    fn merging_is_going_on() {
        let mixed = |id| if id % 5 < 2 { Summed::writing(id) } else { Summed::with_id(id) };
        let entries: Vec<Summed> = (1..20).map(mixed).collect();
        let whole = Chain::create(&entries);
        for split in 0..entries.len() {
            let mut first = Chain::create(&entries[..split]);
            first.merge(Chain::create(&entries[split..]));
            assert_eq!(first, whole, "split at {split}");
        }
    }

    #[test]
    fn the_order_counts() {
        let chain = |ids: &[u64]| ids.iter().fold(Chain::default(), |c, id| c.and(*id));
        assert_ne!(chain(&[1, 2, 3]), chain(&[1, 3, 2]));
        assert_ne!(chain(&[1, 2]), chain(&[1, 2, 2]));
    }
}
