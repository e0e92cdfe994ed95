//! Units on a bus, by RTU or ASCII frames on a serial line or over TCP: one request at a time, and a probe
//! first where an answer could be mistaken.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_modbus::client::{Client as _, Context, rtu};
use tokio_modbus::slave::{Slave, SlaveContext as _};
use tokio_modbus::{Request, Response};

use super::answer::{Question, Shape, check, is_read, read, size};
use super::ascii;
use super::carrier::Carrier;
use super::codec::Codec;
use super::dial::Dial;
use super::frame;
use super::line::{LineCounters, Port};
use super::pace::Pace;
use super::quarantine::Before;
use super::stream::Line;
use super::wire::Wire;
use crate::config::{Framing, SerialLine};
use crate::drivers::{DriverError, port};

/// Where the bus is.
pub(super) enum Access {
    /// At a serial port.
    Serial(SerialLine),
    /// Behind a serial server.
    Server(Dial),
    /// At a pipe in memory, with the timing of this line.
    #[cfg(test)]
    Memory(SerialLine, super::dial::Others),
}

/// A link to the units of a bus.
pub(super) struct Bus {
    access: Access,
    line: Line,
    /// There between requests that came to their end. A call that was dropped leaves bytes in it that must
    /// never go out, so it is dropped too.
    context: Option<Context>,
    pace: Pace,
    wire: Wire,
    /// Something was sent, so that something late may come.
    is_spent: bool,
    /// The connection was lost before anything can have been done: asking once more does nothing twice.
    again: bool,
    logged: LineCounters,
}

impl Bus {
    /// A link that is not open yet. `is_ascii`: in hexadecimal, otherwise RTU.
    pub(super) fn new(access: Access, is_ascii: bool, pace: Pace) -> Self {
        let codec = if is_ascii {
            Codec::Ascii(ascii::Frames::default())
        } else {
            Codec::Rtu(frame::Frames::default())
        };
        let timing = match &access {
            Access::Serial(line) => Some(line),
            Access::Server(_) => None,
            #[cfg(test)]
            Access::Memory(line, _) => Some(line),
        };
        Self {
            wire: timing.map_or_else(Wire::none, |line| {
                Wire::line(line, if is_ascii { Framing::Ascii } else { Framing::Rtu })
            }),
            line: Line::new(Port::new(codec, timing)),
            access,
            context: None,
            pace,
            is_spent: false,
            again: false,
            logged: LineCounters::default(),
        }
    }

    /// What the line brought that was not believed.
    pub(super) fn counters(&self) -> LineCounters {
        self.line.port().counters
    }

    /// The spare address, while it is in use.
    pub(super) fn backup(&self) -> Option<String> {
        if let Access::Server(dial) = &self.access { dial.backup() } else { None }
    }

    /// Opens the port or connects, closing first: a port is exclusive, also towards us.
    pub(super) async fn open(&mut self, deadline: Instant) -> Result<(), DriverError> {
        self.close();
        let carrier = match &mut self.access {
            Access::Serial(line) => Carrier::Terminal(port::open(line)?),
            Access::Server(dial) => dial.connect(deadline).await?,
            #[cfg(test)]
            Access::Memory(_, others) => super::dial::pipe(others)?,
        };
        self.line.port().attach(Some(carrier));
        self.pace.open();
        Ok(())
    }

    /// What a request may need beside its own rest and the time of its unit: the line's for the longest frames, and the
    /// rest of a port or connection that is opened for it.
    pub(super) fn overhead(&self) -> Duration {
        self.pace.after_connect() + self.wire.longest()
    }

    /// How long a unit is asked for one register and waited for that is silent, before the next one can be asked.
    pub(super) fn time_of_silence(&self, pause: Duration, patience: Duration) -> Duration {
        let is_made_anew = matches!(self.access, Access::Server(_));
        let rest = if is_made_anew { pause.max(self.pace.after_connect()) } else { pause };
        patience + self.wire.time(5, 4) + rest
    }

    /// Asks a unit, which begins to answer in its time, counted from when the rests are over, and has answered by
    /// `deadline`, or not at all.
    pub(super) async fn ask(
        &mut self,
        question: Question<'_>,
        deadline: Instant,
    ) -> Result<Response, DriverError> {
        (self.again, self.is_spent) = (false, false);
        let mut result = self.probe_and_ask(question, deadline).await;
        // Serial servers close an idle connection; that is no error.
        if matches!(result, Err(DriverError::Lost(_))) && std::mem::take(&mut self.again) {
            result = self.probe_and_ask(question, deadline).await;
        }
        let failed = !matches!(result, Ok(_) | Err(DriverError::Refused(_)));
        if failed && self.is_spent && matches!(self.access, Access::Server(_)) {
            // What is late dies with its connection, unless the server keeps it for the next: the quarantine
            // stays.
            self.close();
        }
        let counters = self.counters();
        if counters != self.logged {
            let LineCounters { stale, garbage, skipped } = counters;
            tracing::debug!(
                place = self.place(),
                stale,
                garbage,
                skipped,
                "the line brought what nobody waits for"
            );
            self.logged = counters;
        }
        result
    }

    /// Sends a request that every unit obeys and none answers, and gives them time for it.
    pub(super) async fn broadcast(
        &mut self,
        request: &Request<'_>,
        pause: Duration,
        turnaround: Duration,
        deadline: Instant,
    ) -> Result<(), DriverError> {
        self.make_ready(pause, deadline, deadline).await?;
        // Not a context that is kept: tokio-modbus would wait for an answer.
        let mut context = rtu::attach_slave(self.line.clone(), Slave::broadcast());
        let line = &self.line;
        line.port().begin(None, false);
        let mut call = context.call(request.clone());
        let sent = poll_fn(|cx| match call.as_mut().poll(cx) {
            _ if line.port().sent().1 => Poll::Ready(Ok(())),
            Poll::Ready(Err(tokio_modbus::Error::Transport(error))) => Poll::Ready(Err(error)),
            Poll::Ready(_) => Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            Poll::Pending => Poll::Pending,
        });
        let sent = timeout_at(deadline, sent).await;
        drop(call);
        drop(context);
        let rest = self.line.port().rest(turnaround);
        self.line.port().end();
        self.pace.end();
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(self.lose(&error)),
            Err(_elapsed) => {
                // Half a request must not be completed by the next.
                self.close();
                return Err(DriverError::Timeout);
            }
        }
        sleep_until(rest.min(deadline)).await;
        Ok(())
    }

    async fn probe_and_ask(
        &mut self,
        question: Question<'_>,
        deadline: Instant,
    ) -> Result<Response, DriverError> {
        let Question { unit, request, place: (start, count), .. } = question;
        let shape = Shape::of(unit, request).ok_or_else(too_large)?;
        loop {
            let before = self.line.port().quarantine.before(shape, count);
            match before {
                Before::Send => return self.call(shape, question, false, deadline).await,
                Before::Listen => {
                    return Err(self.listen(unit, deadline.min(Instant::now() + question.patience)).await);
                }
                Before::Probe { function, count } => {
                    // Not over the end of the area.
                    let start = start.min(u16::MAX - (count - 1));
                    let probe = read(function, start, count).ok_or_else(too_large)?;
                    let shape = Shape::of(unit, &probe).ok_or_else(too_large)?;
                    match self.call(shape, Question { request: &probe, ..question }, true, deadline).await {
                        // Refused or not, it was answered: nothing older is still to come.
                        Ok(_) | Err(DriverError::Refused(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    async fn call(
        &mut self,
        shape: Shape,
        Question { request, pause, patience, .. }: Question<'_>,
        probe: bool,
        deadline: Instant,
    ) -> Result<Response, DriverError> {
        self.make_ready(pause, deadline.min(Instant::now() + patience), deadline).await?;
        let asked = Instant::now() + patience;
        // Only who has begun to answer gets the time that the answer takes.
        let first = deadline.min(asked + self.wire.time(size(request), 0));
        let deadline = deadline.min(asked + self.wire.time(size(request), 1 + u32::from(shape.bytes)));
        self.is_spent = true;
        let slave = Slave(shape.unit);
        let mut context = self.context.take().unwrap_or_else(|| rtu::attach_slave(self.line.clone(), slave));
        context.set_slave(slave);
        let line = &self.line;
        line.port().begin(Some(shape), probe);
        let mut call = context.call(request.clone());
        let mut answer = poll_fn(|cx| match call.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Ok(result)),
            Poll::Pending => match line.port().verdict() {
                Some(error) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            },
        });
        let answered = match timeout_at(first, &mut answer).await {
            Err(_) if line.port().has_begun() => timeout_at(deadline, &mut answer).await,
            answered => answered,
        };
        drop(call);
        let result = match answered {
            Ok(Ok(Ok(result))) => {
                self.context = Some(context);
                match result {
                    Ok(response) => check(request, &response).map(|()| response),
                    Err(exception) => Err(DriverError::Refused(exception.into())),
                }
            }
            Ok(Ok(Err(tokio_modbus::Error::Transport(error))))
                if error.kind() != io::ErrorKind::InvalidData =>
            {
                let (begun, _) = line.port().sent();
                self.again = matches!(self.access, Access::Server(_))
                    && line.port().is_unheard()
                    && (is_read(request) || !begun);
                Err(self.lose(&error))
            }
            Ok(Ok(Err(error))) => Err(DriverError::Malformed(error.to_string())),
            Ok(Err(verdict)) => Err(verdict),
            Err(_elapsed) => Err(line.port().expire(shape.unit)),
        };
        self.line.port().end();
        self.pace.end();
        result
    }

    /// Connects where the connection was given up, by `connected`, and keeps the rests.
    async fn make_ready(
        &mut self,
        pause: Duration,
        connected: Instant,
        deadline: Instant,
    ) -> Result<(), DriverError> {
        let is_open = self.line.port().is_open();
        if !is_open && matches!(self.access, Access::Server(_)) {
            self.open(connected).await?;
        }
        self.pace.wait(pause, deadline).await
    }

    /// Waits for silence of a unit that says what nobody asked.
    async fn listen(&mut self, unit: u8, deadline: Instant) -> DriverError {
        if let Err(error) = self.make_ready(Duration::ZERO, deadline, deadline).await {
            return error;
        }
        self.is_spent = true;
        let line = &self.line;
        line.port().end();
        let heard = timeout_at(deadline, poll_fn(|cx| line.port().poll_listen(cx))).await;
        match heard {
            Ok(error) => self.lose(&error),
            Err(_elapsed) => line.port().expire(unit),
        }
    }

    fn close(&mut self) {
        self.context = None;
        self.line.port().attach(None);
    }

    fn lose(&mut self, error: &io::Error) -> DriverError {
        self.close();
        DriverError::Lost(format!("{}: {error}", self.place()))
    }

    fn place(&self) -> String {
        match &self.access {
            Access::Serial(line) => line.port.to_string(),
            Access::Server(dial) => dial.place(),
            #[cfg(test)]
            Access::Memory(..) => "memory".to_owned(),
        }
    }
}

fn too_large() -> DriverError {
    DriverError::Malformed("the request is larger than Modbus allows".to_owned())
}
