//! Which other node leads, as this node knows it.

use api::wire::Picture;
use failover::{NodeId, NodeReport, Role, Server, Term};

/// Name and address of the master that `node` is to lead others to: the one that it follows, or the one that the
/// operator names where that is of a later term, as it is for a node that follows nobody. `None` where nobody else is
/// known to lead.
#[must_use]
pub fn elsewhere<'a>(
    node: &NodeId,
    report: &'a NodeReport,
    picture: &'a Picture,
) -> Option<(&'a NodeId, &'a str)> {
    let followed = match &report.server {
        Server::Up(state) => match &state.role {
            Role::Slave {
                source,
                address,
                term,
                ..
            } => Some((*term, (source, address.as_str()))),
            Role::Master { .. } => return None,
            Role::Idle => None,
        },
        _ => None,
    };
    let known = followed.as_ref().map_or(Term(0), |(term, _)| *term);
    let named = picture.master.as_ref().filter(|name| *name != node);
    let pictured = named
        .filter(|_| picture.term > known)
        .and_then(|name| picture.nodes.iter().find(|node| node.name == *name));
    pictured
        .and_then(|node| Some((&node.name, node.address.as_deref()?)))
        .or(followed.map(|(_, way)| way))
}

#[cfg(test)]
mod tests {
    use api::{resource::NodeRole, wire::PicturedNode};
    use failover::{Applier, GtidSet, Receiver, ServerState};

    use super::*;

    fn report(role: Role) -> NodeReport {
        let state = ServerState {
            uuid: String::new(),
            version: String::new(),
            role,
            executed: GtidSet::new(),
            received: GtidSet::new(),
            purged: GtidSet::new(),
            open: false,
            stuck: None,
        };
        NodeReport::new("volume".into(), Server::Up(Box::new(state)))
    }

    fn follows(source: &str, term: u64) -> NodeReport {
        report(Role::Slave {
            term: Term(term),
            source: source.into(),
            address: format!("{source}'s"),
            receiver: Receiver::Receiving { age_ms: 1 },
            applier: Applier::Running,
            caught_up: true,
        })
    }

    fn pictured(master: &str, term: u64) -> Picture {
        let node = |name: &str| PicturedNode {
            name: name.into(),
            address: Some(format!("{name}'s")),
            role: NodeRole::Slave,
            ready: true,
            behind: None,
            message: String::new(),
        };
        Picture {
            term: Term(term),
            master: Some(master.into()),
            nodes: ["a", "b", "c"].map(node).into(),
            ..Picture::default()
        }
    }

    fn elsewhere_of_c(report: &NodeReport, picture: &Picture) -> Option<(String, String)> {
        let way = elsewhere(&"c".into(), report, picture);
        way.map(|(name, address)| (name.to_string(), address.to_owned()))
    }

    #[test]
    fn the_later_of_what_is_followed_and_what_is_told_counts() {
        let to = |name: &str| Some((name.to_owned(), format!("{name}'s")));
        assert_eq!(elsewhere_of_c(&follows("a", 3), &pictured("b", 2)), to("a"));
        assert_eq!(elsewhere_of_c(&follows("a", 3), &pictured("b", 4)), to("b"));
    }

    #[test]
    fn a_relieved_master_and_a_node_without_a_server_go_by_what_they_are_told() {
        let to = |name: &str| Some((name.to_owned(), format!("{name}'s")));
        assert_eq!(elsewhere_of_c(&report(Role::Idle), &pictured("b", 4)), to("b"));
        let down = NodeReport::new("volume".into(), Server::Starting);
        assert_eq!(elsewhere_of_c(&down, &pictured("b", 4)), to("b"));
        assert_eq!(elsewhere_of_c(&down, &Picture::default()), None);
    }

    #[test]
    fn a_node_never_leads_to_itself() {
        assert_eq!(elsewhere_of_c(&report(Role::Idle), &pictured("c", 4)), None);
    }
}
