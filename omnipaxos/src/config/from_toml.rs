//! Reads a configuration from a TOML file.

use super::{invalid, ClusterConfig, ConfigError, OmniPaxosConfig, ServerConfig};
use crate::membership::FlexibleQuorum;
use serde::{
    de::{self, value, Visitor},
    Deserialize, Deserializer,
};
use std::io;
use thiserror::Error;

/// The keys of features that are off. They are legal in any file.
const KEYS_OF_FEATURES: [&str; 1] = ["logger_file_path"];

/// Returns our tables and their keys, including the keys of features that are off.
fn tables() -> [(&'static str, Vec<&'static str>); 2] {
    let mut server = fields::<ServerConfig>();
    for key in KEYS_OF_FEATURES {
        if !server.contains(&key) {
            server.push(key);
        }
    }
    [("cluster_config", fields::<ClusterConfig>()), ("server_config", server)]
}

fn quorum_keys() -> Vec<&'static str> {
    fields::<FlexibleQuorum>()
}

/// Returns the fields of a struct that serde reads.
fn fields<'de, T: Deserialize<'de>>() -> Vec<&'static str> {
    let mut fields: &[&str] = &[];
    // It reads no value. It records the requested fields.
    let _ = T::deserialize(FieldNames(&mut fields));
    fields.to_vec()
}

/// A format that records the field names of a struct, and holds no value.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(de::Error::custom("no value"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

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
    /// Fields of [`ServerConfig`] with a default may be omitted. The file may
    /// have other tables. They are ignored, unless their name looks like a misspelt name of one of
    /// these tables.
    ///
    /// # Errors
    /// - [`ConfigError::ReadFile`] if the file cannot be read.
    /// - [`ConfigError::Parse`] if it is not TOML, or a field has the wrong type.
    /// - [`ConfigError::InvalidConfig`] if a value is not legal, if a key of our tables is misspelt
    ///   or in another table, or if the name of a table is misspelt.
    pub fn with_toml(file_path: &str) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file_path)
            .map_err(|cause| io::Error::new(cause.kind(), Unreadable::new(file_path, cause)))?;
        Self::from_toml(&text)
    }

    /// Reads a configuration from the text of a TOML file and validates it.
    ///
    /// It does the same as [`with_toml`](Self::with_toml) with a text.
    ///
    /// # Errors
    /// Returns the errors of `with_toml`.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let table: toml::Table = text.parse()?;
        check_top(&table)?;
        for (name, keys) in tables() {
            if let Some(toml::Value::Table(ours)) = table.get(name) {
                check_keys(name, ours, &keys)?;
                if let Some(toml::Value::Table(quorum)) = ours.get("flexible_quorum") {
                    check_keys("cluster_config.flexible_quorum", quorum, &quorum_keys())?;
                }
            }
        }
        let config = Self::deserialize(toml::Deserializer::parse(text)?)?;
        config.validate()?;
        Ok(config)
    }
}

/// An error of the system about a file, with the path that the system omits.
#[derive(Debug, Error)]
#[error("{cause}")]
struct Unreadable {
    path: String,
    cause: io::Error,
}

impl Unreadable {
    fn new(path: &str, cause: io::Error) -> Self {
        Self { path: path.to_string(), cause }
    }
}

/// Returns the path of the file that could not be read, if it is known.
pub(super) fn named(error: &io::Error) -> String {
    let unreadable = error.get_ref().and_then(|cause| cause.downcast_ref::<Unreadable>());
    unreadable.map_or_else(String::new, |unreadable| format!(" {}", unreadable.path))
}

/// Refuses a misspelt table, and a key of our tables at the top unless the table has it too. Other
/// tables and keys are ignored: they are not ours.
fn check_top(file: &toml::Table) -> Result<(), ConfigError> {
    let is_set =
        |table: &str, key: &str| file.get(table).is_some_and(|ours| ours.get(key).is_some());
    for (name, value) in file {
        match home_of(name).filter(|home| !is_set(home, name)) {
            Some(home) if name == "flexible_quorum" => {
                return invalid(format!("table [{name}] is at the top; it belongs in [{home}]"));
            }
            Some(home) if !value.is_table() => {
                return invalid(format!(
                    "key `{name}` is outside of a table; it belongs in [{home}]"
                ));
            }
            Some(_) | None => {}
        }
        let Some((likely, keys)) = tables().into_iter().find(|(ours, _)| is_misspelt(ours, name))
        else {
            continue;
        };
        // If our table is there, too, this one may be another program's, unless it has only our keys.
        let has_our_keys = value.as_table().is_some_and(|table| {
            !table.is_empty() && table.keys().all(|key| keys.contains(&key.as_str()))
        });
        if has_our_keys || !file.contains_key(likely) {
            return invalid(format!("unknown table [{name}]; did you mean [{likely}]?"));
        }
    }
    Ok(())
}

/// Returns our table that has this key.
fn home_of(key: &str) -> Option<&'static str> {
    if quorum_keys().contains(&key) {
        return Some("cluster_config.flexible_quorum");
    }
    tables().into_iter().find(|(_, keys)| keys.contains(&key)).map(|(name, _)| name)
}

/// Refuses keys that are not ours.
fn check_keys(name: &str, table: &toml::Table, known: &[&str]) -> Result<(), ConfigError> {
    let Some(unknown) = table.keys().find(|key| !known.contains(&key.as_str())) else {
        return Ok(());
    };
    if let Some(home) = home_of(unknown) {
        return invalid(format!("key `{unknown}` is in [{name}]; it belongs in [{home}]"));
    }
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

/// Returns whether a table name may be a misspelt one of ours. Case and punctuation are ignored.
fn is_misspelt(ours: &str, table: &str) -> bool {
    let letters = |text: &str| -> String {
        text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    ours != table && distance(&letters(ours), &letters(table)) <= 2
}

/// Returns the edit distance of two words (Levenshtein): letters to insert, drop or change.
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
    use crate::errors::with_causes;
    use crate::membership::FlexibleQuorum;

    const LEAST: &str =
        "[cluster_config]\nconfiguration_id = 1\nnodes = [1, 2, 3]\n[server_config]\npid = 2\n";

    fn invalid(text: &str) -> String {
        match OmniPaxosConfig::from_toml(text) {
            Err(ConfigError::InvalidConfig(what)) => what,
            other => panic!("expected an invalid configuration, got {other:?}"),
        }
    }

    #[test]
    fn the_least() {
        let config = OmniPaxosConfig::from_toml(LEAST).unwrap();
        assert_eq!(config.cluster_config.nodes, [1, 2, 3]);
        assert_eq!(config.server_config.pid, 2);
        assert_eq!(config.server_config.election_tick_timeout, 10);
    }

    #[test]
    fn everything() {
        let config = OmniPaxosConfig::from_toml(
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

    /// A field that serde does not read could not be set.
    #[test]
    fn every_field_is_a_key() {
        let named = |fields: &str| -> Vec<String> {
            let lines = fields.lines().filter_map(|line| line.strip_prefix("    "));
            let fields = lines.filter(|line| !line.starts_with([' ', '}']));
            fields.filter_map(|line| Some(line.split_once(':')?.0.to_string())).collect()
        };
        let config = OmniPaxosConfig::default();
        let server = named(&format!("{:#?}", config.server_config));
        let cluster = named(&format!("{:#?}", config.cluster_config));
        let of_features = ["logger_file_path", "custom_logger"];
        for ((table, keys), fields) in super::tables().into_iter().zip([cluster, server]) {
            for field in fields.iter().filter(|field| *field != "custom_logger") {
                assert!(keys.contains(&field.as_str()), "{field} in [{table}]");
            }
            for key in keys.iter().filter(|key| !of_features.contains(key)) {
                assert!(fields.iter().any(|field| field == key), "{key} in [{table}]");
            }
        }
        let rest = "max_election_tick_factor = 3\nmax_message_bytes = 1\nmax_message_entries = 2\n\
                    max_in_flight_bytes = 3\nmax_in_flight_entries = 4\nmax_pending_bytes = 5\n\
                    max_pending_entries = 6\nmax_entry_bytes = 7\ntells_removed_servers = true\n\
                    takes_delta_snapshots = true\nkeeps_undecided_appends = true\n\
                    incarnation = 8\ncluster_name = \"east\"\nmax_snapshot_bytes = 1099511627776\n";
        let config = OmniPaxosConfig::from_toml(&format!("{LEAST}{rest}")).unwrap().server_config;
        assert_eq!((config.max_election_tick_factor, config.max_entry_bytes), (3, Some(7)));
        assert!(config.takes_delta_snapshots && config.keeps_undecided_appends);
        assert_eq!(config.max_snapshot_bytes, 1 << 40);
        assert_eq!((config.incarnation, config.cluster_name.as_deref()), (Some(8), Some("east")));
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
    fn a_misspelt_table_is_named_with_the_likely_one() {
        for (table, misspelt) in [
            ("server_config", "server_confg"),
            ("server_config", "server-config"),
            ("server_config", "serverconfig"),
            ("server_config", "ServerConfig"),
            ("server_config", "server_conf"),
            ("server_config", "SERVER_CONFIG"),
            ("cluster_config", "cluster-config"),
            ("cluster_config", "cluser_config"),
            ("cluster_config", "clusterConfig"),
        ] {
            let text = LEAST.replace(&format!("[{table}]"), &format!("[{misspelt}]"));
            let what = invalid(&text);
            let expected = format!("unknown table [{misspelt}]; did you mean [{table}]?");
            assert_eq!(what, expected);
        }
        for other in ["metrics", "server", "cluster", "client_config", "storage", "kv_store"] {
            let text = format!("{LEAST}[{other}]\nnodes = [1]\npid = 2\n");
            assert!(OmniPaxosConfig::from_toml(&text).is_ok(), "[{other}]");
        }
        let beside_ours = format!("{LEAST}[server_confg]\nbatch_size = 4\n");
        assert!(invalid(&beside_ours).contains("did you mean [server_config]"));
        let text = format!("{LEAST}[server_configs]\nport = 2\n");
        assert!(OmniPaxosConfig::from_toml(&text).is_ok(), "another program's, beside ours");
    }

    #[test]
    fn a_key_in_another_table_is_sent_home() {
        let pid_in_cluster = "[cluster_config]\nconfiguration_id = 1\nnodes = [1]\npid = 1\n";
        let nodes_in_server = format!("{LEAST}nodes = [1, 2, 3]\n");
        let at_the_top = format!("pid = 2\n{}", LEAST.replace("pid = 2\n", ""));
        let quorum_in_cluster =
            LEAST.replace("[server_config]", "read_quorum_size = 2\n[server_config]");
        let quorum_at_the_top = format!("[flexible_quorum]\nread_quorum_size = 2\n{LEAST}");
        let nodes_in_quorum =
            LEAST.replace("[server_config]", "flexible_quorum = { nodes = [1] }\n[server_config]");
        for (text, says) in [
            (pid_in_cluster, "key `pid` is in [cluster_config]; it belongs in [server_config]"),
            (&nodes_in_server, "key `nodes` is in [server_config]; it belongs in [cluster_config]"),
            (&at_the_top, "key `pid` is outside of a table; it belongs in [server_config]"),
            (
                &quorum_in_cluster,
                "key `read_quorum_size` is in [cluster_config]; it belongs in \
                 [cluster_config.flexible_quorum]",
            ),
            (
                &quorum_at_the_top,
                "table [flexible_quorum] is at the top; it belongs in [cluster_config]",
            ),
            (
                &nodes_in_quorum,
                "key `nodes` is in [cluster_config.flexible_quorum]; it belongs in [cluster_config]",
            ),
        ] {
            assert_eq!(invalid(text), says);
        }
        let other = format!("name = \"mine\"\nport = 7\npid = 9\n{LEAST}");
        assert!(OmniPaxosConfig::from_toml(&other).is_ok(), "keys of the program");
    }

    #[test]
    fn bad_files() {
        let no_such_file = OmniPaxosConfig::with_toml("no/such/file.toml");
        let error = no_such_file.expect_err("there is no such file");
        assert!(matches!(error, ConfigError::ReadFile(_)), "{error:?}");
        let text = "could not read the configuration file no/such/file.toml";
        assert_eq!(error.to_string(), text);
        assert!(with_causes(&error).starts_with(&format!("{text}: No such file")), "{error:?}");
        for text in ["[cluster_config", "[cluster_config]\nnodes = 3\n", "", "[server_config]\n"] {
            assert!(
                matches!(OmniPaxosConfig::from_toml(text), Err(ConfigError::Parse(_))),
                "{text}"
            );
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
