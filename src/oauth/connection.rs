//! What a connection is made of: the proxies that the environment names, TLS with the
//! certificates of this system, and a note of whether anything was sent over it.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_platform_verifier::Verifier;
use ureq::config::Config;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout,
    SocksConnector, TcpConnector, Transport, TransportAdapter,
};
use ureq::{Agent, Timeout};
use url::{Host, Url};

use super::address::Guard;
use super::network;
use crate::environment::Environment;
use crate::error::{Error, Kind};

/// Makes the connections of one request, and says in `sent` whether anything of it was written.
#[expect(clippy::disallowed_methods, reason = "the place that connects out")]
pub(super) fn agent(
    config: Config,
    guard: Guard,
    tls: Option<Arc<ClientConfig>>,
    sent: &Arc<AtomicBool>,
) -> Agent {
    let connector =
        ().chain(SocksConnector::default())
            .chain(ConnectProxyConnector::default())
            .chain(TcpConnector::default())
            .chain(Tls(tls))
            .chain(Watch(Arc::clone(sent)));
    Agent::with_parts(config, connector, guard)
}

/// Whether an error came up before a request could be written.
pub(super) fn is_before_the_request(error: &ureq::Error) -> bool {
    matches!(
        error,
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect)
            | ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::ConnectProxyFailed(_)
            | ureq::Error::BadUri(_)
            | ureq::Error::Http(_)
            | ureq::Error::TlsRequired
    )
}

/// Whether what came over the connection is not HTTP.
pub(super) fn is_garbled(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::Protocol(_))
}

/// TLS with the certificates of the system, those of SSL_CERT_FILE, which only some systems'
/// verifiers read themselves, and those of more files and directories.
pub(super) fn tls(
    environment: &Environment,
    more: &[PathBuf],
) -> Result<Arc<ClientConfig>, Box<dyn std::error::Error + Send + Sync>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut extra = Vec::new();
    if let Some(path) = environment.raw("SSL_CERT_FILE") {
        extra = CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?;
    }
    extra.extend(more.iter().flat_map(|path| network::certificates(path)));
    let verifier = Verifier::new_with_extra_roots(extra, Arc::clone(&provider))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        // The name of the method is for verifiers of one's own; this is the system's.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Wraps what leads to an https server, or to a proxy that is one.
#[derive(Debug)]
struct Tls(Option<Arc<ClientConfig>>);

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let config = self.0.clone().ok_or(ureq::Error::TlsRequired)?;
        let host = details.uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare)
            .map_err(|_| ureq::Error::Tls("the host is no name that a certificate could have"))?;
        let failed = |error: rustls::Error| ureq::Error::Other(Box::new(error));
        let mut connection = ClientConnection::new(config, name).map_err(failed)?;
        let clock = Arc::clone(&details.current_time);
        let boxed: Box<dyn Transport> = Box::new(transport);
        let mut adapter = TransportAdapter::new(boxed, clock);
        adapter.set_timeout(details.timeout);
        connection.complete_io(&mut adapter)?;
        let buffers = LazyBuffers::new(
            details.config.input_buffer_size(),
            details.config.output_buffer_size(),
        );
        let stream = StreamOwned::new(connection, adapter);
        Ok(Some(Either::B(TlsTransport { buffers, stream })))
    }
}

struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl std::fmt::Debug for TlsTransport {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("TlsTransport").finish_non_exhaustive()
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        Ok(self.stream.write_all(&self.buffers.output()[..amount])?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// Notes that something was written to the server.
#[derive(Debug)]
struct Watch(Arc<AtomicBool>);

impl<In: Transport> Connector<In> for Watch {
    type Out = Watched<In>;

    fn connect(
        &self,
        _details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        // What was written until now was for a proxy.
        self.0.store(false, Ordering::Relaxed);
        Ok(chained.map(|transport| Watched { transport, sent: Arc::clone(&self.0) }))
    }
}

#[derive(Debug)]
struct Watched<T> {
    transport: T,
    sent: Arc<AtomicBool>,
}

impl<T: Transport> Transport for Watched<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.transport.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.sent.store(true, Ordering::Relaxed);
        self.transport.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.transport.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.transport.is_open()
    }

    fn is_tls(&self) -> bool {
        self.transport.is_tls()
    }
}

/// The proxies that the environment names for https, as curl and git read it.
pub(super) struct Proxies<'a> {
    proxy: Option<(&'static str, &'a str)>,
    exceptions: &'a str,
}

impl<'a> Proxies<'a> {
    pub(super) fn new(environment: &'a Environment) -> Self {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| Some((*name, environment.get(name)?)))
        };
        let proxy = first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]);
        let exceptions = first(&["NO_PROXY", "no_proxy"]).unwrap_or_default().1;
        Self { proxy, exceptions }
    }

    /// The proxy for a URL.
    ///
    /// # Errors
    /// `Configuration` when the variable holds no proxy's URL.
    pub(super) fn way(&self, url: &Url) -> Result<Option<ureq::Proxy>, Error> {
        let Some((name, text)) = self.proxy.filter(|_| !self.excepts(url)) else {
            return Ok(None);
        };
        ureq::Proxy::new(text).map(Some).map_err(|_| {
            // It may hold a password.
            let what = format!("{name} is no URL of a proxy");
            Error::new(Kind::Configuration, what).hint(format!("{name}=http://HOST:PORT"))
        })
    }

    pub(super) fn excepts(&self, url: &Url) -> bool {
        let entries = self.exceptions.split([',', ' ']).filter(|entry| !entry.is_empty());
        entries.into_iter().any(|entry| is_excepted(entry, url))
    }
}

/// One entry of NO_PROXY: `*`, a domain with all below it, an address, or a network (CIDR).
fn is_excepted(entry: &str, url: &Url) -> bool {
    let (entry, port) = match entry.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') => match port.parse::<u16>() {
            Ok(port) if host.ends_with(']') || !host.contains(':') => (host, Some(port)),
            _ => (entry, None),
        },
        _ => (entry, None),
    };
    if port.is_some() && port != url.port_or_known_default() {
        return false;
    }
    let entry = entry.trim_start_matches('[').trim_end_matches(']');
    let address: IpAddr = match url.host() {
        _ if entry == "*" => return true,
        Some(Host::Ipv4(address)) => address.into(),
        Some(Host::Ipv6(address)) => address.into(),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            let domain = entry.trim_start_matches('*').trim_start_matches('.').to_lowercase();
            let above = name.strip_suffix(domain.as_str());
            return !domain.is_empty()
                && above.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        }
        None => return false,
    };
    let (network, length) = match entry.split_once('/') {
        Some((network, length)) => (network, length.parse::<u32>().ok()),
        None => (entry, Some(128)),
    };
    match (network.parse(), address, length) {
        (Ok(IpAddr::V4(network)), IpAddr::V4(address), Some(length)) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(length)).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        (Ok(IpAddr::V6(network)), IpAddr::V6(address), Some(length)) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(length)).unwrap_or(0);
            network.to_bits() & mask == address.to_bits() & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_takes_hosts_out_as_curl_and_git_have_it() {
        let excepted = |entries: &str, url: &str| {
            let environment = [("NO_PROXY".into(), entries.into())].into_iter().collect();
            Proxies::new(&environment).excepts(&Url::parse(url).unwrap())
        };
        for (entries, url, expected) in [
            ("*", "https://a.example", true),
            ("a.example", "https://a.example", true),
            ("A.Example", "https://a.example.", true),
            ("b.example, a.example", "https://a.example", true),
            ("b.example a.example", "https://a.example", true),
            (".example", "https://a.example", true),
            ("*.example", "https://a.example", true),
            ("example", "https://a.example", true),
            ("ample", "https://a.example", false),
            ("a.example:443", "https://a.example", true),
            ("a.example:8443", "https://a.example", false),
            ("10.0.0.0/8", "https://10.1.2.3", true),
            ("10.0.0.0/8", "https://11.1.2.3", false),
            ("10.1.2.3", "https://10.1.2.3", true),
            ("0.0.0.0/0", "https://10.1.2.3", true),
            ("10.0.0.0/x", "https://10.1.2.3", false),
            ("fd00::/8", "https://[fd00::1]", true),
            ("fd00::1", "https://[fd00::1]:8443", true),
            ("[fd00::1]:8443", "https://[fd00::1]:8443", true),
            ("fd00::2", "https://[fd00::1]", false),
            ("", "https://a.example", false),
            (",", "https://a.example", false),
        ] {
            assert_eq!(excepted(entries, url), expected, "{entries:?} {url}");
        }
    }

    #[test]
    fn a_proxy_that_is_none_is_said_without_its_password() {
        let environment =
            [("HTTPS_PROXY".into(), "gopher://user:s3cret@h".into())].into_iter().collect();
        let url = Url::parse("https://a.example").unwrap();
        let error = Proxies::new(&environment).way(&url).unwrap_err();
        assert_eq!(error.what, "HTTPS_PROXY is no URL of a proxy");
    }
}
