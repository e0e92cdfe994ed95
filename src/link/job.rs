//! A command on its link: read, poll or write, between two requests of the polls.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::decode::{decode, is_same};
use crate::drivers::{Driver, DriverError};
use crate::point::{Device, PointId, Raw, Reason, Value};

/// What a link is asked to do with a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Fresh values of these points (indices into the device's points).
    Read(Vec<usize>),
    /// A whole poll, with its readings message.
    Poll,
    /// Write these points, in this order; every one was checked before.
    Write(Vec<(usize, Raw)>),
}

/// Values by point.
pub type Values = Vec<(PointId, Value)>;

/// Why a command had no success on its link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// So many commands wait for the link already; the device was not asked.
    #[error("{0} commands wait for this link")]
    Busy(usize),
    /// Its time was over before the device was asked.
    #[error("its time was over before the device was asked")]
    Late,
    /// The gateway stops; the device was not asked.
    #[error("its link is stopping or being replaced")]
    Stopping,
    /// The driver died while the command ran; nobody knows whether the device was asked.
    #[error("the driver died while the command ran")]
    Interrupted,
    /// The link or the device failed.
    #[error("{point}: {error}")]
    Failed {
        /// The point that was read or written.
        point: PointId,
        /// How.
        error: DriverError,
    },
    /// A read gave no value for a point.
    #[error("{point}: {reason}")]
    Bad {
        /// The point.
        point: PointId,
        /// Why.
        reason: Reason,
    },
    /// The device kept another value than the one written.
    #[error("{point}: the device says {found} after the write")]
    Unverified {
        /// The point.
        point: PointId,
        /// What it reads back.
        found: String,
    },
}

/// What came of a task: every value that is sure, and what went wrong, if something did.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskResult {
    /// Values as the device says them.
    pub values: Values,
    /// What went wrong.
    pub error: Option<TaskError>,
}

impl From<TaskError> for TaskResult {
    fn from(error: TaskError) -> Self {
        Self { values: Vec::new(), error: Some(error) }
    }
}

/// A task in a link's queue.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) device: crate::point::DeviceId,
    pub(super) task: Task,
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<TaskResult>,
}

/// Writes the points one after the other and reads each back. Stops at the first that fails.
pub async fn write(
    driver: &mut dyn Driver,
    device: &Arc<Device>,
    values: &[(usize, Raw)],
    deadline: Instant,
) -> TaskResult {
    let mut written = Vec::new();
    for (index, raw) in values {
        let Some(point) = device.points.get(*index) else {
            continue;
        };
        // A write, at most two other tries of it, and its reading back, each within the time a poll's request
        // has: a mute device must not hold the line for as long as a command may take.
        let limit = deadline.min(Instant::now() + (device.patience + driver.overhead(device)) * 4);
        let error = match driver.write(device, *index, raw, limit).await {
            Err(error) => TaskError::Failed { point: point.id.clone(), error },
            Ok(found) => match decode(point, &found) {
                Err(reason) => TaskError::Bad { point: point.id.clone(), reason },
                Ok(value) => {
                    let verified = is_same(point, &found, raw);
                    let error = TaskError::Unverified { point: point.id.clone(), found: value.to_string() };
                    written.push((point.id.clone(), value));
                    if verified {
                        continue;
                    }
                    error
                }
            },
        };
        return TaskResult { values: written, error: Some(error) };
    }
    TaskResult { values: written, error: None }
}
