//! Text as a column stores it, into the text that the API answers.

use mysql_common::collations::{Collation, CollationId};

/// How a column's text is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// No text at all.
    Binary,
    /// UTF-8, or a part of it.
    Utf8,
    /// What MySQL calls latin1.
    Latin1,
    /// Any other, by MySQL's name: the server itself translates it.
    Other(&'static str),
}

impl Charset {
    /// By the number of a collation.
    pub(super) fn of(collation: u16) -> Self {
        let known = Collation::resolve(CollationId::from(collation));
        match known.charset() {
            "binary" => Self::Binary,
            "latin1" => Self::Latin1,
            // Newer servers add collations of utf8mb4 only.
            "utf8mb4" | "utf8mb3" | "utf8" | "ascii" | "unknown" => Self::Utf8,
            other => Self::Other(name(other)),
        }
    }
}

/// A name that lives as long as the program, and is safe in a statement.
fn name(charset: &str) -> &'static str {
    let known = OTHERS.iter().copied().find(|name| *name == charset);
    known.unwrap_or("utf8mb4")
}

/// MySQL's other sets of characters.
const OTHERS: [&str; 36] = [
    "big5", "dec8", "cp850", "hp8", "koi8r", "latin2", "swe7", "ujis", "sjis", "hebrew", "tis620", "euckr",
    "koi8u", "gb2312", "greek", "cp1250", "gbk", "latin5", "armscii8", "ucs2", "cp866", "keybcs2", "macce",
    "macroman", "cp852", "latin7", "cp1251", "utf16", "utf16le", "cp1256", "cp1257", "utf32", "geostd8",
    "cp932", "eucjpms", "gb18030",
];

/// latin1 as MySQL has it: Windows' code page 1252, in which five places stand for themselves.
pub(super) fn latin1(bytes: &[u8]) -> String {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
        '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    bytes
        .iter()
        .map(|byte| match byte {
            0x80..=0x9f => HIGH[usize::from(*byte - 0x80)],
            other => char::from(*other),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collations_stand_for_their_sets_of_characters() {
        for (collation, charset) in [
            (63, Charset::Binary),
            (8, Charset::Latin1),
            (45, Charset::Utf8),
            (255, Charset::Utf8),
            (33, Charset::Utf8),
            (11, Charset::Utf8),
            (28, Charset::Other("gbk")),
            (35, Charset::Other("ucs2")),
            (51, Charset::Other("cp1251")),
        ] {
            assert_eq!(Charset::of(collation), charset, "{collation}");
        }
    }

    #[test]
    fn latin1_has_the_sign_of_the_euro() {
        assert_eq!(latin1(b"\x80 \xfc\x81"), "€ ü\u{81}");
    }
}
