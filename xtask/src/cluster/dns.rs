//! Cluster DNS: `CoreDNS` beside the control plane, and a check that asks it through its Service address.

use std::{fs::File, net::UdpSocket, thread, time::Duration};

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns};

use super::{
    launch::Daemon,
    plan::{self, CONTROL_ADDRESS, CONTROL_NAMESPACE, DNS_ADDRESS, Folders, Place, namespace_file, text},
    tools::Tools,
};

pub fn daemon(folders: &Folders, tools: &Tools) -> Daemon {
    Daemon::new("coredns", Place::Control, tools.path("coredns"))
        .arguments(["-conf".into(), text(&folders.cluster().join("Corefile"))])
}

/// Short times to live, as a failover test must not measure a cache of ours. There is no way out, so that every other
/// name does not exist: said at once, because a failure would make resolvers ask again.
pub fn config(folders: &Folders) -> String {
    format!(
        "cluster.local in-addr.arpa ip6.arpa {{
    bind {CONTROL_ADDRESS}
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {} local
        ttl 5
    }}
    cache 5
}}
. {{
    bind {CONTROL_ADDRESS}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
",
        text(&folders.admin())
    )
}

/// The Service that pods ask; `CoreDNS` is no pod, so its endpoint is written by hand.
pub fn manifest() -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: kube-dns, namespace: kube-system}}
spec:
  clusterIP: {DNS_ADDRESS}
  ports: [{{name: dns, port: 53, protocol: UDP}}, {{name: dns-tcp, port: 53, protocol: TCP}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: kube-dns-1, namespace: kube-system, labels: {{kubernetes.io/service-name: kube-dns}}}}
addressType: IPv4
ports: [{{name: dns, port: 53, protocol: UDP}}, {{name: dns-tcp, port: 53, protocol: TCP}}]
endpoints: [{{addresses: [{CONTROL_ADDRESS}], conditions: {{ready: true}}}}]
"
    )
}

/// Asks the Service address for the API server's name, from inside the control namespace, and compares the answer.
pub fn check(timeout: Duration) -> Result<()> {
    // A thread of its own: entering a namespace counts for the thread, and this one must not stay there.
    let asked = thread::spawn(move || -> Result<Vec<u8>> {
        let namespace =
            File::open(namespace_file(CONTROL_NAMESPACE)).context("the control namespace is missing")?;
        setns(namespace, CloneFlags::CLONE_NEWNET).context("the control namespace cannot be entered")?;
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(timeout))?;
        socket.send_to(
            &question("kubernetes.default.svc.cluster.local"),
            (DNS_ADDRESS, 53),
        )?;
        let mut buffer = vec![0; 512];
        let length = socket.recv(&mut buffer).context("cluster DNS does not answer")?;
        buffer.truncate(length);
        Ok(buffer)
    });
    let answer = asked
        .join()
        .unwrap_or_else(|_| Err(anyhow::anyhow!("the DNS check broke off")))?;
    ensure!(
        holds_address(&answer, plan::API_SERVICE_ADDRESS),
        "cluster DNS answers, but not with the API server's address"
    );
    Ok(())
}

/// A DNS query for one IPv4 address.
fn question(name: &str) -> Vec<u8> {
    // Number 1, recursion desired, one question.
    let mut packet = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).unwrap_or(63));
        packet.extend(label.bytes());
    }
    // End of the name, type A, class IN.
    packet.extend([0, 0, 1, 0, 1]);
    packet
}

/// Whether the last record of the answer is this address; its four bytes end the packet.
fn holds_address(answer: &[u8], address: &str) -> bool {
    let Ok(address) = address.parse::<std::net::Ipv4Addr>() else {
        return false;
    };
    let count = answer
        .get(6..8)
        .map_or(0, |count| u16::from_be_bytes([count[0], count[1]]));
    count > 0 && answer.ends_with(&address.octets())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_the_form_that_servers_read() {
        assert_eq!(
            question("a.bc"),
            [
                0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1
            ]
        );
    }

    #[test]
    fn an_answer_without_records_holds_no_address() {
        let mut answer = question("a");
        answer.extend([10, 96, 0, 1]);
        assert!(!holds_address(&answer, "10.96.0.1"));
        answer[7] = 1;
        assert!(holds_address(&answer, "10.96.0.1"));
        assert!(!holds_address(&answer, "10.96.0.2"));
        assert!(!holds_address(&[], "10.96.0.1"));
    }
}
