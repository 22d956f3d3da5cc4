//! Servers with certificates, and programs without the right ones.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{config, transports, within, Word};
use omnipaxos_runtime::{
    tcp::{TcpTransport, Tls},
    Node,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use rcgen::{date_time_ymd, BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    rustls::{
        self,
        pki_types::{pem::PemObject, CertificateDer, ServerName},
        RootCertStore,
    },
    TlsConnector,
};

/// An authority, and its certificate.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The certificate of server `pid`, which trusts `authorities`.
    fn certify(&self, pid: u64, authorities: &str, last_year: i32) -> Tls {
        let mut params = CertificateParams::new(vec![format!("server-{pid}")]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        Tls::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes(), authorities.as_bytes())
            .unwrap()
    }
}

type MemoryNode = Node<Word, MemoryStorage<Word>>;

async fn start(pid: u64, transport: TcpTransport) -> MemoryNode {
    let node = Node::builder(config(pid, 3), MemoryStorage::default());
    node.transport(transport).start().await.unwrap()
}

#[tokio::test]
async fn servers_with_certificates_form_a_cluster() {
    let authority = Authority::new();
    let (_book, transports) = transports(3).await;
    let mut nodes = Vec::new();
    for (pid, transport) in (1..).zip(transports) {
        nodes.push(start(pid, transport.tls(authority.certify(pid, &authority.pem, 3000))).await);
    }
    for (idx, node) in (0..).zip(&nodes) {
        assert_eq!(within("append", node.append(Word::new("x"))).await.unwrap(), idx);
    }
}

/// Servers 1 and 2 of three; server 2 has certificates of its own choice. Returns whether they elect
/// a leader while server 1 refuses five connections.
async fn gets_in(server_2: Tls, authority: &Authority) -> bool {
    let (_book, transports) = transports(3).await;
    let [one, two, _] = <[_; 3]>::try_from(transports).unwrap();
    let counters = one.counters();
    let one = start(1, one.tls(authority.certify(1, &authority.pem, 3000))).await;
    let _two = start(2, two.tls(server_2)).await;
    let refused = async {
        while counters.refused_connections() < 5 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = refused => false,
        appended = one.append(Word::new("x")) => appended.is_ok(),
    }
}

#[tokio::test]
async fn only_the_right_certificate_gets_in() {
    let (authority, other) = (Authority::new(), Authority::new());
    let both = format!("{}{}", authority.pem, other.pem);
    let attempt = |tls| within("an attempt", gets_in(tls, &authority));
    assert!(attempt(authority.certify(2, &both, 3000)).await);
    assert!(!attempt(other.certify(2, &both, 3000)).await, "of another authority");
    assert!(!attempt(authority.certify(2, &both, 2001)).await, "expired");
    assert!(!attempt(authority.certify(3, &both, 3000)).await, "of another server");
}

/// The hello of server 2 for server 1.
fn hello() -> Vec<u8> {
    let mut hello = b"OPXR".to_vec();
    hello.extend(1_u32.to_be_bytes());
    hello.extend(0_u64.to_be_bytes());
    hello.extend(2_u64.to_be_bytes());
    hello.extend(1_u64.to_be_bytes());
    hello.extend([0; 4]);
    hello
}

#[tokio::test]
async fn a_program_without_tls_is_refused() {
    let authority = Authority::new();
    let (book, mut transports) = transports(3).await;
    let transport = transports.remove(0);
    let counters = transport.counters();
    let _node = start(1, transport.tls(authority.certify(1, &authority.pem, 3000))).await;
    let mut stream = TcpStream::connect(book.get(1).unwrap()).await.unwrap();
    stream.write_all(&hello()).await.unwrap();
    let mut answer = Vec::new();
    // It may be reset.
    let _ = within("the end of the connection", stream.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"OPXR"), "{answer:?}");
    while counters.refused_connections() < 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_program_without_a_certificate_is_refused() {
    let authority = Authority::new();
    let (book, mut transports) = transports(3).await;
    let transport = transports.remove(0);
    let counters = transport.counters();
    let _node = start(1, transport.tls(authority.certify(1, &authority.pem, 3000))).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(book.get(1).unwrap()).await.unwrap();
    let name = ServerName::try_from("server-1").unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    // In TLS 1.3 the connecting end is refused after its own handshake.
    let mut stream = within("the handshake", connecting).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.write_all(&hello()).await;
    let read = within("the end of the connection", stream.read_to_end(&mut answer)).await;
    assert!(read.is_err() && answer.is_empty(), "{read:?} {answer:?}");
    while counters.refused_connections() < 1 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn what_is_not_pem_is_refused() {
    assert!(Tls::from_pem(b"no", b"no", b"no").is_err());
}
