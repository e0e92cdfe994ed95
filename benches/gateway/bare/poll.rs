//! Polls one link: tokio-modbus over TCP, one JSON message for each answer.

use std::io::Write;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_modbus::client::{Context, Reader, tcp};
use tokio_modbus::slave::{Slave, SlaveContext};

use super::tail::Tail;
use crate::gateway::Load;
use crate::{Result, micros};

const PATIENCE: Duration = Duration::from_millis(500);

/// Polls for ever; `first` is the number of its first device.
pub(super) async fn link(tail: Rc<Tail>, port: u16, first: u16, load: Load) {
    loop {
        // The fakes do not go away; whatever else happens here is met by connecting anew.
        session(&tail, port, first, load).await.ok();
        sleep(Duration::from_millis(100)).await;
    }
}

async fn session(tail: &Tail, port: u16, first: u16, load: Load) -> Result<()> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut context = timeout(PATIENCE, tcp::connect(address)).await??;
    let mut ticks = interval(load.interval.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if load.interval.is_zero() {
            // Without a rest somebody has to give way: polls wait until there is room again.
            tail.room().await;
        } else {
            ticks.tick().await;
        }
        for unit in 0..load.units {
            let device = first + unit;
            let body = poll(&mut context, unit, device, load.registers).await?;
            tail.append(device, body);
        }
    }
}

async fn poll(context: &mut Context, unit: u16, device: u16, registers: u16) -> Result<Vec<u8>> {
    context.set_slave(Slave(u8::try_from(unit + 1)?));
    let answer = timeout(PATIENCE, context.read_holding_registers(0, registers)).await???;
    if answer.len() != usize::from(registers) {
        return Err("an answer of the wrong size".into());
    }
    let now = chrono::DateTime::from_timestamp_micros(i64::try_from(micros())?).unwrap_or_default();
    let ts = now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let mut body = Vec::with_capacity(64 + 14 * answer.len());
    write!(body, "\"device\":\"d{device}\",\"ts\":\"{ts}\",\"values\":{{")?;
    for (index, word) in answer.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(body, "{comma}\"r{index:03}\":{word}")?;
    }
    body.push(b'}');
    Ok(body)
}
