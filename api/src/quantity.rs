//! Kubernetes quantities as numbers: `10Gi`, `1.5G`, `500m`, `1e9`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The suffixes of quantities with what they multiply by; the two-letter ones come first.
const SUFFIXES: [(&str, f64); 15] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

/// The amount as a number, rounded up as Kubernetes does; `None` for what is no quantity or less than nothing.
pub fn amount(quantity: &Quantity) -> Option<u64> {
    let value = parse(&quantity.0)?.ceil();
    // The cast is exact enough: sizes beyond 2^53 bytes are compared, never added up.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (0.0..1.8e19).contains(&value).then_some(value as u64)
}

/// Whether the text is a quantity that is not negative.
pub fn is_valid(quantity: &Quantity) -> bool {
    parse(&quantity.0).is_some_and(|value| value >= 0.0)
}

/// Whether the first is more than the second; false where either is no quantity.
pub fn exceeds(first: &Quantity, second: &Quantity) -> bool {
    parse(&first.0)
        .zip(parse(&second.0))
        .is_some_and(|(first, second)| first > second)
}

fn parse(text: &str) -> Option<f64> {
    let (digits, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))
        .unwrap_or((text, 1.0));
    // Rust reads more as a number than Kubernetes does: "inf", "nan".
    let plain = digits.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first))
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if !plain {
        return None;
    }
    Some(digits.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_size_has_its_number() {
        let cases = [
            ("10Gi", Some(10 << 30)),
            ("1.5G", Some(1_500_000_000)),
            ("500m", Some(1)),
            ("1e9", Some(1_000_000_000)),
            ("12E", Some(12_000_000_000_000_000_000)),
            ("0", Some(0)),
            ("-1Gi", None),
            ("10GB", None),
            ("ten", None),
            ("inf", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(amount(&Quantity(text.to_owned())), expected, "{text}");
        }
    }
}
