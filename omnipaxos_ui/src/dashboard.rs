//! The dashboard: a model, a terminal, and the time.

use crate::{
    app::App,
    config::UIAppConfig,
    log::LogQueue,
    observation::Observation,
    screen::{interrupt, is_interrupt, Screen, StartError},
};
use ratatui::crossterm::event::KeyCode;
use std::{
    io::{self, Write},
    sync::OnceLock,
    time::{Duration, Instant},
};

/// The shortest time between two frames, at which keys are read.
const FRAME: Duration = Duration::from_millis(50);

/// The largest number of log lines that wait to be shown.
const WAITING_LINES: usize = 1024;

/// The queue of the loggers of this process.
static LINES: OnceLock<LogQueue> = OnceLock::new();

/// A dashboard of a replica in the terminal of its process.
///
/// ```no_run
/// # use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};
/// # #[derive(Clone, Debug, omnipaxos::macros::Entry)]
/// # struct Number(u64);
/// # use omnipaxos_storage::memory_storage::MemoryStorage;
/// # let mut config = OmniPaxosConfig {
/// #     cluster_config: ClusterConfig {
/// #         configuration_id: 1,
/// #         nodes: vec![1, 2, 3],
/// #         ..Default::default()
/// #     },
/// #     server_config: ServerConfig { pid: 2, ..Default::default() },
/// # };
/// use omnipaxos_ui::OmniPaxosUI;
///
/// config.server_config.custom_logger = Some(OmniPaxosUI::logger());
/// let mut ui = OmniPaxosUI::with(config.clone().into());
/// let mut replica: omnipaxos::OmniPaxos<Number, _> = config.build(MemoryStorage::default())?;
/// ui.start();
/// while ui.is_started() {
///     // Pass messages on. With each tick of the replica:
///     replica.tick();
///     ui.tick(replica.get_ui_states());
/// }
/// ui.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// While it is started, the terminal is in raw mode, and other output of the process would damage
/// the picture. Keys:
/// - `q` and Esc stop the dashboard. The process continues.
/// - Ctrl-C stops the dashboard, then sends SIGINT to the process, which ends or handles the
///   signal. On systems other than Unix it only stops the dashboard.
///
/// The terminal is restored in these cases:
/// - after [`stop`](Self::stop);
/// - when this value is dropped;
/// - when any thread panics, before the message is printed.
///
/// A signal that ends the process at once does not restore it: SIGTERM, unless it is handled. The
/// command `reset` repairs that.
#[derive(Debug)]
pub struct OmniPaxosUI {
    app: App,
    /// The terminal, while this is started.
    screen: Option<Screen>,
    made: Instant,
    /// The time of the next frame, since this value was created.
    next_frame: Duration,
    error: Option<StartError>,
}

impl OmniPaxosUI {
    /// Creates a dashboard that is not started.
    pub fn with(config: UIAppConfig) -> Self {
        Self {
            app: App::new(config),
            screen: None,
            made: Instant::now(),
            next_frame: Duration::ZERO,
            error: None,
        }
    }

    /// Returns a logger whose lines the dashboard of this process shows.
    ///
    /// The logger never waits. At most 1,024 lines wait to be shown, whether the dashboard is
    /// started or not. Further lines are dropped, and the dashboard shows their number in their
    /// place. It keeps the last 1,024 lines.
    pub fn logger() -> slog::Logger {
        lines().logger()
    }

    /// Takes the terminal, or reports on the standard error why it cannot.
    ///
    /// In the latter case [`tick`](Self::tick) does nothing. See [`try_start`](Self::try_start).
    pub fn start(&mut self) {
        if let Err(cause) = self.try_start() {
            // A standard error that is closed is no reason to fail.
            let _ = writeln!(io::stderr(), "no dashboard: {}", described(&cause));
            self.error = Some(cause);
        }
    }

    /// Takes the terminal. If it has the terminal already, it does nothing.
    ///
    /// # Errors
    /// There is no terminal, another dashboard of this process has it, or it fails. Then the
    /// terminal is restored.
    pub fn try_start(&mut self) -> Result<(), StartError> {
        if self.screen.is_none() {
            self.screen = Some(Screen::take()?);
            self.error = None;
            self.next_frame = Duration::ZERO;
        }
        Ok(())
    }

    /// Restores the terminal. If it does not have the terminal, it does nothing.
    pub fn stop(&mut self) {
        self.screen = None;
    }

    /// Shows the state of the replica, and handles keys.
    ///
    /// Call it often, for example with each tick of the replica. It draws at most 20 times a
    /// second; otherwise it returns at once. If the terminal fails, the dashboard stops, and
    /// [`error`](Self::error) returns the reason.
    ///
    /// The state is that of [`get_ui_states`](omnipaxos::OmniPaxos::get_ui_states), or `&replica.status()`,
    /// which also contains observers and the members of a log that continues.
    pub fn tick(&mut self, states: impl Into<Observation>) {
        let now = self.made.elapsed();
        if now < self.next_frame {
            return;
        }
        self.next_frame = now + FRAME;
        let Some(screen) = self.screen.as_mut().filter(|screen| screen.is_taken()) else {
            return self.stop();
        };
        self.app.observe(states, now);
        self.app.log_mut().extend(lines().take());
        let shown = screen.draw(|frame| frame.render_widget(&self.app, frame.area()));
        if let Err(cause) = shown.and_then(|()| self.heed_keys()) {
            self.stop();
            self.error = Some(cause.into());
        }
    }

    /// Returns whether it has the terminal.
    ///
    /// It loses the terminal after `q`, Esc or Ctrl-C, a failure of the terminal, or a panic.
    pub fn is_started(&self) -> bool {
        self.screen.as_ref().is_some_and(Screen::is_taken)
    }

    /// Returns why it could not start, or had to stop.
    pub fn error(&self) -> Option<&StartError> {
        self.error.as_ref()
    }

    fn heed_keys(&mut self) -> io::Result<()> {
        while let Some(screen) = &mut self.screen {
            let Some(key) = screen.next_key()? else {
                break;
            };
            if is_interrupt(&key) {
                self.stop();
                interrupt()?;
            } else if matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                self.stop();
            }
        }
        Ok(())
    }
}

fn lines() -> &'static LogQueue {
    LINES.get_or_init(|| LogQueue::with_room(WAITING_LINES))
}

/// Formats an error with its cause.
fn described(error: &StartError) -> String {
    match error {
        StartError::Io(cause) => format!("{error}: {cause}"),
        StartError::NoTerminal | StartError::Taken => error.to_string(),
    }
}
