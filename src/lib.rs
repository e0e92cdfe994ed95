//! fieldgate: devices on serial lines and Modbus networks to MQTT, and commands back.

pub mod address;
pub mod buffer;
pub mod cli;
pub mod clock;
pub mod command;
pub mod commands;
pub mod config;
pub mod decode;
pub mod drivers;
pub mod gateway;
pub mod link;
pub mod point;
pub mod record;
pub mod session;
pub mod status;
pub mod strict;
pub mod uplink;
