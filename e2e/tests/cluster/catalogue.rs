//! Rows of the catalogue of faults that take seconds, hold every time and are not tested elsewhere here;
//! `cargo xtask faults` runs all of them.

use e2e::{catalogue, world::on_cluster};

macro_rules! cases {
    ($($name:ident $key:literal,)*) => {$(
        #[test]
        #[ignore = "needs a cluster: run `cargo xtask test`"]
        fn $name() {
            on_cluster(async |world| {
                let finding = catalogue::case($key)?.play(world).await?;
                eprintln!("    row {}: {}", $key, finding.notes.join("; "));
                Ok(())
            });
        }
    )*};
}

cases![
    when_the_masters_agent_is_killed_it_returns_and_nothing_fails_over "5",
    when_mysqld_of_a_slave_is_killed_writes_go_on_and_it_comes_back "10b",
    when_the_operators_leader_and_the_master_are_killed_together_the_standby_replaces_the_master "12a",
    when_the_operator_is_killed_after_the_promotion_the_standby_finishes_the_failover "13d",
    when_every_mysqld_is_killed_at_once_nothing_is_lost "15a",
    bad_specs_are_refused_with_field_and_mend "29",
    a_failover_that_breaks_off_leaves_no_receiver_stopped "37",
];
