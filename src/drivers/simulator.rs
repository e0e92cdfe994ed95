//! Simulator.
use std::rc::Rc;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Driver, DriverError, Request};

use crate::point::{Device, Raw, Sample};

/// Simulator
#[derive(Debug, Default)]
pub struct Simulator;
#[async_trait(?Send)]
impl Driver for Simulator {
    async fn open(&mut self, _deadline: Instant) -> Result<(), DriverError> {
        Err(DriverError::Timeout)
    }
    fn plan(&mut self, _device: &Rc<Device>, _due: &[usize]) -> Vec<Request> {
        Vec::new()
    }
    async fn exchange(&mut self, _request: &Request, _deadline: Instant) -> Result<Vec<Sample>, DriverError> {
        Err(DriverError::Timeout)
    }
    async fn write(
        &mut self,
        _device: &Rc<Device>,
        _point: usize,
        _raw: &Raw,
        _deadline: Instant,
    ) -> Result<Raw, DriverError> {
        Err(DriverError::Timeout)
    }
}
