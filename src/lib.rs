//! fieldgate: devices on serial lines and Modbus networks to MQTT, and commands back.

pub mod address;
pub mod buffer;
pub mod clock;
pub mod config;
pub mod decode;
pub mod drivers;
pub mod link;
pub mod point;
pub mod record;
pub mod session;
pub mod status;
