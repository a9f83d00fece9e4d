//! TLS in front of a server, for clients that send no secret without it. The certificate is made
//! anew each time and is for 127.0.0.1; whoever is to believe it is given it. One request a
//! connection, as behind it.

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, Stream};

use super::listener::Listener;
use super::watched::PATIENCE;
use super::wire::{self, Untold};

pub struct Tls {
    listener: Listener,
    certificate: String,
}

impl Tls {
    /// For the server behind this port of the loopback.
    pub fn in_front_of(port: u16) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])
            .expect("a certificate can be made");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has all versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("a key that fits");
        let config = Arc::new(config);
        let listener = Listener::bind().serve(move |stream| {
            // A peer that breaks off in the middle is the peer's business.
            let _ = pass_on(stream, &config, port);
        });
        Self { listener, certificate: made.cert.pem() }
    }

    /// `https://127.0.0.1:PORT`, without a slash.
    pub fn origin(&self) -> String {
        format!("https://{}", self.listener.address())
    }

    /// PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// PEM in base64, as a kubeconfig holds it.
    pub fn certificate_data(&self) -> String {
        BASE64_STANDARD.encode(&self.certificate)
    }
}

fn pass_on(mut outside: &TcpStream, config: &Arc<ServerConfig>, port: u16) -> io::Result<()> {
    outside.set_read_timeout(Some(PATIENCE))?;
    outside.set_write_timeout(Some(PATIENCE))?;
    let mut connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut stream = Stream::new(&mut connection, &mut outside);
    let mut reader = BufReader::new(&mut stream);
    let Some(head) = wire::read_head(&mut reader)? else { return Ok(()) };
    let body = wire::read_body(&mut reader, &head.headers, Untold::Empty)?;

    let mut inside = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    let mut bytes = format!("{}\r\n", head.start_line).into_bytes();
    for (name, value) in &head.headers {
        // The body is whole by now, and its length is said below.
        if !["Transfer-Encoding", "Content-Length"].iter().any(|it| it.eq_ignore_ascii_case(name)) {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
    }
    bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(&body);
    inside.write_all(&bytes)?;
    let mut answer = Vec::new();
    inside.read_to_end(&mut answer)?;
    stream.write_all(&answer)?;
    stream.conn.send_close_notify();
    stream.flush()
}
