//! Views and loggers for tools.

/// The state of a replica for a dashboard.
pub mod ui {
    pub use crate::observe::ui::{ClusterState, OmniPaxosStates, LARGEST_PID_SHOWN};
}

/// Loggers (feature `logging`).
#[cfg(feature = "logging")]
pub mod logger {
    /// Creates a logger that appends to a file.
    ///
    /// [`ServerConfig::logger_file_path`](crate::ServerConfig::logger_file_path) does the same. The
    /// file is created, with its folders, if it does not exist.
    ///
    /// # Panics
    /// If the file cannot be created or opened. If the configuration names such a file, `build`
    /// returns an error instead.
    pub fn create_logger(path: &str) -> slog::Logger {
        match crate::observe::trace::to_slog::to_file(path) {
            Ok(logger) => logger,
            Err(cause) => panic!("could not open the log file {path}: {cause}"),
        }
    }
}
