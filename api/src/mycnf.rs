//! The server configuration of a node: what safety rests on, what a small node needs, and the user's own settings
//! between the two.
//!
//! [`my_cnf`] is deterministic, so that an unchanged resource changes no file. The settings that safety rests on
//! come last in the file, where they win; [`refused`] names the user's settings that would contradict them, so
//! that nobody is overruled in silence. Nothing secret is ever written here.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::names::{MYSQL_DATA_DIR, MYSQL_SOCKET, TLS_DIR};
use crate::wire::MYSQL_PORT;

/// One section of settings that the user cannot change, with the reason.
struct Section {
    why: &'static str,
    settings: &'static [(&'static str, &'static str)],
}

/// What safety rests on. A `loose_` name is one of a plugin that `--initialize` does not load.
const SAFETY: [Section; 11] = [
    Section {
        why: "Every transaction has a name, and a slave's log is a copy of the master's, its own former ones included",
        settings: &[
            ("gtid_mode", "ON"),
            ("enforce_gtid_consistency", "ON"),
            ("log_bin", "binlog"),
            ("log_replica_updates", "ON"),
            ("replicate_same_server_id", "ON"),
            ("binlog_format", "ROW"),
        ],
    },
    Section {
        why: "Change feeds tell whole rows by the names of their columns, as both were",
        settings: &[
            ("binlog_row_metadata", "FULL"),
            ("binlog_row_image", "FULL"),
            ("binlog_row_value_options", "''"),
        ],
    },
    Section {
        why: "An acknowledgement means two disks, not two memories",
        settings: &[
            ("sync_binlog", "1"),
            ("innodb_flush_log_at_trx_commit", "1"),
            ("innodb_doublewrite", "ON"),
            ("sync_relay_log", "1"),
        ],
    },
    Section {
        why: "A restarted slave keeps what it received: acknowledged writes may be only there",
        settings: &[
            ("relay_log", "relay"),
            ("relay_log_recovery", "OFF"),
            ("relay_log_purge", "ON"),
        ],
    },
    Section {
        why: "Every server boots fenced; the node agent opens it once its role is settled",
        settings: &[
            ("read_only", "ON"),
            ("super_read_only", "ON"),
            ("offline_mode", "ON"),
            ("skip_replica_start", "ON"),
            ("event_scheduler", "ON"),
        ],
    },
    Section {
        why: "Lossless: a commit waits for slaves, without end, before anybody sees it",
        settings: &[
            (
                "plugin_load_add",
                "semisync_source.so;semisync_replica.so;mysql_clone.so",
            ),
            ("loose_rpl_semi_sync_source_enabled", "OFF"),
            ("loose_rpl_semi_sync_replica_enabled", "OFF"),
            ("loose_rpl_semi_sync_source_timeout", "4294967295"),
            ("loose_rpl_semi_sync_source_wait_point", "AFTER_SYNC"),
            ("loose_rpl_semi_sync_source_wait_no_replica", "ON"),
        ],
    },
    Section {
        why: "A donor lets go of a copy that broke off within a minute, and can be copied anew",
        settings: &[("loose_clone_donor_timeout_after_network_failure", "1")],
    },
    Section {
        why: "A slave commits in the master's order and notices a silent master within a second",
        settings: &[
            ("replica_preserve_commit_order", "ON"),
            ("replica_net_timeout", "1"),
        ],
    },
    Section {
        why: "root@localhost has no password: only the socket inside the pod is 'localhost'",
        settings: &[
            ("skip_name_resolve", "ON"),
            ("partial_revokes", "ON"),
            ("mysqlx", "OFF"),
            ("local_infile", "OFF"),
            ("secure_file_priv", "NULL"),
        ],
    },
    Section {
        why: "The agent watches replication and CLONE through it",
        settings: &[("performance_schema", "ON")],
    },
    Section {
        why: "The agent, not the server, decides about memory and shutdown",
        settings: &[("innodb_dedicated_server", "OFF"), ("innodb_fast_shutdown", "1")],
    },
];

/// Further settings that are ours because the pod is built around them.
const PLACES: [&str; 31] = [
    "datadir",
    // Only what is on the volume outlives a pod.
    "innodb_data_home_dir",
    "innodb_directories",
    "innodb_log_group_home_dir",
    "innodb_undo_directory",
    "log_bin_index",
    "chroot",
    "daemonize",
    "server_id_bits",
    // Where the supervisor finds the doublewrite files of data that was copied over.
    "innodb_doublewrite_dir",
    "socket",
    "port",
    "bind_address",
    "pid_file",
    "log_error",
    "tmpdir",
    "user",
    "basedir",
    "plugin_dir",
    "server_id",
    "server_uuid",
    "report_host",
    // How the agent tells one start of mysqld from another.
    "report_user",
    "relay_log_index",
    "skip_networking",
    "skip_log_bin",
    "skip_grant_tables",
    "init_file",
    "ssl_ca",
    "ssl_cert",
    "ssl_key",
];

/// Families of settings of replication, which the operator runs. `replicate_` and the filters of the binary log would keep
/// acknowledged writes from slaves.
const REPLICATION_FAMILIES: [&str; 8] = [
    "rpl_semi_sync_",
    "clone_ssl_",
    "group_replication",
    "replicate_",
    "binlog_do_db",
    "binlog_ignore_db",
    "plugin_load",
    "early_plugin",
];

/// Families of settings that the pod is built around.
const POD_FAMILIES: [&str; 1] = ["admin_"];

/// Former names of settings that safety rests on.
const ALIASES: [&str; 6] = [
    "log_slave_updates",
    "skip_slave_start",
    "slave_net_timeout",
    "slave_preserve_commit_order",
    "slave_exec_mode",
    "slave_skip_errors",
];

/// What keeps MySQL's default, which no file needs to say: every other value lets a server go on without its log, a slave
/// differ from its master, or a crash take what was committed; or the agent's own statements rely on it.
const LEFT_ALONE: [&str; 11] = [
    "binlog_error_action",
    "binlog_order_commits",
    "replica_exec_mode",
    "replica_skip_errors",
    "innodb_flush_method",
    "innodb_force_recovery",
    "innodb_read_only",
    "tc_heuristic_recover",
    "autocommit",
    "completion_type",
    "transaction_read_only",
];

/// The default of `clone_max_data_bandwidth`. A copy takes all that disk and network give otherwise, while its donor serves
/// readers and acknowledges writes. This leaves most of a fast disk, or of a network of 10 Gbit/s, to them, and copies a
/// terabyte in an hour and a half, during which the database can lose one node less.
pub const COPY_MIB_PER_SECOND: u32 = 200;

/// The default of `max_connections`.
const CONNECTIONS: u64 = 300;
/// So many connections no single account can take: a slave that comes back needs one, or nothing is acknowledged any more,
/// and the data API's roles have 32 each. Of fewer than 300 it is a third.
const LEFT_TO_OTHERS: u64 = 100;
/// Where there are fewer, none are set aside: the agent's own account is bounded, too.
const FEW: u64 = 100;

/// Defaults that suit a node of a few hundred megabytes; the user may change each.
const DEFAULTS: [(&str, &str); 26] = [
    ("binlog_expire_logs_seconds", "604800"),
    ("max_binlog_size", "256M"),
    ("binlog_cache_size", "64K"),
    // Two events a transaction instead of five: a slave brings each to its disk before it acknowledges.
    ("binlog_transaction_compression", "ON"),
    ("binlog_transaction_compression_level_zstd", "1"),
    ("binlog_transaction_dependency_history_size", "25000"),
    ("replica_pending_jobs_size_max", "128M"),
    ("replica_compressed_protocol", "OFF"),
    ("clone_enable_compression", "OFF"),
    ("character_set_server", "utf8mb4"),
    // Slaves get rows and not statements, so that no function or trigger can make them differ.
    ("log_bin_trust_function_creators", "ON"),
    ("table_open_cache", "1000"),
    ("innodb_log_buffer_size", "8M"),
    ("innodb_redo_log_capacity", "256M"),
    ("performance_schema_digests_size", "0"),
    ("performance_schema_error_size", "0"),
    ("performance_schema_max_statement_classes", "0"),
    // 50 MiB of room for what no instrument records.
    ("performance_schema_events_statements_history_size", "0"),
    ("performance_schema_events_statements_history_long_size", "0"),
    ("performance_schema_events_stages_history_size", "0"),
    ("performance_schema_events_stages_history_long_size", "0"),
    ("performance_schema_events_transactions_history_size", "0"),
    ("performance_schema_events_transactions_history_long_size", "0"),
    ("performance_schema_events_waits_history_size", "0"),
    ("performance_schema_events_waits_history_long_size", "0"),
    ("log_error_verbosity", "2"),
];

const MIB: u64 = 1 << 20;

/// Generates the whole file. `user` holds the settings of `spec.mysql.config`; those that [`refused`] names are
/// left out. `memory_limit_bytes` is the memory limit of the MySQL container.
pub fn my_cnf(user: &BTreeMap<String, String>, memory_limit_bytes: Option<u64>) -> String {
    let users: BTreeMap<String, &String> = user
        .iter()
        .filter(|(name, value)| complaint(name, value).is_none())
        .map(|(name, value)| (normal(name), value))
        .collect();
    let mut text = String::from(
        "# Generated from the DistributedDatabase; changes made here are lost. Settings of your own belong into\n\
         # spec.mysql.config.\n[mysqld]\n\n# Defaults for a small node\n",
    );
    let buffer_pool = format!("{}M", buffer_pool_mib(memory_limit_bytes));
    let copies = COPY_MIB_PER_SECOND.to_string();
    let workers = applier_workers(memory_limit_bytes).to_string();
    let connections = CONNECTIONS.to_string();
    let of_one_account = connections_of_one_account(users.get("max_connections").map(|text| text.as_str()));
    let of_one_account = of_one_account.to_string();
    for (name, value) in DEFAULTS.iter().copied().chain([
        ("max_connections", connections.as_str()),
        ("max_user_connections", of_one_account.as_str()),
        ("replica_parallel_workers", workers.as_str()),
        ("clone_max_data_bandwidth", copies.as_str()),
        ("innodb_buffer_pool_size", buffer_pool.as_str()),
    ]) {
        if !users.contains_key(name) {
            // Older and newer servers do not know every one of them; none is worth a refusal to start.
            setting(&mut text, &format!("loose_{name}"), value);
        }
    }
    // Consumers and instruments cost memory and time, and only replication's own tables are read.
    setting(&mut text, "performance_schema_instrument", "'%=OFF'");
    setting(&mut text, "performance_schema_instrument", "'thread/%=ON'");
    setting(
        &mut text,
        "performance_schema_instrument",
        "'stage/innodb/clone%=ON'",
    );
    if !users.is_empty() {
        text.push_str("\n# From spec.mysql.config\n");
        for (name, value) in &users {
            // `--initialize` loads no plugins and would not know it.
            let loose = if name.starts_with("clone_") { "loose_" } else { "" };
            setting(&mut text, &format!("{loose}{name}"), value);
        }
    }
    text.push_str("\n# Where things are in the pod\n");
    for (name, value) in places() {
        setting(&mut text, name, &value);
    }
    for section in &SAFETY {
        let _ = writeln!(text, "\n# {}", section.why);
        for (name, value) in section.settings {
            setting(&mut text, name, value);
        }
    }
    text
}

/// One message for each of the user's settings that cannot be had, in the order of their names.
pub fn refused(user: &BTreeMap<String, String>) -> Vec<String> {
    user.iter()
        .filter_map(|(name, value)| complaint(name, value))
        .collect()
}

/// The names that [`refused`] refuses, as a regular expression over a normal name (small letters, underscores),
/// for the check in the resource's schema. Both are made from the same lists.
pub fn reserved_pattern() -> String {
    let settings = SAFETY
        .iter()
        .flat_map(|section| section.settings)
        .map(|(name, _)| *name);
    let names: Vec<&str> = settings
        .map(|name| name.strip_prefix("loose_").unwrap_or(name))
        .chain(PLACES)
        .chain(ALIASES)
        .chain(LEFT_ALONE)
        .collect();
    let families: Vec<&str> = REPLICATION_FAMILIES.into_iter().chain(POD_FAMILIES).collect();
    format!(
        "^(loose_|maximum_|enable_|disable_)*(skip_)?(({names})$|({families}))",
        names = names.join("|"),
        families = families.join("|")
    )
}

fn places() -> Vec<(&'static str, String)> {
    let tls = |file: &str| format!("{TLS_DIR}/{file}");
    vec![
        ("datadir", MYSQL_DATA_DIR.to_owned()),
        ("socket", MYSQL_SOCKET.to_owned()),
        ("pid_file", "/run/ddb/mysqld.pid".to_owned()),
        ("port", MYSQL_PORT.to_string()),
        ("bind_address", "0.0.0.0".to_owned()),
        ("tmpdir", "/tmp".to_owned()),
        ("ssl_ca", tls("ca.crt")),
        ("ssl_cert", tls("tls.crt")),
        ("ssl_key", tls("tls.key")),
        ("loose_clone_ssl_ca", tls("ca.crt")),
        ("loose_clone_ssl_cert", tls("tls.crt")),
        ("loose_clone_ssl_key", tls("tls.key")),
    ]
}

fn setting(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "{name}={value}");
}

/// How many transactions a slave executes at once. While all workers are busy, MySQL's coordinator spins
/// (`sched_yield`) until one is free, on the very processor that they need; and the more of them commit together, the
/// fewer times the disk is waited for. With 32 instead of 4, a backlog of independent transactions is executed in half the
/// time on processors that are short, and in two thirds on idle ones. Each takes 9 MiB while the applier runs, so that
/// a limit of memory has one for every 128 MiB of it, four at least.
fn applier_workers(memory_limit_bytes: Option<u64>) -> u64 {
    memory_limit_bytes.map_or(32, |bytes| (bytes / MIB / 128).clamp(4, 32))
}

/// How many connections one account may have, where the user says how many there are; 0 for any number.
fn connections_of_one_account(all: Option<&str>) -> u64 {
    let all = all.map_or(Some(CONNECTIONS), |text| text.trim().parse().ok());
    all.filter(|all| *all >= FEW)
        .map_or(0, |all| all - LEFT_TO_OTHERS.min(all / 3))
}

/// Half of the limit goes to the buffer pool once the server's own needs are set aside.
fn buffer_pool_mib(memory_limit_bytes: Option<u64>) -> u64 {
    let Some(limit) = memory_limit_bytes.map(|bytes| bytes / MIB) else {
        return 128;
    };
    match limit {
        0..=512 => 64,
        513..=768 => 128,
        _ => limit / 2,
    }
}

fn normal(name: &str) -> String {
    name.trim().to_ascii_lowercase().replace('-', "_")
}

/// The name without the prefixes that MySQL strips itself.
fn bare(name: &str) -> String {
    let mut name = normal(name);
    for prefix in ["loose_", "maximum_", "enable_", "disable_"] {
        if let Some(rest) = name.strip_prefix(prefix) {
            name = rest.to_owned();
        }
    }
    name
}

fn complaint(name: &str, value: &str) -> Option<String> {
    let plain = !name.trim().is_empty()
        && normal(name)
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.');
    if !plain {
        return Some(format!(
            "spec.mysql.config: `{}` is not the name of a setting",
            name.escape_debug()
        ));
    }
    if value.contains(['\n', '\r', '\0']) {
        return Some(format!("spec.mysql.config.{name}: a value is one line"));
    }
    let bare = bare(name);
    let unskipped = bare.strip_prefix("skip_").unwrap_or(&bare);
    let ours = |wanted: &str| {
        let wanted = wanted.strip_prefix("loose_").unwrap_or(wanted);
        wanted == bare || wanted == unskipped
    };
    let section = SAFETY
        .iter()
        .find(|section| section.settings.iter().any(|(name, _)| ours(name)));
    let is_one = |names: &[&str]| names.iter().any(|name| ours(name));
    let is_of = |families: &[&str]| families.iter().any(|family| bare.starts_with(family));
    let why = if let Some(section) = section {
        lower(section.why)
    } else if is_of(&REPLICATION_FAMILIES) || ALIASES.contains(&bare.as_str()) {
        "the operator runs replication".to_owned()
    } else if is_one(&LEFT_ALONE) {
        "safety rests on MySQL's default".to_owned()
    } else if is_one(&PLACES) || is_of(&POD_FAMILIES) {
        "the pod is built around it".to_owned()
    } else {
        return None;
    };
    Some(format!(
        "spec.mysql.config.{name} cannot be set: {why}. Remove it"
    ))
}

fn lower(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(settings: &[(&str, &str)]) -> BTreeMap<String, String> {
        settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn safety_comes_last_and_cannot_be_overruled_in_any_spelling() {
        for name in [
            "sync_binlog",
            "SYNC-BINLOG",
            "loose_sync-binlog",
            "loose-rpl-semi-sync-source-timeout",
            "rpl_semi_sync_source_trace_level",
            "skip-log-bin",
            "log-slave-updates",
            "skip_slave_start",
            "super-read-only",
            "replicate_do_db",
            "plugin-load",
            "datadir",
            "server-id",
            "skip-networking",
            "admin_address",
            "binlog-ignore-db",
            "slave_skip_errors",
            "disable-autocommit",
            "innodb_log_group_home_dir",
        ] {
            let settings = user(&[(name, "0")]);
            assert_eq!(refused(&settings).len(), 1, "{name}");
            assert!(
                !my_cnf(&settings, None).contains("From spec.mysql.config"),
                "{name}"
            );
        }
    }

    #[test]
    fn ordinary_settings_take_the_place_of_our_defaults() {
        let settings = user(&[("Max-Connections", "7"), ("innodb_buffer_pool_size", "1G")]);
        assert!(refused(&settings).is_empty());
        let text = my_cnf(&settings, Some(4 << 30));
        assert!(text.contains("\nmax_connections=7\n") && !text.contains("loose_max_connections"));
        assert!(text.contains("\ninnodb_buffer_pool_size=1G\n") && !text.contains("2048M"));
    }

    #[test]
    fn a_copy_is_bounded_and_the_users_own_bound_counts() {
        let bound = |text: &str| -> Vec<String> {
            let lines = text
                .lines()
                .filter(|line| line.contains("clone_max_data_bandwidth"));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(
            bound(&my_cnf(&BTreeMap::new(), None)),
            ["loose_clone_max_data_bandwidth=200"]
        );
        let settings = user(&[("clone-max-data-bandwidth", "0")]);
        assert!(refused(&settings).is_empty());
        assert_eq!(
            bound(&my_cnf(&settings, None)),
            ["loose_clone_max_data_bandwidth=0"]
        );
    }

    #[test]
    fn nothing_can_be_smuggled_in_through_a_name_or_a_value() {
        for settings in [
            user(&[("x\nsync_binlog", "0")]),
            user(&[("x", "1\nsync_binlog=0")]),
            user(&[("", "1")]),
        ] {
            assert_eq!(refused(&settings).len(), 1);
            assert!(!my_cnf(&settings, None).contains("sync_binlog=0"));
        }
    }

    #[test]
    fn one_account_cannot_take_all_connections() {
        let limits =
            [None, Some("1000"), Some("100"), Some("99"), Some("1K")].map(connections_of_one_account);
        assert_eq!(limits, [200, 900, 67, 0, 0]);
        let text = my_cnf(&user(&[("Max-Connections", "500")]), None);
        assert!(text.contains("\nloose_max_user_connections=400\n"));
    }

    #[test]
    fn workers_follow_the_memory_limit() {
        let workers = [None, Some(512 << 20), Some(1 << 30), Some(64 << 30)].map(applier_workers);
        assert_eq!(workers, [32, 4, 8, 32]);
    }

    #[test]
    fn the_buffer_pool_follows_the_memory_limit() {
        assert!(my_cnf(&BTreeMap::new(), None).contains("innodb_buffer_pool_size=128M"));
        assert!(my_cnf(&BTreeMap::new(), Some(512 << 20)).contains("innodb_buffer_pool_size=64M"));
        assert!(my_cnf(&BTreeMap::new(), Some(4 << 30)).contains("innodb_buffer_pool_size=2048M"));
    }

    #[test]
    fn the_file_is_the_same_for_the_same_resource() {
        let settings = user(&[("max_connections", "7"), ("wait_timeout", "60")]);
        assert_eq!(my_cnf(&settings, Some(1 << 30)), my_cnf(&settings, Some(1 << 30)));
    }
}
