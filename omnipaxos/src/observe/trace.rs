//! Log events for loggers.
//!
//! With the feature `logging` they go to a [slog](https://docs.rs/slog) logger, with the feature
//! `tracing` to the [tracing](https://docs.rs/tracing) subscriber of the process. Without both
//! features a [`Trace`] has no size, and events are not built.

use crate::{ballot::Ballot, errors::LogFileErr, ids::NodeId};

/// The destination of a replica's log events.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    #[cfg(feature = "tracing")]
    pid: NodeId,
    #[cfg(feature = "logging")]
    logger: slog::Logger,
}

/// The severity of an event.
#[cfg_attr(not(any(feature = "logging", feature = "tracing")), allow(dead_code))]
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// An operator must act.
    Error,
    /// Data is lost, or a server is misconfigured.
    Warn,
    /// Changes of leadership and configuration.
    Info,
    /// Other changes of the state, except entries.
    Debug,
}

/// One log event.
#[cfg_attr(not(any(feature = "logging", feature = "tracing")), allow(dead_code))]
#[derive(Clone, Debug)]
pub(crate) struct LogEvent {
    level: Level,
    text: &'static str,
    n: Option<Ballot>,
    idx: Option<u64>,
    peer: Option<NodeId>,
    what: Option<String>,
}

impl LogEvent {
    fn of(level: Level, text: &'static str) -> Self {
        Self { level, text, n: None, idx: None, peer: None, what: None }
    }

    pub(crate) fn error(text: &'static str) -> Self {
        Self::of(Level::Error, text)
    }

    pub(crate) fn warn(text: &'static str) -> Self {
        Self::of(Level::Warn, text)
    }

    pub(crate) fn info(text: &'static str) -> Self {
        Self::of(Level::Info, text)
    }

    pub(crate) fn debug(text: &'static str) -> Self {
        Self::of(Level::Debug, text)
    }

    /// Adds the ballot.
    pub(crate) fn in_ballot(self, n: Ballot) -> Self {
        Self { n: Some(n), ..self }
    }

    /// Adds the index.
    pub(crate) fn at(self, idx: u64) -> Self {
        Self { idx: Some(idx), ..self }
    }

    /// Adds the other server.
    pub(crate) fn with_peer(self, pid: NodeId) -> Self {
        Self { peer: Some(pid), ..self }
    }

    /// Adds the reason as text.
    pub(crate) fn because(self, what: impl ToString) -> Self {
        Self { what: Some(what.to_string()), ..self }
    }
}

impl Trace {
    /// Emits an event. It is built only if a logger receives it.
    #[inline]
    pub(crate) fn emit(&self, event: impl FnOnce() -> LogEvent) {
        #[cfg(any(feature = "logging", feature = "tracing"))]
        self.emit_all(&event());
        #[cfg(not(any(feature = "logging", feature = "tracing")))]
        let _ = event;
    }

    #[cfg(any(feature = "logging", feature = "tracing"))]
    #[cold]
    fn emit_all(&self, event: &LogEvent) {
        #[cfg(feature = "logging")]
        to_slog::emit(&self.logger, event);
        #[cfg(feature = "tracing")]
        to_tracing::emit(self.pid, event);
    }
}

#[cfg(feature = "logging")]
pub(crate) mod to_slog {
    //! The feature `logging`.

    use super::{Level, LogEvent, LogFileErr, Trace};
    use crate::config::ServerConfig;
    use slog::{Drain, Record, Serializer};
    use std::{fs, io, path::Path, sync::Mutex};

    /// Creates a logger that appends to a file, which is created with its folders if it does not
    /// exist.
    ///
    /// # Errors
    /// The file cannot be created or opened.
    pub(crate) fn to_file(path: &str) -> io::Result<slog::Logger> {
        if let Some(folder) = Path::new(path).parent() {
            fs::create_dir_all(folder)?;
        }
        let file = fs::File::options().create(true).append(true).open(path)?;
        let decorator = slog_term::PlainSyncDecorator::new(file);
        let format = slog_term::FullFormat::new(decorator).build();
        Ok(slog::Logger::root(Mutex::new(format).fuse(), slog::o!()))
    }

    impl Trace {
        /// Creates the trace that the configuration names: the user's logger, otherwise a file,
        /// otherwise no destination.
        pub(crate) fn new(config: &ServerConfig) -> Result<Self, LogFileErr> {
            let parent = match (&config.custom_logger, &config.logger_file_path) {
                (Some(logger), _) => logger.clone(),
                (None, Some(path)) => {
                    to_file(path).map_err(|source| LogFileErr { path: path.clone(), source })?
                }
                (None, None) => slog::Logger::root(slog::Discard, slog::o!()),
            };
            Ok(Self {
                #[cfg(feature = "tracing")]
                pid: config.pid,
                logger: parent.new(slog::o!("pid" => config.pid)),
            })
        }
    }

    pub(super) fn emit(logger: &slog::Logger, event: &LogEvent) {
        match event.level {
            Level::Error => slog::error!(logger, "{}", event.text; event),
            Level::Warn => slog::warn!(logger, "{}", event.text; event),
            Level::Info => slog::info!(logger, "{}", event.text; event),
            Level::Debug => slog::debug!(logger, "{}", event.text; event),
        }
    }

    impl slog::KV for LogEvent {
        fn serialize(&self, _record: &Record<'_>, to: &mut dyn Serializer) -> slog::Result {
            if let Some(n) = self.n {
                to.emit_u32("n", n.n)?;
                to.emit_u64("leader", n.pid)?;
            }
            if let Some(idx) = self.idx {
                to.emit_u64("idx", idx)?;
            }
            if let Some(peer) = self.peer {
                to.emit_u64("peer", peer)?;
            }
            self.what.iter().try_for_each(|what| to.emit_str("what", what))
        }
    }
}

#[cfg(not(feature = "logging"))]
mod without_slog {
    use super::{LogFileErr, Trace};
    use crate::config::ServerConfig;

    impl Trace {
        /// Creates a trace without slog. This cannot fail.
        #[allow(clippy::unnecessary_wraps, reason = "with the feature `logging` it can fail")]
        pub(crate) fn new(config: &ServerConfig) -> Result<Self, LogFileErr> {
            #[cfg(not(feature = "tracing"))]
            let _ = config;
            Ok(Self {
                #[cfg(feature = "tracing")]
                pid: config.pid,
            })
        }
    }
}

#[cfg(feature = "tracing")]
mod to_tracing {
    //! The feature `tracing`.

    use super::{Level, LogEvent};
    use crate::ids::NodeId;

    macro_rules! event {
        ($level:ident, $pid:expr, $event:expr) => {
            tracing::event!(
                target: "omnipaxos",
                tracing::Level::$level,
                pid = $pid,
                n = $event.n.map(|n| n.n),
                leader = $event.n.map(|n| n.pid),
                idx = $event.idx,
                peer = $event.peer,
                what = $event.what.as_deref(),
                "{}",
                $event.text
            )
        };
    }

    pub(super) fn emit(pid: NodeId, event: &LogEvent) {
        match event.level {
            Level::Error => event!(ERROR, pid, event),
            Level::Warn => event!(WARN, pid, event),
            Level::Info => event!(INFO, pid, event),
            Level::Debug => event!(DEBUG, pid, event),
        }
    }
}
