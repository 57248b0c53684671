//! CSV as in RFC 4180, with the two things that it lacks: NULL, and an end that proves completeness.
//!
//! | field | stands for |
//! |---|---|
//! | `\N` | NULL |
//! | `\end rows=600`, the first of its record | the end: so many records came before it; the other fields are empty |
//! | backslashes and then `N` or `end rows=…` | the same text with one backslash less |
//! | everything else | itself; an empty field is an empty text |

mod field;
mod reader;
mod writer;

pub use field::{end_of, unescaped};
pub use reader::{Reader, Step};
pub use writer::{end, head, record};

/// What stands for NULL.
pub const NULL: &str = r"\N";
/// What the first field of the end begins with, behind a backslash.
const END: &str = "end rows=";
