//! End-to-end tests on a real cluster. `cargo xtask test` brings the cluster up, sets what these tests read and runs
//! them inside its network; without that they are ignored.
//!
//! They run one after the other and share one three-node database where a test does not need its own. Wall-clock bounds
//! are generous: figures are for `cargo xtask bench`.

mod api_settings;
mod catalogue;
mod commands;
mod data_api;
mod failover;
mod lifecycle;
mod refusals;
mod routing;
mod switchover;
mod tokens;
