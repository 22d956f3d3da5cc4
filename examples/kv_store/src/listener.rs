//! Accepts connections, and serves a limited number of them at a time.

use std::{convert::Infallible, future::Future, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::sleep,
};
use tracing::warn;

/// The pause after a connection that could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves each connection in a task of its own. While it serves as many as it may, it accepts none.
pub(crate) async fn serve_each<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    most: usize,
    what: &str,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) -> Infallible {
    let places = Arc::new(Semaphore::new(most));
    loop {
        // The semaphore is never closed.
        let place = places.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, from)) => {
                let served = serve(stream, from);
                tokio::spawn(async move {
                    served.await;
                    drop(place);
                });
            }
            Err(cause) => {
                // Out of descriptors, most likely: others must end first.
                warn!("cannot accept {what}: {cause}");
                sleep(PAUSE).await;
            }
        }
    }
}
