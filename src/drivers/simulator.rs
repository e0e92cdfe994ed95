//! A link that needs no hardware: its devices make their values themselves.
//!
//! | address | gives | written, it |
//! |---|---|---|
//! | `sine` | 0 to 100 and back, once a minute | keeps what was written |
//! | `counter` | how often it was polled before, from 0 | keeps what was written |
//! | `random` | something from 0 to 100, new at each poll | keeps what was written |
//! | `memory` | 0, until written | keeps what was written |
//! | `fault` | its own poll count; every fourth poll fails as `malformed` | keeps what was written |
//!
//! These are raw numbers: they are rounded to the point's type, then scaled. A count starts again at 0 before
//! it leaves the type. Nothing outlives the process.

use std::collections::HashMap;
use std::f64::consts::TAU;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Driver, DriverError, Request, Span};
use crate::address::Address;
use crate::point::{Device, DeviceId, Kind, Point, PointId, Raw, Reason, Sample};

/// Seconds of one turn of `sine`.
const PERIOD: f64 = 60.0;

/// Every so many polls of a `fault` fail.
const FAULT_EVERY: u32 = 4;

/// The driver `simulator`.
#[derive(Debug)]
pub struct Simulator {
    start: Instant,
    points: HashMap<(DeviceId, PointId), PointState>,
}

#[derive(Debug, Default)]
struct PointState {
    polls: u32,
    written: Option<Raw>,
}

impl Default for Simulator {
    fn default() -> Self {
        Self { start: Instant::now(), points: HashMap::new() }
    }
}

impl Simulator {
    fn state(&mut self, device: &Device, point: &Point) -> &mut PointState {
        let key = (device.id.clone(), point.id.clone());
        self.points.entry(key).or_default()
    }

    fn sample(&mut self, device: &Device, point: &Point) -> Result<Raw, Reason> {
        let state = self.state(device, point);
        let polls = state.polls;
        state.polls = polls.wrapping_add(1);
        if let Some(written) = &state.written {
            return Ok(written.clone());
        }
        let Address::Name(signal) = &point.address else {
            return Err(Reason::Malformed);
        };
        let number = match signal.as_str() {
            "sine" => sine(self.start.elapsed()),
            "random" => fastrand::f64() * 100.0,
            "memory" => 0.0,
            "fault" if polls % FAULT_EVERY == FAULT_EVERY - 1 => return Err(Reason::Malformed),
            "counter" | "fault" => f64::from(polls % count_limit(point.kind)),
            _ => return Err(Reason::Malformed),
        };
        Ok(Raw::Number(number))
    }
}

fn sine(age: Duration) -> f64 {
    50.0 + 50.0 * (age.as_secs_f64() * TAU / PERIOD).sin()
}

/// The first whole number that a count must not reach.
fn count_limit(kind: Kind) -> u32 {
    match kind {
        Kind::Bool => 2,
        Kind::I8 | Kind::U8 => 1 << 7,
        Kind::Bcd16 => 10_000,
        Kind::I16 | Kind::U16 => 1 << 15,
        // Beyond 2^24 an f32 skips numbers.
        Kind::I24 | Kind::U24 | Kind::F32 => 1 << 23,
        Kind::Bcd32 => 100_000_000,
        _ => 1 << 31,
    }
}

#[async_trait(?Send)]
impl Driver for Simulator {
    async fn open(&mut self, _deadline: Instant) -> Result<(), DriverError> {
        Ok(())
    }

    fn plan(&mut self, device: &Arc<Device>, due: &[usize]) -> Vec<Request> {
        if due.is_empty() {
            return Vec::new();
        }
        vec![Request { device: device.clone(), points: due.to_vec(), span: Span::default() }]
    }

    async fn exchange(&mut self, request: &Request, _deadline: Instant) -> Result<Vec<Sample>, DriverError> {
        let mut samples = Vec::with_capacity(request.points.len());
        for index in &request.points {
            let raw = match request.device.points.get(*index) {
                Some(point) => self.sample(&request.device, point),
                None => Err(Reason::Malformed),
            };
            samples.push(Sample { point: *index, raw });
        }
        Ok(samples)
    }

    async fn write(
        &mut self,
        device: &Arc<Device>,
        point: usize,
        raw: &Raw,
        _deadline: Instant,
    ) -> Result<Raw, DriverError> {
        let Some(point) = device.points.get(point) else {
            return Err(DriverError::Malformed("no such point".to_owned()));
        };
        self.state(device, point).written = Some(raw.clone());
        Ok(raw.clone())
    }
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::decode::{decode, encode};
    use crate::point::{LinkId, Protocol, Value};

    fn device(points: &[(&str, Kind)]) -> Arc<Device> {
        let points = points.iter().map(|(signal, kind)| Point {
            writable: true,
            ..Point::new(
                PointId::new(&format!("{signal}-{}", kind.name())).unwrap(),
                Address::Name((*signal).to_owned()),
                *kind,
            )
        });
        Arc::new(Device {
            id: DeviceId::new("demo").unwrap(),
            link: LinkId::new("sim").unwrap(),
            label: None,
            tags: None,
            protocol: Protocol::Simulator,
            poll_interval: Duration::from_secs(1),
            align: false,
            patience: Duration::from_secs(1),
            pause: Duration::ZERO,
            points: points.collect(),
        })
    }

    async fn poll(driver: &mut Simulator, device: &Arc<Device>) -> Vec<Result<Value, Reason>> {
        let due: Vec<usize> = (0..device.points.len()).collect();
        let request = driver.plan(device, &due).remove(0);
        let samples = driver.exchange(&request, Instant::now()).await.unwrap();
        assert_eq!(samples.iter().map(|s| s.point).collect::<Vec<_>>(), due);
        let value =
            |sample: &Sample| decode(&device.points[sample.point], sample.raw.as_ref().map_err(|r| *r)?);
        samples.iter().map(value).collect()
    }

    #[tokio::test]
    async fn signals_are_what_the_table_says() {
        let device = device(&[
            ("sine", Kind::F64),
            ("counter", Kind::U8),
            ("fault", Kind::U32),
            ("random", Kind::F64),
            ("memory", Kind::I16),
        ]);
        let mut driver = Simulator::default();
        let mut random = Vec::new();
        for count in 0..300i128 {
            let values = poll(&mut driver, &device).await;
            let within = |value: &Result<Value, Reason>| matches!(value, Ok(Value::F64(v)) if (0.0..=100.0).contains(v));
            assert!(within(&values[0]) && within(&values[3]), "{values:?}");
            assert_eq!(values[1], Ok(Value::Int(count % 128)));
            let failed = values[2] == Err(Reason::Malformed);
            assert_eq!(failed, count % 4 == 3);
            random.push(format!("{:?}", values[3]));
            assert_eq!(values[4], Ok(Value::Int(0)));
        }
        random.sort();
        random.dedup();
        assert!(random.len() > 290, "random repeats itself");
        for (age, expected) in [(0, 50.0), (15, 100.0), (30, 50.0), (45, 0.0), (60, 50.0)] {
            let number = sine(Duration::from_secs(age));
            assert!((number - expected).abs() < 1e-9, "{age} s: {number}");
        }
    }

    #[tokio::test]
    async fn what_was_written_stays() {
        let device = device(&[("memory", Kind::U64), ("fault", Kind::Bool), ("sine", Kind::F32)]);
        let wanted = [Value::Int(u64::MAX.into()), Value::Bool(true), Value::F32(12.34)];
        let mut driver = Simulator::default();
        for (index, value) in wanted.iter().enumerate() {
            let raw = encode(&device.points[index], value).unwrap();
            let back = driver.write(&device, index, &raw, Instant::now()).await.unwrap();
            assert_eq!(decode(&device.points[index], &back).as_ref(), Ok(value));
        }
        for _ in 0..5 {
            let values = poll(&mut driver, &device).await;
            assert_eq!(values, wanted.clone().map(Ok));
        }
    }
}
