//! The Services: the master's and the one over every ready node (whose addresses the failover engine writes), the
//! slaves', and the headless one that gives each node its DNS name.

use api::{names, wire};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::reconcile::database::Database;

/// Builds all four.
pub fn build(database: &Database) -> Vec<Service> {
    vec![
        master(database),
        slaves(database),
        every(database),
        nodes(database),
    ]
}

/// No selector: the operator swaps its one address itself, which clients see within milliseconds, while a moved
/// selector is held back by kube-proxy for up to a second.
fn master(database: &Database) -> Service {
    service(
        database,
        names::master_service(&database.name),
        ServiceSpec {
            ports: Some(vec![mysql()]),
            ..ServiceSpec::default()
        },
    )
}

fn slaves(database: &Database) -> Service {
    let mut selector = database.selector();
    selector.insert(names::LABEL_ROLE.to_owned(), names::ROLE_SLAVE.to_owned());
    service(
        database,
        names::slaves_service(&database.name),
        ServiceSpec {
            selector: Some(selector),
            ports: Some(vec![mysql()]),
            ..ServiceSpec::default()
        },
    )
}

/// No selector either: its change would take the place of the master's in kube-proxy when a master's pod goes.
fn every(database: &Database) -> Service {
    service(
        database,
        database.name.clone(),
        ServiceSpec {
            // Clients use MySQL's own port; every agent passes them through to the master.
            ports: Some(vec![
                to("mysql", wire::MYSQL_PORT, wire::PASSAGE_PORT),
                port("http", wire::PROBE_PORT),
                port("api", wire::API_PORT),
            ]),
            ..ServiceSpec::default()
        },
    )
}

/// Names nodes that are not ready too: a node must be reachable to become ready.
fn nodes(database: &Database) -> Service {
    service(
        database,
        names::nodes_service(&database.name),
        ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(database.selector()),
            ports: Some(vec![
                mysql(),
                port("session", wire::SESSION_PORT),
                port("http", wire::PROBE_PORT),
                port("api", wire::API_PORT),
            ]),
            ..ServiceSpec::default()
        },
    )
}

fn service(database: &Database, name: String, spec: ServiceSpec) -> Service {
    Service {
        metadata: database.owned(name),
        spec: Some(spec),
        status: None,
    }
}

fn mysql() -> ServicePort {
    port("mysql", wire::MYSQL_PORT)
}

fn port(name: &str, port: u16) -> ServicePort {
    to(name, port, port)
}

fn to(name: &str, port: u16, target: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(port),
        // By number: a native sidecar's port names are not known to every version of Kubernetes.
        target_port: Some(IntOrString::Int(i32::from(target))),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::database::example;

    #[test]
    fn the_services_as_built() {
        insta::assert_yaml_snapshot!(build(&example::database(|_| ())));
    }
}
