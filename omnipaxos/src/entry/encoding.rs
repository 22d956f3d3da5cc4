//! Snapshots as bytes, so that a large one travels in pieces. Without the feature `serde` there are no
//! bytes, and every snapshot travels whole.

#[cfg(feature = "serde")]
pub(crate) use self::on::{decode, encode, encoded_len};

#[cfg(not(feature = "serde"))]
pub(crate) use self::off::{decode, encode, encoded_len};

/// Whether snapshots can be encoded.
pub(crate) const IS_SUPPORTED: bool = cfg!(feature = "serde");

/// Identifies the bytes of a snapshot: a hash over words of eight bytes and the length. It is the same
/// on every machine, and however the bytes are divided.
///
/// ```
/// use omnipaxos::storage::SnapshotDigest;
///
/// let (mut whole, mut divided) = (SnapshotDigest::default(), SnapshotDigest::default());
/// whole.update(b"a snapshot");
/// divided.update(b"a snap");
/// divided.update(b"shot");
/// assert_eq!(whole.finish(), divided.finish());
/// ```
#[derive(Copy, Clone, Debug)]
pub struct SnapshotDigest {
    /// The hash of all complete words.
    hash: u64,
    /// Number of bytes.
    len: u64,
    /// The beginning of the next word.
    word: u64,
}

impl Default for SnapshotDigest {
    fn default() -> Self {
        Self { hash: 0xCBF2_9CE4_8422_2325, len: 0, word: 0 }
    }
}

impl SnapshotDigest {
    /// Adds bytes at the end.
    pub fn update(&mut self, bytes: &[u8]) {
        let lacking = (8 - self.len % 8) % 8;
        let lacking = usize::try_from(lacking).map_or(bytes.len(), |count| count.min(bytes.len()));
        let (first, rest) = bytes.split_at(lacking);
        first.iter().for_each(|byte| self.push(*byte));
        let (words, last) = rest.as_chunks::<8>();
        for word in words {
            self.hash = mix(self.hash, u64::from_le_bytes(*word));
        }
        self.len += 8 * words.len() as u64;
        last.iter().for_each(|byte| self.push(*byte));
    }

    /// Returns the digest of all bytes.
    pub fn finish(&self) -> u64 {
        let hash = if self.len.is_multiple_of(8) { self.hash } else { mix(self.hash, self.word) };
        mix(hash, self.len)
    }

    fn push(&mut self, byte: u8) {
        self.word |= u64::from(byte) << (8 * (self.len % 8));
        self.len += 1;
        if self.len.is_multiple_of(8) {
            self.hash = mix(self.hash, self.word);
            self.word = 0;
        }
    }
}

fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
}

/// Returns the digest of `bytes`.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let mut digest = SnapshotDigest::default();
    digest.update(bytes);
    digest.finish()
}

#[cfg(feature = "serde")]
mod on {
    use crate::entry::bounds::Wire;
    use bincode::{
        config::{standard, Config},
        enc::write::Writer,
        error::EncodeError,
    };

    /// The bytes of a snapshot; `None` if it cannot be encoded.
    pub(crate) fn encode<S: Wire>(snapshot: &S) -> Option<Vec<u8>> {
        bincode::serde::encode_to_vec(snapshot, standard()).ok()
    }

    /// Number of bytes of a snapshot; `None` if it cannot be encoded.
    pub(crate) fn encoded_len<S: Wire>(snapshot: &S) -> Option<u64> {
        let mut counted = Counted(0);
        bincode::serde::encode_into_writer(snapshot, &mut counted, standard()).ok()?;
        Some(counted.0)
    }

    /// Counts what is written.
    struct Counted(u64);

    impl Writer for &mut Counted {
        #[inline]
        fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
            self.0 += bytes.len() as u64;
            Ok(())
        }
    }

    /// The snapshot that takes up all of `bytes`; `None` if there is none. A length in these bytes
    /// that is a lie must not allocate what no memory holds. An integer of one byte takes up to 16
    /// when it is decoded, which is what the limits count.
    pub(crate) fn decode<S: Wire>(bytes: &[u8]) -> Option<S> {
        match bytes.len() {
            0..=0x1_0000 => decode_with(bytes, standard().with_limit::<0x10_0000>()),
            0x1_0001..=0x40_0000 => decode_with(bytes, standard().with_limit::<0x400_0000>()),
            0x40_0001..=0x1000_0000 => decode_with(bytes, standard().with_limit::<0xFFFF_FFFF>()),
            0x1000_0001.. => decode_with(bytes, standard()),
        }
    }

    fn decode_with<S: Wire>(bytes: &[u8], config: impl Config) -> Option<S> {
        let (snapshot, used) = bincode::serde::decode_from_slice(bytes, config).ok()?;
        (used == bytes.len()).then_some(snapshot)
    }
}

#[cfg(not(feature = "serde"))]
mod off {
    /// None: snapshots travel whole.
    pub(crate) fn encode<S>(_snapshot: &S) -> Option<Vec<u8>> {
        None
    }

    /// None: snapshots travel whole.
    pub(crate) fn encoded_len<S>(_snapshot: &S) -> Option<u64> {
        None
    }

    /// None: nothing is encoded.
    pub(crate) fn decode<S>(_bytes: &[u8]) -> Option<S> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{digest, SnapshotDigest};

    #[test]
    fn bytes_that_differ_have_different_digests() {
        let bytes = [0_u8; 40];
        let mut digests: Vec<u64> = (0..40).map(|len| digest(&bytes[..len])).collect();
        for position in 0..40 {
            let mut other = bytes;
            other[position] = 1;
            digests.push(digest(&other));
        }
        let count = digests.len();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), count);
    }

    #[test]
    fn the_digest_does_not_depend_on_how_bytes_are_divided() {
        let bytes: Vec<u8> = (0..100).map(|n: u8| n.wrapping_mul(37)).collect();
        for len in 0..bytes.len() {
            for step in 1..20 {
                let mut divided = SnapshotDigest::default();
                bytes[..len].chunks(step).for_each(|part| divided.update(part));
                assert_eq!(divided.finish(), digest(&bytes[..len]), "{len} bytes by {step}");
            }
        }
    }

    #[cfg(feature = "serde")]
    mod encoded {
        use super::super::{decode, encode, encoded_len};

        #[test]
        fn a_snapshot_is_what_its_bytes_are_decoded_to() {
            let snapshot = vec![("key".to_owned(), 7_u64), (String::new(), u64::MAX)];
            let bytes = encode(&snapshot).unwrap();
            assert_eq!(encoded_len(&snapshot), Some(bytes.len() as u64));
            assert_eq!(decode(&bytes), Some(snapshot));
        }

        #[test]
        fn bytes_that_are_no_snapshot_are_not_decoded() {
            let snapshot = vec!["word".to_owned(); 9];
            let bytes = encode(&snapshot).unwrap();
            for end in 0..bytes.len() {
                assert_eq!(decode::<Vec<String>>(&bytes[..end]), None, "{end}");
            }
            let more: Vec<u8> = bytes.iter().copied().chain([0]).collect();
            assert_eq!(decode::<Vec<String>>(&more), None);
            // A word with a length that no memory holds.
            let lie = [&[1, 253][..], &[0xFF; 8]].concat();
            assert_eq!(decode::<Vec<String>>(&lie), None);
        }
    }
}
