//! Views for tools.

/// What a dashboard shows.
pub mod ui {
    pub use crate::observe::ui::{ClusterState, OmniPaxosStates, LARGEST_PID_SHOWN};
}

/// Loggers (feature `logging`).
#[cfg(feature = "logging")]
pub mod logger {
    /// Makes a logger that appends to a file, which is made with its folders if it is not there: what
    /// [`ServerConfig::logger_file_path`](crate::ServerConfig::logger_file_path) does.
    ///
    /// # Panics
    /// If the file cannot be made or opened. In the configuration, that is an error of `build`.
    pub fn create_logger(path: &str) -> slog::Logger {
        match crate::observe::trace::to_slog::to_file(path) {
            Ok(logger) => logger,
            Err(cause) => panic!("could not open the log file {path}: {cause}"),
        }
    }
}
