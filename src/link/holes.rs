//! What a driver learnt about the devices of its link: told once, and kept over a restart.

use std::time::Duration;

use tokio::time::timeout;

use super::Setup;
use crate::buffer::{Recall, Remember};
use crate::drivers::{Driver, Kept};
use crate::point::{Device, DeviceId};
use crate::record;

/// The buffer may take so long to say what is kept, for all devices together. Polls do not wait for a slow disk:
/// what is not known is learnt again.
const PATIENCE: Duration = Duration::from_secs(3);

impl Setup {
    /// Gives a new driver what an earlier one learnt.
    pub(super) async fn recall(&self, driver: &mut dyn Driver) {
        let all = async {
            for device in &self.devices {
                match self.recall.send(Recall(key(&device.id))).await {
                    Ok(Ok(kept)) if kept.is_empty() => {}
                    Ok(Ok(kept)) => driver.recall(device, &kept),
                    Ok(Err(error)) => {
                        tracing::debug!(device = %device.id, %error, "what is kept cannot be read");
                    }
                    Err(error) => tracing::error!(link = %self.config.id, %error, "the buffer is gone"),
                }
            }
        };
        if timeout(PATIENCE, all).await.is_err() {
            tracing::debug!(link = %self.config.id, "the buffer did not say in time what is kept");
        }
    }

    /// Tells what a device refuses, and keeps it.
    pub(super) async fn keep(&self, device: &Device, kept: Kept) {
        let Kept { holes, value } = kept;
        tracing::warn!(link = %self.config.id, device = %device.id, ?holes, "reads that the device refuses");
        let link = self.config.id.as_str();
        let detail = |body: record::Body| {
            body.with("link", link).with("device", device.id.as_str()).with("holes", &holes)
        };
        self.append(record::event("link-holes", self.clock.now(), detail)).await;
        let (remember, device) = (self.remember.clone(), device.id.clone());
        // Answered once it is on the disk, which may be slow: nobody waits for it.
        actix::spawn(async move {
            let stored = remember.send(Remember { key: key(&device), value }).await;
            if !matches!(stored, Ok(Ok(()))) {
                tracing::debug!(%device, "what it refuses could not be kept; it is learnt again after a restart");
            }
        });
    }
}

fn key(device: &DeviceId) -> String {
    format!("holes/{device}")
}
