//! The table: what is done to a master and its slaves, and what is seen then. Every line holds for a real mysqld and
//! for the model.
//!
//! What is seen is one line: how each client's commit ended (`waits`, `ok`, `error`), then each server: `a 1` has
//! executed one transaction, `b 1+2` has received two more, `-` is down and `~` is frozen. `apart` is a slave without a
//! connection, `stopped` one whose receiver gave up with an error, `closing` a server in which `super_read_only = ON`
//! has not returned.

use simulation::Statement::{self, *};

/// A server, by its index.
pub type Node = usize;
/// The master.
pub const A: Node = 0;
/// A slave.
pub const B: Node = 1;
/// Another slave, where the scenario has three servers.
pub const C: Node = 2;

/// One step.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// A client of its own inserts a row on the master.
    Write,
    /// Somebody with every privilege says this to the server.
    Say(Node, Statement),
    /// SIGKILL.
    Kill(Node),
    /// SIGTERM, until the server has ended.
    Terminate(Node),
    /// The server starts.
    Boot(Node),
    /// SIGSTOP.
    Freeze(Node),
    /// SIGCONT.
    Thaw(Node),
    /// Every finished binary log is purged.
    Purge(Node),
    /// This is seen soon, and stays.
    See(&'static str),
}

/// A setting of the servers that differs from what the product writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// `relay_log_recovery = ON`.
    RelayLogRecovery,
    /// `skip_replica_start = OFF`, with semi-sync on in the configuration.
    ReplicaStartsAtBoot,
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    pub name: &'static str,
    pub servers: usize,
    /// So many slaves must acknowledge a commit.
    pub acks: u32,
    pub setting: Option<Setting>,
    pub steps: &'static [Step],
}

use Step::*;

const fn row(name: &'static str, steps: &'static [Step]) -> Scenario {
    Scenario {
        name,
        servers: 2,
        acks: 1,
        setting: None,
        steps,
    }
}

const fn of_three(acks: u32, row: Scenario) -> Scenario {
    Scenario {
        servers: 3,
        acks,
        ..row
    }
}

const fn with(setting: Setting, row: Scenario) -> Scenario {
    Scenario {
        setting: Some(setting),
        ..row
    }
}

/// A commit for which no acknowledgement can come.
const HUNG: &str = "waits | a 0 | b 0+0 apart";

pub const SCENARIOS: &[Scenario] = &[
    row(
        "a commit returns when a slave has it",
        &[Write, See("ok | a 1 | b 1+0")],
    ),
    row(
        "a commit that no slave has waits, unseen, until a slave comes",
        &[
            Say(B, StopReceiver),
            Write,
            See(HUNG),
            Say(B, StartReceiver),
            See("ok | a 1 | b 1+0"),
        ],
    ),
    of_three(
        2,
        row(
            "one of two acknowledgements is none, though that slave executes what is not committed",
            &[
                Say(C, StopReceiver),
                Write,
                See("waits | a 0 | b 1+0 | c 0+0 apart"),
                Say(C, StartReceiver),
                See("ok | a 1 | b 1+0 | c 1+0"),
            ],
        ),
    ),
    row(
        "SIGTERM tells a waiting client OK though no slave has the row",
        &[
            Say(B, StopReceiver),
            Write,
            See(HUNG),
            Terminate(A),
            See("ok | a - | b 0+0 apart"),
            Boot(A),
            See("ok | a 1 | b 0+0 apart"),
        ],
    ),
    row(
        "after SIGKILL the tail comes back as if committed, and is replicated",
        &[
            Say(B, StopReceiver),
            Write,
            Write,
            See("waits, waits | a 0 | b 0+0 apart"),
            Kill(A),
            See("error, error | a - | b 0+0 apart"),
            Boot(A),
            See("error, error | a 2 | b 0+0 apart"),
            Say(A, ReadOnlyOff),
            Say(A, OfflineOff),
            Say(B, StartReceiver),
            See("error, error | a 2 | b 2+0"),
        ],
    ),
    row(
        "KILL of a waiting connection ends the client only; a later acknowledgement commits",
        &[
            Say(B, StopReceiver),
            Write,
            See(HUNG),
            Say(A, KillConnections),
            See("error | a 0 | b 0+0 apart"),
            Say(B, StartReceiver),
            See("error | a 1 | b 1+0"),
        ],
    ),
    row(
        "KILL QUERY does nothing to a waiting commit",
        &[
            Say(B, StopReceiver),
            Write,
            See(HUNG),
            Say(A, KillQueries),
            See(HUNG),
            Say(B, StartReceiver),
            See("ok | a 1 | b 1+0"),
        ],
    ),
    row(
        "offline_mode drops clients and slaves and keeps both out; the commit stays inside",
        &[
            Say(B, StopReceiver),
            Write,
            See(HUNG),
            Say(A, OfflineOn),
            See("error | a 0 | b 0+0 apart"),
            Say(B, StartReceiver),
            See("error | a 0 | b 0+0 apart"),
            Say(A, OfflineOff),
            See("error | a 1 | b 1+0"),
        ],
    ),
    row(
        "offline_mode cuts off a slave that is connected",
        &[Say(A, OfflineOn), See(" | a 0 | b 0+0 apart")],
    ),
    row(
        "super_read_only blocks behind a waiting commit and is on after it",
        &[
            Say(B, StopReceiver),
            Write,
            See(HUNG),
            Say(A, ReadOnlyOn),
            See("waits | a 0 closing | b 0+0 apart"),
            Say(B, StartReceiver),
            See("ok | a 1 | b 1+0"),
        ],
    ),
    row(
        "semi-sync off tells a waiting client OK though no slave has the row",
        &[
            Say(B, StopReceiver),
            Write,
            See(HUNG),
            Say(A, SourceOff),
            See("ok | a 1 | b 0+0 apart"),
        ],
    ),
    row(
        "a frozen master is left by its slaves; thawed, it goes on where it stood",
        &[
            Say(B, StopApplier),
            Write,
            See("ok | a 1 | b 0+1"),
            Freeze(A),
            See("ok | a ~ | b 0+1 apart"),
            Thaw(A),
            Say(B, StartApplier),
            See("ok | a 1 | b 1+0"),
        ],
    ),
    row(
        "what a slave received survives its SIGKILL",
        &[
            Say(B, StopApplier),
            Write,
            See("ok | a 1 | b 0+1"),
            Kill(A),
            Kill(B),
            Boot(B),
            See("ok | a - | b 0+1 apart"),
            Say(B, StartApplier),
            See("ok | a - | b 1+0 apart"),
        ],
    ),
    row(
        "what a slave received survives its SIGTERM",
        &[
            Say(B, StopApplier),
            Write,
            See("ok | a 1 | b 0+1"),
            Kill(A),
            Terminate(B),
            Boot(B),
            See("ok | a - | b 0+1 apart"),
        ],
    ),
    with(
        Setting::RelayLogRecovery,
        row(
            "relay_log_recovery throws away what a slave received and acknowledged",
            &[
                Say(B, StopApplier),
                Write,
                See("ok | a 1 | b 0+1"),
                Kill(A),
                Kill(B),
                Boot(B),
                See("ok | a - | b 0+0 apart"),
                Say(B, StartApplier),
                See("ok | a - | b 0+0 apart"),
            ],
        ),
    ),
    row(
        "a slave that restarts receives and acknowledges nothing by itself",
        &[Kill(B), Write, See("waits | a 0 | b -"), Boot(B), See(HUNG)],
    ),
    with(
        Setting::ReplicaStartsAtBoot,
        row(
            "without skip_replica_start a slave that restarts acknowledges what hung",
            &[
                Kill(B),
                Write,
                See("waits | a 0 | b -"),
                Boot(B),
                See("ok | a 1 | b 1+0"),
            ],
        ),
    ),
    row(
        "STOP IO_THREAD keeps what was received",
        &[
            Say(B, StopApplier),
            Write,
            See("ok | a 1 | b 0+1"),
            Say(B, StopReceiver),
            See("ok | a 1 | b 0+1 apart"),
            Say(B, StartApplier),
            See("ok | a 1 | b 1+0 apart"),
        ],
    ),
    row(
        "CHANGE REPLICATION SOURCE with both threads stopped throws away what was received",
        &[
            Say(B, StopApplier),
            Write,
            See("ok | a 1 | b 0+1"),
            Say(B, StopReceiver),
            Say(B, ChangeSource { source: A }),
            See("ok | a 1 | b 0+0 apart"),
            Say(B, StartApplier),
            See("ok | a 1 | b 0+0 apart"),
        ],
    ),
    row(
        "RESET REPLICA ALL throws away what was received",
        &[
            Say(B, StopApplier),
            Write,
            See("ok | a 1 | b 0+1"),
            Say(B, StopReceiver),
            Say(B, ResetReplica),
            See("ok | a 1 | b 0+0 apart"),
        ],
    ),
    row(
        "semi-sync of a slave counts from its receiver's next start, and an acknowledgement counts for all before it",
        &[
            Say(B, StopReceiver),
            Say(B, ReplicaEnabled(false)),
            Say(B, StartReceiver),
            Write,
            See("waits | a 0 | b 1+0"),
            Say(B, ReplicaEnabled(true)),
            See("waits | a 0 | b 1+0"),
            Say(B, StopReceiver),
            Say(B, StartReceiver),
            See("waits | a 0 | b 1+0"),
            Write,
            See("ok, ok | a 2 | b 2+0"),
        ],
    ),
    of_three(
        1,
        row(
            "a slave that needs purged logs gives up",
            &[
                Say(B, StopReceiver),
                Write,
                See("ok | a 1 | b 0+0 apart | c 1+0"),
                Purge(A),
                Say(B, StartReceiver),
                See("ok | a 1 | b 0+0 stopped | c 1+0"),
            ],
        ),
    ),
];
