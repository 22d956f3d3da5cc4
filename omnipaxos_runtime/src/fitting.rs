//! Messages that fit into what a transport carries.

use omnipaxos::ServerConfig;

/// The most bytes that a message takes for an entry beside the entry: its id, and lengths.
const BESIDE_AN_ENTRY: usize = 32;

/// Returns how many bytes beyond one and a half times its size hint an entry may take encoded: so many that the
/// default frame carries as many entries as the default of `max_message_entries`.
fn excess(largest_message: usize) -> usize {
    (largest_message / (64 * 1024)).saturating_sub(BESIDE_AN_ENTRY)
}

/// Returns the largest encoding of an entry with this size hint.
///
/// With larger ones the messages of a replica may not fit: it counts size hints.
pub(crate) fn largest_encoding(size_hint: usize, largest_message: usize) -> usize {
    size_hint.saturating_add(size_hint / 2).saturating_add(excess(largest_message))
}

/// Limits messages to this number of encoded bytes, if each entry has at most its
/// [`largest_encoding`].
///
/// The size hints of a message are `max_message_bytes` at most, but an undecided tail may exceed them by its
/// last entry. All of them may take half as much again. A quarter of the bytes is left for what does not grow
/// with the hints.
pub(crate) fn fit_messages(server: &mut ServerConfig, largest_message: usize) {
    let hints = largest_message / 2;
    let beside = excess(largest_message) + BESIDE_AN_ENTRY;
    server.max_message_bytes = server.max_message_bytes.min(hints / 2);
    server.max_message_entries = server.max_message_entries.min(largest_message / 4 / beside);
    let largest_entry = hints - server.max_message_bytes;
    let chosen = server.max_entry_bytes.unwrap_or(largest_entry);
    server.max_entry_bytes = Some(chosen.min(largest_entry));
}

#[cfg(test)]
mod tests {
    use super::{excess, fit_messages, largest_encoding, BESIDE_AN_ENTRY};
    use omnipaxos::ServerConfig;

    #[test]
    fn the_largest_message_fits() {
        for largest_message in [1 << 10, 1 << 16, 1 << 20, 1 << 24, 1 << 28] {
            let mut server = ServerConfig {
                max_message_bytes: usize::MAX,
                max_entry_bytes: Some(usize::MAX),
                ..Default::default()
            };
            fit_messages(&mut server, largest_message);
            let (bytes, entries) = (server.max_message_bytes, server.max_message_entries);
            let hints = bytes + server.max_entry_bytes.unwrap_or(usize::MAX);
            let encoded = hints + hints / 2 + entries * (excess(largest_message) + BESIDE_AN_ENTRY);
            assert!(encoded <= largest_message, "{encoded} of {largest_message}");
            assert!(entries > 0 && bytes > 0);
        }
    }

    #[test]
    fn limits_that_fit_stay() {
        let mut server = ServerConfig {
            max_message_bytes: 100,
            max_message_entries: 3,
            max_entry_bytes: Some(500),
            ..Default::default()
        };
        fit_messages(&mut server, 1 << 24);
        let limits = (server.max_message_bytes, server.max_message_entries, server.max_entry_bytes);
        assert_eq!(limits, (100, 3, Some(500)));
    }

    #[test]
    fn the_default_frame_keeps_the_default_number_of_entries() {
        let mut server = ServerConfig::default();
        fit_messages(&mut server, 1 << 24);
        assert_eq!(server.max_message_entries, ServerConfig::default().max_message_entries);
    }

    #[test]
    fn a_hint_allows_half_as_much_again_and_some_bytes() {
        assert_eq!(largest_encoding(1000, 1 << 24), 1500 + 224);
        assert_eq!(largest_encoding(usize::MAX, 1 << 24), usize::MAX);
    }
}
