//! Devices that send frames of text or bytes: scales, meters, weather stations. See `README.md` beside this file.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_serial::SerialStream;
use tracing::debug;

use self::extract::Text;
use self::frame::Frames;
use super::port::Ports;
use super::{Driver, DriverError, Request, Span};
use crate::config::{Encoding, Frame, LONGEST_FRAME, SerialLine, Shape};
use crate::decode::beginning;
use crate::point::{Device, Protocol, Raw, Sample};

pub use self::cost::Cost;
pub use self::frame::wrap;

mod checksum;
mod cost;
mod extract;
mod frame;
mod json;

/// A line that was quiet for this long has nothing more to say about earlier requests: more than two
/// characters at 300 baud, and the pause that USB adapters make between two packets (16 ms).
const SILENCE: Duration = Duration::from_millis(50);

/// How long to look for bytes that are already there.
const GLANCE: Duration = Duration::from_millis(1);

/// What a terminal holds for its reader (Linux `N_TTY_BUF_SIZE`, less the one it keeps free). So many
/// pending bytes mean that others may have been lost behind them.
const TERMINAL_BUFFER: usize = 4095;

/// The driver `serial`.
#[derive(Debug)]
pub struct Serial {
    line: SerialLine,
    ports: Ports,
    port: Option<SerialStream>,
    frames: Frames,
    encoding: Encoding,
    /// How long the line is silent between two frames that only a silence parts.
    gap: Duration,
    /// When bytes came last, or the port was opened.
    heard: Instant,
    /// An answer may still be on its way: a request had none, or its exchange was dropped.
    unanswered: bool,
    /// Frames that were none of the device's.
    skipped: u64,
}

/// How a drain ended.
enum Drained {
    /// Nothing was there.
    Nothing,
    /// So many bytes came, then silence.
    Silence(usize),
    /// Bytes kept coming.
    Noise,
}

impl Serial {
    /// A driver for this line; it opens nothing yet.
    #[must_use]
    pub fn new(line: SerialLine, frame: Frame) -> Self {
        Self::among(Ports::default(), line, frame)
    }

    /// The same on a machine whose ports are listed elsewhere.
    #[must_use]
    pub fn among(ports: Ports, line: SerialLine, frame: Frame) -> Self {
        let gap = match frame.shape {
            Shape::Silence(gap) => gap,
            _ => SILENCE,
        };
        Self {
            line,
            ports,
            port: None,
            frames: Frames::new(frame),
            encoding: Encoding::default(),
            gap,
            heard: Instant::now(),
            unanswered: true,
            skipped: 0,
        }
    }

    /// The same for texts in that encoding.
    #[must_use]
    pub fn reading(self, encoding: Encoding) -> Self {
        Self { encoding, ..self }
    }

    /// The time of so many bytes on the line.
    fn on_line(&self, bytes: usize) -> Duration {
        self.line.character_time().saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX))
    }

    fn port(&mut self) -> Result<&mut SerialStream, DriverError> {
        let name = &self.line.port;
        self.port.as_mut().ok_or_else(|| DriverError::Lost(format!("{name}: the port is not open")))
    }

    /// Closes the port and says why.
    fn lose(&mut self, why: &str) -> DriverError {
        self.port = None;
        self.frames.clear();
        DriverError::Lost(format!("adapter missing: {}: {why}", self.line.port))
    }

    /// What came; a read of 0 bytes is a port that is gone, and would be repeated for ever.
    fn arrived(&mut self, read: std::io::Result<usize>) -> Result<usize, DriverError> {
        match read {
            Ok(0) => Err(self.lose("the port is gone (unplugged?)")),
            Ok(count) => {
                self.heard = Instant::now();
                Ok(count)
            }
            Err(error) => Err(self.lose(&error.to_string())),
        }
    }

    /// Reads until nothing came for `silence`, or until `end`. Whole frames are dropped, a trailing part stays.
    async fn drain(&mut self, silence: Duration, end: Instant) -> Result<Drained, DriverError> {
        let mut buffer = [0; 1024];
        let mut total = 0;
        loop {
            let Ok(read) = timeout(silence, self.port()?.read(&mut buffer)).await else {
                break;
            };
            let count = self.arrived(read)?;
            total += count;
            let dropped = self.frames.push(buffer.get(..count).unwrap_or_default());
            self.skipped += u64::try_from(dropped.len()).unwrap_or(0);
            if Instant::now() >= end {
                return Ok(Drained::Noise);
            }
        }
        Ok(if total == 0 { Drained::Nothing } else { Drained::Silence(total) })
    }

    /// Makes sure that the next frame is no answer to an earlier request, as far as silence can tell. Says whether
    /// there was any.
    async fn settle(&mut self, deadline: Instant) -> Result<bool, DriverError> {
        let now = Instant::now();
        // Half of the time is left for the answer.
        let end = now + deadline.saturating_duration_since(now) / 2;
        let silence = SILENCE.max(self.gap).min(end - now);
        let mut drained = Drained::Noise;
        if !self.unanswered {
            drained = self.drain(GLANCE, end).await?;
        }
        // Nobody asked for what is pending, so the rest of it may be on its way.
        if !matches!(drained, Drained::Nothing) {
            drained = self.drain(silence, end).await?;
        }
        let is_quiet = !matches!(drained, Drained::Noise);
        if is_quiet {
            self.frames.clear();
        } else {
            self.frames.skip();
        }
        Ok(is_quiet)
    }

    async fn send(&mut self, request: &[u8], deadline: Instant) -> Result<(), DriverError> {
        let port = self.port()?;
        // No flush: for a terminal that is tcdrain(3), which blocks the loop until the last bit has left.
        match timeout_at(deadline, port.write_all(request)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lose(&error.to_string())),
            Err(_) => Err(DriverError::Timeout),
        }
    }

    /// Waits for a frame that is the device's. One that was asked has to begin by `begin`; what comes then may take the
    /// time that the line needs for it.
    async fn receive(
        &mut self,
        request: &Request,
        text: Text<'_>,
        begin: Option<Instant>,
        mut is_quiet: bool,
        limit: Instant,
    ) -> Result<Vec<Sample>, DriverError> {
        let mut buffer = [0; 1024];
        let mut foreign: Option<Vec<u8>> = None;
        let mut deadline = begin.map_or(limit, |begin| begin.min(limit));
        let character = self.line.character_time();
        let mut on_line = self.gap;
        // Looked at each time: a read that is always ready would keep the timer from being asked.
        while Instant::now() < deadline {
            let waits_for_silence = self.frames.needs_silence() && self.frames.is_amid();
            let until = if waits_for_silence { deadline.min(self.heard + self.gap) } else { deadline };
            let (too_long, damaged) = (self.frames.too_long, self.frames.damaged);
            let frames = match timeout_at(until, self.port()?.read(&mut buffer)).await {
                Ok(read) => {
                    let count = self.arrived(read)?;
                    let bytes = buffer.get(..count).unwrap_or_default();
                    on_line += character.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
                    deadline = begin.map_or(limit, |begin| limit.min(begin + on_line));
                    foreign.get_or_insert_with(|| bytes.to_vec());
                    self.frames.push(bytes)
                }
                Err(_) if until < deadline => self.frames.silence(),
                Err(_) => break,
            };
            // Bytes behind an answer whose end only they could tell: it may be part of something else.
            let is_doubtful = begin.is_some() && self.frames.is_blind() && self.frames.is_amid();
            for frame in frames {
                if let Some(samples) = text.samples(request, &frame).filter(|_| !is_doubtful) {
                    return Ok(samples);
                }
                self.skipped += 1;
                debug!(device = %request.device.id, skipped = self.skipped, frame = %shown(&frame), "a frame does not match");
                (foreign, is_quiet) = (Some(frame), false);
            }
            if (self.frames.too_long, self.frames.damaged) != (too_long, damaged) {
                let Frames { too_long, damaged, .. } = self.frames;
                is_quiet = false;
                debug!(device = %request.device.id, too_long, damaged, "what came is no frame");
            }
        }
        // After silence came what is still coming: late, and not damaged.
        let is_cut = is_quiet && self.frames.is_amid() && self.heard.elapsed() < self.gap;
        Err(match foreign.filter(|_| !is_cut) {
            Some(frame) => {
                DriverError::Malformed(format!("no frame matched; the last was {}", shown(&frame)))
            }
            None => DriverError::Timeout,
        })
    }
}

/// The beginning of a frame, for people.
fn shown(frame: &[u8]) -> String {
    beginning(&String::from_utf8_lossy(frame))
}

#[async_trait(?Send)]
impl Driver for Serial {
    async fn open(&mut self, _deadline: Instant) -> Result<(), DriverError> {
        self.port = None;
        self.port = Some(self.ports.open(&self.line)?);
        self.heard = Instant::now();
        // Whoever had the port before may have asked, and a device that talks by itself is amid a frame.
        self.unanswered = true;
        self.frames.skip();
        Ok(())
    }

    fn overhead(&self, device: &Device) -> Duration {
        match &device.protocol {
            // Half of the patience may go by until the line is quiet.
            Protocol::Text { request: Some(request), .. } => {
                self.on_line(request.len() + LONGEST_FRAME as usize) + self.gap + device.patience / 2
            }
            _ => Duration::ZERO,
        }
    }

    fn plan(&mut self, device: &Arc<Device>, due: &[usize]) -> Vec<Request> {
        if due.is_empty() {
            return Vec::new();
        }
        vec![Request { device: device.clone(), points: due.to_vec(), span: Span::default() }]
    }

    async fn exchange(&mut self, request: &Request, deadline: Instant) -> Result<Vec<Sample>, DriverError> {
        let device = request.device.clone();
        let Protocol::Text { request: ask, decode, mark } = &device.protocol else {
            return Err(DriverError::Malformed(format!("{} is no device of a serial line", device.id)));
        };
        let (mut begin, mut is_quiet) = (None, false);
        if let Some(ask) = ask {
            let patience = device.patience + self.on_line(ask.len());
            is_quiet = self.settle(deadline.min(Instant::now() + patience)).await?;
            self.unanswered = true;
            let until = deadline.min(Instant::now() + patience);
            self.send(ask, until).await?;
            begin = Some(until);
        } else {
            match self.drain(GLANCE, deadline).await? {
                Drained::Silence(count) if count < TERMINAL_BUFFER => {}
                Drained::Nothing => {}
                // What is there and what comes next may not be neighbours.
                Drained::Silence(_) | Drained::Noise => self.frames.skip(),
            }
            // Nobody looked when what lay here came. If nothing did, it is silent since the last byte was read.
            if self.frames.needs_silence() {
                self.frames.skip();
            }
        }
        let text = Text { decode, mark: *mark, encoding: self.encoding };
        let samples = self.receive(request, text, begin, is_quiet, deadline).await?;
        self.unanswered = false;
        Ok(samples)
    }

    async fn write(
        &mut self,
        _device: &Arc<Device>,
        _point: usize,
        _raw: &Raw,
        _deadline: Instant,
    ) -> Result<Raw, DriverError> {
        let why = "a serial text device cannot be written";
        Err(DriverError::Malformed(why.to_owned()))
    }
}
