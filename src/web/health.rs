//! Whether the core works: what the watchdog judges by, asked anew.

use std::time::Duration;

use tokio::time::timeout;

use super::Site;
use crate::buffer::{GetStats, Stats};
use crate::status::{GetStates, States};

/// Buffer and status answer within this, or they do not work. They do no more than look.
const ANSWER: Duration = Duration::from_secs(3);

/// `Err`: why not.
pub(super) async fn judge(site: &Site) -> Result<(), String> {
    if site.is_stopping.get() {
        return Err("the gateway is stopping".to_owned());
    }
    let (numbers, _) = ask(site).await?;
    verdict(&numbers)
}

/// What the buffer's numbers say of it.
pub(super) fn verdict(numbers: &Stats) -> Result<(), String> {
    if numbers.is_stuck() {
        return Err(format!("the disk gives no answer since {} s", numbers.busy_for.as_secs()));
    }
    Ok(())
}

/// The numbers and states of now.
pub(super) async fn ask(site: &Site) -> Result<(Stats, States), String> {
    let numbers = timeout(ANSWER, site.setup.stats.send(GetStats)).await;
    let states = timeout(ANSWER, site.setup.states.send(GetStates)).await;
    match (numbers, states) {
        (Ok(Ok(numbers)), Ok(Ok(states))) => Ok((numbers, states)),
        (Ok(Err(_)), _) => Err("the buffer is gone".to_owned()),
        (Err(_), _) => Err("the buffer gives no answer".to_owned()),
        (_, Ok(Err(_))) => Err("the status is gone".to_owned()),
        (_, Err(_)) => Err("the status gives no answer".to_owned()),
    }
}
