//! Reads what this crate wrote, knowing nothing of how it was written.

use std::collections::BTreeSet;

/// Every word that may stand in it outside of quotes.
const WORDS: &str = "AND OR XOR NOT IS NULL TRUE FALSE IN LIKE RLIKE BETWEEN ESCAPE CASE WHEN THEN ELSE END DIV CAST AS \
    DECIMAL JSON DEFAULT MATCH AGAINST BOOLEAN MODE NATURAL LANGUAGE TRIM SUBSTRING \
    ABS ADDDATE CEIL CEILING CHAR_LENGTH CHARACTER_LENGTH COALESCE CONCAT CONCAT_WS CURDATE CURRENT_DATE CURRENT_TIME \
    CURRENT_TIMESTAMP CURTIME DATE DATEDIFF DATE_FORMAT DAY DAYOFMONTH DAYOFWEEK DAYOFYEAR FIELD FIND_IN_SET FLOOR \
    FROM_UNIXTIME GREATEST HEX HOUR IF IFNULL INSTR JSON_EXTRACT JSON_SET JSON_REMOVE JSON_UNQUOTE LAST_DAY LEAST LEFT \
    LENGTH LOCATE LOWER LPAD LTRIM MD5 MINUTE MOD MONTH NOW NULLIF POW POWER QUARTER REPLACE REVERSE RIGHT ROUND RPAD \
    RTRIM SECOND SIGN SUBSTR UNIX_TIMESTAMP UPPER UTC_TIMESTAMP UUID YEAR \
    PRIMARY KEY UNIQUE FULLTEXT FOREIGN REFERENCES ON DELETE UPDATE RESTRICT CASCADE SET NO ACTION AUTO_INCREMENT COMMENT \
    INVISIBLE COLLATE CHARACTER VARCHAR CHAR INT INTEGER BIGINT SMALLINT TINYINT MEDIUMINT UNSIGNED DOUBLE FLOAT REAL \
    PRECISION NUMERIC DEC BOOL BIT BINARY VARBINARY BLOB TINYBLOB MEDIUMBLOB LONGBLOB TEXT TINYTEXT MEDIUMTEXT LONGTEXT \
    ENUM DATETIME TIME TIMESTAMP GEOMETRY POINT utf8mb4_bin SIGNED ZEROFILL VARYING \
    CONSTRAINT SPATIAL DESC ENGINE InnoDB ROW_FORMAT DYNAMIC COMPACT REDUNDANT COMPRESSED";

/// Checks that a text holds nothing but quoted names and texts, numbers, known words and signs. Gives how many `?` it
/// has.
pub fn only_ours(text: &str) -> usize {
    let mut letters = text.chars().peekable();
    let mut places = 0;
    while let Some(letter) = letters.next() {
        match letter {
            // A quote ends where a single one stands; doubled it is a sign of the name or text.
            '`' | '\'' => loop {
                match letters.next() {
                    None => panic!("a quote without an end: {text}"),
                    Some('\\') if letter == '\'' => {
                        assert!(letters.next().is_some(), "a quote without an end: {text}");
                    }
                    Some(end) if end == letter && letters.next_if_eq(&letter).is_none() => break,
                    Some(_) => {}
                }
            },
            '?' => places += 1,
            _ if letter.is_ascii_alphabetic() || letter == '_' => {
                let mut word = String::from(letter);
                while let Some(next) = letters.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
                    word.push(next);
                }
                let known = WORDS.split_whitespace().any(|known| known == word);
                assert!(known, "{word} is no word of ours: {text}");
            }
            _ => assert!(
                letter.is_ascii_digit() || " (),.<>=+-*/%|&^~".contains(letter),
                "{letter:?} is no sign of ours: {text}"
            ),
        }
    }
    assert!(
        !text.contains("--") || text.contains(['`', '\'']),
        "a comment: {text}"
    );
    places
}

/// The words that MySQL would see outside of quotes, in capitals; `@` is one of its own.
pub fn words_outside(text: &str) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if matches!(letter, '`' | '\'' | '"') {
            while let Some(next) = letters.next() {
                if next == '\\' && letter != '`' {
                    letters.next();
                } else if next == letter && letters.next_if_eq(&letter).is_none() {
                    break;
                }
            }
        } else if letter == '@' {
            words.insert("@".to_owned());
        } else if letter.is_alphanumeric() || letter == '_' {
            let mut word = String::from(letter);
            while let Some(next) = letters.next_if(|next| next.is_alphanumeric() || *next == '_') {
                word.push(next);
            }
            words.insert(word.to_uppercase());
        }
    }
    words
}

#[test]
fn words_in_quotes_are_not_outside() {
    let words = |text: &str| words_outside(text).into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(words("SELECT x'41''x' FROM `a``b`, \"c'd\""), "FROM SELECT X");
    assert_eq!(words("SELECT X'41'x'"), "SELECT X");
    assert_eq!(words("DISTINCT@@a, '@'"), "@ A DISTINCT");
    assert_eq!(words("'a\\' b' c"), "C");
}

#[test]
fn a_text_of_others_is_seen() {
    for text in ["(`a` = ?)", "`a``b`", "'it''s \\' ;'", "CONCAT(?, NOW(6))"] {
        only_ours(text);
    }
    for text in [
        "`a`; x",
        "SLEEP(1)",
        "'a' b",
        "`a",
        "'a\\'",
        "(SELECT 1)",
        "@x",
        "# x",
        "\"x\"",
        "é",
    ] {
        assert!(std::panic::catch_unwind(|| only_ours(text)).is_err(), "{text}");
    }
}
