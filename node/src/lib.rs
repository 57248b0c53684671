//! The node agent: controls the one MySQL server of its pod and obeys the operator of the highest term.
//!
//! ```text
//!   operator ══ mTLS ══► session ──► executor ──► commands/* ──► mysql/*  ──► mysqld
//!                           ▲                        │  └──────► store (durable: term, fence, volume)
//!                           │ reports                └─────────► supervision ──► supervisor (signals, restarts)
//!                         board ◄── probe (polls mysqld), supervision (process events), store
//!                           └──► http (probes, metrics), passage (clients → master), caretaker (opens slaves, keeps the account)
//! ```
//!
//! The agent takes no decision about who leads. A master that is alone closes itself ([`guard`]). What else it guards by itself: a term is durable before a command of it
//! acts, an older term is refused, a fence overtakes everything, and mysqld is never opened but by a command.

pub mod account;
pub mod agent;
pub mod api_host;
pub mod asks;
pub mod beats;
pub mod binlog;
pub mod board;
pub mod caretaker;
pub mod clock;
pub mod commands;
pub mod data_api;
pub mod diagnose;
pub mod executor;
pub mod extra;
pub mod guard;
pub mod http;
pub mod kept;
pub mod keys;
pub mod master;
pub mod mysql;
pub mod passage;
pub mod probe;
pub mod server_uuid;
pub mod session;
pub mod settings;
pub mod shutdown;
pub mod standstill;
pub mod storage;
pub mod store;
pub mod supervision;
pub mod tails;
pub mod tls;

pub use agent::run;
