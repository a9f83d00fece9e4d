//! Which addresses a stranger may send us to. A host that nobody configured names the servers that
//! issue its tokens, and could name what only we can reach: a router, a neighbour's service, a
//! cloud's metadata (attack 24 of oauth.md). Names are judged where they are resolved, by the very
//! addresses that the connection is then made to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::environment::Environment;

type Cause = Box<dyn std::error::Error + Send + Sync>;

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
    /// The proxies' hosts, which are the user's own choice and may be anywhere.
    proxies: Vec<String>,
}

impl Guard {
    pub(super) fn new(reach: Reach, environment: &Environment) -> Self {
        let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY"];
        let host = |name: &&str| {
            let text = environment.get(name)?;
            let text = text.split_once("://").map_or(text, |(_, text)| text);
            Url::parse(&format!("http://{text}")).ok()?.host_str().map(str::to_owned)
        };
        Self { reach, proxies: names.iter().filter_map(host).collect() }
    }

    fn addresses(&self, name: &str) -> Result<Vec<SocketAddr>, Cause> {
        let found: Vec<_> = (name, 0).to_socket_addrs()?.collect();
        let proxy = self.proxies.iter().any(|proxy| proxy.eq_ignore_ascii_case(name));
        // All of them: which one is taken is not ours to say.
        let fine = match &self.reach {
            Reach::Outside => found.iter().all(|address| is_public(address.ip())),
            Reach::From(host) if host == name => {
                found.iter().all(|address| !is_public(address.ip()))
            }
            Reach::From(_) | Reach::Anywhere => true,
        };
        match fine || proxy {
            true => Ok(found),
            false => Err(format!("{name} leads to another network than it should").into()),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        // The blocking client has a thread of its own, which does nothing else meanwhile.
        let found = self.addresses(name.as_str());
        Box::pin(async { found.map(|found| Box::new(found.into_iter()) as Addrs) })
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
        let guard = |reach: Reach, proxy: &str| {
            let environment = [("HTTPS_PROXY".into(), proxy.into())].into_iter().collect();
            Guard::new(reach, &environment)
        };
        // Every machine knows this name.
        let refused = guard(Reach::Outside, "http://proxy.example:3128").addresses("localhost");
        assert!(refused.unwrap_err().to_string().contains("another network"));
        for proxy in ["http://user@localhost:3128", "LOCALHOST:3128"] {
            assert!(guard(Reach::Outside, proxy).addresses("localhost").is_ok(), "{proxy}");
        }
        for host in ["localhost", "intranet.example"] {
            assert!(guard(Reach::From(host.into()), "x").addresses("localhost").is_ok(), "{host}");
        }
        // An address is a name that needs no server to be resolved.
        assert!(guard(Reach::From("1.1.1.1".into()), "x").addresses("1.1.1.1").is_err());
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
