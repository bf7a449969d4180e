//! The one host that the setup of a scene may reach, and names that lead wherever the scene says.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::root;

/// Whatever is sent, this is the answer: an attacker who sees it has had something let through.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nREACHED";

pub struct Door {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    pub fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (heard, end) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (ears, ending) = (heard.clone(), end.clone());
        let thread = std::thread::spawn(move || {
            let mut guests = Vec::new();
            for guest in listener.incoming().take_while(|_| !ending.load(Ordering::SeqCst)) {
                let ears = ears.clone();
                guests.push(std::thread::spawn(move || serve(guest.unwrap(), &ears)));
            }
            guests.into_iter().for_each(|guest| guest.join().unwrap());
        });
        Self { port, heard, end, thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// All that came through it.
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.thread.take().unwrap().join();
    }
}

fn serve(mut guest: TcpStream, heard: &Mutex<Vec<u8>>) {
    guest.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut buffer = vec![0; 64 << 10];
    let Ok(count @ 1..) = guest.read(&mut buffer) else { return };
    heard.lock().unwrap().extend_from_slice(&buffer[..count]);
    if guest.write_all(ANSWER).is_err() || guest.shutdown(std::net::Shutdown::Write).is_err() {
        return;
    }
    while let Ok(count @ 1..) = guest.read(&mut buffer) {
        heard.lock().unwrap().extend_from_slice(&buffer[..count]);
    }
}

/// Has the machine's resolver answer for these names, in programs that load the library that is made in `folder`.
pub fn teach(folder: &Path, names: &BTreeMap<String, String>) {
    let lines: String = names.iter().map(|(name, answers)| format!("{name} {answers}\n")).collect();
    std::fs::write(folder.join("names"), lines).unwrap();
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(folder.join("names.so"))
        .arg(root().join("tests/redteam/names.c"))
        .args(["-ldl", "-lpthread"])
        .output()
        .expect("a C compiler, which Rust links with too");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
