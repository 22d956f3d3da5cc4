//! Servers with certificates, and programs without the right ones.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod common;

use common::{config, hello, storm::storm, transports, within, Word};
use omnipaxos_runtime::{
    tcp::{AddressBook, TcpCounters, TcpTransport, Tls},
    Node,
};
use omnipaxos_storage::memory_storage::MemoryStorage;
use rcgen::{date_time_ymd, BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tokio_rustls::{
    client::TlsStream,
    rustls::{
        self,
        crypto::CryptoProvider,
        pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer, ServerName},
        HandshakeKind, RootCertStore,
    },
    TlsAcceptor, TlsConnector,
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
        let (chain, key) = self.issue(pid, last_year);
        Tls::from_pem(chain.as_bytes(), key.as_bytes(), authorities.as_bytes()).unwrap()
    }

    /// The certificate of server `pid`, and its key.
    fn issue(&self, pid: u64, last_year: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec![format!("server-{pid}")]).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        (chain, key.serialize_pem())
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

/// The block of shell commands in `docs/runtime.md`.
fn commands_of_the_guide() -> String {
    let guide = format!("{}/../docs/runtime.md", env!("CARGO_MANIFEST_DIR"));
    let guide = std::fs::read_to_string(guide).unwrap();
    let (_, commands) = guide.split_once("```sh\n").unwrap();
    commands.split_once("```").unwrap().0.to_owned()
}

#[tokio::test]
async fn the_commands_of_the_guide_make_certificates() {
    let version = std::process::Command::new("openssl").arg("version").output();
    if !version.is_ok_and(|output| output.stdout.starts_with(b"OpenSSL 3")) {
        println!("skipped: there is no OpenSSL 3 here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-e", "-c", &commands_of_the_guide()]).current_dir(folder.path());
    let made = shell.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name: String| std::fs::read(folder.path().join(name)).unwrap();
    let authority = read("ca.pem".to_owned());
    let (_book, transports) = transports(3).await;
    let mut nodes = Vec::new();
    for (pid, transport) in (1..).zip(transports) {
        let chain = read(format!("server-{pid}.pem"));
        let tls = Tls::from_pem(&chain, &read(format!("server-{pid}.key")), &authority).unwrap();
        nodes.push(start(pid, transport.tls(tls)).await);
    }
    assert_eq!(within("append", nodes[0].append(Word::new("x"))).await.unwrap(), 0);
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

#[tokio::test]
async fn a_program_without_tls_is_refused() {
    let authority = Authority::new();
    let (book, mut transports) = transports(3).await;
    let transport = transports.remove(0);
    let counters = transport.counters();
    let _node = start(1, transport.tls(authority.certify(1, &authority.pem, 3000))).await;
    let mut stream = TcpStream::connect(book.get(1).unwrap()).await.unwrap();
    stream.write_all(&hello(1, 2, 1)).await.unwrap();
    let mut answer = Vec::new();
    // It may be reset.
    let _ = within("the end of the connection", stream.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"OPXR"), "{answer:?}");
    while counters.refused_connections() < 1 {
        tokio::task::yield_now().await;
    }
}

/// Server 1 of three with TLS. The others do not run.
async fn server_1(authority: &Authority) -> (AddressBook, TcpCounters, MemoryNode) {
    let (book, mut transports) = transports(3).await;
    let transport = transports.remove(0).tls(authority.certify(1, &authority.pem, 3000));
    let counters = transport.counters();
    let node = Node::builder(config(1, 3), MemoryStorage::default()).transport(transport);
    (book, counters, node.on_runtime().start().await.unwrap())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A program with this certificate, or without one.
fn connector(authority: &Authority, certificate: Option<(String, String)>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match certificate {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    TlsConnector::from(Arc::new(config))
}

/// Connects to server 1.
async fn connect_by(connector: &TlsConnector, book: &AddressBook) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(book.get(1).unwrap()).await.unwrap();
    let name = ServerName::try_from("server-1").unwrap();
    // In TLS 1.3 the connecting end is refused after its own handshake.
    within("the handshake", connector.connect(name, stream)).await.unwrap()
}

/// Connects to server 1 with this certificate, or without one.
async fn connect(
    book: &AddressBook,
    authority: &Authority,
    certificate: Option<(String, String)>,
) -> TlsStream<TcpStream> {
    connect_by(&connector(authority, certificate), book).await
}

async fn until_refused(counters: &TcpCounters, number: u64) {
    let refused = async {
        while counters.refused_connections() < number {
            tokio::task::yield_now().await;
        }
    };
    within("the counter", refused).await;
}

#[tokio::test]
async fn a_program_without_the_right_certificate_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (book, counters, _node) = server_1(&authority).await;
    let certificates = [None, Some(other.issue(2, 3000)), Some(authority.issue(2, 2001))];
    for (number, certificate) in (1..).zip(certificates) {
        let mut stream = connect(&book, &authority, certificate).await;
        let mut answer = Vec::new();
        let _ = stream.write_all(&hello(1, 2, 1)).await;
        let read = within("the end of the connection", stream.read_to_end(&mut answer)).await;
        assert!(read.is_err() && answer.is_empty(), "{read:?} {answer:?}");
        until_refused(&counters, number).await;
    }
    // That of server 3 is no certificate of server 2.
    let mut stream = connect(&book, &authority, Some(authority.issue(3, 3000))).await;
    let mut answer = [0; 28];
    stream.write_all(&hello(1, 2, 1)).await.unwrap();
    within("an answer", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer[27], 4);
    until_refused(&counters, 4).await;
    assert_eq!(counters.refused_connections(), 4);
}

#[tokio::test]
async fn a_frame_that_is_malformed_or_too_large_is_counted_with_tls() {
    let authority = Authority::new();
    let (book, counters, node) = server_1(&authority).await;
    for frame in [&[255, 255, 255, 255][..], &[0, 0, 0, 0], &[0, 0, 0, 2, 77, 77]] {
        let mut stream = connect(&book, &authority, Some(authority.issue(2, 3000))).await;
        stream.write_all(&[&hello(1, 2, 1)[..], frame].concat()).await.unwrap();
        let mut answer = Vec::new();
        let _ = within("the end of the connection", stream.read_to_end(&mut answer)).await;
        assert_eq!(answer.get(24..28), Some(&[0; 4][..]), "accepted");
    }
    assert_eq!((counters.malformed_frames(), counters.refused_connections()), (3, 0));
    assert!(node.status().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_handshake_of_tls_has_five_seconds() {
    let authority = Authority::new();
    let (book, counters, _node) = server_1(&authority).await;
    // Nothing, and the start of a record that never ends.
    for (number, sent) in (1..).zip([&[][..], &[22, 3, 1, 64, 0, 1, 0, 63, 252, 3, 3]]) {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(book.get(1).unwrap()).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
        let took = begun.elapsed();
        // The clock is paused, and continues with the next timer whenever all tasks wait.
        assert!((5..6).contains(&took.as_secs()), "{took:?}");
        assert_eq!(counters.refused_connections(), number);
    }
}

/// A session that is resumed would be one of a certificate that was checked long ago.
#[tokio::test]
async fn each_connection_begins_with_a_full_handshake() {
    let authority = Authority::new();
    let (book, _, _node) = server_1(&authority).await;
    let connector = connector(&authority, Some(authority.issue(2, 3000)));
    for _ in 0..2 {
        let mut stream = connect_by(&connector, &book).await;
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        stream.write_all(&hello(1, 2, 1)).await.unwrap();
        // Tickets would come before the answer.
        within("an answer", stream.read_exact(&mut [0; 28])).await.unwrap();
    }
    // The other end: server 1 connects to a program that gives tickets.
    let acceptor = acceptor(authority.issue(2, 3000));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    book.set(2, listener.local_addr().unwrap().to_string());
    for _ in 0..2 {
        let (stream, _) = within("a connection", listener.accept()).await.unwrap();
        let mut stream = within("the handshake", acceptor.accept(stream)).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        within("a hello", stream.read_exact(&mut [0; 36])).await.unwrap();
        stream.shutdown().await.unwrap();
    }
}

/// A program that accepts anyone.
fn acceptor((chain, key): (String, String)) -> TlsAcceptor {
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A program in the place of server 2, with this certificate, until server 1 has connected three times.
/// Returns whether it gets a hello.
async fn poses_as_server_2(authority: &Authority, certificate: (String, String)) -> bool {
    let (book, _, _node) = server_1(authority).await;
    let acceptor = acceptor(certificate);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    book.set(2, listener.local_addr().unwrap().to_string());
    for _ in 0..3 {
        let (stream, _) = within("a connection", listener.accept()).await.unwrap();
        let Ok(mut stream) = within("the handshake", acceptor.accept(stream)).await else {
            continue;
        };
        if within("a hello", stream.read_exact(&mut [0; 36])).await.is_ok() {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn a_program_in_the_place_of_a_server_gets_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    assert!(poses_as_server_2(&authority, authority.issue(2, 3000)).await);
    assert!(!poses_as_server_2(&authority, other.issue(2, 3000)).await, "of another authority");
    assert!(!poses_as_server_2(&authority, authority.issue(2, 2001)).await, "expired");
    assert!(!poses_as_server_2(&authority, authority.issue(3, 3000)).await, "of another server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_continues_among_programs_without_tls() {
    let authority = Authority::new();
    let (book, transports) = transports(3).await;
    let counters = transports[0].counters();
    let mut nodes = Vec::new();
    for (pid, transport) in (1..).zip(transports) {
        nodes.push(start(pid, transport.tls(authority.certify(pid, &authority.pem, 3000))).await);
    }
    within("append", nodes[0].append(Word::new("first"))).await.unwrap();
    let address = book.get(1).unwrap();
    let storming = tokio::spawn(async move { storm(&address, counters, false).await });
    let mut appended: usize = 1;
    while !storming.is_finished() || appended < 30 {
        let word = Word::new(appended.to_string());
        let idx = within("append", nodes[appended % 3].append(word)).await.unwrap();
        assert_eq!(idx, appended as u64);
        appended += 1;
    }
    storming.await.unwrap();
}

#[test]
fn what_is_not_pem_is_refused() {
    assert!(Tls::from_pem(b"no", b"no", b"no").is_err());
}
