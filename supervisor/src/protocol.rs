//! What is spoken on the supervisor's socket: one JSON object a line in both directions.
//!
//! Types only. A client sends any number of [`Request`]s; each gets one [`Reply`], and after [`Request::Watch`]
//! the current state and then every change follow on the same connection.

use serde::{Deserialize, Serialize};

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "request")]
pub enum Request {
    /// Send the state now and at every change.
    Watch,
    /// SIGKILL mysqld; it is started again at once, fenced.
    Kill,
    /// SIGKILL mysqld and keep it down.
    Hold,
    /// Start mysqld again after [`State::Held`] or after a failure.
    Start,
    /// SIGKILL mysqld, throw the data directory away, make a new one and start mysqld on it.
    Discard,
    /// Whether mysqld stays down after its next end that is no clean one, also when the supervisor ends with it; each
    /// start ends this. For a server that leads: started again it commits what no slave acknowledged.
    HoldAfterEnd {
        /// The answer.
        hold: bool,
    },
    /// Whether mysqld may be ended by SIGTERM from now on. It may not after each start until this says so, because
    /// a clean shutdown acknowledges commits that no slave holds.
    AllowTerm {
        /// The answer.
        allowed: bool,
    },
}

/// What a client is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reply")]
pub enum Reply {
    /// The request was carried out.
    Done,
    /// The line was no request, or the disk refused.
    Refused {
        /// Why.
        message: String,
    },
    /// The state of mysqld, to watchers.
    State {
        /// The state.
        state: State,
    },
}

/// What mysqld does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum State {
    /// Nothing is known of the volume's mysqld: that of an earlier pod may still run and acknowledge.
    Waiting {
        /// What is waited for.
        why: String,
    },
    /// The data directory is being made.
    Preparing,
    /// The process runs, which does not say that it answers.
    Running {
        /// Its process id, as the container sees it.
        pid: i32,
        /// How often mysqld was started since the supervisor began, this time included.
        starts: u64,
    },
    /// The process runs no more of its code, but the kernel has not yet freed what it held.
    Ending,
    /// The process ended; it is started again by itself.
    Exited {
        /// How it ended, in words, with the last error of its log.
        how: String,
        /// What it found on the disk may be why: it gave up by itself, and nothing around it was at fault as far as its
        /// log tells.
        #[serde(default)]
        gave_up: bool,
    },
    /// The process is kept down until [`Request::Start`].
    Held {
        /// How it ended.
        how: String,
    },
    /// mysqld is not started any more until [`Request::Start`]: the sentence says what is wrong and what to do. A data
    /// directory that could not be made is tried again every ten seconds.
    Failed {
        /// The sentence.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_states_travel_as_readable_lines() {
        let line = serde_json::to_string(&Request::AllowTerm { allowed: true }).unwrap();
        assert_eq!(line, r#"{"request":"allow-term","allowed":true}"#);
        assert_eq!(
            serde_json::from_str::<Request>(r#"{"request":"watch"}"#).unwrap(),
            Request::Watch
        );
        let reply = Reply::State {
            state: State::Running { pid: 7, starts: 2 },
        };
        let line = serde_json::to_string(&reply).unwrap();
        assert_eq!(
            line,
            r#"{"reply":"state","state":{"state":"running","pid":7,"starts":2}}"#
        );
        assert_eq!(serde_json::from_str::<Reply>(&line).unwrap(), reply);
    }

    #[test]
    fn an_unknown_request_is_an_error_and_not_another_request() {
        assert!(serde_json::from_str::<Request>(r#"{"request":"terminate"}"#).is_err());
        assert!(serde_json::from_str::<Request>(r#"{"request":"allow-term"}"#).is_err());
    }
}
