//! What a person sees of the demonstration and the benchmark: short aligned lines, colour only on a terminal.

use std::io::{IsTerminal, Write};

/// Where text for people goes.
pub struct Screen {
    to_stderr: bool,
    colour: bool,
}

/// How a text is shown on a terminal.
#[derive(Debug, Clone, Copy)]
pub enum Tone {
    /// As it is.
    Plain,
    /// A heading.
    Bold,
    /// Less important.
    Dim,
    /// What should be so.
    Good,
    /// What should not.
    Bad,
}

impl Screen {
    /// With `json`, stdout belongs to programs and people read stderr.
    pub fn new(json: bool) -> Self {
        let terminal = if json {
            std::io::stderr().is_terminal()
        } else {
            std::io::stdout().is_terminal()
        };
        Self {
            to_stderr: json,
            colour: terminal,
        }
    }

    /// One line.
    pub fn line(&self, text: &str) {
        // A closed pipe is the reader's choice, not an error of ours.
        let _ = if self.to_stderr {
            writeln!(std::io::stderr(), "{text}")
        } else {
            writeln!(std::io::stdout(), "{text}")
        };
    }

    /// A heading with an empty line before it.
    pub fn heading(&self, text: &str) {
        self.line("");
        self.line(&self.paint(Tone::Bold, text));
    }

    /// A fact: its name, aligned, and its value.
    pub fn fact(&self, name: &str, value: &str) {
        self.line(&format!("  {name:<28} {value}"));
    }

    /// A thing that must be so, and whether it is.
    pub fn verdict(&self, name: &str, holds: bool, value: &str) {
        let mark = if holds {
            self.paint(Tone::Good, "✓")
        } else {
            self.paint(Tone::Bad, "✗")
        };
        self.line(&format!("{mark} {name:<28} {value}"));
    }

    /// The text in a tone, where colours are shown.
    pub fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Bold => "1",
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Bad => "31",
        };
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A number with separators, as 12,345.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds with one decimal.
pub fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, millis % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(14_123), "14,123");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }

    #[test]
    fn seconds_keep_one_decimal() {
        assert_eq!(seconds(8_049), "8.0 s");
        assert_eq!(seconds(12_950), "12.9 s");
    }
}
