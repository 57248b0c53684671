//! Lines out of a stream that comes in parts of any size.

use std::borrow::Cow;

/// A line, or what is in its place.
pub enum Step<'i> {
    /// All that came was used up.
    More,
    /// A line that is not blank.
    Line {
        /// Its number, counted from 1.
        line: u64,
        /// Its text; `None` where it has more bytes than are kept.
        text: Option<Cow<'i, [u8]>>,
    },
    /// There are no more.
    End,
}

/// Reads lines; it keeps one of them at a time.
pub struct Lines {
    limit: usize,
    held: Vec<u8>,
    too_long: bool,
    ended: u64,
}

impl Lines {
    /// Of lines that have `limit` bytes at most.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            held: Vec::new(),
            too_long: false,
            ended: 0,
        }
    }

    /// Reads on; nothing in `input` says that nothing more will come. Returns how many bytes were used.
    pub fn read<'i>(&mut self, input: &'i [u8]) -> (usize, Step<'i>) {
        let mut used = 0;
        while let Some(length) = input[used..].iter().position(|byte| *byte == b'\n') {
            let text = &input[used..used + length];
            used += length + 1;
            if let Some(step) = self.ending(text) {
                return (used, step);
            }
        }
        if input.is_empty() {
            // The last line may lack its end.
            return (0, self.ending(&[]).unwrap_or(Step::End));
        }
        self.hold(&input[used..]);
        (input.len(), Step::More)
    }

    fn hold(&mut self, text: &[u8]) {
        if self.too_long || self.held.len() + text.len() > self.limit {
            self.too_long = true;
            self.held = Vec::new();
        } else {
            self.held.extend_from_slice(text);
        }
    }

    /// A line has ended with this text; nothing where it is blank.
    fn ending<'i>(&mut self, text: &'i [u8]) -> Option<Step<'i>> {
        self.ended += 1;
        let line = self.ended;
        if !self.too_long && self.held.is_empty() && text.len() <= self.limit {
            let text = text.trim_ascii();
            let text = Some(Cow::Borrowed(text));
            return (text.as_ref().is_some_and(|text| !text.is_empty())).then_some(Step::Line { line, text });
        }
        self.hold(text);
        let held = std::mem::take(&mut self.held);
        if std::mem::take(&mut self.too_long) {
            return Some(Step::Line { line, text: None });
        }
        let text = held.trim_ascii();
        (!text.is_empty()).then(|| Step::Line {
            line,
            text: Some(Cow::Owned(text.to_vec())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_their_numbers_do_not_depend_on_the_parts() {
        let text = format!("one\r\n\n  \ntwo\n{}\nthree", "x".repeat(50));
        for part in 1..=text.len() {
            let (mut lines, mut all) = (Lines::new(20), Vec::new());
            for input in text.as_bytes().chunks(part).chain([&[][..]]) {
                let mut at = 0;
                loop {
                    let (used, step) = lines.read(&input[at..]);
                    at += used;
                    if let Step::Line { line, text } = step {
                        all.push((
                            line,
                            text.map(|text| String::from_utf8(text.into_owned()).unwrap()),
                        ));
                    } else {
                        break;
                    }
                    if at == input.len() && !input.is_empty() {
                        break;
                    }
                }
            }
            let text = |text: &str| Some(text.to_owned());
            let expected = [(1, text("one")), (4, text("two")), (5, None), (6, text("three"))];
            assert_eq!(all, expected, "parts of {part} bytes");
        }
    }
}
