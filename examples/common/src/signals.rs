//! What the user or the system asks of this process.

use anyhow::Result;
use tokio::sync::oneshot;
use tracing::debug;

/// Returns when this process is asked to end: Ctrl-C, SIGTERM, or the terminal is gone.
///
/// # Errors
/// Signals cannot be handled.
pub async fn interrupted() -> Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{signal, SignalKind};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::select! {
            interrupt = tokio::signal::ctrl_c() => interrupt?,
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await?;
    Ok(())
}

/// Returns when the standard input ends. With this, a server that another process has started and
/// holds the other end of does not outlive it, however that process ends.
pub async fn stdin_closed() {
    let (sender, closed) = oneshot::channel::<()>();
    // Not a task: the runtime would wait for the read, and a server that fails would not end.
    std::thread::spawn(move || {
        let read = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        debug!("the standard input ended: {read:?}");
        drop(sender);
    });
    drop(closed.await);
}
