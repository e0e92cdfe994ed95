//! fieldgate: devices on serial lines and Modbus networks to an MQTT broker, and commands back.
//!
//! ```text
//!             read                Append               Take, Ack              publish
//!  devices ─────────▶  Link  ───────────────▶ Buffer ◀─────────────  Uplink ──────────▶ broker
//!  devices ◀─────────  one for each           SQLite                 │    ▲
//!             write    physical link             ▲                   │    └─ subscription
//!                        ▲                       │ Begin, Finish     │ Received
//!                        └──────── Execute ── Commands ◀─────────────┘
//! ```
//!
//! * A [`link`] owns one physical connection and polls the devices on it, one request at a time. Its
//!   [driver](drivers) returns raw samples, [`decode`] makes values of them, and one poll of one device makes
//!   one [`record`].
//! * The [`buffer`] numbers the record at once. What the broker has not acknowledged within the commit window
//!   is written to SQLite in one synced transaction; the rest never touches the disk.
//! * The [`uplink`] takes records, publishes each as one message, and tells the buffer to forget it when the
//!   broker has acknowledged it.
//! * A command arrives at the uplink, is judged by [`commands`], runs on its link between two requests, and its
//!   reply is a record like any other.
//!
//! Three things hold everywhere: a reading waits in the buffer and nowhere else; messages go down the list
//! below and only answers come back up; exactly one task touches a link.
//!
//! The modules, each using only what stands below it:
//!
//! | tier | modules |
//! |---|---|
//! | program | [`cli`], [`gateway`] |
//! | watching | [`web`] |
//! | actors | [`uplink`], [`commands`], [`link`], [`status`], [`buffer`] |
//! | protocols | [`drivers`] |
//! | words | [`record`], [`decode`], [`session`], [`config`], [`counters`], [`command`], [`strict`], [`point`], [`kind`], [`address`], [`clock`] |

// What the unit tests share with those in tests/ calls this crate by its name.
#[cfg(test)]
extern crate self as fieldgate;

pub mod cli;
pub mod gateway;

pub mod buffer;
pub mod commands;
pub mod link;
pub mod status;
pub mod uplink;
pub mod web;

pub mod drivers;

pub mod address;
pub mod clock;
pub mod command;
pub mod config;
pub mod counters;
pub mod decode;
pub mod kind;
#[cfg(feature = "mutant")]
pub mod mutant;
pub mod number;
pub mod point;
pub mod record;
pub mod session;
pub mod strict;
