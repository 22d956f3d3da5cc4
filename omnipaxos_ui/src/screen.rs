//! The terminal, which is restored in every case.

use ratatui::{
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
        execute,
        terminal::{disable_raw_mode, enable_raw_mode, EnterAlternateScreen, LeaveAlternateScreen},
    },
    Frame, Terminal,
};
use std::{
    io::{self, IsTerminal, Stdout},
    panic,
    sync::{
        atomic::{AtomicU64, Ordering},
        Once,
    },
    time::Duration,
};
use thiserror::Error;

/// No screen has taken the terminal.
const NOBODY: u64 = 0;

/// The screen that has taken the terminal of this process.
static OWNER: AtomicU64 = AtomicU64::new(NOBODY);

/// The id of the next screen of this process.
static NEXT: AtomicU64 = AtomicU64::new(NOBODY + 1);

static HOOK: Once = Once::new();

/// Why the terminal cannot be taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The standard output goes to a file or a pipe.
    #[error("the standard output is no terminal")]
    NoTerminal,
    /// Another dashboard of this process has it.
    #[error("another dashboard of this process has taken the terminal")]
    Taken,
    /// The terminal cannot be set up.
    #[error("the terminal cannot be set up")]
    Io(#[from] io::Error),
}

/// The terminal of this process in raw mode, on its alternate screen.
///
/// It is restored when this value is dropped, and when any thread panics: a hook restores it before
/// the panic is reported, and then calls the previous hook. Raw mode turns Ctrl-C into a key
/// ([`is_interrupt`]). [`interrupt`] has the effect of Ctrl-C outside raw mode.
#[derive(Debug)]
pub struct Screen {
    id: u64,
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// There is no terminal, another screen has it, or it fails. Then it is restored.
    pub fn take() -> Result<Self, StartError> {
        if !io::stdout().is_terminal() {
            return Err(StartError::NoTerminal);
        }
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        OWNER
            .compare_exchange(NOBODY, id, Ordering::AcqRel, Ordering::Acquire)
            .map_err(|_| StartError::Taken)?;
        HOOK.call_once(give_back_on_panic);
        let taken = set_up();
        if taken.is_err() {
            give_back(id);
        }
        Ok(Self { id, terminal: taken? })
    }

    /// Returns whether this screen has the terminal: a panic on another thread restores it.
    pub fn is_taken(&self) -> bool {
        OWNER.load(Ordering::Acquire) == self.id
    }

    /// Draws a frame. It waits for the terminal as long as needed.
    ///
    /// # Errors
    /// The terminal fails.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(|_| ())
    }

    /// Returns the next pressed key, if any. It does not wait.
    ///
    /// # Errors
    /// The terminal fails.
    pub fn next_key(&mut self) -> io::Result<Option<KeyEvent>> {
        while event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => return Ok(Some(key)),
                _ => {}
            }
        }
        Ok(None)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back(self.id);
    }
}

/// Returns whether a key is Ctrl-C.
pub fn is_interrupt(key: &KeyEvent) -> bool {
    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL)
}

/// Sends SIGINT to this process, as Ctrl-C does in a terminal that is not in raw mode.
///
/// The process ends unless it handles the signal. On systems other than Unix it does nothing.
///
/// # Errors
/// The system refused the signal.
pub fn interrupt() -> io::Result<()> {
    #[cfg(unix)]
    signal_hook::low_level::raise(signal_hook::consts::SIGINT)?;
    Ok(())
}

fn set_up() -> io::Result<Terminal<CrosstermBackend<Stdout>>> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen)?;
    let mut terminal = Terminal::new(CrosstermBackend::new(io::stdout()))?;
    terminal.clear()?;
    Ok(terminal)
}

/// Restores the terminal, if this screen has it. Failures are ignored: no other action is possible,
/// and the rest may succeed.
fn give_back(id: u64) {
    let owned = OWNER.compare_exchange(id, NOBODY, Ordering::AcqRel, Ordering::Acquire);
    if id != NOBODY && owned.is_ok() {
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

fn give_back_on_panic() {
    let earlier = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        give_back(OWNER.load(Ordering::Acquire));
        earlier(panicked);
    }));
}
