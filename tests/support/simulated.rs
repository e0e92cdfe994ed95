//! Devices of the gateway itself, that make records as fast as a test wants them.

use std::fmt::Write as _;

/// A link with so many devices, `device-0` and on, each with so many points and polled so often.
pub fn simulated(devices: usize, points: usize, interval: &str) -> String {
    let mut config = "[links.sim]\ndriver = \"simulator\"\n".to_owned();
    for device in 0..devices {
        write!(config, "[devices.device-{device}]\nlink = \"sim\"\npoll_interval = \"{interval}\"\n")
            .unwrap();
        writeln!(config, "[devices.device-{device}.points]").unwrap();
        for point in 0..points {
            writeln!(config, "point-{point} = {{ address = \"counter\", type = \"u32\" }}").unwrap();
        }
    }
    config
}
