//! Crash points: named places at which a test has the process killed, as a power cut would, or the task there panic.
//! Release builds have none.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Where and when the process dies.
#[derive(Debug)]
struct Order {
    name: String,
    /// Passes of the point that are still to come, the deadly one included.
    passes: AtomicU32,
    delay: Duration,
    /// It is no death, but a panic of whoever passes.
    panics: bool,
}

static ORDER: OnceLock<Order> = OnceLock::new();

/// Arms one point, once: `name`, `name#3` (the third time), `name+50ms` (so long after it), or both: `name#3+50ms`.
/// `name!panic` panics there instead.
/// In release builds it does nothing.
pub fn arm(spec: &str) {
    if !cfg!(debug_assertions) {
        return;
    }
    let (spec, panics) = spec.strip_suffix("!panic").map_or((spec, false), |spec| (spec, true));
    let delayed = spec
        .rsplit_once('+')
        .and_then(|(rest, delay)| Some((rest, Duration::from_millis(delay.strip_suffix("ms")?.parse().ok()?))));
    let (rest, delay) = delayed.unwrap_or((spec, Duration::ZERO));
    let counted = rest.rsplit_once('#').and_then(|(name, passes)| Some((name, passes.parse().ok()?)));
    let (name, passes) = counted.unwrap_or((rest, 1));
    // A second order is ignored: the first one stands.
    drop(ORDER.set(Order { name: name.to_owned(), passes: AtomicU32::new(passes), delay, panics }));
}

/// A place where the process may be made to die.
#[inline]
pub fn point(name: &str) {
    if cfg!(debug_assertions) {
        pass(name);
    }
}

/// The same, for a name that is put together: it is not, where nothing can die.
#[inline]
pub(super) fn point_of(name: impl FnOnce() -> String) {
    if cfg!(debug_assertions) && ORDER.get().is_some() {
        pass(&name());
    }
}

fn pass(name: &str) {
    let Some(order) = ORDER.get() else { return };
    if order.name != name || order.passes.fetch_sub(1, Ordering::SeqCst) != 1 {
        return;
    }
    if order.panics {
        std::panic::resume_unwind(Box::new("a test wants it"));
    }
    if order.delay.is_zero() {
        die();
    }
    let delay = order.delay;
    std::thread::spawn(move || {
        std::thread::sleep(delay);
        die();
    });
}

/// Nothing is flushed, dropped or answered any more.
fn die() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}
