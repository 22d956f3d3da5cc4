//! The dashboard: a model, a terminal, and the time.

use crate::{
    app::App,
    config::UIAppConfig,
    log::LogQueue,
    screen::{interrupt, is_interrupt, Screen, StartError},
};
use omnipaxos::utils::ui::OmniPaxosStates;
use ratatui::crossterm::event::KeyCode;
use std::{
    io::{self, Write},
    sync::OnceLock,
    time::{Duration, Instant},
};

/// How often keys are read and a frame is drawn, at most.
const FRAME: Duration = Duration::from_millis(50);

/// Log lines that may wait to be shown.
const WAITING_LINES: usize = 1024;

/// Where the loggers of this process write.
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
///     // Pass messages on, and as often as you tick the replica:
///     replica.tick();
///     ui.tick(replica.get_ui_states());
/// }
/// ui.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// While it is started, the terminal is in raw mode, and what else the process prints would spoil
/// the picture. Keys:
/// - `q` and Esc stop the dashboard. The process goes on.
/// - Ctrl-C stops the dashboard, then sends SIGINT to the process: it ends as usual, or does what
///   it has arranged. On systems that are not Unix, the dashboard just stops.
///
/// The terminal is as before after [`stop`](Self::stop), when this is dropped, and when any thread
/// panics, before the message is printed. A signal that ends the process at once, as SIGTERM does
/// unless it is handled, leaves it as it is: `reset` repairs that.
#[derive(Debug)]
pub struct OmniPaxosUI {
    app: App,
    /// The terminal, while this is started.
    screen: Option<Screen>,
    made: Instant,
    /// When to draw again, counted since this was made.
    next_frame: Duration,
    error: Option<StartError>,
}

impl OmniPaxosUI {
    /// A dashboard that is not started.
    pub fn with(config: UIAppConfig) -> Self {
        Self {
            app: App::new(config),
            screen: None,
            made: Instant::now(),
            next_frame: Duration::ZERO,
            error: None,
        }
    }

    /// A logger whose lines are shown by the dashboard of this process.
    ///
    /// It never waits. At most 1,024 lines wait to be shown, whether the dashboard is started or
    /// not. Lines for which there is no room are dropped, and the dashboard says how many where
    /// they are missing. It keeps the last 1,024 lines.
    pub fn logger() -> slog::Logger {
        lines().logger()
    }

    /// Takes the terminal, or goes on without: then it tells why on the standard error, and
    /// [`tick`](Self::tick) does nothing. See [`try_start`](Self::try_start).
    pub fn start(&mut self) {
        if let Err(cause) = self.try_start() {
            // A standard error that is closed is no reason to fail.
            let _ = writeln!(io::stderr(), "no dashboard: {}", described(&cause));
            self.error = Some(cause);
        }
    }

    /// Takes the terminal. Does nothing if that is done.
    ///
    /// # Errors
    /// There is no terminal, or another dashboard of this process has it, or it fails. It is as
    /// before then.
    pub fn try_start(&mut self) -> Result<(), StartError> {
        if self.screen.is_none() {
            self.screen = Some(Screen::take()?);
            self.error = None;
            self.next_frame = Duration::ZERO;
        }
        Ok(())
    }

    /// Gives the terminal back as it was. Does nothing if that is done.
    pub fn stop(&mut self) {
        self.screen = None;
    }

    /// Shows the state of the replica, and does what keys say. To be called often, with each tick
    /// of the replica, say: it draws at most 20 times a second, and returns at once otherwise.
    ///
    /// If the terminal fails, the dashboard stops, and [`error`](Self::error) tells why.
    pub fn tick(&mut self, states: OmniPaxosStates) {
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

    /// Whether it has the terminal. Not any more after `q`, Esc or Ctrl-C, a failure of the
    /// terminal, or a panic.
    pub fn is_started(&self) -> bool {
        self.screen.as_ref().is_some_and(Screen::is_taken)
    }

    /// Why it could not start, or had to stop, if so.
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

/// An error with its cause.
fn described(error: &StartError) -> String {
    match error {
        StartError::Io(cause) => format!("{error}: {cause}"),
        StartError::NoTerminal | StartError::Taken => error.to_string(),
    }
}
