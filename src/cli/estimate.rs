//! How much of a link its polls take, reckoned from the configuration alone.

use std::sync::Arc;
use std::time::Duration;

use crate::address::Address;
use crate::config::{LinkConfig, Medium, SerialLine, Transport};
use crate::drivers::{self, Request};
use crate::point::{Device, Protocol};

/// One request over TCP and its answer, on a local network. Nothing in the configuration says more.
const TCP_REQUEST: Duration = Duration::from_millis(5);

/// A frame of a text device, in bytes; the configuration does not say how long it is.
const TEXT_ANSWER: u64 = 32;

/// Bytes of a Modbus RTU read and of its answer without the data (MODBUS over Serial Line V1.02, 2.5.1).
const RTU_REQUEST: u64 = 8;
const RTU_ANSWER: u64 = 5;

/// Above 19200 baud the silence between frames is fixed (MODBUS over Serial Line V1.02, 2.5.1.1).
const SILENCE_OF_FAST_LINES: Duration = Duration::from_micros(1750);
const FAST_LINE: u32 = 19_200;

/// What the polls of a link need.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Load {
    /// Requests of one round: every device polled once.
    pub(super) requests: usize,
    /// Time of one round.
    pub(super) round: Duration,
    /// Shortest poll interval on the link; nothing without devices.
    pub(super) shortest: Option<Duration>,
    /// Share of the link's time, in percent: over 100, polls come late.
    pub(super) percent: f64,
    /// What the numbers rest on.
    pub(super) basis: String,
}

/// Reckons the load of a link with these devices on it.
pub(super) fn estimate(link: &LinkConfig, devices: &[&Device]) -> Load {
    let mut driver = drivers::create(link, &[]);
    let mut load = Load {
        requests: 0,
        round: Duration::ZERO,
        shortest: devices.iter().map(|device| device.poll_interval).min(),
        percent: 0.0,
        basis: basis(&link.transport),
    };
    for device in devices {
        let device = Arc::new((*device).clone());
        let due: Vec<usize> = (0..device.points.len()).collect();
        let requests = driver.plan(&device, &due);
        let time: Duration = requests.iter().map(|request| time_of(link, request)).sum();
        load.requests += requests.len();
        load.round += time;
        load.percent += 100.0 * time.as_secs_f64() / device.poll_interval.as_secs_f64();
    }
    load
}

fn basis(transport: &Transport) -> String {
    match transport {
        Transport::Modbus { medium: Medium::Tcp { .. }, .. } => "estimated at 5 ms a request".to_owned(),
        Transport::Modbus { medium: Medium::Line(serial), .. } => {
            format!("at {} baud, without the time the devices need to answer", serial.baud_rate)
        }
        Transport::Serial { line, .. } => {
            format!("at {} baud, with answers of {TEXT_ANSWER} bytes", line.baud_rate)
        }
        Transport::Simulator => "no line".to_owned(),
        Transport::Plugin(plugin) => format!("the plugin {} takes what it takes", plugin.name),
    }
}

fn time_of(link: &LinkConfig, request: &Request) -> Duration {
    match &link.transport {
        Transport::Modbus { medium: Medium::Tcp { .. }, .. } => TCP_REQUEST + link.pause,
        Transport::Modbus { medium: Medium::Line(serial), .. } => {
            let bytes = RTU_REQUEST + RTU_ANSWER + data_bytes(request);
            // Before the request and before its answer the line is silent.
            on_line(serial, bytes) + silence(serial) * 2 + link.pause
        }
        Transport::Serial { line, .. } => match &request.device.protocol {
            Protocol::Text { request: Some(request), .. } => {
                let bytes = u64::try_from(request.len()).unwrap_or(u64::MAX).saturating_add(TEXT_ANSWER);
                on_line(line, bytes) + link.pause
            }
            // What talks by itself is not asked.
            _ => Duration::ZERO,
        },
        Transport::Simulator | Transport::Plugin(_) => Duration::ZERO,
    }
}

/// Bytes of data in the answer: two a register, one for eight coils.
fn data_bytes(request: &Request) -> u64 {
    let first = request.points.first().and_then(|point| request.device.points.get(*point));
    let bits =
        first.is_some_and(|point| matches!(point.address, Address::Register { area, .. } if area.is_bits()));
    let count = u64::from(request.span.count);
    if bits { count.div_ceil(8) } else { count * 2 }
}

fn on_line(line: &SerialLine, bytes: u64) -> Duration {
    line.character_time() * u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn silence(line: &SerialLine) -> Duration {
    if line.baud_rate > FAST_LINE {
        return SILENCE_OF_FAST_LINES;
    }
    line.character_time() * 7 / 2
}
