//! Small pieces of text: ages, numbers of things, lists, and paragraphs.

use jiff::Timestamp;

/// The age of a moment: `just now`, `40 s ago`, `3 min ago`, `2 h ago`, `5 d ago`.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.duration_since(at).as_secs() {
        ..=1 => "just now".to_owned(),
        seconds => format!("{} ago", span(seconds)),
    }
}

fn span(seconds: i64) -> String {
    match seconds {
        ..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// The moment in UTC, to the second.
pub fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `1 node`, `2 nodes`.
pub fn count(number: usize, one: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {one}s")
    }
}

/// `a`, `a and b`, `a, b and c`.
pub fn and<S: AsRef<str>>(all: &[S]) -> String {
    let all: Vec<&str> = all.iter().map(AsRef::as_ref).collect();
    match all.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The text in lines of at most `width` characters. The first keeps its indentation, the others get `indent`.
pub fn wrap(text: &str, width: usize, indent: usize) -> String {
    let mut lines = vec![text.chars().take_while(|sign| *sign == ' ').collect::<String>()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is always a line");
        if !last.trim().is_empty() && last.chars().count() + 1 + word.chars().count() > width {
            lines.push(format!("{}{word}", " ".repeat(indent)));
        } else {
            if !last.trim().is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        for (seconds, text) in [
            (-5, "just now"),
            (1, "just now"),
            (40, "40 s ago"),
            (119, "119 s ago"),
            (120, "2 min ago"),
            (7200, "2 h ago"),
            (400_000, "4 d ago"),
        ] {
            let at = Timestamp::from_second(1_000_000 - seconds).unwrap();
            assert_eq!(ago(at, now), text);
        }
    }

    #[test]
    fn a_paragraph_keeps_its_width_and_indents_what_follows() {
        assert_eq!(wrap("  - one", 9, 4), "  - one");
        assert_eq!(wrap("one two three four", 9, 2), "one two\n  three\n  four");
    }
}
