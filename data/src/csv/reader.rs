//! Records out of a stream that comes in parts of any size.

use csv_core::ReadRecordResult;

/// Room for so many fields at first; MySQL has no table with more than 4096 columns.
const FIELDS: usize = 64;

/// A record, or what is in its place.
pub enum Step {
    /// All that came was used up.
    More,
    /// A record is complete.
    Record {
        /// The line that it begins in, counted from 1.
        line: u64,
        /// True where it has more bytes than are kept; its fields are lost.
        too_long: bool,
    },
    /// There are no more.
    End,
}

/// Reads records; it keeps one of them at a time.
pub struct Reader {
    core: csv_core::Reader,
    limit: usize,
    fields: Vec<u8>,
    filled: usize,
    ends: Vec<usize>,
    count: usize,
    too_long: bool,
    inside: bool,
    /// Lines that have ended.
    lines: u64,
    line: u64,
}

impl Reader {
    /// Of records that have `limit` bytes at most.
    pub fn new(limit: usize) -> Self {
        Self {
            core: csv_core::Reader::new(),
            limit,
            fields: vec![0; 1024.min(limit)],
            filled: 0,
            ends: vec![0; FIELDS],
            count: 0,
            too_long: false,
            inside: false,
            lines: 0,
            line: 0,
        }
    }

    /// Reads on; nothing in `input` says that nothing more will come. Returns how many bytes were used.
    pub fn read(&mut self, input: &[u8]) -> (usize, Step) {
        let mut used = 0;
        if !self.inside {
            let blank = input
                .iter()
                .take_while(|byte| matches!(byte, b'\r' | b'\n'))
                .count();
            self.lines += newlines(&input[..blank]);
            used = blank;
            if used == input.len() && !input.is_empty() {
                return (used, Step::More);
            }
            self.inside = true;
            (self.line, self.filled, self.count, self.too_long) = (self.lines + 1, 0, 0, false);
        }
        loop {
            let rest = &input[used..];
            let (result, read, written, ended) = self.core.read_record(
                rest,
                &mut self.fields[self.filled..],
                &mut self.ends[self.count..],
            );
            self.lines += newlines(&rest[..read]);
            used += read;
            self.filled += written;
            self.count += ended;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.fields.len() < self.limit => {
                    let size = (2 * self.fields.len()).min(self.limit);
                    self.fields.resize(size, 0);
                }
                ReadRecordResult::OutputFull => {
                    self.too_long = true;
                    self.filled = 0;
                }
                ReadRecordResult::OutputEndsFull if self.ends.len() < 4 * 4096 => {
                    self.ends.resize(2 * self.ends.len(), 0);
                }
                ReadRecordResult::OutputEndsFull => {
                    self.too_long = true;
                    self.count = 0;
                }
                ReadRecordResult::Record => {
                    self.inside = false;
                    let (line, too_long) = (self.line, self.too_long);
                    return (used, Step::Record { line, too_long });
                }
                ReadRecordResult::End => return (used, Step::End),
            }
            // An empty rest would say that nothing more will come.
            if used == input.len() && !input.is_empty() {
                return (used, Step::More);
            }
        }
    }

    /// The fields of the record that was read last, unless it was too long.
    pub fn fields(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let ends = &self.ends[..self.count];
        (0..ends.len()).map(move |at| {
            let begin = if at == 0 { 0 } else { ends[at - 1] };
            &self.fields[begin..ends[at]]
        })
    }

    /// How many bytes its fields have.
    pub fn size(&self) -> usize {
        self.filled
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.split(|byte| *byte == b'\n').skip(1).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every record with its line, whatever the parts are in which it comes.
    fn records(text: &str, part: usize, limit: usize) -> Vec<(u64, Option<Vec<String>>)> {
        let (mut reader, mut all) = (Reader::new(limit), Vec::new());
        let parts = text.as_bytes().chunks(part).chain([&[][..]]);
        for part in parts {
            let mut at = 0;
            loop {
                let (used, step) = reader.read(&part[at..]);
                at += used;
                match step {
                    Step::Record { line, too_long } => {
                        let fields = reader
                            .fields()
                            .map(|field| String::from_utf8(field.to_vec()).unwrap());
                        all.push((line, (!too_long).then(|| fields.collect())));
                    }
                    Step::More => break,
                    Step::End => return all,
                }
                if at == part.len() && !part.is_empty() {
                    break;
                }
            }
        }
        panic!("there was no end: {all:?}");
    }

    #[test]
    fn records_and_their_lines_do_not_depend_on_the_parts() {
        let text = "a,b\r\n1,\"x\ny\"\r\n\r\n2,\n\"\",\"\"\"\"\nlast,one";
        let strings = |fields: [&str; 2]| Some(fields.map(str::to_owned).to_vec());
        let expected = vec![
            (1, strings(["a", "b"])),
            (2, strings(["1", "x\ny"])),
            (5, strings(["2", ""])),
            (6, strings(["", "\""])),
            (7, strings(["last", "one"])),
        ];
        for part in 1..=text.len() {
            assert_eq!(records(text, part, 100), expected, "parts of {part} bytes");
        }
    }

    #[test]
    fn a_record_that_is_too_long_is_passed_over_and_the_next_one_is_whole() {
        let text = format!("a,b\n1,{}\n2,y\n", "x".repeat(5000));
        for part in [1, 7, 10_000] {
            let all = records(&text, part, 2000);
            assert_eq!(all[1], (2, None));
            assert_eq!(all[2].1.as_ref().unwrap()[1], "y");
        }
        let many = format!("{}\n1,2\n", "x,".repeat(30_000));
        assert_eq!(records(&many, 10_000, 1 << 20)[0], (1, None));
        assert_eq!(records(&many, 10_000, 1 << 20).len(), 2);
    }
}
