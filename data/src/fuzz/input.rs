//! Text for the targets: at random, made of words, and made by the grammar with a fault here and there.

/// Words that fragments are made of, good ones and bad ones.
const WORDS: [&str; 128] = [
    "Id",
    "name",
    "`a b`",
    "``",
    "`",
    "'",
    "\"",
    "'x'",
    "\"x\"",
    "'it''s'",
    "'\\'",
    "\\",
    "0",
    "1",
    "-1",
    "2.5",
    "1e9",
    ".5",
    "0x1F",
    "x'41'",
    "b'1'",
    "NULL",
    "TRUE",
    "FALSE",
    "DEFAULT",
    "(",
    ")",
    "(",
    ")",
    ",",
    ",",
    ".",
    "*",
    "=",
    "=",
    "<>",
    "!=",
    "<",
    ">",
    "<=",
    ">=",
    "<=>",
    "+",
    "-",
    "/",
    "%",
    "||",
    "&&",
    "|",
    "&",
    "^",
    "~",
    "!",
    "<<",
    ">>",
    ":=",
    "->",
    "->>",
    "@x",
    "@@version",
    "?",
    ":x",
    "$1",
    ";",
    "--",
    "-- ",
    "#",
    "/*",
    "*/",
    "/*!",
    "AND",
    "OR",
    "XOR",
    "NOT",
    "IS",
    "IN",
    "LIKE",
    "RLIKE",
    "REGEXP",
    "BETWEEN",
    "ESCAPE",
    "EXISTS",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "SELECT",
    "FROM",
    "UNION",
    "INTO",
    "OUTFILE",
    "WHERE",
    "DIV",
    "MOD",
    "INTERVAL",
    "DAY",
    "COLLATE",
    "utf8mb4_bin",
    "_binary",
    "CAST",
    "AS",
    "CHAR",
    "NOW",
    "UUID",
    "CONCAT",
    "SLEEP",
    "LOAD_FILE",
    "IF",
    "TRIM",
    "SUBSTRING",
    "VARCHAR",
    "INT",
    "PRIMARY",
    "KEY",
    "AUTO_INCREMENT",
    "COMMENT",
    "REFERENCES",
    "mysql",
    "user",
    "TABLE",
    "mysql.user",
    "DISTINCT@@x",
    "@y",
    "CURRENT_USER",
    "JOIN",
    "WITH",
    "VALUES",
];
/// Signs that are hard to bear.
const SIGNS: [char; 16] = [
    '\0', '\n', '\r', '\t', '\u{1a}', '\u{a0}', '\u{feff}', '\u{2019}', 'é', '語', '𝒳', '\u{202e}', '`',
    '\'', '"', '\\',
];
const ATOMS: [&str; 20] = [
    "Id", "name", "`a b`", "`a``b`", "'x'", "'it''s'", "'\\''", "\"x\"", "0", "42", "2.5", "1e9", ".5",
    "0x1F", "NULL", "TRUE", "NOW(6)", "UUID()", "x.y", "-7",
];
/// How deep it nests at most.
const DEEP: usize = 5;

/// Text made of words: the low byte says which, the next bit whether a space follows.
pub fn soup(recipe: &[u16]) -> String {
    let mut text = String::new();
    for one in recipe {
        word(*one, &mut text);
    }
    text
}

fn word(one: u16, text: &mut String) {
    let [which, space] = one.to_le_bytes();
    match WORDS.get(usize::from(which)) {
        Some(word) => text.push_str(word),
        None if which < 240 => text.push(char::from(which - 128)),
        None => text.push(SIGNS[usize::from(which - 240)]),
    }
    if space & 1 == 1 {
        text.push(' ');
    }
}

/// An expression as the grammar has it, but that one step in thirty-two puts a word there that nobody expects.
pub fn expression(recipe: &[u16]) -> String {
    let mut text = String::new();
    let mut left = recipe.iter().copied();
    grow(&mut left, DEEP, &mut text);
    text
}

fn grow(recipe: &mut impl Iterator<Item = u16>, deep: usize, text: &mut String) {
    let one = recipe.next().unwrap_or(0);
    if one >> 11 == 31 {
        word(one, text);
    }
    let atom = ATOMS[usize::from(one >> 5) % ATOMS.len()];
    // Holes are filled by further expressions.
    let form = match one % 24 {
        _ if deep == 0 => atom,
        0..=5 => atom,
        6 => "_ = _",
        7 => "_ <> _",
        8 => "_ AND _",
        9 => "_ OR _",
        10 => "NOT _",
        11 => "(_)",
        12 => "_ IN (_, _)",
        13 => "_ NOT LIKE _",
        14 => "_ BETWEEN _ AND _",
        15 => "_ IS NOT NULL",
        16 => "CONCAT(_, _)",
        17 => "CASE _ WHEN _ THEN _ ELSE _ END",
        18 => "_ + _ * _",
        19 => "-_",
        20 => "IF(_, _, _)",
        21 => "SUBSTRING(_, _, _)",
        22 => "_ LIKE _ ESCAPE '|'",
        _ => "_ DIV _",
    };
    for letter in form.chars() {
        if letter == '_' {
            grow(recipe, deep - 1, text);
        } else {
            text.push(letter);
        }
    }
}

/// Without texts that are understood the targets would show nothing.
#[test]
fn most_of_what_the_grammar_makes_is_understood() {
    let mut seed: u32 = 1;
    let mut recipe = || -> Vec<u16> {
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u16::try_from(seed >> 16).unwrap_or_default()
        };
        (0..60).map(|_| next()).collect()
    };
    let texts: Vec<String> = (0..1000).map(|_| expression(&recipe())).collect();
    let understood = texts
        .iter()
        .filter(|text| crate::fragment::condition(text).is_ok())
        .count();
    assert!(
        understood > 500,
        "{understood} of 1000, such as {:?}",
        &texts[..5]
    );
    let long = texts.iter().filter(|text| text.len() > 40).count();
    assert!(long > 200, "{long} are long");
}
