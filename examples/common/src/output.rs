//! The standard output of a program, which may be closed before the program ends: `| head`.

use std::{
    error::Error,
    fmt,
    io::{self, ErrorKind, Write},
    process::ExitCode,
};
use thiserror::Error;

/// The status of a program that SIGPIPE has ended, which other tools end with.
const ENDED_BY_SIGPIPE: u8 = 128 + 13;

/// The reader of the standard output has closed it.
#[derive(Debug, Error)]
#[error("nobody reads the standard output any more")]
pub struct OutputClosed;

/// Prints a line, as `println!`, and returns the error that this panics with.
#[macro_export]
macro_rules! say {
    ($($what:tt)*) => {
        $crate::output::print(format_args!("{}\n", format_args!($($what)*)))
    };
}

/// Prints a text at once.
///
/// # Errors
/// [`OutputClosed`] if nobody reads it, else the error of the system.
pub fn print(text: fmt::Arguments<'_>) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to the standard output")),
    }
}

/// The status of a program that ends with this error, which is printed unless nobody reads the output.
pub fn status_of(program: &str, error: &anyhow::Error) -> ExitCode {
    let is_closed = |cause: &(dyn Error + 'static)| cause.is::<OutputClosed>();
    if error.chain().any(is_closed) {
        return ExitCode::from(ENDED_BY_SIGPIPE);
    }
    // Nothing is left to do if that is closed, too.
    let _ = writeln!(io::stderr(), "{program}: {error:#}");
    ExitCode::FAILURE
}
