//! Hosts and ports as they are asked for, in one form: lower case, no dot at the end, international names in their
//! ASCII form, addresses as addresses. What could be read in two ways is no host.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most characters of a name, RFC 1035.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A name or an address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// Lower-case ASCII labels with dots between them.
    Name(String),
    Address(IpAddr),
}

/// What a client wants to reach.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    pub host: Host,
    /// Never 0.
    pub port: u16,
}

/// Why a text names no host. Its words follow "the host".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

impl Host {
    /// Reads a host as it stands in an address: `name`, `127.0.0.1`, `[::1]`.
    ///
    /// An IPv4 address is four decimal numbers and nothing else: the octal, hexadecimal and shortened forms that some
    /// resolvers understand are refused, as are names that end in a number.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(Malformed("has a bracket too few"))?;
            let address = inner.parse::<Ipv6Addr>().map_err(|_| Malformed("is no IPv6 address"))?;
            return Ok(Self::Address(IpAddr::V6(address)));
        }
        let text = text.strip_suffix('.').unwrap_or(text);
        let name = if text.is_ascii() { text.to_ascii_lowercase() } else { international(text)? };
        if ends_in_a_number(&name) {
            let address = name.parse::<Ipv4Addr>().map_err(|_| Malformed("is a number, but no plain IPv4 address"))?;
            return Ok(Self::Address(IpAddr::V4(address)));
        }
        check_name(&name)?;
        Ok(Self::Name(name))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => formatter.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(formatter),
            Self::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]"),
        }
    }
}

impl Target {
    /// Reads `host:port`, or `host` alone where a port is known without being written. A login before the host is
    /// refused.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, Malformed> {
        let after_address = text.rfind(']').map_or(0, |end| end + 1);
        let (host, port) = match text.get(after_address..).and_then(|rest| rest.rfind(':')) {
            Some(colon) => text.split_at(after_address + colon),
            None => (text, ""),
        };
        let port = match port.strip_prefix(':') {
            Some(digits) => parse_port(digits)?,
            None => default_port.ok_or(Malformed("has no port"))?,
        };
        Ok(Self { host: Host::parse(host)?, port })
    }

    /// The value of a `Host` header for plain HTTP: without the port if it is 80.
    pub fn host_header(&self) -> String {
        if self.port == 80 { self.host.to_string() } else { self.to_string() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

/// A text from outside as people may see it: everything but the characters of hosts is escaped, and its length bounded.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 100;
    let plain = |character: char| character.is_ascii_alphanumeric() || "-._:[]/ ".contains(character);
    let mut escaped = String::new();
    for character in text.chars() {
        if escaped.len() >= LONGEST {
            escaped.push_str("...");
            break;
        }
        match character {
            character if plain(character) => escaped.push(character),
            character => escaped.extend(character.escape_unicode()),
        }
    }
    escaped
}

/// Digits alone, without a sign.
pub(super) fn parse_port(digits: &str) -> Result<u16, Malformed> {
    let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let port = digits.parse().ok().filter(|port| plain && *port != 0);
    port.ok_or(Malformed("has no port between 1 and 65535"))
}

fn international(text: &str) -> Result<String, Malformed> {
    match url::Host::parse(text) {
        Ok(url::Host::Domain(name)) => Ok(name),
        Ok(url::Host::Ipv4(_) | url::Host::Ipv6(_)) | Err(_) => Err(Malformed("is no international name")),
    }
}

/// The WHATWG URL Standard's "ends in a number": what some program takes for an IPv4 address.
fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let decimal = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    decimal || hexadecimal
}

fn check_name(name: &str) -> Result<(), Malformed> {
    if name.is_empty() {
        return Err(Malformed("is empty"));
    }
    if name.len() > LONGEST_NAME || name.split('.').any(|label| label.len() > LONGEST_LABEL) {
        return Err(Malformed("is too long"));
    }
    if name.split('.').any(str::is_empty) {
        return Err(Malformed("has two dots in a row"));
    }
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    if !name.bytes().all(known) {
        return Err(Malformed("has characters that no host has"));
    }
    Ok(())
}
