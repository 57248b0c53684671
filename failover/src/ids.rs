//! Names and numbers that must not be mixed up.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Milliseconds: a span of time, or a moment on the caller's monotonic clock.
pub type Millis = u64;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<T: Into<String>> From<T> for $name {
            fn from(text: T) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.pad(&self.0)
            }
        }
    };
}

text_id! {
    /// A node of the database: the name of its pod, which stays when the pod is replaced.
    NodeId
}

impl NodeId {
    /// The number at the end of the name.
    pub fn number(&self) -> Option<u32> {
        self.0.rsplit('-').next()?.parse().ok()
    }
}

text_id! {
    /// One life of a node's data: made with an empty volume and again before a clone overwrites the data. Two
    /// reports with the same volume speak of data that only grew in between, or lost what nobody had acknowledged.
    VolumeId
}

/// The number of a mastership. Every change of master has a new one; a command of an older term is refused.
/// Zero: there never was a master.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Term(pub u64);

impl Term {
    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}
