//! How the demonstration looks: headings, indented blocks, colour only on a terminal.

use std::io::{IsTerminal, Write};

const WIDTH: usize = 100;

/// Standard output, as a page.
pub(super) struct Screen {
    colour: bool,
}

impl Screen {
    /// Colour on a terminal, unless `NO_COLOR` asks for none.
    pub(super) fn new() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colour: wanted && std::io::stdout().is_terminal() }
    }

    pub(super) fn title(&self, text: &str) {
        self.print(&self.paint("1", text));
        self.print("");
    }

    pub(super) fn heading(&self, text: &str) {
        let rule = "─".repeat(WIDTH.saturating_sub(text.chars().count() + 4));
        self.print("");
        self.print(&format!("{} {} {}", self.paint("2", "──"), self.paint("1", text), self.paint("2", &rule)));
    }

    pub(super) fn field(&self, name: &str, value: &str) {
        self.print(&format!("  {} {value}", self.paint("36", &format!("{name:<10}"))));
    }

    pub(super) fn line(&self, text: &str) {
        self.print(&format!("  {}", printable(text)));
    }

    pub(super) fn block(&self, text: &str) {
        text.lines().for_each(|line| self.print(&format!("  {} {}", self.paint("2", "│"), printable(line))));
    }

    pub(super) fn diff(&self, text: &str) {
        for line in text.lines() {
            let colour = match line.as_bytes().first() {
                Some(b'+') if !line.starts_with("+++") => "32",
                Some(b'-') if !line.starts_with("---") => "31",
                Some(b'@') => "36",
                _ => "0",
            };
            self.print(&format!("  {}", self.paint(colour, &printable(line))));
        }
    }

    pub(super) fn good(&self, text: &str) {
        self.print(&format!("  {}", self.paint("1;32", text)));
    }

    pub(super) fn bad(&self, text: &str) {
        self.print(&format!("  {}", self.paint("1;31", text)));
    }

    /// Something that takes a while; not part of the page.
    pub(super) fn passing(&self, text: &str) {
        eprintln!("{text}");
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour && code != "0" { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// A reader that left (`| head`) is no reason to fail.
    fn print(&self, line: &str) {
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "{}", line.trim_end());
        let _ = stdout.flush();
    }
}

/// What others wrote, without what would steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() && letter != '\t' { '�' } else { letter }).collect()
}
