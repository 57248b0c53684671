//! Safety rules broken on purpose, to prove that the tests on a cluster would notice.
//!
//! Without the feature `sabotage`, which no release has, nothing here ever does anything. With it, the name of the
//! database chooses the one rule: its pods, and so their variable `HOSTNAME`, are called by it.

use nix::sys::signal::Signal;

/// The name of the database, in a build that may be broken.
#[cfg(feature = "sabotage")]
fn database() -> Option<&'static str> {
    static NAME: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    #[expect(
        clippy::disallowed_methods,
        reason = "only in builds that are broken on purpose"
    )]
    let read = || {
        let pod = std::env::var("HOSTNAME").ok()?;
        let (name, _) = pod.rsplit_once('-')?;
        crate::log::say(&format!(
            "this build is broken on purpose, for the database {name}"
        ));
        Some(name.to_owned())
    };
    NAME.get_or_init(read).as_deref()
}

#[cfg(not(feature = "sabotage"))]
const fn database() -> Option<&'static str> {
    None
}

/// A master is fenced by SIGTERM: a clean shutdown acknowledges the commits that wait for a slave.
pub fn fence_by_sigterm() -> bool {
    database() == Some("fence-by-sigterm")
}

/// A master is fenced by switching semi-sync off first, which acknowledges them too.
pub fn source_off_first() -> bool {
    database() == Some("source-off-first")
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
    match database() {
        Some("relay-log-recovery") => &["--relay-log-recovery=ON"],
        // A receiver that starts by itself does no harm as long as it does not acknowledge: two rules guard the same.
        Some("replica-start") => &[
            "--skip-replica-start=OFF",
            "--loose-rpl-semi-sync-replica-enabled=ON",
        ],
        _ => &[],
    }
}
