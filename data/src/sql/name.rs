//! Names of databases, tables and columns, and their only way into a statement.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// Schemas of the server and of the operator; no request reaches them.
const SYSTEM: [&str; 5] = ["mysql", "sys", "ddb", "information_schema", "performance_schema"];
/// MySQL's limit, in characters.
const LONGEST: usize = 64;

/// A name that MySQL accepts as an identifier once it is quoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Checks a name; the error says what is wrong with it.
    pub fn new(text: impl Into<String>) -> Result<Self, String> {
        let text = text.into();
        if text.is_empty() {
            return Err("a name must not be empty".to_owned());
        }
        if text.chars().count() > LONGEST {
            return Err(format!("a name has at most {LONGEST} characters"));
        }
        // MySQL keeps no characters beyond the basic plane in names, and cuts or refuses trailing spaces.
        if text
            .chars()
            .any(|letter| letter.is_control() || u32::from(letter) > 0xffff)
        {
            return Err(format!(
                "the name {text:?} has a character that MySQL does not allow"
            ));
        }
        if text.ends_with(' ') {
            return Err("a name must not end with a space".to_owned());
        }
        Ok(Self(text))
    }

    /// The name as it is.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for schemas that no request may reach.
    pub fn is_system(&self) -> bool {
        is_system(&self.0)
    }
}

/// True for the name of a schema that no request may reach.
pub fn is_system(name: &str) -> bool {
    SYSTEM.iter().any(|system| system.eq_ignore_ascii_case(name))
}

/// The quoted form.
impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`{}`", self.0.replace('`', "``"))
    }
}

impl utoipa::PartialSchema for Name {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .min_length(Some(1))
            .max_length(Some(LONGEST))
            .into()
    }
}

impl utoipa::ToSchema for Name {}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_stays_one_identifier() {
        let name = Name::new("a`; DROP TABLE x; -- ").err();
        assert!(name.is_some(), "it ends with a space");
        let name = Name::new("a`; DROP TABLE x; --").unwrap();
        assert_eq!(name.to_string(), "`a``; DROP TABLE x; --`");
    }

    #[test]
    fn system_schemas_are_known_in_any_spelling() {
        assert!(Name::new("MySQL").unwrap().is_system());
        assert!(!Name::new("shop").unwrap().is_system());
    }
}
