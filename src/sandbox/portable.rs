//! Our own binary as it runs in any image: with this machine's dynamic loader and libraries beside it, so that it does
//! not matter what the image has instead.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Where a container sees it.
const FOLDER: &str = "/.patchwright";

/// How long the loader may take to name the libraries.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Files of this machine, and the line that starts our binary with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portable {
    /// The file here, and its path inside.
    pub files: Vec<(PathBuf, String)>,
    /// The program inside and its first arguments.
    pub line: Vec<String>,
}

/// Finds out what `binary` needs: its loader is asked, as `ldd` asks it. One that is linked statically needs nothing.
///
/// # Errors
/// In words, why it cannot be known.
pub async fn find(binary: &Path) -> Result<Portable, String> {
    let program = format!("{FOLDER}/patchwright");
    let shown = binary.display();
    let own = (real(binary)?, program.clone());
    let loader = interpreter(binary).map_err(|error| format!("{shown} cannot be read as a program: {error}"))?;
    let Some(loader) = loader else { return Ok(Portable { files: vec![own], line: vec![program] }) };
    let asked = tokio::process::Command::new(&loader)
        .arg("--list")
        .arg(binary)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let answer = match tokio::time::timeout(ANSWER_LIMIT, asked).await {
        Ok(Ok(output)) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(Ok(_)) | Err(_) => return Err(format!("{} does not tell the libraries of {shown}", loader.display())),
        Ok(Err(error)) => return Err(format!("{} cannot be asked for libraries: {error}", loader.display())),
    };
    let mut files = vec![own, (real(&loader)?, format!("{FOLDER}/ld.so"))];
    for (name, path) in libraries(&answer) {
        files.push((real(Path::new(path))?, format!("{FOLDER}/lib/{name}")));
    }
    let line = [&format!("{FOLDER}/ld.so"), "--library-path", &format!("{FOLDER}/lib"), &program];
    Ok(Portable { files, line: line.map(str::to_owned).to_vec() })
}

fn real(path: &Path) -> Result<PathBuf, String> {
    path.canonicalize().map_err(|error| format!("{} is not there: {error}", path.display()))
}

/// The libraries in a loader's answer, by the names that programs ask for: lines of the form `NAME => PATH (ADDRESS)`.
fn libraries(answer: &str) -> impl Iterator<Item = (&str, &str)> {
    answer.lines().filter_map(|line| {
        let (name, rest) = line.trim().split_once(" => ")?;
        let path = rest.rsplit_once(" (").map_or(rest, |(path, _)| path);
        (path.starts_with('/') && !name.contains('/')).then_some((name, path))
    })
}

/// The loader that a program names, from its header of type `PT_INTERP` (the System V ABI's chapter 5).
fn interpreter(binary: &Path) -> io::Result<Option<PathBuf>> {
    const PROGRAM_HEADER: usize = 56;
    const PT_INTERP: u64 = 3;
    let file = File::open(binary)?;
    let mut header = [0u8; 64];
    file.read_exact_at(&mut header, 0)?;
    // 64 bits, the lowest byte first.
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Err(io::Error::other("it is no 64-bit little-endian ELF file"));
    }
    let (offset, count) = (number(&header, 0x20, 8), number(&header, 0x38, 2));
    for index in 0..count {
        let mut entry = [0u8; PROGRAM_HEADER];
        file.read_exact_at(&mut entry, offset.saturating_add(index * PROGRAM_HEADER as u64))?;
        if number(&entry, 0, 4) != PT_INTERP {
            continue;
        }
        let length = usize::try_from(number(&entry, 0x20, 8)).unwrap_or(usize::MAX).min(4096);
        let mut path = vec![0u8; length];
        file.read_exact_at(&mut path, number(&entry, 8, 8))?;
        let path = String::from_utf8(path).map_err(io::Error::other)?;
        return Ok(Some(PathBuf::from(path.trim_end_matches('\0'))));
    }
    Ok(None)
}

/// A number of so many bytes, the lowest first.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let bytes = bytes.get(at..at + length).unwrap_or_default();
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
