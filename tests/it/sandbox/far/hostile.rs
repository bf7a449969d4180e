//! What comes from a box is nobody's friend: listings that lead elsewhere, answers that nobody asked for.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;

use patchwright::sandbox::remote::exchange::{self, Pair};
use patchwright::sandbox::remote::line::Counted;
use patchwright::sandbox::remote::listing::{Entry, Listing, Node, Time};
use patchwright::sandbox::remote::place::Place;
use patchwright::sandbox::remote::{Bounds, Fault};

use super::*;

const BOUNDS: Bounds = Bounds { entries: 100, bytes: 1 << 20, text: 4000 };

fn entry(node: Node) -> Entry {
    Entry { node, mode: 0o755, inode: 1, changed: Time::default() }
}

fn file(length: u64) -> Entry {
    entry(Node::File { length, modified: Time::default() })
}

fn link(to: &str) -> Entry {
    entry(Node::Link { to: to.into() })
}

fn listing(entries: &[(&str, Entry)]) -> Listing {
    let mut listing = Listing::default();
    entries.iter().for_each(|(path, entry)| listing.insert(path.as_bytes().to_vec(), entry.clone()));
    listing
}

/// A folder that is fetched into, beside one that must not be touched.
struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["tree", "victim"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("victim/file"), "victim").unwrap();
        fs::write(folder.path().join("tree/given"), "given").unwrap();
        Self { folder }
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    /// Fetches from a box that answers with these bytes, whatever it is asked.
    fn fetch(&self, answer: Vec<u8>) -> Result<(), Fault> {
        self.fetch_until(Instant::now() + Duration::from_secs(600), answer)
    }

    fn fetch_until(&self, deadline: Instant, answer: Vec<u8>) -> Result<(), Fault> {
        let (host, mut other) = UnixStream::pair().unwrap();
        let mut asked = other.try_clone().unwrap();
        let listens = std::thread::spawn(move || std::io::copy(&mut asked, &mut std::io::sink()));
        let answers = std::thread::spawn(move || {
            let _ = other.write_all(&answer);
            let _ = other.shutdown(std::net::Shutdown::Write);
        });
        let mut pairs =
            [Pair { here: self.tree(), there: "/workspace".into(), without_git: true, is_fetched: true, known: None }];
        let fetched = exchange::fetch(
            &mut pairs,
            BOUNDS,
            1 << 20,
            &mut Counted::new(host.try_clone().unwrap(), &Arc::default(), deadline),
            &mut host.try_clone().unwrap(),
            &|| true,
        );
        host.shutdown(std::net::Shutdown::Both).unwrap();
        answers.join().unwrap();
        let _ = listens.join().unwrap();
        fetched
    }

    fn is_untouched(&self) -> bool {
        let names = |name: &str| fs::read_dir(self.folder.path().join(name)).unwrap().count();
        let victim = fs::read_to_string(self.folder.path().join("victim/file")).unwrap();
        names("") == 2 && names("victim") == 1 && victim == "victim"
    }
}

/// An answer with a listing, and then contents.
fn answer(listing: &[u8], contents: &[u8]) -> Vec<u8> {
    [&[1], &(listing.len() as u64).to_le_bytes()[..], listing, contents].concat()
}

#[test]
fn what_leads_elsewhere_is_refused() {
    let out = "../victim/file";
    let far = "x/".repeat(3000);
    let (long, longer) = ("x".repeat(250), "y/".repeat(1000));
    let texts: Vec<String> = (0..20).map(|number| format!("{number:02}{long}")).collect();
    let many: Vec<String> = (0..101).map(|number| format!("{number:03}")).collect();
    let lists: Vec<(&str, Listing)> = vec![
        ("parent", listing(&[(out, file(1))])),
        ("parent inside", listing(&[("a", entry(Node::Folder)), ("a/../../victim/file", file(1))])),
        ("absolute", listing(&[("/etc/patchwright-canary", file(1))])),
        ("itself", listing(&[(".", file(1))])),
        ("empty", listing(&[("", file(1))])),
        ("two slashes", listing(&[("a", entry(Node::Folder)), ("a//b", file(1))])),
        ("a zero", listing(&[("a\0b", file(1))])),
        ("through a link", listing(&[("a", link("../victim")), ("a/file", file(1))])),
        ("through a file", listing(&[("a", file(0)), ("a/file", file(1))])),
        ("through nothing", listing(&[("a/file", file(1))])),
        ("git's", listing(&[(".git", entry(Node::Folder)), (".git/config", file(1))])),
        ("git's link", listing(&[(".git", link("/"))])),
        ("too long", listing(&[(&far, file(1))])),
        ("a long name", listing(&[(&"x".repeat(256), file(1))])),
        ("a link to nothing", listing(&[("a", link(""))])),
        ("set-uid", listing(&[("a", Entry { mode: 0o4755, ..file(1) })])),
        ("too large", listing(&[("a", file(u64::MAX)), ("b", file(u64::MAX))])),
        ("too long together", listing(&texts.iter().map(|name| (name.as_str(), file(0))).collect::<Vec<_>>())),
        ("links too long together", listing(&[("a", link(&longer)), ("b", link(&longer)), ("c", link(&longer))])),
        ("too many", listing(&many.iter().map(|name| (name.as_str(), file(0))).collect::<Vec<_>>())),
    ];
    for (name, listing) in lists {
        let stage = Stage::new();
        let fetched = stage.fetch(answer(&listing.encode(), b"xxxxxxxxxx"));
        assert!(matches!(fetched, Err(Fault::Refused(_) | Fault::TooMuch(_))), "{name}: {fetched:?}");
        assert!(stage.is_untouched(), "{name}");
        assert_eq!(fs::read_to_string(stage.tree().join("given")).unwrap(), "given", "{name}");
        assert_eq!(fs::read_dir(stage.tree()).unwrap().count(), 1, "{name}");
    }
    assert!(!Path::new("/etc/patchwright-canary").exists());
}

#[test]
fn links_are_made_and_never_followed() {
    let stage = Stage::new();
    std::os::unix::fs::symlink("../victim", stage.tree().join("standing")).unwrap();
    // A folder where a link stands here, with a file in it; a file where a link leads out.
    std::os::unix::fs::symlink("../victim/file", stage.tree().join("target")).unwrap();
    let held = listing(&[
        ("out", link("/etc/passwd")),
        ("standing", entry(Node::Folder)),
        ("standing/file", file(4)),
        ("target", file(4)),
    ]);
    let fetched = stage.fetch(answer(&held.encode(), b"evilEVIL"));
    assert!(stage.is_untouched());
    // It does not know of the link, which stands in its way.
    assert!(matches!(fetched, Err(Fault::Io { .. })), "{fetched:?}");
    assert_eq!(fs::read_link(stage.tree().join("out")).unwrap(), Path::new("/etc/passwd"));
}

#[test]
fn answers_that_make_no_sense_are_refused() {
    let good = listing(&[("a", file(4))]).encode();
    let swapped = [listing(&[("b", file(0))]).encode(), listing(&[("a", file(0))]).encode()].concat();
    let twice = [good.clone(), good.clone()].concat();
    for (name, answer) in [
        ("nothing", Vec::new()),
        ("unknown", vec![9]),
        ("a listing without an end", [&[1][..], &u64::MAX.to_le_bytes()].concat()),
        ("half a listing", answer(&good[..good.len() - 1], b"")),
        ("no contents", answer(&good, b"")),
        ("half the contents", answer(&good, b"ab")),
        ("out of order", answer(&swapped, b"")),
        ("twice", answer(&twice, b"abcdabcd")),
        ("a complaint that is none", [&[2][..], &4u64.to_le_bytes(), b"null"].concat()),
    ] {
        let stage = Stage::new();
        assert!(stage.fetch(answer).is_err(), "{name}");
        assert!(stage.is_untouched(), "{name}");
        assert_eq!(fs::read_dir(stage.tree()).unwrap().count(), 1, "{name}: {:?}", stage.tree());
    }
    // And what makes sense is taken, also from a box that is slow and says so.
    let stage = Stage::new();
    stage.fetch([&[3, 3, 3], &answer(&good, b"abcd")[..]].concat()).unwrap();
    let stage = Stage::new();
    stage.fetch(answer(&good, b"abcd")).unwrap();
    assert_eq!(fs::read(stage.tree().join("a")).unwrap(), b"abcd");
}

proptest::proptest! {
    #[test]
    fn no_listing_breaks_out(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        if let Ok(listing) = Listing::decode(&bytes, true, BOUNDS) {
            let again = Listing::decode(&listing.encode(), true, BOUNDS).unwrap();
            proptest::prop_assert_eq!(&again, &listing);
            for (path, _) in listing.iter() {
                let path = String::from_utf8_lossy(path).into_owned();
                proptest::prop_assert!(!path.starts_with('/') && path.split('/').all(|part| part != ".." && !part.is_empty()));
            }
        }
    }
}

/// However slowly it speaks: then it is too much, and not broken.
#[test]
fn a_box_that_needs_too_long_holds_too_much() {
    let stage = Stage::new();
    let held = listing(&[("a", file(4))]);
    let fetched = stage.fetch_until(Instant::now(), answer(&held.encode(), b"abcd"));
    assert!(matches!(fetched, Err(Fault::TooMuch(_))), "{fetched:?}");
    assert!(stage.is_untouched());
}

/// A tree is listed within the same bounds in which a listing is taken.
#[test]
fn what_is_too_much_is_not_listed() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("a/b/c/d")).unwrap();
    fs::create_dir_all(folder.path().join("a/b/e")).unwrap();
    std::os::unix::fs::symlink("somewhere", folder.path().join("a/b/e/link")).unwrap();
    let list = |text| Place::open(folder.path(), false).unwrap().list(Bounds { text, ..BOUNDS });
    // a, a/b, a/b/c, a/b/c/d, a/b/e, a/b/e/link and somewhere
    let whole = list(1 + 3 + 5 + 7 + 5 + 10 + 9).unwrap();
    assert_eq!(whole.len(), 6);
    assert!(matches!(list(39), Err(Fault::TooMuch(_))));
}

/// What a host asks a box for, about one folder.
fn order_for(stage: &Stage) -> String {
    format!(
        "{{\"folders\":[{{\"path\":\"{}\",\"without_git\":false,\"clear\":false,\"known\":\"\"}}],\
         \"bounds\":{{\"entries\":100,\"bytes\":1000,\"text\":1000}}}}",
        stage.tree().display()
    )
}

/// A part of an exchange, behind its length.
fn part(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes()[..], bytes].concat()
}

/// While it has no answer yet, it says that it is still there.
#[test]
fn a_box_that_works_says_so() {
    let stage = Stage::new();
    let order = order_for(&stage);
    let (mut host, other) = UnixStream::pair().unwrap();
    host.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut to = other.try_clone().unwrap();
    let serves =
        std::thread::spawn(move || exchange::serve(&mut other.try_clone().unwrap(), &mut to, Duration::from_millis(1)));
    host.write_all(&[part(order.as_bytes()), part(b"")].concat()).unwrap();
    // It waits for what is to be put.
    let mut said = [0; 3];
    std::io::Read::read_exact(&mut host, &mut said).unwrap();
    assert_eq!(said, [3; 3]);
    host.write_all(&part(b"")).unwrap();
    while said[0] == 3 {
        std::io::Read::read_exact(&mut host, &mut said[..1]).unwrap();
    }
    assert_eq!(said[0], 1);
    drop(host);
    assert!(serves.join().unwrap().is_err());
}

/// The real end of a box takes no orders that lead out of its folder either.
#[test]
fn a_box_takes_nothing_outside_of_its_folder() {
    let stage = Stage::new();
    let order = order_for(&stage);
    for put in [listing(&[("../victim/file", file(4))]), listing(&[("/tmp/x", file(4))])] {
        let input = [part(order.as_bytes()), part(b""), part(&put.encode()), b"evil".to_vec()].concat();
        let mut output = Vec::new();
        exchange::serve(&mut input.as_slice(), &mut output, Duration::from_secs(600)).unwrap();
        assert_eq!(output[0], 2, "{output:?}");
        assert!(stage.is_untouched());
    }
    let input = [part(order.as_bytes()), part(b"../victim/file\0"), part(b"")].concat();
    let mut output = Vec::new();
    exchange::serve(&mut input.as_slice(), &mut output, Duration::from_secs(600)).unwrap();
    assert_eq!(output[0], 2, "{output:?}");
    assert!(stage.is_untouched());
}
