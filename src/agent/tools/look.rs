//! `read`, `list` and `search`.

use std::time::{Duration, Instant};

use grep_regex::RegexMatcherBuilder;
use grep_searcher::sinks::Lossy;
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder};

use super::super::text::clip;
use super::super::tokens::weigh;
use super::{Answer, ListArguments, ReadArguments, SearchArguments, folder, path};
use crate::workspace::{FileError, Files, Kind, RelativePath};

/// The largest file that is read or searched, in bytes.
const MOST_FILE_BYTES: u64 = 4 << 20;
/// The most lines of one answer.
const MOST_LINES: usize = 400;
/// Small models ask for a line at a time and then guess the rest: they get at least these.
const FEWEST_LINES: usize = 60;
/// The most bytes of one answer.
const MOST_ANSWER_BYTES: usize = 16_000;
/// What stands around the lines, in tokens.
const FRAME: u64 = 60;
/// The longest line that is shown whole.
const LONGEST_LINE: usize = 400;
const MOST_ENTRIES: usize = 200;
const MOST_MATCHES: usize = 60;
const MOST_SEARCHED_FILES: usize = 100_000;
const LONGEST_SEARCH: Duration = Duration::from_secs(20);

pub(super) fn read(files: &Files, arguments: &ReadArguments, page: u64) -> Result<Answer, FileError> {
    let path = path(&arguments.path)?;
    let contents = match files.read(&path, MOST_FILE_BYTES) {
        Err(FileError::IsDirectory(_)) => {
            return Ok(Answer::error(format!("`{path}` is a folder; call list with this path")));
        }
        Err(error @ FileError::NotFound(_)) => return Ok(Answer::error(with_namesakes(files, &path, &error))),
        contents => contents?,
    };
    if contents.iter().take(8_192).any(|byte| *byte == 0) {
        return Ok(Answer::error(format!("`{path}` is a binary file of {} bytes", contents.len())));
    }
    let text = String::from_utf8_lossy(&contents);
    let mut answer = lines(path.as_str(), &text, arguments, page);
    if matches!(text, std::borrow::Cow::Owned(_)) && answer.ok {
        answer.text.push_str("\n[the file is no UTF-8; bytes that are none are shown as \u{fffd}]");
    }
    Ok(answer)
}

/// The lines of a text that are asked for, with their numbers, as many as fit into `page` tokens.
pub(super) fn lines(name: &str, text: &str, arguments: &ReadArguments, page: u64) -> Answer {
    let lines: Vec<&str> = text.lines().collect();
    if lines.is_empty() {
        return Answer::ok(format!("`{name}` is empty."));
    }
    let first = arguments.start.unwrap_or(1).max(1) as usize;
    if first > lines.len() {
        return Answer::error(format!("`{name}` has only {} lines", lines.len()));
    }
    let wanted = arguments.lines.map_or(MOST_LINES, |lines| (lines as usize).clamp(FEWEST_LINES, MOST_LINES));
    let mut left = page.saturating_sub(FRAME + weigh(name));
    let mut shown = String::new();
    let mut last = first - 1;
    for line in lines.iter().skip(first - 1).take(wanted) {
        let numbered = format!("{:>4}  {}\n", last + 1, clip(line, LONGEST_LINE));
        let weight = weigh(&numbered) + 1;
        let is_too_much = shown.len() + numbered.len() > MOST_ANSWER_BYTES || weight > left;
        // A page without a line would never get further.
        if is_too_much && !shown.is_empty() {
            break;
        }
        left = left.saturating_sub(weight);
        shown.push_str(&numbered);
        last += 1;
    }
    let mut answer = format!("`{name}`, lines {first} to {last} of {}:\n{}", lines.len(), shown.trim_end_matches('\n'));
    if last < lines.len() {
        answer.push_str(&format!("\n[{} more lines: read on with start {}]", lines.len() - last, last + 1));
    }
    Answer::ok(answer)
}

pub(super) fn list(files: &Files, arguments: &ListArguments) -> Result<Answer, FileError> {
    let folder = folder(arguments.path.as_deref())?;
    let listing = files.list(folder.as_ref(), MOST_ENTRIES)?;
    if listing.entries.is_empty() {
        return Ok(Answer::ok("The folder is empty."));
    }
    let mut lines: Vec<String> = listing
        .entries
        .iter()
        .map(|entry| match entry.kind {
            Kind::Directory => format!("{}/", entry.name),
            Kind::File { length, .. } => format!("{}  ({length} bytes)", entry.name),
            Kind::Symlink => format!("{}  (a link; not followed)", entry.name),
            Kind::Special => format!("{}  (no regular file)", entry.name),
        })
        .collect();
    if listing.omitted > 0 {
        lines.push(format!("[and {} more]", listing.omitted));
    }
    Ok(Answer::ok(lines.join("\n")))
}

pub(super) fn search(files: &Files, arguments: &SearchArguments) -> Result<Answer, FileError> {
    if arguments.text.is_empty() {
        return Ok(Answer::error("text is empty; say what to search for"));
    }
    let place = folder(arguments.path.as_deref())?;
    let mut found = match find(files, place.as_ref(), arguments, false)? {
        Ok(found) => found,
        Err(reason) => return Ok(Answer::error(reason)),
    };
    let mut note = "";
    if found.lines.is_empty()
        && let Ok(again) = find(files, place.as_ref(), arguments, true)?
        && !again.lines.is_empty()
    {
        found = again;
        note = "Nothing in exactly this case; in another case:\n";
    }
    if found.lines.is_empty() {
        let hint = if arguments.regex == Some(true) { "" } else { " Search for a shorter part, or with regex." };
        return Ok(Answer::ok(format!("No line in {} files matches.{hint}", found.searched)));
    }
    let mut answer = format!("{note}{}", found.lines.join("\n"));
    if found.is_partial {
        answer.push_str("\n[there may be more: narrow the search by path or text]");
    }
    Ok(Answer::ok(answer))
}

#[derive(Default)]
struct Found {
    lines: Vec<String>,
    searched: usize,
    is_partial: bool,
}

/// The inner error is for the model: a pattern that is none.
fn find(
    files: &Files,
    place: Option<&RelativePath>,
    arguments: &SearchArguments,
    any_case: bool,
) -> Result<Result<Found, String>, FileError> {
    let matcher = RegexMatcherBuilder::new()
        .fixed_strings(arguments.regex != Some(true))
        .case_insensitive(any_case)
        .line_terminator(Some(b'\n'))
        .build(&arguments.text);
    let matcher = match matcher {
        Ok(matcher) => matcher,
        Err(error) => {
            return Ok(Err(format!("the pattern cannot be searched for: {error}. It must match within a line")));
        }
    };
    let (paths, mut is_partial) = match place.map(|place| (place, files.kind(place))) {
        Some((place, Ok(Kind::File { .. }))) => (vec![place.clone()], false),
        Some((_, Err(error))) => return Err(error),
        Some((_, Ok(_))) | None => {
            let walk = files.walk(place, MOST_SEARCHED_FILES)?;
            let searchable = walk.files.into_iter().filter(|file| file.length <= MOST_FILE_BYTES);
            (searchable.map(|file| file.path).collect(), walk.truncated)
        }
    };
    let mut searcher = SearcherBuilder::new().binary_detection(BinaryDetection::quit(0)).line_number(true).build();
    let until = Instant::now() + LONGEST_SEARCH;
    let mut found = Found::default();
    for path in paths {
        if Instant::now() >= until || found.lines.len() >= MOST_MATCHES {
            is_partial = true;
            break;
        }
        // A file that vanished or may not be read has no lines to show.
        let Ok(contents) = files.read(&path, MOST_FILE_BYTES) else { continue };
        found.searched += 1;
        search_one(&mut searcher, &matcher, &path, &contents, &mut found);
    }
    found.is_partial |= is_partial;
    Ok(Ok(found))
}

fn search_one(
    searcher: &mut Searcher,
    matcher: &grep_regex::RegexMatcher,
    path: &RelativePath,
    contents: &[u8],
    found: &mut Found,
) {
    let sink = Lossy(|number, line| {
        if found.lines.len() >= MOST_MATCHES {
            found.is_partial = true;
            return Ok(false);
        }
        found.lines.push(format!("{path}:{number}: {}", clip(line.trim_end(), LONGEST_LINE / 2)));
        Ok(true)
    });
    // Searching a slice in memory has no errors of its own, and the sink never fails.
    let _ = searcher.search_slice(matcher, contents, sink);
}

/// A missing file's error, with the files of the same name elsewhere.
fn with_namesakes(files: &Files, path: &RelativePath, error: &FileError) -> String {
    let walk = files.walk(None, MOST_SEARCHED_FILES);
    let namesakes: Vec<String> = walk
        .map(|walk| walk.files)
        .unwrap_or_default()
        .into_iter()
        .filter(|file| file.path.file_name() == path.file_name())
        .take(5)
        .map(|file| format!("`{}`", file.path))
        .collect();
    match namesakes.is_empty() {
        true => error.to_string(),
        false => format!("{error}. There is {}", namesakes.join(", ")),
    }
}
