//! From text to tokens and to the parser; where it fails, the position.

use std::any::TypeId;

use sqlparser::{
    dialect::{Dialect, MySqlDialect},
    parser::{Parser, ParserError},
    tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, Whitespace},
};

use crate::problem::Problem;

/// A fragment of more characters than this is refused.
const LONGEST: usize = 1 << 20;
/// How deep expressions may be nested.
const DEEPEST: usize = 40;

/// What stands before INTO where it names a table.
const BEFORE_INTO: [&str; 6] = [
    "INSERT",
    "REPLACE",
    "IGNORE",
    "LOW_PRIORITY",
    "HIGH_PRIORITY",
    "DELAYED",
];

static DIALECT: MySqlDialect = MySqlDialect {};
static WORDS: Words = Words;

/// Cuts text as MySQL does, except that `/*! … */` is a comment like any other, so that it is seen and refused.
#[derive(Debug)]
struct Words;

impl Dialect for Words {
    fn dialect(&self) -> TypeId {
        DIALECT.dialect()
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        DIALECT.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        DIALECT.is_identifier_part(ch)
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        DIALECT.is_delimited_identifier_start(ch)
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        DIALECT.supports_string_literal_backslash_escape()
    }

    fn ignores_wildcard_escapes(&self) -> bool {
        DIALECT.ignores_wildcard_escapes()
    }

    fn supports_numeric_prefix(&self) -> bool {
        DIALECT.supports_numeric_prefix()
    }

    fn requires_single_line_comment_whitespace(&self) -> bool {
        DIALECT.requires_single_line_comment_whitespace()
    }

    fn supports_nested_comments(&self) -> bool {
        DIALECT.supports_nested_comments()
    }
}

/// A fragment while it is read.
pub struct Reader<'f> {
    field: &'static str,
    text: &'f str,
    tokens: Vec<TokenWithSpan>,
    parser: Parser<'static>,
}

impl<'f> Reader<'f> {
    /// Cuts a fragment into tokens; `field` is its name in the request.
    pub fn new(field: &'static str, text: &'f str) -> Result<Self, Problem> {
        if text.len() > LONGEST {
            return Err(Problem::fragment(
                format!("{field}: too long; send the values as JSON"),
                None,
            ));
        }
        let tokens = Tokenizer::new(&WORDS, text)
            .tokenize_with_location()
            .map_err(|error| {
                let at = position(text, error.location);
                Problem::fragment(format!("{field}: {}", error.message), at)
            })?;
        for token in &tokens {
            refuse_comment(field, text, token)?;
        }
        let parser = Parser::new(&DIALECT)
            .with_recursion_limit(DEEPEST)
            .with_tokens_with_locations(tokens.clone());
        Ok(Self {
            field,
            text,
            tokens,
            parser,
        })
    }

    /// Cuts a whole statement into tokens. It is written anew by the parser, so what could be written differently
    /// from how it was read is refused.
    pub fn statement(field: &'static str, text: &'f str) -> Result<Self, Problem> {
        let this = Self::new(field, text)?;
        let mut before = String::new();
        for token in &this.tokens {
            if let Token::Word(word) = &token.token
                && word.quote_style.is_none()
            {
                let word = word.value.to_ascii_uppercase();
                // Elsewhere it writes to a file or a variable, also where the parser takes it for a name.
                if word == "INTO" && !BEFORE_INTO.contains(&before.as_str()) {
                    return Err(this.refused("INTO is not allowed", token.span));
                }
                before = word;
            }
            // The parser takes `@` for a letter, and MySQL for the end of the word before it.
            if matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && word.value.contains('@'))
            {
                return Err(this.refused("variables are not allowed", token.span));
            }
            let doubtful = match &token.token {
                Token::SingleQuotedString(text) | Token::DoubleQuotedString(text) => text.contains('\\'),
                Token::Word(word) => {
                    word.value.contains('`') || !matches!(word.quote_style, None | Some('`'))
                }
                // It is written as it came, so a quote in it would end it.
                Token::HexStringLiteral(digits) => !digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
                Token::DollarQuotedString(_)
                | Token::NationalStringLiteral(_)
                | Token::EscapedStringLiteral(_)
                | Token::UnicodeStringLiteral(_)
                | Token::SingleQuotedByteStringLiteral(_)
                | Token::DoubleQuotedByteStringLiteral(_)
                | Token::SingleQuotedRawStringLiteral(_)
                | Token::DoubleQuotedRawStringLiteral(_)
                | Token::CustomBinaryOperator(_) => true,
                _ => false,
            };
            if doubtful {
                return Err(this.refused("bind this as a value with `?`", token.span));
            }
        }
        Ok(this)
    }

    /// Reads a part.
    pub fn read<T>(
        &mut self,
        part: impl FnOnce(&mut Parser<'static>) -> Result<T, ParserError>,
    ) -> Result<T, Problem> {
        part(&mut self.parser).map_err(|error| self.failed(&error))
    }

    /// Reads parts with commas between them.
    pub fn items<T>(
        &mut self,
        one: impl Fn(&mut Parser<'static>) -> Result<T, ParserError>,
    ) -> Result<Vec<T>, Problem> {
        let mut all = Vec::new();
        loop {
            all.push(self.read(&one)?);
            if !self.parser.consume_token(&Token::Comma) {
                return Ok(all);
            }
        }
    }

    /// Reads parts with commas between them, to the end.
    pub fn list<T>(
        &mut self,
        one: impl Fn(&mut Parser<'static>) -> Result<T, ParserError>,
    ) -> Result<Vec<T>, Problem> {
        let all = self.items(one)?;
        self.end()?;
        Ok(all)
    }

    /// Refuses anything that is left.
    pub fn end(&mut self) -> Result<(), Problem> {
        let next = self.parser.peek_token();
        if next.token == Token::EOF {
            return Ok(());
        }
        let at = position(self.text, next.span.start);
        Err(Problem::fragment(
            format!("{}: `{}` is not expected here", self.field, next.token),
            at,
        ))
    }

    /// A part that was read and is not allowed.
    pub fn refused(&self, what: &str, span: Span) -> Problem {
        Problem::fragment(format!("{}: {what}", self.field), position(self.text, span.start))
    }

    fn failed(&self, error: &ParserError) -> Problem {
        let message = match error {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.clone(),
            ParserError::RecursionLimitExceeded => "nested too deep".to_owned(),
        };
        let (message, location) = match message.rsplit_once(" at Line: ") {
            Some((message, place)) => (message.to_owned(), location(place)),
            None => (message, None),
        };
        let at = location
            .and_then(|location| position(self.text, location))
            .or_else(|| position(self.text, self.parser.peek_token_ref().span.start));
        Problem::fragment(format!("{}: {message}", self.field), at)
    }
}

/// Line and column as the parser writes them in its messages: `1, Column: 5`.
fn location(place: &str) -> Option<Location> {
    let (line, column) = place.split_once(", Column: ")?;
    Some(Location {
        line: line.trim().parse().ok()?,
        column: column.trim().parse().ok()?,
    })
}

/// The character's number from 1; the end of the fragment for what lies beyond it.
fn position(text: &str, location: Location) -> Option<usize> {
    if location.line == 0 {
        return Some(text.chars().count() + 1);
    }
    let before: usize = text
        .split_inclusive('\n')
        .take(usize::try_from(location.line).ok()?.saturating_sub(1))
        .map(|line| line.chars().count())
        .sum();
    Some(before + usize::try_from(location.column).ok()?)
}

/// A comment could hide something from one of two readers.
fn refuse_comment(field: &str, text: &str, token: &TokenWithSpan) -> Result<(), Problem> {
    let comment = matches!(
        token.token,
        Token::Whitespace(Whitespace::SingleLineComment { .. } | Whitespace::MultiLineComment(_))
    );
    if !comment {
        return Ok(());
    }
    let at = position(text, token.span.start);
    Err(Problem::fragment(
        format!("{field}: comments are not allowed"),
        at,
    ))
}
