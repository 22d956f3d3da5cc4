//! TLS with certificates at both ends.

use super::Socket;
use omnipaxos::util::NodeId;
use std::{fmt, io, sync::Arc};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{
    rustls::{
        self,
        client::{verify_server_name, Resumption},
        pki_types::{
            pem::{self, PemObject},
            CertificateDer, PrivateKeyDer, ServerName,
        },
        server::{
            NoServerSessionStorage, ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier,
        },
        version::TLS13,
        RootCertStore,
    },
    TlsAcceptor, TlsConnector,
};

/// The certificates of a server: see [`TcpTransport::tls`](crate::tcp::TcpTransport::tls).
///
/// Every server of a cluster has a certificate of a common authority, for the DNS name
/// `server-PID`: that of server 3 is for `server-3`. Both ends of a connection present their
/// certificates, and check name, authority and validity period of the other one, for each connection
/// anew. So a server cannot impersonate another. The authority should issue certificates for this cluster only.
///
/// The protocol is TLS 1.3, by `rustls` with `ring`.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
}

/// Why certificates cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The text is not PEM, or lacks what it should contain.
    #[error("the certificates or the key are not PEM")]
    Pem(#[from] pem::Error),
    /// A certificate or the key is not usable.
    #[error("the certificates or the key cannot be used")]
    Rustls(#[from] rustls::Error),
    /// There is no usable authority.
    #[error("there is no usable certificate of an authority")]
    Authorities(#[from] VerifierBuilderError),
}

impl Tls {
    /// Creates the configuration of one server from PEM texts: its certificate chain, its private
    /// key, and the certificates of the authorities that it trusts.
    ///
    /// # Errors
    /// [`TlsError`] if a text is not PEM, or the parts do not fit together.
    pub fn from_pem(chain: &[u8], key: &[u8], authorities: &[u8]) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key)?;
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(authorities) {
            roots.add(authority?)?;
        }
        let roots = Arc::new(roots);
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build()?;
        let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())?;
        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        // A resumed session checks no certificate, so each connection begins with a full handshake.
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        client.resumption = Resumption::disabled();
        Ok(Self { acceptor: Arc::new(server).into(), connector: Arc::new(client).into() })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// How connections are secured.
#[derive(Clone, Debug)]
pub(in crate::tcp) struct Security(Option<Tls>);

impl Security {
    /// Returns the security of connections that are neither encrypted nor authenticated.
    pub(in crate::tcp) fn none() -> Self {
        Self(None)
    }

    pub(in crate::tcp) fn tls(tls: Tls) -> Self {
        Self(Some(tls))
    }

    /// Returns whether any machine may connect.
    pub(in crate::tcp) fn is_authenticated(&self) -> bool {
        self.0.is_some()
    }

    /// Secures a connection to `peer`.
    pub(in crate::tcp) async fn connect(
        &self,
        stream: TcpStream,
        peer: NodeId,
    ) -> io::Result<Socket> {
        match &self.0 {
            None => Ok(Box::new(stream) as Socket),
            Some(tls) => {
                let stream = tls.connector.connect(name_of(peer)?, stream).await?;
                Ok(Box::new(stream) as Socket)
            }
        }
    }

    /// Secures a connection of another server.
    pub(in crate::tcp) async fn accept(&self, stream: TcpStream) -> io::Result<(Socket, Identity)> {
        let Some(tls) = &self.0 else {
            return Ok((Box::new(stream) as Socket, Identity::NotChecked));
        };
        let stream = tls.acceptor.accept(stream).await?;
        let certificates = stream.get_ref().1.peer_certificates();
        let certificate =
            certificates.and_then(<[_]>::first).cloned().map(CertificateDer::into_owned);
        Ok((Box::new(stream) as Socket, Identity::Certified(certificate)))
    }
}

/// What is known of a connecting server.
#[derive(Debug)]
pub(in crate::tcp) enum Identity {
    NotChecked,
    /// Its certificate, which is valid.
    Certified(Option<CertificateDer<'static>>),
}

impl Identity {
    /// Returns whether the connection may be that of server `pid`.
    pub(in crate::tcp) fn is_of(&self, pid: NodeId) -> bool {
        let certificate = match self {
            Self::NotChecked => return true,
            Self::Certified(certificate) => certificate,
        };
        let parsed = certificate.as_ref().map(ParsedCertificate::try_from);
        match (parsed, name_of(pid)) {
            (Some(Ok(parsed)), Ok(name)) => verify_server_name(&parsed, &name).is_ok(),
            _invalid => false,
        }
    }
}

/// The name in the certificate of a server.
fn name_of(pid: NodeId) -> io::Result<ServerName<'static>> {
    ServerName::try_from(format!("server-{pid}")).map_err(io::Error::other)
}
