//! A bus: keeps the silence between frames, drains what is stale, and lets through only the answer to the
//! request that is out.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::Instant;

use super::answer::{Shape, unconfirmed};
use super::asked::{Asked, Came};
use super::carrier::Carrier;
use super::codec::Codec;
use super::frame::Frame;
use super::quarantine::{Heard, Quarantine};
use super::timer::Timer;
use super::wire::silence;
use crate::config::SerialLine;
use crate::drivers::DriverError;

/// Bytes taken at once: a largest RTU frame.
const CHUNK: usize = 256;

/// An adapter on USB hands over what came after at most 16 ms.
const LATENCY: Duration = Duration::from_millis(20);

/// Chunks drained in a row before others get their turn: a line that is never quiet must not hold the loop.
const CHUNKS: usize = 8;

/// What a bus brought that was not believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineCounters {
    /// Bytes that lay on the line before a request went out.
    pub stale: u64,
    /// Bytes that were part of no frame with a good CRC.
    pub garbage: u64,
    /// Good frames that were not the answer awaited.
    pub skipped: u64,
}

/// The port, what is known about it, and what was asked.
pub(super) struct Port {
    carrier: Option<Carrier>,
    frames: Codec,
    asked: Asked,
    pub(super) quarantine: Quarantine,
    pub(super) counters: LineCounters,
    character: Duration,
    gap: Duration,
    quiet_from: Instant,
    /// The units are busy with a broadcast until then.
    rest_until: Instant,
    timer: Option<Timer>,
}

impl Port {
    /// A closed port with the timing of `line`; without one a serial server keeps the silences.
    pub(super) fn new(frames: Codec, line: Option<&SerialLine>) -> Self {
        let character = line.map_or(Duration::ZERO, SerialLine::character_time);
        Self {
            carrier: None,
            frames,
            asked: Asked::default(),
            quarantine: Quarantine::default(),
            counters: LineCounters::default(),
            character,
            gap: line.map_or(Duration::ZERO, silence),
            quiet_from: Instant::now(),
            rest_until: Instant::now(),
            timer: None,
        }
    }

    /// Takes what is open now, or closes it with `None`. What was learnt stays.
    pub(super) fn attach(&mut self, carrier: Option<Carrier>) {
        self.carrier = carrier;
        self.quiet_from = Instant::now() + self.gap;
        self.counters.garbage += count(self.frames.clear());
    }

    /// There is something to send by.
    pub(super) fn is_open(&self) -> bool {
        self.carrier.is_some()
    }

    /// A request is about to be handed to tokio-modbus; without a shape a broadcast.
    pub(super) fn begin(&mut self, shape: Option<Shape>, probe: bool) {
        self.asked = Asked::new(shape, probe);
    }

    /// Bytes of the request went out; all of them.
    pub(super) fn sent(&self) -> (bool, bool) {
        (self.asked.sent > 0, self.asked.is_sent())
    }

    /// Nothing came since the request began to go out.
    pub(super) fn is_unheard(&self) -> bool {
        self.asked.came == Came::Nothing
    }

    /// The units need so much time for the broadcast that just went out. Says when it is over.
    pub(super) fn rest(&mut self, turnaround: Duration) -> Instant {
        self.rest_until = self.quiet_from.max(Instant::now()) + turnaround;
        self.rest_until
    }

    /// The request is over. Until the next one, whatever comes is late.
    pub(super) fn end(&mut self) {
        self.asked = Asked::default();
    }

    /// Why the request will have no answer, if that is known already.
    pub(super) fn verdict(&mut self) -> Option<DriverError> {
        self.asked.verdict.take()
    }

    /// Something came since the request.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(self.asked.came, Came::Nothing)
    }

    /// The time of a request to `unit` is over: says what that means.
    pub(super) fn expire(&mut self, unit: u8) -> DriverError {
        match self.asked.came {
            Came::Something | Came::Damage if self.asked.shape.is_some() && self.asked.sent == 0 => {
                DriverError::Noise
            }
            Came::Nothing => {
                // A request that found no time to go out is no silence of the unit; a turn of listening is.
                if self.asked.sent > 0 || self.asked.shape.is_none() {
                    self.quarantine.silent(unit);
                }
                DriverError::Timeout
            }
            Came::Something if self.frames.rest() == 0 => DriverError::Timeout,
            // It was still coming: too late, but not damaged.
            Came::Something if Instant::now() < self.quiet_from + LATENCY => DriverError::Timeout,
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
                let carrier = self.carrier.as_mut().ok_or(io::ErrorKind::NotConnected)?;
                match carrier.try_read(&mut chunk) {
                    Ok(0) => return Poll::Ready(Err(carrier.gone())),
                    Ok(n) => {
                        self.counters.stale += count(n);
                        self.take(chunk.get(..n).unwrap_or_default(), None);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            let until = self.quiet_from.max(self.rest_until);
            if Instant::now() >= until {
                self.counters.garbage += count(self.frames.clear());
                return Poll::Ready(Ok(()));
            }
            let timer = match &mut self.timer {
                Some(timer) => timer,
                none => none.insert(self.carrier.as_ref().ok_or(io::ErrorKind::NotConnected)?.timer()?),
            };
            ready!(timer.poll(cx, until))?;
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
            let carrier = self.carrier.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            ready!(carrier.poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                // A terminal that hung up is always ready and always empty: asking again would be a busy loop.
                return Poll::Ready(Err(carrier.gone()));
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
        if self.asked.sent == 0 {
            // tokio-modbus hands a whole frame over.
            self.asked.outgoing = self.frames.encode(bytes);
            self.asked.head = Asked::head_of(bytes);
        }
        while let Some(rest) = self.asked.outgoing.get(self.asked.sent..).filter(|rest| !rest.is_empty()) {
            let carrier = self.carrier.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            let written = ready!(carrier.poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if self.asked.sent == 0
                && let Some(shape) = self.asked.shape
            {
                self.quarantine.sent(shape, self.asked.probe);
            }
            self.asked.sent += written;
            // The terminal took the bytes at once; the line needs its time for them.
            let time = self.character.saturating_mul(u32::try_from(written).unwrap_or(u32::MAX));
            self.quiet_from = self.quiet_from.max(Instant::now()) + time;
        }
        Poll::Ready(Ok(bytes.len()))
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
        #[cfg(feature = "mutant")]
        let frame = self.asked.mistaken(frame, newest);
        if matches!(frame.shape.function, 1..=4) && self.asked.is_request(&frame.bytes) {
            // The line hears itself. A request for a place from 0x300 to 0x3FF reads as an answer of three bytes,
            // and with 17 to 24 bits that is the very size awaited.
            self.counters.skipped += 1;
            return;
        }
        if newest == Some(frame.shape)
            && !frame.exception
            && frame.shape.is_confirmation()
            && !self.asked.is_echoed(&frame.bytes)
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
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
