//! One Modbus TCP link, as fast as it goes.

use std::time::Instant;

use fieldgate::drivers::Driver;
use fieldgate::drivers::modbus::Modbus;
use tokio_modbus::client::{Reader, tcp};

use super::planner::block;
use crate::Result;
use crate::figures::{Figure, Target};
use crate::gateway::Kind;
use crate::stage::Stage;

pub(super) const ABOUT: &str = "one link reads 125 registers from a fast fake on loopback, one request after the other. bare: tokio-modbus alone";

pub(super) fn measure(stage: &mut Stage, kind: Kind) -> Result<Vec<Figure>> {
    let port = *stage.fakes.ports.first().ok_or("no fake")?;
    let time = stage.time;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let rate = runtime.block_on(async {
        let begun = Instant::now();
        let mut count = 0_u32;
        match kind {
            Kind::Fieldgate => {
                let device = block(125)?;
                let mut driver = Modbus::tcp("127.0.0.1".to_owned(), port);
                let due: Vec<usize> = (0..device.points.len()).collect();
                let soon = || tokio::time::Instant::now() + device.patience;
                driver.open(soon()).await?;
                let request = driver.plan(&device, &due).pop().ok_or("nothing planned")?;
                while begun.elapsed() < time {
                    let samples = driver.exchange(&request, soon()).await?;
                    if samples.len() != due.len() {
                        return Err("an answer without all points".into());
                    }
                    // As at the end of each poll.
                    driver.learnt(&device);
                    count += 1;
                }
            }
            Kind::Bare => {
                let mut client = tcp::connect(([127, 0, 0, 1], port).into()).await?;
                while begun.elapsed() < time {
                    client.read_holding_registers(0, 125).await??;
                    count += 1;
                }
            }
        }
        Ok::<_, Box<dyn std::error::Error>>(f64::from(count) / begun.elapsed().as_secs_f64())
    })?;
    Ok(vec![Figure::aimed("requests/s", 0, rate, Target::Least(30_000.0))])
}
