//! Which addresses no task reaches unless the operator opened them.
//!
//! The ranges are named one by one (IANA's special-purpose registries, and the addresses at which clouds hand out
//! credentials). It is not asked that an address be globally routable: documentation and benchmark networks are what
//! tests are made of.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// What a forbidden address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Range {
    Unspecified,
    Loopback,
    Private,
    CarrierGradeNat,
    LinkLocal,
    /// Where clouds hand out credentials to whoever asks from inside.
    Metadata,
    Multicast,
    Reserved,
}

impl Range {
    /// Whether an operator may have good reasons to open an address of it, so that a report may tell how.
    pub fn may_be_opened(self) -> bool {
        match self {
            Self::Private | Self::CarrierGradeNat => true,
            Self::Unspecified
            | Self::Loopback
            | Self::LinkLocal
            | Self::Metadata
            | Self::Multicast
            | Self::Reserved => false,
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::CarrierGradeNat => "carrier-grade NAT",
            Self::LinkLocal => "link-local",
            Self::Metadata => "cloud metadata",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
        })
    }
}

/// A range of addresses in the form `10.0.0.0/8`; an address alone is a range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// Leading bits that count: at most 32 or 128.
    prefix: u32,
}

/// A text that is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no network; one is written `10.0.0.0/8` or `fd00::/8`")]
pub struct NotANetwork;

impl Network {
    const fn v4(octets: [u8; 4], prefix: u32) -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::from_octets(octets)), prefix }
    }

    const fn v6(segments: [u16; 8], prefix: u32) -> Self {
        Self { address: IpAddr::V6(Ipv6Addr::from_segments(segments)), prefix }
    }

    /// Whether it is a range of one.
    pub fn is_one_address(&self) -> bool {
        self.prefix == if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// Whether `address` is in it. An IPv4-mapped address counts as the IPv4 address that it reaches.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - self.prefix).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - self.prefix).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| NotANetwork)?
            }
            Some(_) => return Err(NotANetwork),
            None => longest,
        };
        if prefix <= longest { Ok(Self { address, prefix }) } else { Err(NotANetwork) }
    }
}

/// Single addresses first: what a table names first is the name that is shown.
const FORBIDDEN: [(Network, Range); 25] = [
    // Amazon, Azure, Google, OpenStack and others; Amazon's for containers; Alibaba; Oracle; Azure's host.
    (Network::v4([169, 254, 169, 254], 32), Range::Metadata),
    (Network::v4([169, 254, 170, 2], 32), Range::Metadata),
    (Network::v4([169, 254, 170, 23], 32), Range::Metadata),
    (Network::v4([100, 100, 100, 200], 32), Range::Metadata),
    (Network::v4([192, 0, 0, 192], 32), Range::Metadata),
    (Network::v4([168, 63, 129, 16], 32), Range::Metadata),
    (Network::v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 64), Range::Metadata),
    (Network::v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), Range::Metadata),
    (Network::v4([0, 0, 0, 0], 8), Range::Unspecified),
    (Network::v4([10, 0, 0, 0], 8), Range::Private),
    (Network::v4([100, 64, 0, 0], 10), Range::CarrierGradeNat),
    (Network::v4([127, 0, 0, 0], 8), Range::Loopback),
    (Network::v4([169, 254, 0, 0], 16), Range::LinkLocal),
    (Network::v4([172, 16, 0, 0], 12), Range::Private),
    (Network::v4([192, 0, 0, 0], 24), Range::Reserved),
    (Network::v4([192, 168, 0, 0], 16), Range::Private),
    (Network::v4([224, 0, 0, 0], 4), Range::Multicast),
    (Network::v4([240, 0, 0, 0], 4), Range::Reserved),
    (Network::v6([0, 0, 0, 0, 0, 0, 0, 0], 128), Range::Unspecified),
    (Network::v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Range::Loopback),
    // NAT64 for local use (RFC 8215): what is embedded, and where, is the local network's own affair.
    (Network::v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), Range::Private),
    (Network::v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), Range::Private),
    (Network::v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Range::LinkLocal),
    (Network::v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), Range::Private),
    (Network::v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Range::Multicast),
];

/// What `address` is, if it is in a forbidden range itself or leads into one by a translation of IPv4 into IPv6.
pub fn forbidden(address: IpAddr) -> Option<Range> {
    let listed =
        |address: IpAddr| FORBIDDEN.iter().find(|(network, _)| network.contains(address)).map(|(_, range)| *range);
    let translated = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => embedded(address).into_iter().flatten().find_map(|inner| listed(IpAddr::V4(inner))),
    };
    listed(address).or(translated)
}

/// The IPv4 addresses that an IPv6 address stands for.
fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let last = || Some(Ipv4Addr::from_bits((address.to_bits() & u128::from(u32::MAX)) as u32));
    let pair = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match address.segments() {
        // IPv4-compatible, IPv4-mapped, IPv4-translated (RFC 2765) and the well-known NAT64 prefix (RFC 6052).
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => [last(), None],
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => [last(), None],
        // 6to4, RFC 3056.
        [0x2002, high, low, ..] => [pair(high, low), None],
        // Teredo, RFC 4380: the server, and the client with its bits inverted.
        [0x2001, 0, high, low, _, _, client_high, client_low] => [pair(high, low), pair(!client_high, !client_low)],
        // ISATAP, RFC 5214, below any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => [pair(high, low), None],
        _ => [None, None],
    }
}
