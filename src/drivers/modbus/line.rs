//! A serial line: keeps the silence between frames, drains what is stale, and lets through only the answer to
//! the request that is out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::{Instant, Sleep};
use tokio_serial::SerialStream;

use super::answer::{Shape, unconfirmed};
use super::frame::{Frame, Frames};
use super::quarantine::{Heard, Quarantine};
use crate::config::SerialLine;
use crate::drivers::DriverError;

/// Above this rate the silence has a fixed length (Modbus over Serial Line V1.02, 2.5.1.1).
const FAST: u32 = 19_200;

/// Silence between frames above [`FAST`].
const FAST_GAP: Duration = Duration::from_micros(1_750);

/// Bytes taken from the terminal at once: a largest frame.
const CHUNK: usize = 256;

/// Chunks drained in a row before others get their turn: a line that is never quiet must not hold the loop.
const CHUNKS: usize = 8;

/// What a serial line brought that was not believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounters {
    /// Bytes that lay on the line before a request went out.
    pub stale: u64,
    /// Bytes that were part of no frame with a good CRC.
    pub garbage: u64,
    /// Good frames that were not the answer awaited.
    pub skipped: u64,
}

/// The request that is out.
#[derive(Default)]
struct Asked {
    shape: Option<Shape>,
    probe: bool,
    /// The line was quiet and drained.
    settled: bool,
    /// The first bytes of the request, once they are on the line: unit, function, place, value or count.
    head: Option<Vec<u8>>,
    /// The answer, and how much of it tokio-modbus has.
    answer: Option<(Vec<u8>, usize)>,
    /// Why there will be none.
    verdict: Option<DriverError>,
    /// The worst that came besides.
    came: Came,
}

/// What came on the line, from best to worst.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    #[default]
    Nothing,
    /// Bytes that may still become a frame, and late answers.
    Something,
    /// Neither.
    Damage,
}

/// The port, what is known about it, and what was asked.
pub(super) struct Port {
    stream: Option<SerialStream>,
    frames: Frames,
    asked: Asked,
    pub(super) quarantine: Quarantine,
    pub(super) counters: LineCounters,
    character: Duration,
    gap: Duration,
    quiet_from: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Port {
    /// A closed port with the timing of `line`.
    pub(super) fn new(line: &SerialLine) -> Self {
        let character = line.character_time();
        Self {
            stream: None,
            frames: Frames::default(),
            asked: Asked::default(),
            quarantine: Quarantine::default(),
            counters: LineCounters::default(),
            character,
            gap: if line.baud_rate > FAST { FAST_GAP } else { character.mul_f64(3.5) },
            quiet_from: Instant::now(),
            timer: None,
        }
    }

    /// Takes an open terminal, or closes it with `None`. What was learnt stays.
    pub(super) fn attach(&mut self, stream: Option<SerialStream>) {
        self.stream = stream;
        self.quiet_from = Instant::now() + self.gap;
        self.counters.garbage += count(self.frames.clear());
    }

    /// A request is about to be handed to tokio-modbus.
    pub(super) fn begin(&mut self, shape: Shape, probe: bool) {
        self.asked = Asked { shape: Some(shape), probe, ..Asked::default() };
    }

    /// The request is over. Until the next one, whatever comes is late.
    pub(super) fn end(&mut self) {
        self.asked = Asked::default();
    }

    /// Why the request will have no answer, if that is known already.
    pub(super) fn verdict(&mut self) -> Option<DriverError> {
        self.asked.verdict.take()
    }

    /// The time of a request to `unit` is over: says what that means.
    pub(super) fn expire(&mut self, unit: u8) -> DriverError {
        match self.asked.came {
            Came::Nothing => {
                // A request that found no time to go out is no silence of the unit; a turn of listening is.
                if self.asked.head.is_some() || self.asked.shape.is_none() {
                    self.quarantine.silent(unit);
                }
                DriverError::Timeout
            }
            Came::Something if self.frames.rest() == 0 => DriverError::Timeout,
            _ => DriverError::Malformed("only damaged bytes came".to_owned()),
        }
    }

    /// Reads and judges what comes, without asking. Ends only with a lost line.
    pub(super) fn poll_listen(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match ready!(self.poll_hear(cx)) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    }

    /// Drains the line until it was quiet for the gap.
    fn poll_settle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            for _ in 0..CHUNKS {
                let mut chunk = [0; CHUNK];
                let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
                match stream.try_read(&mut chunk) {
                    Ok(0) => return Poll::Ready(Err(gone())),
                    Ok(n) => {
                        self.counters.stale += count(n);
                        self.take(chunk.get(..n).unwrap_or_default(), None);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if Instant::now() >= self.quiet_from {
                self.counters.garbage += count(self.frames.clear());
                return Poll::Ready(Ok(()));
            }
            let until = self.quiet_from;
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            timer.as_mut().reset(until);
            ready!(timer.as_mut().poll(cx));
        }
    }

    /// Reads until the answer is there or nothing more comes; returns ready when there is an answer.
    fn poll_hear(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.asked.answer.is_none() {
            if self.asked.verdict.is_some() {
                // The driver looks for it after each poll and drops this read.
                return Poll::Pending;
            }
            let mut chunk = [0; CHUNK];
            let mut buffer = ReadBuf::new(&mut chunk);
            let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                // A terminal that hung up is always ready and always empty: asking again would be a busy loop.
                return Poll::Ready(Err(gone()));
            }
            let newest = self.asked.shape;
            self.take(buffer.filled(), newest);
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the answer, as much as `out` holds, once it is there.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_hear(cx))?;
        if let Some((answer, given)) = &mut self.asked.answer {
            let rest = answer.get(*given..).unwrap_or_default();
            let bytes = rest.get(..out.remaining()).unwrap_or(rest);
            if bytes.is_empty() {
                // All is given; no more comes for this request.
                return Poll::Pending;
            }
            out.put_slice(bytes);
            *given += bytes.len();
        }
        Poll::Ready(Ok(()))
    }

    /// Sends bytes of the request, once the line is quiet.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.asked.settled {
            ready!(self.poll_settle(cx))?;
            self.asked.settled = true;
            self.asked.came = Came::Nothing;
        }
        let stream = self.stream.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let written = ready!(Pin::new(stream).poll_write(cx, bytes))?;
        if self.asked.head.is_none()
            && let Some(shape) = self.asked.shape
        {
            self.asked.head = Some(bytes.get(..6).unwrap_or_default().to_vec());
            self.quarantine.sent(shape, self.asked.probe);
        }
        // The terminal took the bytes at once; the line needs its time for them.
        let time = self.character.saturating_mul(u32::try_from(written).unwrap_or(u32::MAX));
        self.quiet_from = self.quiet_from.max(Instant::now()) + time;
        Poll::Ready(Ok(written))
    }

    fn take(&mut self, bytes: &[u8], newest: Option<Shape>) {
        self.quiet_from = Instant::now() + self.gap;
        self.came(Came::Something);
        for part in bytes.chunks(self.frames.room().max(1)) {
            self.frames.push(part);
            while self.asked.answer.is_none() {
                let quarantine = &self.quarantine;
                let (garbage, frame) = self.frames.next(|shape| quarantine.awaits(shape));
                self.counters.garbage += count(garbage);
                if garbage > 0 {
                    self.came(Came::Damage);
                }
                let Some(frame) = frame else { break };
                self.judge(frame, newest);
            }
        }
    }

    fn judge(&mut self, frame: Frame, newest: Option<Shape>) {
        if newest == Some(frame.shape) && !frame.exception && frame.shape.function > 4 && !self.echoes(&frame)
        {
            // Kept as unanswered: the right confirmation may still come.
            self.counters.skipped += 1;
            self.asked.verdict = Some(unconfirmed(frame.shape.function));
            return;
        }
        match self.quarantine.heard(frame.shape, frame.exception, newest) {
            Heard::Answer => {
                self.asked.answer = Some((frame.bytes, 0));
                return;
            }
            Heard::Foreign if newest.is_some_and(|n| n.unit == frame.shape.unit) => self.came(Came::Damage),
            Heard::Foreign | Heard::Late => {}
            Heard::WrongSize => {
                self.asked.verdict = Some(DriverError::Malformed(format!(
                    "an answer to function {} of the wrong size: {} bytes",
                    frame.shape.function, frame.shape.bytes
                )));
            }
        }
        self.counters.skipped += 1;
    }

    fn came(&mut self, what: Came) {
        self.asked.came = self.asked.came.max(what);
    }

    /// A confirmed write repeats its place, and its value or count.
    fn echoes(&self, frame: &Frame) -> bool {
        let head = self.asked.head.as_deref();
        head.is_some_and(|head| frame.bytes.get(..6) == Some(head))
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the port hung up")
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
