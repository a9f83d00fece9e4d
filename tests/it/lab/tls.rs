//! HTTPS and proxies before a plain server: a certificate authority of the test's own, a front that
//! ends TLS and passes each request on, and a proxy that knows nothing but CONNECT.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::listener::Listener;
use super::watched::{PATIENCE, Watched};
use super::wire::{self, Untold};

pub struct CertificateAuthority(CertifiedIssuer<'static, KeyPair>);

impl CertificateAuthority {
    pub fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate with the name of its issuer for one that signed itself.
        parameters.distinguished_name.push(DnType::CommonName, "the laboratory");
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(parameters, key).expect("a certificate"))
    }

    /// What goes into SSL_CERT_FILE.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    fn server(&self, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let parameters = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = parameters.signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the usual versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate with its key");
        Arc::new(config)
    }
}

/// Runs until dropped.
pub struct TlsFront {
    listener: Listener,
}

impl TlsFront {
    /// Answers as `name`, and passes requests on to the server at `origin`.
    pub fn start(authority: &CertificateAuthority, name: &str, origin: &str) -> Self {
        let config = authority.server(name);
        let behind = origin.trim_start_matches("http://").to_owned();
        let serve = move |stream: &TcpStream| {
            // A client that does not trust us breaks off.
            drop(pass_on(stream, &config, &behind));
        };
        Self { listener: Listener::bind().serve(serve) }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }
}

fn pass_on(stream: &TcpStream, config: &Arc<ServerConfig>, behind: &str) -> io::Result<()> {
    let stream = stream.try_clone()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    let Some(head) = wire::read_head(&mut reader)? else { return Ok(()) };
    let body = wire::read_body(&mut reader, &head.headers, Untold::Empty)?;
    let mut server = TcpStream::connect(behind)?;
    let mut request = format!("{}\r\n", head.start_line);
    for (name, value) in &head.headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    server.write_all(format!("{request}\r\n").as_bytes())?;
    server.write_all(&body)?;
    let mut secured = reader.into_inner();
    io::copy(&mut server, &mut secured)?;
    secured.conn.send_close_notify();
    secured.flush()
}

/// Sends every CONNECT to one address, whatever it asks for, and remembers what that was. Runs until
/// dropped.
pub struct ConnectProxy {
    listener: Listener,
    asked: Arc<Watched<Vec<String>>>,
}

impl ConnectProxy {
    pub fn start(destination: SocketAddr) -> Self {
        let asked = Arc::new(Watched::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let serve = move |stream: &TcpStream| drop(tunnel(stream, destination, &seen));
        Self { listener: Listener::bind().serve(serve), asked }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.listener.address())
    }

    /// The request lines, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.read(Clone::clone)
    }
}

fn tunnel(
    client: &TcpStream,
    destination: SocketAddr,
    seen: &Watched<Vec<String>>,
) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    seen.change(|lines| lines.push(line.trim_end().to_owned()));
    while reader.read_line(&mut String::new())? > 2 {}
    let server = TcpStream::connect(destination)?;
    let (mut to_client, mut from_server) = (client.try_clone()?, server.try_clone()?);
    to_client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let back = thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let _ = io::copy(&mut reader, &mut &server);
    let _ = server.shutdown(Shutdown::Both);
    back.join().map_err(|_| io::Error::other("a tunnel broke"))
}
