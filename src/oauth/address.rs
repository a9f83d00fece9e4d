//! Which addresses a stranger may send us to. A host that nobody configured names the servers that
//! issue its tokens, and could name what only we can reach: a router, a neighbour's service, a
//! cloud's metadata (attack 24 of oauth.md). Names are judged where they are resolved, by the very
//! addresses that the connection is then made to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use url::{Host, Url};

/// Addresses of one name that are tried.
const MOST: usize = 16;

/// Where a connection may lead.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reach {
    /// The user said who is asked.
    Anywhere,
    /// The internet.
    Outside,
    /// Anywhere, and this host stays inside: a name that the internet's servers can move at any
    /// time must not open the way for what they then say.
    From(String),
}

/// A resolver that refuses addresses beyond its reach.
#[derive(Debug)]
pub(super) struct Guard {
    reach: Reach,
    /// The proxy's host, which is the user's own choice and may be anywhere.
    proxy: Option<String>,
}

impl Guard {
    pub(super) fn new(reach: Reach, proxy: Option<String>) -> Self {
        Self { reach, proxy }
    }

    /// Fails where an address is beyond the reach.
    fn judge(&self, name: &str, found: &[SocketAddr]) -> io::Result<()> {
        let proxy = self.proxy.as_ref().is_some_and(|proxy| proxy.eq_ignore_ascii_case(name));
        // All of them: which one is taken is not ours to say.
        let fine = match &self.reach {
            Reach::Outside => found.iter().all(|address| is_public(address.ip())),
            Reach::From(host) if host == name => {
                found.iter().all(|address| !is_public(address.ip()))
            }
            Reach::From(_) | Reach::Anywhere => true,
        };
        match fine || proxy {
            true => Ok(()),
            false => {
                let what = format!("{name} leads to another network than it should");
                Err(io::Error::new(io::ErrorKind::PermissionDenied, what))
            }
        }
    }
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let port = match (uri.port_u16(), uri.scheme_str()) {
            (Some(port), _) => port,
            (None, Some("https")) => 443,
            (None, Some("http")) => 80,
            (None, _) => 1080,
        };
        let name = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let found = addresses(name, port, timeout)?;
        self.judge(name, &found)?;
        let mut kept = self.empty();
        found.into_iter().take(MOST).for_each(|address| kept.push(address));
        match kept.is_empty() {
            true => Err(ureq::Error::HostNotFound),
            false => Ok(kept),
        }
    }
}

/// The addresses of a name, within the time that there is.
fn addresses(name: &str, port: u16, timeout: NextTimeout) -> Result<Vec<SocketAddr>, ureq::Error> {
    let lower = name.trim_end_matches('.').to_ascii_lowercase();
    // RFC 6761 section 6.3: this machine by both families, whatever its files say.
    if lower == "localhost" || lower.ends_with(".localhost") {
        let both = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
        return Ok(both.map(|address| SocketAddr::new(address, port)).to_vec());
    }
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let asked = name.to_owned();
    let look = move || (asked.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    let (sender, receiver) = mpsc::sync_channel(1);
    let other = look.clone();
    let thread = std::thread::Builder::new().spawn(move || sender.send(other()).is_ok());
    match (thread, *timeout.after) {
        // The system's own bound is longer, and better than no answer.
        (Err(_), _) => Ok(look()?),
        (Ok(_), patience) => match receiver.recv_timeout(patience) {
            Ok(found) => Ok(found?),
            Err(_) => Err(ureq::Error::Timeout(timeout.reason)),
        },
    }
}

/// Whether the host of a URL, as it is resolved now, is on this machine or a private network.
pub(super) fn is_inside(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let found = (name, 0).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
            // What does not resolve here is known to a proxy, or to nobody.
            found.is_ok_and(|found| {
                !found.is_empty() && found.iter().all(|address| !is_public(address.ip()))
            })
        }
        _ => !is_outside(url),
    }
}

/// Whether a URL could lead to the internet, as far as its text tells.
pub(super) fn is_outside(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_public(address.into()),
        Some(Host::Ipv6(address)) => is_public(address.into()),
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            // Where clouds keep the credentials of their machines.
            let metadata = name == "metadata" || name.starts_with("metadata.");
            !metadata && name != "localhost" && !name.ends_with(".localhost")
        }
        None => false,
    }
}

/// Whether everybody can reach an address: none of the special-purpose registries of RFC 6890.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            let segments = address.segments();
            let tail = (u32::from(segments[6]) << 16) | u32::from(segments[7]);
            match segments {
                // IPv4 in another dress: mapped, and translated by RFC 6052.
                [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
                    is_public_v4(Ipv4Addr::from(tail))
                }
                // 6to4 (RFC 3056).
                [0x2002, high, low, ..] => {
                    is_public_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
                }
                // Teredo, benchmarking, ORCHID, documentation.
                [0x2001, second, ..] if second < 0x200 || second == 0xdb8 => false,
                // What is not global unicast: loopback, unique local, link-local, multicast.
                [first, ..] => first & 0xe000 == 0x2000,
            }
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [first, second, third, _] = address.octets();
    let special = match first {
        // This network, private, loopback, multicast and above.
        0 | 10 | 127 | 224.. => true,
        // Carriers' own (RFC 6598).
        100 => second & 0xc0 == 64,
        169 => second == 254,
        172 => second & 0xf0 == 16,
        192 => second == 168 || (second == 0 && third <= 2) || (second == 88 && third == 99),
        198 => second & 0xfe == 18 || (second == 51 && third == 100),
        203 => second == 0 && third == 113,
        _ => false,
    };
    !special
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Attack 24: the ranges that it lists, and IPv4 in the dresses of IPv6.
    #[test]
    fn attack_24_what_only_we_can_reach_is_not_public() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "::10.0.0.1",
            "100::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.1.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn attack_24_a_name_is_judged_by_what_it_resolves_to() {
        let resolve = |reach: Reach, proxy: Option<&str>, uri: &'static str| {
            let guard = Guard::new(reach, proxy.map(str::to_owned));
            let patience = std::time::Duration::from_secs(10).into();
            let timeout = NextTimeout { after: patience, ..NextTimeout::default() };
            guard.resolve(&Uri::from_static(uri), &Config::default(), timeout)
        };
        // Every machine knows this name.
        let refused = resolve(Reach::Outside, Some("proxy.example"), "http://localhost:3128");
        assert!(refused.unwrap_err().to_string().contains("another network"));
        for proxy in ["localhost", "LOCALHOST"] {
            assert!(resolve(Reach::Outside, Some(proxy), "http://localhost").is_ok(), "{proxy}");
        }
        for host in ["localhost", "intranet.example"] {
            assert!(resolve(Reach::From(host.into()), None, "https://localhost").is_ok(), "{host}");
        }
        // An address is a name that needs no server to be resolved.
        assert!(resolve(Reach::From("1.1.1.1".into()), None, "https://1.1.1.1").is_err());
        assert!(resolve(Reach::Outside, None, "https://[::1]").is_err());
    }

    /// RFC 6761 section 6.3, as browsers do it.
    #[test]
    fn localhost_is_this_machine_by_both_families() {
        for name in ["localhost", "LocalHost", "localhost.", "app.localhost"] {
            let found = addresses(name, 80, NextTimeout::default()).unwrap();
            assert_eq!(found, ["127.0.0.1:80", "[::1]:80"].map(|text| text.parse().unwrap()));
        }
    }

    #[test]
    fn a_url_can_show_by_itself_that_it_leads_inside() {
        let outside = |text: &str| is_outside(&Url::parse(text).unwrap());
        for text in [
            "http://127.0.0.1",
            "https://2130706433",
            "https://0x7f.1",
            "https://[::1]",
            "https://localhost",
            "https://localhost.",
            "https://x.localhost",
            "https://metadata.google.internal",
            "https://metadata",
        ] {
            assert!(!outside(text), "{text}");
        }
        assert!(outside("https://auth.example") && outside("https://1.1.1.1"));
    }
}
