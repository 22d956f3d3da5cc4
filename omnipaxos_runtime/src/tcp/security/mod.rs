//! How connections are secured: by TLS with the feature `tls`.

#[cfg(not(feature = "tls"))]
mod off;
#[cfg(feature = "tls")]
mod on;

#[cfg(not(feature = "tls"))]
pub(super) use self::off::Security;
#[cfg(feature = "tls")]
pub(super) use self::on::Security;
#[cfg(feature = "tls")]
pub use self::on::{Tls, TlsError};

use tokio::io::{AsyncRead, AsyncWrite};

/// A connection, secured or not.
pub(super) type Socket = Box<dyn Stream>;

/// The bytes of a connection, in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
