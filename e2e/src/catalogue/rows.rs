//! The rows of the table by number and name. The numbers stay; new rows are added at the end.

/// Every row.
pub const ROWS: &[(u8, &str)] = &[
    (1, "mysqld of the master killed"),
    (2, "killed again at once on the new master"),
    (3, "killed before the first write ever"),
    (4, "pod of the master deleted"),
    (5, "agent of the master killed, mysqld alive"),
    (6, "mysqld of the master stopped for 30 s"),
    (7, "storage of the master hangs"),
    (8, "machine of the master cut off for 60 s"),
    (9, "master cut from one observer only"),
    (10, "a slave cut off, killed, frozen, slow"),
    (11, "operator killed; API server stopped"),
    (12, "operator's leader and master lost together"),
    (13, "operator killed after each step"),
    (14, "master and one of two slaves lost"),
    (15, "everything restarted at once"),
    (16, "long relay backlog, then the master dies"),
    (17, "errant transaction on a slave"),
    (18, "logs that a slave needs are purged"),
    (19, "volume deleted"),
    (20, "both slaves gone"),
    (21, "both slaves back"),
    (22, "switchover under load"),
    (23, "switchover while a statement runs"),
    (24, "machine of the master drained"),
    (25, "scaled 3 to 5 to 3 under load"),
    (26, "configuration, image, resources changed"),
    (27, "operator upgraded"),
    (28, "Secret or ConfigMap missing or wrong"),
    (29, "bad specs"),
    (30, "deletions at bad moments"),
    (31, "certificates and passwords changed"),
    (32, "calls to a node without the right to"),
    (33, "max_connections exhausted"),
    (34, "two operators act at once"),
    (35, "the only holder of a write has not applied it"),
    (36, "acknowledgement lost on an idle master"),
    (37, "failover that breaks off after the fences"),
    (38, "two nodes need repair at the same time"),
    (39, "empty node beside a dying master"),
    (40, "applier stopped by error 1032"),
    (41, "data on which mysqld cannot run"),
];

/// The name of a row.
pub fn name(row: u8) -> &'static str {
    ROWS.iter()
        .find(|(number, _)| *number == row)
        .map_or("?", |(_, name)| name)
}
