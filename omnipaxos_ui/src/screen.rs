//! The terminal: taken, and given back on every way out.

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

/// Nobody has taken the terminal.
const NOBODY: u64 = 0;

/// Which screen has taken the terminal of this process.
static OWNER: AtomicU64 = AtomicU64::new(NOBODY);

/// Names the screens of this process.
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
    /// The terminal does not do as it is told.
    #[error("the terminal cannot be set up")]
    Io(#[from] io::Error),
}

/// The terminal of this process in raw mode, on its alternate screen.
///
/// It is given back as it was when this is dropped, and when any thread panics: before the panic is
/// told, by a hook that then calls the one that was there before. Raw mode turns Ctrl-C into a key
/// ([`is_interrupt`]); [`interrupt`] does what it would have done.
#[derive(Debug)]
pub struct Screen {
    id: u64,
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// There is none, or it is taken, or it fails. It is as before then.
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

    /// Whether it is still taken: a panic on another thread gives it back.
    pub fn is_taken(&self) -> bool {
        OWNER.load(Ordering::Acquire) == self.id
    }

    /// Draws a frame. Waits for the terminal as long as that takes.
    ///
    /// # Errors
    /// The terminal fails.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(|_| ())
    }

    /// The next key that was pressed, if any. Does not wait.
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

/// Whether a key is Ctrl-C.
pub fn is_interrupt(key: &KeyEvent) -> bool {
    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL)
}

/// Does what Ctrl-C does in a terminal that is not in raw mode: sends SIGINT to this process, which
/// ends unless it handles that. Does nothing on systems that are not Unix.
///
/// # Errors
/// The system refuses.
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

/// Gives the terminal back, if this screen has it. What fails is left out: there is nothing more to
/// be done, and the rest may succeed.
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
