//! A configuration from a TOML file.

use super::{invalid, ConfigError, OmniPaxosConfig};
use serde::Deserialize;

/// Our tables and the keys that they may have, those of features that are off included.
const TABLES: [(&str, &[&str]); 2] = [
    ("cluster_config", &["configuration_id", "nodes", "flexible_quorum"]),
    (
        "server_config",
        &[
            "pid",
            "election_tick_timeout",
            "resend_message_tick_timeout",
            "buffer_size",
            "batch_size",
            "flush_batch_tick_timeout",
            "leader_priority",
            "max_message_bytes",
            "max_message_entries",
            "max_in_flight_bytes",
            "max_in_flight_entries",
            "max_pending_bytes",
            "max_pending_entries",
            "max_entry_bytes",
            "tells_removed_servers",
            "takes_delta_snapshots",
            "keeps_undecided_appends",
            "incarnation",
            "cluster_name",
            "logger_file_path",
        ],
    ),
];

const QUORUM_KEYS: [&str; 2] = ["read_quorum_size", "write_quorum_size"];

impl OmniPaxosConfig {
    /// Reads a configuration from a TOML file and validates it.
    ///
    /// ```toml
    /// [cluster_config]
    /// configuration_id = 1
    /// nodes = [1, 2, 3]
    ///
    /// [server_config]
    /// pid = 2
    /// ```
    ///
    /// Fields of [`ServerConfig`](crate::ServerConfig) that have a default may be left out. The
    /// file may have other tables, which are not looked at.
    ///
    /// # Errors
    /// [`ConfigError::ReadFile`] if there is no such file, [`ConfigError::Parse`] if it is not
    /// TOML or a field has the wrong type, [`ConfigError::InvalidConfig`] if a value is not legal
    /// or a key of our tables is misspelt.
    pub fn with_toml(file_path: &str) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file_path)
            .map_err(|cause| std::io::Error::new(cause.kind(), format!("{file_path}: {cause}")))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, ConfigError> {
        let table: toml::Table = text.parse()?;
        for (name, keys) in TABLES {
            if let Some(toml::Value::Table(ours)) = table.get(name) {
                check_keys(name, ours, keys)?;
                if let Some(toml::Value::Table(quorum)) = ours.get("flexible_quorum") {
                    check_keys("cluster_config.flexible_quorum", quorum, &QUORUM_KEYS)?;
                }
            }
        }
        let config = Self::deserialize(toml::Deserializer::parse(text)?)?;
        config.validate()?;
        Ok(config)
    }
}

/// Refuses keys that are not ours.
fn check_keys(name: &str, table: &toml::Table, known: &[&str]) -> Result<(), ConfigError> {
    let Some(unknown) = table.keys().find(|key| !known.contains(&key.as_str())) else {
        return Ok(());
    };
    let likely = known.iter().min_by_key(|key| distance(key, unknown));
    match likely.filter(|key| distance(key, unknown) <= key.len().div_ceil(2)) {
        Some(likely) => {
            invalid(format!("unknown key `{unknown}` in [{name}]; did you mean `{likely}`?"))
        }
        None => invalid(format!(
            "unknown key `{unknown}` in [{name}]; the keys are {}",
            known.join(", ")
        )),
    }
}

/// Number of letters to insert, drop or change to get from one word to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a_char) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (above, b_char) in row.iter_mut().skip(1).zip(&b) {
            let change = diagonal + usize::from(a_char != *b_char);
            diagonal = *above;
            left = change.min(diagonal + 1).min(left + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::distance;
    use crate::config::{ConfigError, OmniPaxosConfig};
    use crate::quorum::FlexibleQuorum;

    const LEAST: &str =
        "[cluster_config]\nconfiguration_id = 1\nnodes = [1, 2, 3]\n[server_config]\npid = 2\n";

    fn invalid(text: &str) -> String {
        match OmniPaxosConfig::parse(text) {
            Err(ConfigError::InvalidConfig(what)) => what,
            other => panic!("expected an invalid configuration, got {other:?}"),
        }
    }

    #[test]
    fn the_least() {
        let config = OmniPaxosConfig::parse(LEAST).unwrap();
        assert_eq!(config.cluster_config.nodes, [1, 2, 3]);
        assert_eq!(config.server_config.pid, 2);
        assert_eq!(config.server_config.election_tick_timeout, 10);
    }

    #[test]
    fn everything() {
        let config = OmniPaxosConfig::parse(
            "[cluster_config]\nconfiguration_id = 2\nnodes = [1, 2, 3, 4]\n\
             flexible_quorum = { read_quorum_size = 3, write_quorum_size = 2 }\n\
             [server_config]\npid = 2\nelection_tick_timeout = 5\n\
             resend_message_tick_timeout = 20\nbuffer_size = 1\nbatch_size = 4\n\
             flush_batch_tick_timeout = 3\nleader_priority = 7\nlogger_file_path = \"a.log\"\n\
             [somebody_else]\nkey = 1\n",
        )
        .unwrap();
        assert_eq!(
            config.cluster_config.flexible_quorum,
            Some(FlexibleQuorum { read_quorum_size: 3, write_quorum_size: 2 })
        );
        assert_eq!(config.server_config.batch_size, 4);
        assert_eq!(config.server_config.leader_priority, 7);
    }

    #[test]
    fn a_misspelt_key_is_named_with_the_likely_one() {
        let what = invalid(&format!("{LEAST}batchsize = 4\n"));
        assert_eq!(what, "unknown key `batchsize` in [server_config]; did you mean `batch_size`?");
        let what = invalid(&format!("{LEAST}quux = 4\n"));
        assert!(what.contains("the keys are pid, "), "{what}");
        let what = invalid(
            "[cluster_config]\nconfiguration_id = 1\nnodes = [1]\n\
             flexible_quorum = { read_quorum = 1, write_quorum_size = 1 }\n\
             [server_config]\npid = 1\n",
        );
        assert!(what.contains("did you mean `read_quorum_size`"), "{what}");
    }

    #[test]
    fn bad_files() {
        let no_such_file = OmniPaxosConfig::with_toml("no/such/file.toml");
        match no_such_file {
            Err(ConfigError::ReadFile(cause)) => {
                assert!(cause.to_string().contains("no/such/file.toml"), "{cause}");
            }
            other => panic!("expected an unreadable file, got {other:?}"),
        }
        for text in ["[cluster_config", "[cluster_config]\nnodes = 3\n", "", "[server_config]\n"] {
            assert!(matches!(OmniPaxosConfig::parse(text), Err(ConfigError::Parse(_))), "{text}");
        }
        assert_eq!(
            invalid(&LEAST.replace("pid = 2", "pid = 9")),
            "pid 9 must be one of the nodes [1, 2, 3]"
        );
    }

    #[test]
    fn distances() {
        for (a, b, d) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("pid", "pdi", 2)] {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
    }
}
