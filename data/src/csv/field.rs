//! Texts as fields and back.

use std::borrow::Cow;

use super::{END, NULL};

/// A text as a field: one that looks like a sign gets one more backslash.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if looks_like_a_sign(text) {
        return Cow::Owned(format!("\\{text}"));
    }
    Cow::Borrowed(text)
}

/// A field as a text; `None` for NULL.
pub fn unescaped(field: &str) -> Option<&str> {
    if field == NULL {
        return None;
    }
    match field.strip_prefix('\\') {
        Some(rest) if looks_like_a_sign(rest) => Some(rest),
        _ => Some(field),
    }
}

/// How many records there were before the end; `None` where the first field of a record is not the sign of it.
pub fn end_of(field: &str) -> Option<u64> {
    field.strip_prefix('\\')?.strip_prefix(END)?.parse().ok()
}

/// Backslashes and then what a sign consists of.
fn looks_like_a_sign(text: &str) -> bool {
    let rest = text.trim_start_matches('\\');
    rest.len() < text.len() && (rest == "N" || rest.starts_with(END))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_sign_is_changed() {
        assert_eq!(escaped(r"\N"), r"\\N");
        assert_eq!(escaped(r"\\N"), r"\\\N");
        assert_eq!(escaped(r"\end rows=5"), r"\\end rows=5");
        for text in ["", "N", r"\n", r"\Nx", r"\\server\share", r"\end", "end rows=5"] {
            assert_eq!(escaped(text), text);
        }
    }

    #[test]
    fn every_text_comes_back() {
        for text in [
            "",
            "N",
            r"\N",
            r"\\N",
            r"\\\N",
            r"\Nx",
            r"\\server",
            r"\end rows=5",
            r"\\end rows=5",
            r"\",
            r"\\",
        ] {
            assert_eq!(unescaped(&escaped(text)), Some(text));
        }
        assert_eq!(unescaped(NULL), None);
        assert_eq!(end_of(r"\end rows=600"), Some(600));
        for text in [r"\\end rows=600", r"\end rows=x", "end rows=6"] {
            assert_eq!(end_of(text), None, "{text}");
        }
    }
}
