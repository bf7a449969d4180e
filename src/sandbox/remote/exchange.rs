//! How two folders on different machines are made the same, over two pipes. The host asks, the box answers, and only
//! one of them speaks at a time.
//!
//! ```text
//! host: order                      JSON: the folders, and what of each is known
//! then for each folder
//!   host: removed put contents     paths; a listing; the files' bytes in its order
//!   box:  3                        it is still at it; again and again
//!   box:  0 | 1 listing | 2 fault  as known; what stands there now; it failed (JSON)
//!   host: wanted                   after a 1: paths of files
//!   box:  contents                 their bytes, as many as the listing says
//! ```
//!
//! Each part but contents is a length (eight bytes, the lowest first) and as many bytes; paths end in a zero byte.
//! The box sends nothing that was not asked for, so nothing that it sends decides where on the host something is written:
//! the listing's paths are checked, and a file's length is known before its first byte.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::listing::{self, Difference, Entry, Listing, Node, check};
use super::place::{Place, await_tick};
use super::{Bounds, Fault};

/// The argument, after the helper's, that makes our binary the box's end.
pub const ARGUMENT: &str = "exchange";

const SAME: u8 = 0;
const LISTING: u8 = 1;
const FAULT: u8 = 2;
const WORKING: u8 = 3;

/// How often the box says that it is still at it.
const BEAT: Duration = Duration::from_secs(10);

/// The largest part that is not a listing.
const LARGEST_PART: u64 = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    folders: Vec<OrderedFolder>,
    bounds: Bounds,
}

#[derive(Debug, Serialize, Deserialize)]
struct OrderedFolder {
    path: String,
    without_git: bool,
    /// Whatever stands there is removed first.
    clear: bool,
    /// The digest of the listing that the host has.
    known: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Complaint {
    is_too_much: bool,
    reason: String,
}

/// One folder at both ends.
#[derive(Debug)]
pub struct Pair {
    /// On this machine.
    pub here: PathBuf,
    /// In the box; UTF-8.
    pub there: String,
    /// Of this folder's `.git` nothing is sent and nothing fetched.
    pub without_git: bool,
    /// What changes there is fetched. Otherwise it is sent once.
    pub is_fetched: bool,
    /// `None`: nothing was sent yet.
    pub known: Option<Known>,
}

/// What stood at both ends when they were the same.
#[derive(Debug, Default)]
pub struct Known {
    here: Listing,
    there: Listing,
}

impl Pair {
    /// What has to be sent so that the box has what stands here.
    ///
    /// # Errors
    /// It cannot be read, or is more than a box may hold.
    pub fn changes(&self, bounds: Bounds) -> Result<Option<(Listing, Difference)>, Fault> {
        if self.known.is_some() && !self.is_fetched {
            return Ok(None);
        }
        let now = Place::open(&self.here, self.without_git)?.list(bounds)?;
        let nothing = Listing::default();
        let difference = now.since(self.known.as_ref().map_or(&nothing, |known| &known.here));
        let is_new = self.known.is_none() || !difference.removed.is_empty() || !difference.put.is_empty();
        Ok(is_new.then_some((now, difference)))
    }
}

/// Sends what has changed here. `changes`: of each pair, in order; `None`: nothing.
///
/// # Errors
/// The box's end fails, or says what is not so.
pub fn send(
    pairs: &mut [Pair],
    changes: Vec<Option<(Listing, Difference)>>,
    bounds: Bounds,
    from: &mut dyn Read,
    to: &mut dyn Write,
) -> Result<(), Fault> {
    // What a box holds already may be too much; the next command can clean it up.
    let entries = bounds.entries.saturating_mul(4).saturating_add(100_000);
    let bounds = Bounds { entries, bytes: u64::MAX, text: bounds.text.saturating_mul(4) };
    let all: Vec<(&mut Pair, (Listing, Difference))> =
        pairs.iter_mut().zip(changes).filter_map(|(pair, changes)| Some((pair, changes?))).collect();
    begin(all.iter().map(|(pair, _)| &**pair), bounds, to)?;
    for (pair, (now, difference)) in all {
        let mut place = Place::open(&pair.here, pair.without_git)?;
        offer(&mut place, &difference, to)?;
        let there = match (answer(pair, bounds, from), &mut pair.known) {
            // It was taken; what stands there besides cannot even be listed. The next command can clean it up.
            (Err(Fault::TooMuch(_)), Some(known)) => {
                known.here = now;
                return Ok(());
            }
            (answer, _) => answer?,
        };
        if there.is_some() {
            write_part(to, &[])?;
            to.flush().map_err(broken)?;
        }
        match (&mut pair.known, there) {
            (known @ None, there) => {
                let there = there.unwrap_or_default();
                if !there.agrees_with(&now) {
                    return Err(Fault::Refused(format!(
                        "{} in the box does not hold what was sent there: is the image's own folder of that name empty?",
                        pair.there
                    )));
                }
                *known = Some(Known { here: now, there });
            }
            (Some(known), Some(there)) => {
                known.here = now;
                // What else has changed there is fetched after the next command.
                for path in &difference.removed {
                    known.there.remove(path);
                }
                for (path, _) in difference.put.iter() {
                    if let Some(entry) = there.get(path) {
                        known.there.insert(path.to_vec(), entry.clone());
                    }
                }
            }
            (Some(known), None) => known.here = now,
        }
    }
    Ok(())
}

/// Fetches what has changed there. `room`: how many bytes may be written here. `goes_on` is asked for each thing that is
/// done here, whether anybody still waits.
///
/// # Errors
/// The box's end fails, says what cannot be so, or holds more than it may; then nothing of that folder is changed here,
/// and the next call fetches it.
pub fn fetch(
    pairs: &mut [Pair],
    bounds: Bounds,
    room: u64,
    from: &mut dyn Read,
    to: &mut dyn Write,
    goes_on: &dyn Fn() -> bool,
) -> Result<(), Fault> {
    let pairs: Vec<&mut Pair> = pairs.iter_mut().filter(|pair| pair.is_fetched).collect();
    begin(pairs.iter().map(|pair| &**pair), bounds, to)?;
    for pair in pairs {
        offer_nothing(to)?;
        let Some(there) = answer(pair, bounds, from)? else { continue };
        let mut known = pair.known.take().unwrap_or_default();
        let difference = there.since(&known.there);
        let mut taken = Err(Fault::TooMuch(format!("there is no room here for {} bytes", difference.put.bytes())));
        if difference.put.bytes() <= room {
            let place = Place::open(&pair.here, pair.without_git);
            taken = place.and_then(|mut place| take(&mut place, &mut known.here, &difference, from, to, goes_on));
        }
        if taken.is_ok() {
            known.there = there;
        }
        pair.known = Some(known);
        await_tick(taken?);
    }
    Ok(())
}

/// The box's end, as a process.
///
/// # Errors
/// As [`serve`].
pub fn main() -> anyhow::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut from = std::io::BufReader::with_capacity(1 << 16, std::io::stdin().lock());
    let mut to = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout());
    Ok(serve(&mut from, &mut to, BEAT)?)
}

/// The box's end: does what the host asks, and tells what it cannot do, and after each `beat` that it is at it.
///
/// # Errors
/// The host is gone, or does not speak as written above.
pub fn serve(from: &mut dyn Read, to: &mut (dyn Write + Send), beat: Duration) -> Result<(), Fault> {
    let order: Order = read_json(from)?;
    for folder in &order.folders {
        match working(to, beat, || receive(folder, order.bounds, from)) {
            Ok((mut place, listing)) => reply(&mut place, folder, order.bounds, &listing, from, to)?,
            Err(fault) => {
                let complaint =
                    Complaint { is_too_much: matches!(fault, Fault::TooMuch(_)), reason: fault.to_string() };
                to.write_all(&[FAULT]).map_err(broken)?;
                write_part(to, &serde_json::to_vec(&complaint).map_err(|error| broken(error.into()))?)?;
                to.flush().map_err(broken)?;
                // The host may still be sending.
                let _ = std::io::copy(from, &mut std::io::sink());
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Does something that may take its time, and says so meanwhile.
fn working<T>(to: &mut (dyn Write + Send), beat: Duration, work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let (end, ended) = channel::<()>();
        let beats = move || {
            while ended.recv_timeout(beat) == Err(RecvTimeoutError::Timeout) {
                if to.write_all(&[WORKING]).and_then(|()| to.flush()).is_err() {
                    break;
                }
            }
        };
        // In a box without room for a thread the work alone is done.
        let _ = std::thread::Builder::new().spawn_scoped(scope, beats);
        let done = work();
        drop(end);
        done
    })
}

/// Takes what the host has sent, and looks at what stands there then.
fn receive(folder: &OrderedFolder, bounds: Bounds, from: &mut dyn Read) -> Result<(Place, Listing), Fault> {
    let path = Path::new(&folder.path);
    // A command may have taken it away, or put something else in its place.
    if !std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        let _ = std::fs::remove_file(path);
        std::fs::create_dir(path).map_err(|source| Fault::Io { path: folder.path.clone(), source })?;
    }
    let mut place = Place::open(path, folder.without_git)?;
    if folder.clear {
        place.clear()?;
    }
    let largest = listing::largest(bounds);
    for path in paths(&read_part(from, largest)?, folder.without_git)?.iter().rev() {
        place.remove(path)?;
    }
    let put = Listing::decode_part(&read_part(from, largest)?, folder.without_git, bounds)?;
    for (path, entry) in put.iter() {
        place.put(path, entry, &mut &mut *from)?;
    }
    let listing = place.list(bounds)?;
    await_tick(listing.youngest());
    Ok((place, listing))
}

fn reply(
    place: &mut Place,
    folder: &OrderedFolder,
    bounds: Bounds,
    listing: &Listing,
    from: &mut dyn Read,
    to: &mut dyn Write,
) -> Result<(), Fault> {
    let encoded = listing.encode();
    if digest(&encoded) == folder.known {
        to.write_all(&[SAME]).map_err(broken)?;
        return to.flush().map_err(broken);
    }
    to.write_all(&[LISTING]).map_err(broken)?;
    write_part(to, &encoded)?;
    to.flush().map_err(broken)?;
    drop(encoded);
    for path in paths(&read_part(from, listing::largest(bounds))?, folder.without_git)? {
        let length = listing.get(&path).map(Entry::length).unwrap_or_default();
        send_file(place, &path, length, to)?;
    }
    to.flush().map_err(broken)
}

fn begin<'a>(pairs: impl Iterator<Item = &'a Pair>, bounds: Bounds, to: &mut dyn Write) -> Result<(), Fault> {
    let folder = |pair: &Pair| OrderedFolder {
        path: pair.there.clone(),
        without_git: pair.without_git,
        clear: pair.known.is_none(),
        known: pair.known.as_ref().map(|known| digest(&known.there.encode())).unwrap_or_default(),
    };
    let order = Order { folders: pairs.map(folder).collect(), bounds };
    write_part(to, &serde_json::to_vec(&order).map_err(|error| broken(error.into()))?)?;
    to.flush().map_err(broken)
}

fn offer(place: &mut Place, difference: &Difference, to: &mut dyn Write) -> Result<(), Fault> {
    write_part(to, &joined(difference.removed.iter().map(Vec::as_slice)))?;
    write_part(to, &difference.put.encode())?;
    for (path, entry) in difference.put.iter() {
        send_file(place, path, entry.length(), to)?;
    }
    to.flush().map_err(broken)
}

fn offer_nothing(to: &mut dyn Write) -> Result<(), Fault> {
    write_part(to, &[])?;
    write_part(to, &[])?;
    to.flush().map_err(broken)
}

/// What stands there; `None`: what is known.
fn answer(pair: &Pair, bounds: Bounds, from: &mut dyn Read) -> Result<Option<Listing>, Fault> {
    let mut kind = [WORKING];
    while kind == [WORKING] {
        from.read_exact(&mut kind).map_err(broken)?;
    }
    match kind {
        [SAME] => Ok(None),
        [LISTING] => {
            let encoded = read_part(from, listing::largest(bounds))?;
            Listing::decode(&encoded, pair.without_git, bounds).map(Some)
        }
        [FAULT] => {
            let complaint: Complaint = read_json(from)?;
            let reason: String = complaint.reason.chars().take(500).collect();
            Err(if complaint.is_too_much { Fault::TooMuch(reason) } else { Fault::Refused(reason) })
        }
        [_] => Err(Fault::Refused("the box's end says what nobody understands".into())),
    }
}

/// Makes here what has changed there, and notes it. Gives the time of the youngest change.
fn take(
    place: &mut Place,
    here: &mut Listing,
    difference: &Difference,
    from: &mut dyn Read,
    to: &mut dyn Write,
    goes_on: &dyn Fn() -> bool,
) -> Result<listing::Time, Fault> {
    let files = difference.put.iter().filter(|(_, entry)| matches!(entry.node, Node::File { .. }));
    write_part(to, &joined(files.map(|(path, _)| path)))?;
    to.flush().map_err(broken)?;
    let await_more = || match goes_on() {
        true => Ok(()),
        false => Err(Fault::Refused("nobody waits for it any more".into())),
    };
    for path in difference.removed.iter().rev() {
        await_more()?;
        place.remove(path)?;
        here.remove(path);
    }
    let mut youngest = listing::Time::default();
    for (path, entry) in difference.put.iter() {
        await_more()?;
        let made = place.put(path, entry, &mut &mut *from)?;
        youngest = youngest.max(made.changed);
        here.insert(path.to_vec(), made);
    }
    Ok(youngest)
}

/// Sends a file's contents, which are as long as was said.
fn send_file(place: &mut Place, path: &[u8], length: u64, mut to: &mut dyn Write) -> Result<(), Fault> {
    if length == 0 {
        return Ok(());
    }
    let sent = std::io::copy(&mut place.read(path)?.take(length), &mut to).map_err(broken)?;
    if sent == length { Ok(()) } else { Err(broken(std::io::ErrorKind::UnexpectedEof.into())) }
}

fn digest(encoded: &[u8]) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, encoded))
}

fn joined<'a>(paths: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    paths.flat_map(|path| path.iter().copied().chain([0])).collect()
}

fn paths(part: &[u8], without_git: bool) -> Result<Vec<Vec<u8>>, Fault> {
    let paths = part.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    paths.map(|path| check(path, without_git).map(|()| path.to_vec())).collect()
}

fn read_json<T: DeserializeOwned>(from: &mut dyn Read) -> Result<T, Fault> {
    serde_json::from_slice(&read_part(from, LARGEST_PART)?).map_err(|error| broken(error.into()))
}

fn read_part(from: &mut dyn Read, largest: u64) -> Result<Vec<u8>, Fault> {
    let mut length = [0; 8];
    from.read_exact(&mut length).map_err(broken)?;
    let length = u64::from_le_bytes(length);
    if length > largest {
        return Err(Fault::TooMuch(format!("a part of {length} bytes")));
    }
    // Not reserved at once: it is a claim only.
    let mut part = Vec::new();
    let read = from.take(length).read_to_end(&mut part).map_err(broken)?;
    if read as u64 == length { Ok(part) } else { Err(broken(std::io::ErrorKind::UnexpectedEof.into())) }
}

fn write_part(to: &mut dyn Write, part: &[u8]) -> Result<(), Fault> {
    to.write_all(&(part.len() as u64).to_le_bytes()).and_then(|()| to.write_all(part)).map_err(broken)
}

fn broken(source: std::io::Error) -> Fault {
    Fault::io("the connection to the box", source)
}
