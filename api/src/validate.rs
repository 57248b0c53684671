//! The checks of the schema once more, in Rust: an object that slipped past the API server (an older schema, a
//! check it cannot express) is refused whole, instead of being applied by halves. Pure; every message names the
//! field and the mend.

use k8s_openapi::api::core::v1::ResourceRequirements;

use crate::resource::{
    AgentSpec, ApiAudit, ApiCustomRole, ApiLimits, ApiPrivilege, ApiRole, ApiServiceAccount, ApiSpec,
    DistributedDatabase, DistributedDatabaseSpec, FailoverSpec, MysqlSpec, StorageSpec,
};
use crate::{mycnf, quantity};

/// The longest name a database may have: names of pods and Services are made from it.
const LONGEST_NAME: usize = 40;
/// Ends of names that would make the database's own Service collide with another database's.
const TAKEN_ENDS: [&str; 3] = ["-master", "-slaves", "-nodes"];
/// Databases that no role reaches.
const SYSTEM: [&str; 5] = ["mysql", "sys", "ddb", "information_schema", "performance_schema"];
/// Roles that there always are.
const BUILT_IN: [&str; 3] = ["reader", "writer", "admin"];

impl DistributedDatabase {
    /// Everything that is wrong with the object, its name included; empty if it can be applied.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = name_problems(self.metadata.name.as_deref().unwrap_or_default());
        problems.extend(self.spec.problems());
        problems
    }
}

impl DistributedDatabaseSpec {
    /// Everything that is wrong with the spec, each in a sentence; empty if it can be applied.
    pub fn problems(&self) -> Vec<String> {
        let Self {
            nodes,
            mysql:
                MysqlSpec {
                    image,
                    config,
                    resources,
                },
            storage:
                StorageSpec {
                    size,
                    storage_class_name: _,
                    when_deleted: _,
                },
            failover:
                FailoverSpec {
                    automatic: _,
                    detect_after_milliseconds,
                    switchover_deadline_milliseconds,
                    errant_policy: _,
                },
            // An enum and a boolean: the schema leaves nothing to check.
            durability: _,
            paused: _,
            agent: AgentSpec {
                resources: agent_resources,
            },
            api,
            // What is only handed on to the pods is checked by the API server when they are made.
            affinity: _,
            node_selector: _,
            tolerations: _,
            topology_spread_constraints: _,
            priority_class_name: _,
            image_pull_secrets: _,
        } = self;
        let mut problems = Vec::new();
        let mut check = |holds: bool, message: &str| {
            if !holds {
                problems.push(message.to_owned());
            }
        };
        check(
            (1..=9).contains(nodes),
            "spec.nodes: must be from 1 to 9; 3 survives the loss of one node, 5 of two",
        );
        check(
            image.as_ref().is_none_or(|image| !image.trim().is_empty()),
            "spec.mysql.image: must name an image with mysqld in it, or be left out for the operator's default",
        );
        check(
            quantity::amount(size).is_some_and(|bytes| bytes > 0),
            "spec.storage.size: must be a size of more than nothing, such as 10Gi",
        );
        check(
            (300..=60_000).contains(detect_after_milliseconds),
            "spec.failover.detectAfterMilliseconds: must be from 300 to 60000",
        );
        check(
            (500..=60_000).contains(switchover_deadline_milliseconds),
            "spec.failover.switchoverDeadlineMilliseconds: must be from 500 to 60000",
        );
        check_api(api, &mut check);
        problems.extend(mycnf::refused(config));
        problems.extend(resource_problems("spec.mysql.resources", resources.as_ref()));
        problems.extend(resource_problems(
            "spec.agent.resources",
            agent_resources.as_ref(),
        ));
        problems
    }
}

fn check_api(api: &ApiSpec, check: &mut impl FnMut(bool, &str)) {
    let ApiSpec {
        enabled: _,
        limits:
            ApiLimits {
                body_mebibytes,
                rows,
                statement_seconds,
                requests,
                queue,
                token_requests_per_second,
                token_requests,
            },
        audit:
            ApiAudit {
                reads: _,
                values: _,
                slow_milliseconds,
            },
        cors_origins,
        certificate_secret,
        roles,
        service_accounts,
    } = api;
    check(
        (1..=64).contains(body_mebibytes),
        "spec.api.limits.bodyMebibytes: must be from 1 to 64; larger amounts are imported as a stream",
    );
    check(
        (1..=100_000).contains(rows),
        "spec.api.limits.rows: must be from 1 to 100000",
    );
    check(
        (1..=3600).contains(statement_seconds),
        "spec.api.limits.statementSeconds: must be from 1 to 3600",
    );
    check(
        (1..=1024).contains(requests),
        "spec.api.limits.requests: must be from 1 to 1024",
    );
    check(
        (0..=65_536).contains(queue),
        "spec.api.limits.queue: must be from 0 to 65536",
    );
    check(
        (0..=1_000_000).contains(token_requests_per_second),
        "spec.api.limits.tokenRequestsPerSecond: must be from 0, which is any number, to 1000000",
    );
    check(
        (1..=65_536).contains(token_requests),
        "spec.api.limits.tokenRequests: must be from 1 to 65536",
    );
    check(
        (0..=3_600_000).contains(slow_milliseconds),
        "spec.api.audit.slowMilliseconds: must be from 0, which is nothing, to 3600000",
    );
    check(
        cors_origins.iter().all(|origin| is_origin(origin)),
        "spec.api.corsOrigins: each must be a scheme with a host, such as https://console.example.com, without a \
         path and without *",
    );
    check(
        certificate_secret
            .as_ref()
            .is_none_or(|name| is_secret_name(name)),
        "spec.api.certificateSecret: must be the name of a Secret",
    );
    check_roles(roles, service_accounts, check);
    check(
        service_accounts.iter().all(|account| !account.name.is_empty()),
        "spec.api.serviceAccounts.name: must name a service account",
    );
}

fn check_roles(
    roles: &[ApiCustomRole],
    service_accounts: &[ApiServiceAccount],
    check: &mut impl FnMut(bool, &str),
) {
    check(
        roles.iter().all(|role| is_role_name(&role.name)),
        "spec.api.roles.name: must be up to 20 small letters, digits and '-', begin with a letter, and not be reader, \
         writer or admin",
    );
    let names: std::collections::BTreeSet<&str> = roles.iter().map(|role| role.name.as_str()).collect();
    check(names.len() == roles.len(), "spec.api.roles: each name once");
    check(
        roles.iter().all(|role| {
            role.privileges.as_ref().is_none_or(|all| !all.is_empty())
                && role.databases.as_ref().is_none_or(|all| !all.is_empty())
        }),
        "spec.api.roles: `databases` and `privileges` are left out or not empty",
    );
    check(
        roles
            .iter()
            .flat_map(|role| &role.databases)
            .flatten()
            .all(|database| {
                !database.is_empty() && !SYSTEM.iter().any(|system| system.eq_ignore_ascii_case(database))
            }),
        "spec.api.roles.databases: each must be the name of a database that is not the system's",
    );
    let has_only = |role: &ApiCustomRole, may: fn(ApiPrivilege) -> bool| {
        role.privileges.iter().flatten().all(|privilege| may(*privilege))
    };
    check(
        roles
            .iter()
            .all(|role| role.like != ApiRole::Reader || has_only(role, |one| one == ApiPrivilege::Select)),
        "spec.api.roles: a role like reader can have the privilege SELECT only",
    );
    check(
        roles
            .iter()
            .all(|role| role.like == ApiRole::Admin || has_only(role, |one| one != ApiPrivilege::Drop)),
        "spec.api.roles: only a role like admin can have the privilege DROP",
    );
    let is_known = |name: &str| BUILT_IN.contains(&name) || names.contains(name);
    check(
        service_accounts.iter().all(|account| is_known(&account.role)),
        "spec.api.serviceAccounts.role: must be reader, writer, admin, or one of spec.api.roles",
    );
}

fn is_role_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= 20
        && name.bytes().all(letter)
        && !BUILT_IN.contains(&name)
}

fn is_secret_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = name.bytes().next().is_some_and(plain) && name.bytes().next_back().is_some_and(plain);
    ends && name.len() <= 253
        && name
            .bytes()
            .all(|byte| plain(byte) || byte == b'-' || byte == b'.')
}

fn is_origin(text: &str) -> bool {
    let host = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', '*']))
}

fn name_problems(name: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if name.len() > LONGEST_NAME {
        problems.push(format!(
            "metadata.name: at most {LONGEST_NAME} characters, because the names of pods and Services are made from it"
        ));
    }
    let letters = name
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !letters || !name.starts_with(|first: char| first.is_ascii_lowercase()) || name.ends_with('-') {
        problems.push(
            "metadata.name: must be small letters, digits and '-', and begin with a letter, because a Service has this name"
                .to_owned(),
        );
    }
    if let Some(end) = TAKEN_ENDS.iter().find(|end| name.ends_with(*end)) {
        problems.push(format!(
            "metadata.name: must not end in {end}, because the Services of other databases have such names"
        ));
    }
    problems
}

fn resource_problems(field: &str, resources: Option<&ResourceRequirements>) -> Vec<String> {
    let Some(ResourceRequirements {
        claims: _,
        limits,
        requests,
    }) = resources
    else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    for (part, amounts) in [("limits", limits), ("requests", requests)] {
        for (name, value) in amounts.iter().flatten() {
            if !quantity::is_valid(value) {
                problems.push(format!(
                    "{field}.{part}.{name}: `{}` is not a quantity, such as 500m or 2Gi",
                    value.0
                ));
            }
        }
    }
    for (name, request) in requests.iter().flatten() {
        let limit = limits
            .iter()
            .flatten()
            .find(|(limited, _)| *limited == name)
            .map(|(_, limit)| limit);
        let larger = limit.is_some_and(|limit| quantity::exceeds(request, limit));
        if larger {
            problems.push(format!(
                "{field}.requests.{name}: must not be more than {field}.limits.{name}"
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

    use super::*;

    fn database(name: &str, change: impl FnOnce(&mut DistributedDatabaseSpec)) -> DistributedDatabase {
        let mut spec = DistributedDatabaseSpec {
            nodes: 3,
            ..Default::default()
        };
        change(&mut spec);
        DistributedDatabase::new(name, spec)
    }

    fn amounts(memory: &str) -> BTreeMap<String, Quantity> {
        BTreeMap::from([("memory".to_owned(), Quantity(memory.to_owned()))])
    }

    #[test]
    fn a_plain_database_has_no_problems() {
        assert_eq!(database("shop", |_| ()).problems(), Vec::<String>::new());
    }

    #[test]
    fn each_mistake_is_named_with_its_field() {
        type Change = fn(&mut DistributedDatabaseSpec);
        let cases: [(&str, Change, &str); 15] = [
            ("shop", |spec| spec.nodes = 0, "spec.nodes"),
            ("shop", |spec| spec.nodes = 10, "spec.nodes"),
            (
                "shop",
                |spec| spec.storage.size = Quantity("ten".to_owned()),
                "spec.storage.size",
            ),
            (
                "shop",
                |spec| spec.storage.size = Quantity("0".to_owned()),
                "spec.storage.size",
            ),
            (
                "shop",
                |spec| spec.api.certificate_secret = Some("Shop TLS".to_owned()),
                "spec.api.certificateSecret",
            ),
            (
                "shop",
                |spec| spec.mysql.image = Some(" ".to_owned()),
                "spec.mysql.image",
            ),
            (
                "shop",
                |spec| spec.failover.detect_after_milliseconds = 1,
                "spec.failover.detectAfterMilliseconds",
            ),
            (
                "shop",
                |spec| spec.mysql.config = BTreeMap::from([("sync-binlog".to_owned(), "0".to_owned())]),
                "spec.mysql.config.sync-binlog",
            ),
            (
                "shop",
                |spec| {
                    spec.mysql.resources = Some(ResourceRequirements {
                        limits: Some(amounts("1Gi")),
                        requests: Some(amounts("2Gi")),
                        ..Default::default()
                    });
                },
                "spec.mysql.resources.requests.memory",
            ),
            ("shop", |spec| spec.api.limits.rows = 0, "spec.api.limits.rows"),
            (
                "shop",
                |spec| spec.api.cors_origins = vec!["https://*.example.com".to_owned()],
                "spec.api.corsOrigins",
            ),
            (
                "shop",
                |spec| spec.api.limits.token_requests = 0,
                "spec.api.limits.tokenRequests",
            ),
            ("shop-master", |_| (), "metadata.name"),
            ("1shop", |_| (), "metadata.name"),
            (
                "a-name-that-is-much-too-long-for-a-database",
                |_| (),
                "metadata.name",
            ),
        ];
        for (name, change, field) in cases {
            let problems = database(name, change).problems();
            assert_eq!(problems.len(), 1, "{name} {field}: {problems:?}");
            assert!(problems[0].starts_with(field), "{problems:?}");
        }
    }
}
