//! Safety rules broken on purpose, to prove that the tests on a cluster would notice.
//!
//! Without the feature `sabotage`, which no release has, nothing here ever does anything. With it, the variable
//! `DDB_SABOTAGE` at the time of the build chooses the one rule, so that no running program can be told to break one.

use nix::sys::signal::Signal;

#[cfg(feature = "sabotage")]
const WHICH: Option<&str> = option_env!("DDB_SABOTAGE");
#[cfg(not(feature = "sabotage"))]
const WHICH: Option<&str> = None;

/// A master is fenced by SIGTERM: a clean shutdown acknowledges the commits that wait for a slave.
pub fn fence_by_sigterm() -> bool {
    WHICH == Some("fence-by-sigterm")
}

/// A master is fenced by switching semi-sync off first, which acknowledges them too.
pub fn source_off_first() -> bool {
    WHICH == Some("source-off-first")
}

/// The signal that ends mysqld at once.
pub fn hard_end() -> Signal {
    if fence_by_sigterm() {
        Signal::SIGTERM
    } else {
        Signal::SIGKILL
    }
}

/// What is added to mysqld's command line, where it overrules the configuration.
pub fn arguments() -> &'static [&'static str] {
    match WHICH {
        Some("relay-log-recovery") => &["--relay-log-recovery=ON"],
        // A receiver that starts by itself does no harm as long as it does not acknowledge: two rules guard the same.
        Some("replica-start") => &[
            "--skip-replica-start=OFF",
            "--loose-rpl-semi-sync-replica-enabled=ON",
        ],
        _ => &[],
    }
}
