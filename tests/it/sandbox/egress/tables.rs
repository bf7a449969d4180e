use patchwright::sandbox::egress::{
    Allowlist, Host, Network, Range, Registries, Rule, Target, Upstream, forbidden, shown,
};
use proptest::prelude::*;

fn target(text: &str) -> Target {
    Target::parse(text, None).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn hosts_have_one_form() {
    for (text, normal) in [
        ("registry.npmjs.org", Some("registry.npmjs.org")),
        ("Registry.NPMJS.org.", Some("registry.npmjs.org")),
        ("bücher.example", Some("xn--bcher-kva.example")),
        ("BÜCHER.example.", Some("xn--bcher-kva.example")),
        ("under_score.example", Some("under_score.example")),
        ("localhost", Some("localhost")),
        ("127.0.0.1", Some("127.0.0.1")),
        ("127.0.0.1.", Some("127.0.0.1")),
        ("[::1]", Some("[::1]")),
        ("[0:0:0:0:0:0:0:1]", Some("[::1]")),
        ("[::ffff:127.0.0.1]", Some("[::ffff:127.0.0.1]")),
        ("[fe80::1%25eth0]", None),
        ("[fe80::1%eth0]", None),
        ("[::1", None),
        ("::1", None),
        ("2130706433", None),
        ("0x7f000001", None),
        ("0X7F000001", None),
        ("0x7f.1", None),
        ("017700000001", None),
        ("0177.0.0.1", None),
        ("127.1", None),
        ("127.0.0.0x1", None),
        ("127.0.0.01", None),
        ("256.0.0.1", None),
        ("example.1", None),
        ("１２７.0.0.1", None),
        ("ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", Some("localhost")),
        ("", None),
        (".", None),
        ("a..b", None),
        ("a b", None),
        ("a%2eb", None),
        ("a/b", None),
        ("a\\b", None),
        ("user@host", None),
        ("a\0b", None),
        ("a\nb", None),
        ("*.crates.io", None),
    ] {
        let parsed = Host::parse(text).ok().map(|host| host.to_string());
        assert_eq!(parsed.as_deref(), normal, "{text:?}");
    }
    assert!(Host::parse(&format!("{}.org", "a".repeat(64))).is_err());
    assert!(Host::parse(&"abc.".repeat(70)).is_err());
}

#[test]
fn ports_are_plain_numbers() {
    for (text, normal) in [
        ("a.org:443", Some("a.org:443")),
        ("a.org.:443", Some("a.org:443")),
        ("[::1]:80", Some("[::1]:80")),
        ("a.org", None),
        ("[::1]", None),
        ("a.org:", None),
        ("a.org:0", None),
        ("a.org:65536", None),
        ("a.org:+443", None),
        ("a.org:443 ", None),
        ("a.org:80:443", None),
        ("u@a.org:443", None),
        ("u:p@a.org:443", None),
        ("a.org:80@b.org:443", None),
        ("[::1]x:80", None),
        (":443", None),
    ] {
        assert_eq!(Target::parse(text, None).ok().map(|target| target.to_string()).as_deref(), normal, "{text:?}");
    }
    assert_eq!(Target::parse("a.org", Some(80)).unwrap().to_string(), "a.org:80");
}

#[test]
fn rules_fit_what_they_name() {
    for (rule, asked, fits) in [
        ("registry.npmjs.org", "registry.npmjs.org:443", true),
        ("registry.npmjs.org", "registry.npmjs.org:80", true),
        ("registry.npmjs.org", "registry.npmjs.org:8443", false),
        ("registry.npmjs.org", "REGISTRY.npmjs.ORG.:443", true),
        ("registry.npmjs.org", "a.registry.npmjs.org:443", false),
        ("registry.npmjs.org", "npmjs.org:443", false),
        ("registry.npmjs.org", "registry.npmjs.org.evil.test:443", false),
        ("*.crates.io", "static.crates.io:443", true),
        ("*.crates.io", "a.b.crates.io:443", true),
        ("*.crates.io", "crates.io:443", false),
        ("*.crates.io", "evilcrates.io:443", false),
        ("*.crates.io", "crates.io.evil.test:443", false),
        ("host:8443", "host:8443", true),
        ("host:8443", "host:443", false),
        ("*.host.org:8443", "a.host.org:8443", true),
        ("*.host.org:8443", "a.host.org:443", false),
        ("Bücher.example", "xn--bcher-kva.example:443", true),
        ("203.0.113.7", "203.0.113.7:443", true),
        ("203.0.113.7", "203.0.113.8:443", false),
        ("[2001:db8::7]:8443", "[2001:db8:0::7]:8443", true),
        ("[2001:db8::7]", "[2001:db8::7]:443", true),
        ("*.0.113.7.example", "203.0.113.7:443", false),
        ("tcp://git.example:22", "git.example:22", true),
        ("tcp://git.example:22", "git.example:443", false),
    ] {
        let list: Allowlist = [Rule::parse(rule).unwrap()].into_iter().collect();
        assert_eq!(list.find(&target(asked)).is_some(), fits, "{rule} and {asked}");
    }
    assert!(Allowlist::default().find(&target("a.org:443")).is_none());
}

#[test]
fn wrong_rules_say_what_is_wrong() {
    for (rule, says) in [
        ("*", "a star stands only"),
        ("*.", "is empty"),
        ("a.*.org", "a star stands only"),
        ("*a.org", "a star stands only"),
        ("**.org", "a star stands only"),
        ("*.10.0.0.1", "nothing is below an address"),
        ("https://a.org", "without a scheme"),
        ("a.org/path", "without a scheme or a path"),
        ("tcp://a.org", "the port must be named"),
        ("a.org:99999", "has no port"),
        ("0x7f.1", "is a number"),
        ("a\u{202e}b\n.org", "is no international name"),
        ("", "is empty"),
    ] {
        let error = Rule::parse(rule).unwrap_err().to_string();
        assert!(error.contains(says), "{rule:?}: {error}");
        assert!(error.chars().all(|character| !character.is_control() && character != '\u{202e}'), "{error:?}");
    }
    assert!(Rule::parse_private("a.org", &["10.0.0.0/33"]).unwrap_err().to_string().contains("is no network"));
}

#[test]
fn forbidden_ranges_have_names() {
    use Range::*;
    for (address, range) in [
        ("0.0.0.0", Some(Unspecified)),
        ("0.1.2.3", Some(Unspecified)),
        ("10.0.0.1", Some(Private)),
        ("100.63.255.255", None),
        ("100.64.0.1", Some(CarrierGradeNat)),
        ("100.127.255.255", Some(CarrierGradeNat)),
        ("100.128.0.0", None),
        ("100.100.100.200", Some(Metadata)),
        ("127.0.0.1", Some(Loopback)),
        ("127.255.255.254", Some(Loopback)),
        ("168.63.129.16", Some(Metadata)),
        ("169.254.1.1", Some(LinkLocal)),
        ("169.254.169.254", Some(Metadata)),
        ("169.254.170.2", Some(Metadata)),
        ("172.15.255.255", None),
        ("172.16.0.1", Some(Private)),
        ("172.31.255.255", Some(Private)),
        ("172.32.0.0", None),
        ("192.0.0.1", Some(Reserved)),
        ("192.0.0.192", Some(Metadata)),
        ("192.168.1.1", Some(Private)),
        ("224.0.0.1", Some(Multicast)),
        ("239.255.255.255", Some(Multicast)),
        ("240.0.0.1", Some(Reserved)),
        ("255.255.255.255", Some(Reserved)),
        // Test networks are nobody's.
        ("192.0.2.1", None),
        ("198.18.0.1", None),
        ("198.51.100.1", None),
        ("203.0.113.1", None),
        ("2001:db8::1", None),
        ("1.1.1.1", None),
        ("2606:4700::1", None),
        ("::", Some(Unspecified)),
        ("::1", Some(Loopback)),
        ("fe80::1", Some(LinkLocal)),
        ("febf::1", Some(LinkLocal)),
        ("fec0::1", Some(Private)),
        ("fc00::1", Some(Private)),
        ("fdff::1", Some(Private)),
        ("fd00:ec2::254", Some(Metadata)),
        ("fd00:ec2::23", Some(Metadata)),
        ("fd20:ce::254", Some(Metadata)),
        ("ff02::1", Some(Multicast)),
        ("::ffff:127.0.0.1", Some(Loopback)),
        ("::ffff:169.254.169.254", Some(Metadata)),
        ("::ffff:1.1.1.1", None),
        ("::127.0.0.1", Some(Loopback)),
        ("::ffff:0:10.0.0.1", Some(Private)),
        ("64:ff9b::10.0.0.1", Some(Private)),
        ("64:ff9b::169.254.169.254", Some(Metadata)),
        ("64:ff9b::1.1.1.1", None),
        ("64:ff9b:1::1.1.1.1", Some(Private)),
        ("2002:7f00:1::", Some(Loopback)),
        ("2002:a9fe:a9fe::1", Some(Metadata)),
        ("2002:101:101::1", None),
        ("2001:0:a00:1::", Some(Private)),
        ("2001:0:101:101:0:0:80ff:fffe", Some(Loopback)),
        ("2001:db8::5efe:127.0.0.1", Some(Loopback)),
        ("2001:db8::200:5efe:10.0.0.1", Some(Private)),
    ] {
        assert_eq!(forbidden(address.parse().unwrap()), range, "{address}");
    }
}

#[test]
fn only_what_is_opened_is_open() {
    for (networks, address, opened) in [
        (&["10.0.0.0/8"][..], "10.1.2.3", true),
        (&["10.0.0.0/8"], "192.168.1.1", false),
        (&["10.0.0.0/8"], "::ffff:10.1.2.3", true),
        (&["10.1.2.3"], "10.1.2.3", true),
        (&["10.1.2.3"], "10.1.2.4", false),
        (&["fd00::/8"], "fd12::1", true),
        (&["fd00::/8"], "fd00:ec2::254", false),
        (&["100.64.0.0/10"], "100.100.100.200", false),
        (&["0.0.0.0/0", "::/0"], "169.254.169.254", false),
        (&["0.0.0.0/0"], "127.0.0.1", true),
        (&["169.254.169.254"], "169.254.169.254", true),
        (&[], "10.0.0.1", false),
    ] {
        let list: Allowlist = [Rule::parse_private("nexus.corp", networks).unwrap()].into_iter().collect();
        let grant = list.find(&target("nexus.corp:443")).unwrap();
        let address = address.parse().unwrap();
        let range = forbidden(address).unwrap();
        assert_eq!(grant.opens(address, range), opened, "{networks:?} and {address}");
    }
}

#[test]
fn networks_are_read_strictly() {
    for (text, good) in [
        ("10.0.0.0/8", true),
        ("::/0", true),
        ("::1", true),
        ("10/8", false),
        ("10.0.0.0/+8", false),
        ("a", false),
        ("::/129", false),
    ] {
        assert_eq!(text.parse::<Network>().is_ok(), good, "{text}");
    }
    for text in ["10.0.0.0/", "10.0.0.0/33", ""] {
        assert!(text.parse::<Network>().is_err(), "{text}");
    }
}

#[test]
fn the_built_in_list_is_well_formed() {
    let registries = Registries::built_in().unwrap();
    let names: Vec<&str> = registries.names().collect();
    assert_eq!(names, ["crates", "go", "gradle", "maven", "npm", "nuget", "packagist", "pypi", "rubygems"]);
    let npm: Allowlist = registries.rules("npm").unwrap().iter().cloned().collect();
    assert!(npm.find(&target("registry.npmjs.org:443")).is_some());
    assert!(npm.find(&target("pypi.org:443")).is_none());
    let all: Allowlist = registries.all().cloned().collect();
    assert!(all.find(&target("pypi.org:443")).is_some());
    assert!(registries.rules("cobol").unwrap_err().to_string().contains("npm"));
    for wrong in ["[npm]\nhost = []", "[npm]\nhosts = [\"*\"]", "npm = 1", "["] {
        assert!(Registries::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_companys_proxy_serves_all_but_the_exceptions() {
    let no_proxy = "localhost, .corp.example,internal.test:8443, 10.0.0.0/8,192.0.2.7,*.dev.test,,http://x/";
    let upstream = Upstream::parse(&"http://us%65r:p%40ss@proxy.corp:3128".to_owned().into(), no_proxy).unwrap();
    for (asked, serves) in [
        ("registry.npmjs.org:443", true),
        ("localhost:80", false),
        ("corp.example:443", false),
        ("a.corp.example:443", false),
        ("notcorp.example:443", true),
        ("internal.test:8443", false),
        ("internal.test:443", true),
        ("10.1.2.3:443", false),
        ("11.1.2.3:443", true),
        ("192.0.2.7:443", false),
        ("a.dev.test:443", false),
    ] {
        assert_eq!(upstream.serves(&target(asked)), serves, "{asked}");
    }
    let debug = format!("{upstream:?}");
    assert!(!debug.contains("p@ss") && !debug.contains("dXNlcjpwQHNz") && debug.contains("Sensitive"), "{debug}");
    assert!(!Upstream::parse(&"proxy:80".to_owned().into(), "*").unwrap().serves(&target("a.org:443")));
    for wrong in ["https://user:secret@proxy", "socks5://user:secret@proxy", "http://", "http://user:secret@pro xy"] {
        let error = Upstream::parse(&wrong.to_owned().into(), "").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
}

#[test]
fn names_are_shown_harmlessly() {
    assert_eq!(shown("a.org:443"), "a.org:443");
    assert_eq!(shown("a\n\u{1b}[31m\u{202e}b"), "a\\u{a}\\u{1b}[31m\\u{202e}b");
    assert_eq!(shown("`<b>@x|"), "\\u{60}\\u{3c}b\\u{3e}\\u{40}x\\u{7c}");
    assert!(shown(&"a".repeat(10_000)).len() < 120);
}

proptest! {
    #[test]
    fn a_host_is_the_same_when_read_again(text in "\\PC{0,40}") {
        if let Ok(host) = Host::parse(&text) {
            prop_assert_eq!(Host::parse(&host.to_string()), Ok(host));
        }
    }

    #[test]
    fn whatever_is_shown_is_plain(text in any::<String>()) {
        prop_assert!(shown(&text).chars().all(|character| character.is_ascii_graphic() || character == ' '));
    }

    #[test]
    fn a_mapped_address_is_what_it_maps(bits in any::<u32>()) {
        let plain = std::net::Ipv4Addr::from_bits(bits);
        prop_assert_eq!(forbidden(plain.into()), forbidden(plain.to_ipv6_mapped().into()));
    }
}
