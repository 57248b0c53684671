//! Where requests belong; each route says it.

/// Where a request belongs.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// On the node that was asked, whatever its role.
    Here,
    /// There too, and without waiting for a turn: what people look at while requests pile up.
    Watch,
    /// The same for what people steer by; it is recorded.
    Steer,
    /// On the master, which tells it for hours, so that it takes no turn either.
    Follow,
    /// On any node that serves.
    Any,
    /// On the master.
    Master,
    /// On the master, which takes the body as it comes.
    Import,
    /// On the master, or on any node for a request whose body says that it only reads.
    ByBody(fn(&[u8]) -> bool),
}

impl Place {
    /// True where a request is seen through and recorded without its client: it may change something or hand a wish on,
    /// whatever its body says.
    pub(super) fn outlasts_its_client(self) -> bool {
        match self {
            Self::Here | Self::Steer | Self::Master | Self::Import | Self::ByBody(_) => true,
            Self::Watch | Self::Follow | Self::Any => false,
        }
    }

    /// True where the request may change something, by its body.
    pub(super) fn writes(self, body: &[u8]) -> bool {
        match self {
            Self::Master | Self::Steer | Self::Import => true,
            Self::ByBody(reads) => !reads(body),
            Self::Here | Self::Watch | Self::Follow | Self::Any => false,
        }
    }
}
