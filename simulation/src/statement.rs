//! The statements that change a server, each with the effect that was measured. The agents of the model use these and
//! no others, and the conformance test holds each against a real mysqld.

use crate::{bits::Bits, event::Node, machine::Server, world::World};

/// One statement of somebody with every privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statement {
    /// `SET GLOBAL offline_mode = ON`.
    OfflineOn,
    /// `SET GLOBAL offline_mode = OFF`.
    OfflineOff,
    /// `SET GLOBAL super_read_only = ON`: blocks while a commit waits.
    ReadOnlyOn,
    /// `SET GLOBAL read_only = OFF`.
    ReadOnlyOff,
    /// Semi-sync as a source on, for so many acknowledgements.
    SourceOn { acks: u32 },
    /// `SET GLOBAL rpl_semi_sync_source_enabled = OFF`: tells everything that waits OK.
    SourceOff,
    /// `SET GLOBAL rpl_semi_sync_replica_enabled`, which counts from the receiver's next start.
    ReplicaEnabled(bool),
    /// `STOP REPLICA IO_THREAD`.
    StopReceiver,
    /// `START REPLICA IO_THREAD`.
    StartReceiver,
    /// `STOP REPLICA SQL_THREAD`.
    StopApplier,
    /// `START REPLICA SQL_THREAD`.
    StartApplier,
    /// `CHANGE REPLICATION SOURCE` with both threads stopped: purges the relay logs.
    ChangeSource { source: Node },
    /// `RESET REPLICA ALL` with both threads stopped: purges the relay logs.
    ResetReplica,
    /// `KILL` of every connection that waits for an acknowledgement: its thread stays inside.
    KillConnections,
    /// `KILL QUERY` of every connection that waits for an acknowledgement: nothing.
    KillQueries,
}

impl World {
    /// Carries out `statement` on the server of `node`. False when it cannot be carried out: no server answers,
    /// MySQL refuses it, or it blocks and goes on by itself.
    pub fn say(&mut self, node: Node, statement: Statement) -> bool {
        if self.machines[node].awake().is_none() {
            return false;
        }
        match statement {
            Statement::ReadOnlyOn => return self.forbid_writes(node),
            Statement::OfflineOn => self.go_offline(node),
            Statement::SourceOn { acks } => {
                self.switch(node, |it| (it.source_on, it.acks) = (acks > 0, acks));
            }
            Statement::SourceOff => {
                self.switch(node, |it| it.source_on = false);
                self.settle(node);
            }
            Statement::StopReceiver => self.stop_receiver(node),
            Statement::StartReceiver => {
                self.switch(node, |it| (it.receiver, it.receiver_failed) = (true, false));
            }
            Statement::ChangeSource { source } => return self.forget_relay(node, Some(source)),
            Statement::ResetReplica => return self.forget_relay(node, None),
            Statement::OfflineOff => self.switch(node, |it| it.offline = false),
            Statement::ReadOnlyOff => self.switch(node, |it| it.read_only = false),
            Statement::ReplicaEnabled(on) => self.switch(node, |it| it.replica_on = on),
            Statement::StopApplier => self.switch(node, |it| it.applier = false),
            Statement::StartApplier => self.switch(node, |it| (it.applier, it.stuck) = (true, false)),
            Statement::KillConnections => self.switch(node, Server::hang_up),
            Statement::KillQueries => {}
        }
        true
    }

    fn switch(&mut self, node: Node, change: impl FnOnce(&mut Server)) {
        if let Some(server) = &mut self.machines[node].server {
            change(server);
        }
    }

    /// Keeps clients out and drops those that are in; their commits stay inside. Slaves are clients too.
    fn go_offline(&mut self, node: Node) {
        self.switch(node, |it| {
            it.offline = true;
            it.hang_up();
        });
        self.drop_slaves_of(node);
    }

    /// New writes wait from now on; true once no commit is under way, which alone means that it is read-only.
    fn forbid_writes(&mut self, node: Node) -> bool {
        let mut closed = false;
        self.switch(node, |it| {
            closed = it.waiting.is_empty();
            it.closing = !closed;
            it.read_only |= closed;
        });
        closed
    }

    fn forget_relay(&mut self, node: Node, source: Option<Node>) -> bool {
        let machine = &mut self.machines[node];
        if machine.awake().is_none_or(|it| it.receiver || it.applier) {
            return false;
        }
        machine.disk.relay.clear();
        (machine.disk.channel, machine.disk.received) = (source, Bits::default());
        true
    }

    pub(crate) fn stop_receiver(&mut self, node: Node) {
        self.switch(node, |it| {
            (it.receiver, it.connected, it.acknowledges) = (false, false, false);
        });
    }
}

impl Server {
    /// The clients of the commits that wait are gone and hear of no end.
    fn hang_up(&mut self) {
        self.waiting.iter_mut().for_each(|it| it.heard = false);
    }
}
