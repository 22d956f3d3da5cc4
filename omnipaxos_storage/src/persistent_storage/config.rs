//! The configuration of a persistent storage: its folders and options.

use commitlog::LogOptions;
use std::path::{Path, PathBuf};

/// The folder of a storage if none was set.
const DEFAULT_PATH: &str = "omnipaxos_storage";

/// Cache size of the database if the user did not set one: state and snapshots are rarely read.
const DATABASE_CACHE_BYTES: u64 = 16 << 20;

/// Size of a log segment if the user did not set one. Space is freed by whole segments.
const SEGMENT_BYTES: usize = 128 << 20;

/// Size of the largest snapshot, encoded, for which a batch always waits, if the user did not set
/// one. A larger one is never in the database.
pub(super) const LARGEST_INLINE_SNAPSHOT: u64 = 256 << 10;

/// The configuration of a [`PersistentStorage`](super::PersistentStorage).
///
/// ```
/// use omnipaxos_storage::{
///     commitlog::LogOptions, persistent_storage::PersistentStorageConfig, sled,
/// };
///
/// let config = PersistentStorageConfig::with_path("/var/lib/my_store");
/// assert_eq!(config.get_path().map(String::as_str), Some("/var/lib/my_store"));
///
/// // Log and database in separate folders, with their own options:
/// let log = LogOptions::new("/fast_disk/log");
/// let database = sled::Config::new().path("/disk/state");
/// let config = PersistentStorageConfig::with("/var/lib/my_store".to_string(), log, database);
/// ```
#[derive(Clone, Debug)]
pub struct PersistentStorageConfig {
    path: String,
    log_options: Option<LogOptions>,
    database_options: Option<sled::Config>,
    skips_read_back: bool,
    largest_inline_snapshot: u64,
}

impl Default for PersistentStorageConfig {
    fn default() -> Self {
        Self {
            path: DEFAULT_PATH.to_string(),
            log_options: None,
            database_options: None,
            skips_read_back: false,
            largest_inline_snapshot: LARGEST_INLINE_SNAPSHOT,
        }
    }
}

impl PersistentStorageConfig {
    /// Creates a configuration with all parts set.
    pub fn with(path: String, log_options: LogOptions, database_options: sled::Config) -> Self {
        Self {
            path,
            log_options: Some(log_options),
            database_options: Some(database_options),
            skips_read_back: false,
            largest_inline_snapshot: LARGEST_INLINE_SNAPSHOT,
        }
    }

    /// Creates a configuration with the folder of the storage, and default options.
    pub fn with_path(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// Returns the folder of the storage; always `Some`, as in 0.2.2.
    ///
    /// If none was set, it is `omnipaxos_storage` in the working directory.
    pub fn get_path(&self) -> Option<&String> {
        Some(&self.path)
    }

    /// Sets the folder of the storage.
    ///
    /// The log is in `commitlog` and the database in `database` below it, unless their options name
    /// other folders. It takes only a `String`, so that `set_path("folder".into())` compiles.
    /// [`with_path`](Self::with_path) also takes a `&str`.
    pub fn set_path(&mut self, path: String) {
        self.path = path;
    }

    /// Returns the options of the log: folder and segment size, as set or by default.
    pub fn get_commitlog_options(&self) -> LogOptions {
        let LogSettings { folder, segment_bytes } = self.log();
        let mut options = match (&self.log_options, folder) {
            (Some(set), folder) if LogSettings::of(set).folder == folder => set.clone(),
            (Some(_) | None, folder) => LogOptions::new(folder.unwrap_or_default()),
        };
        if let Some(bytes) = segment_bytes {
            options.segment_max_bytes(bytes);
        }
        options
    }

    /// Sets the folder and the segment size of the log.
    ///
    /// An entry must fit a segment. A batch may have any size, independent of the largest message
    /// in these options.
    pub fn set_commitlog_options(&mut self, log_options: LogOptions) {
        self.log_options = Some(log_options);
    }

    /// Returns the options of the database, as set or by default.
    pub fn get_database_options(&self) -> sled::Config {
        self.database()
    }

    /// Sets the options of the database, which contains the checkpoint, the identity and small snapshots.
    ///
    /// If they contain no path, the database stays below the folder of the storage, and takes only cache,
    /// mode and compression from them. In particular, `flush_every_ms` has no effect then: a disk
    /// reports a failed write to one sync only, and sled's thread would take that report.
    pub fn set_database_options(&mut self, database_options: sled::Config) {
        self.database_options = Some(database_options);
    }

    /// Does the same as [`set_database_options`](Self::set_database_options).
    pub fn set_sled_options(&mut self, database_options: sled::Config) {
        self.set_database_options(database_options);
    }

    /// Returns whether the storage reads a proposed entry back before a server accepts it.
    pub fn get_read_back(&self) -> bool {
        !self.skips_read_back
    }

    /// Sets whether the storage reads proposed entries and snapshots back before a server accepts
    /// them.
    ///
    /// The default is `true`. To read back means to encode, decode and encode again. The storage
    /// then refuses entries that bincode writes and cannot read. With `false`, only the size is
    /// checked. Then an entry that cannot be read back halts the servers that need to read it, for
    /// good. Use `false` only for types whose values can certainly be read back.
    pub fn set_read_back(&mut self, reads_back: bool) {
        self.skips_read_back = !reads_back;
    }

    /// Returns the largest encoded size of a snapshot that calls write, and not a thread.
    pub fn get_largest_inline_snapshot(&self) -> u64 {
        self.largest_inline_snapshot
    }

    /// Sets the largest encoded size, in bytes, of a snapshot that calls write, and not a thread.
    ///
    /// The default is 256 KiB. If the snapshot of a compaction is larger, a thread writes it while
    /// calls continue. After a crash before it is durable, the storage holds the earlier snapshot
    /// and all entries after it. A smaller snapshot is durable with its batch, unless the thread still
    /// writes an earlier one: then it follows that. With `u64::MAX` every batch waits for its snapshot.
    ///
    /// With [background encoding](crate::persistent_storage::PersistentStorage::with_background_encoding)
    /// a thread writes snapshots of all sizes. A snapshot above 256 KiB is in a file in either case.
    pub fn set_largest_inline_snapshot(&mut self, bytes: u64) {
        self.largest_inline_snapshot = bytes;
    }

    /// Returns the folder of the storage.
    pub(super) fn folder(&self) -> PathBuf {
        PathBuf::from(&self.path)
    }

    /// Returns the folder of the log and the size of its segments.
    pub(super) fn log(&self) -> LogSettings {
        let set = self.log_options.as_ref().map(LogSettings::of).unwrap_or_default();
        LogSettings {
            folder: Some(set.folder.unwrap_or_else(|| self.folder().join("commitlog"))),
            segment_bytes: Some(set.segment_bytes.unwrap_or(SEGMENT_BYTES)),
        }
    }

    /// Returns the options of the database with its folder. sled's thread that flushes is off, unless the user's
    /// options have a path: it would log a failed sync and go on. Where something must be durable, a sync of this
    /// crate follows.
    pub(super) fn database(&self) -> sled::Config {
        let folder = self.folder().join("database");
        match &self.database_options {
            None => {
                let config = sled::Config::new().cache_capacity(DATABASE_CACHE_BYTES).path(folder);
                config.flush_every_ms(None)
            }
            // A configuration that was cloned cannot be changed, so its settings are copied.
            Some(set) if set.get_path() == sled::Config::default().get_path() => {
                sled::Config::new()
                    .path(folder)
                    .cache_capacity(set.cache_capacity)
                    .flush_every_ms(None)
                    .mode(set.mode)
                    .use_compression(set.use_compression)
                    .compression_factor(set.compression_factor)
            }
            Some(set) => set.clone(),
        }
    }
}

/// The needed settings of [`LogOptions`]. It has no getters, so they come from its `Debug` text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct LogSettings {
    pub(super) folder: Option<PathBuf>,
    pub(super) segment_bytes: Option<usize>,
}

impl LogSettings {
    fn of(options: &LogOptions) -> Self {
        let text = format!("{options:?}");
        let after = |name: &str| text.split_once(name).map(|(_, rest)| rest);
        let folder = after("log_dir: ").and_then(quoted).filter(|folder| !folder.is_empty());
        let segment_bytes = after("log_max_bytes: ").and_then(|rest| {
            rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok())
        });
        Self { folder: folder.map(|folder| Path::new(&folder).to_path_buf()), segment_bytes }
    }
}

/// Returns the string literal at the beginning of `text`, unescaped.
fn quoted(text: &str) -> Option<String> {
    let mut chars = text.strip_prefix('"')?.chars();
    let mut string = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(string),
            '\\' => string.push(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '0' => '\0',
                'u' => {
                    let hex: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    char::from_u32(u32::from_str_radix(&hex, 16).ok()?)?
                }
                other => other,
            }),
            other => string.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LogSettings, PersistentStorageConfig};
    use commitlog::LogOptions;
    use std::path::{Path, PathBuf};

    #[test]
    fn options_of_the_log_are_read_from_their_text() {
        for folder in ["/a/b", "a", "with \"quotes\" and \\ and ü and \t", "a\u{7}b"] {
            let mut options = LogOptions::new(folder);
            options.segment_max_bytes(12_345);
            let expected =
                LogSettings { folder: Some(PathBuf::from(folder)), segment_bytes: Some(12_345) };
            assert_eq!(LogSettings::of(&options), expected);
        }
    }

    #[test]
    fn no_thread_of_the_database_takes_errors_of_the_disk() {
        let mut config = PersistentStorageConfig::with_path("p");
        assert_eq!(config.database().flush_every_ms, None);
        config.set_database_options(sled::Config::new().flush_every_ms(Some(5)));
        assert_eq!(config.database().flush_every_ms, None);
        // A configuration with a path is taken as it is.
        config.set_database_options(sled::Config::new().path("q").flush_every_ms(Some(5)));
        assert_eq!(config.database().flush_every_ms, Some(5));
    }

    #[test]
    fn parts_live_below_the_path_unless_set() {
        let mut config = PersistentStorageConfig::default();
        config.set_path("p".into());
        assert_eq!(config.log().folder.as_deref(), Some(Path::new("p/commitlog")));
        assert_eq!(config.database().get_path(), Path::new("p/database"));
        config.set_sled_options(sled::Config::new().cache_capacity(1 << 20));
        assert_eq!(config.database().get_path(), Path::new("p/database"));
        config.set_database_options(sled::Config::new().path("elsewhere"));
        assert_eq!(config.database().get_path(), Path::new("elsewhere"));
        config.set_commitlog_options(LogOptions::new("there"));
        assert_eq!(config.log().folder.as_deref(), Some(Path::new("there")));
    }
}
