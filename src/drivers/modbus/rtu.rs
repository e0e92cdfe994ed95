//! Modbus RTU: one request at a time on a serial line, and a probe first where an answer could be mistaken.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use tokio::time::{Instant, timeout_at};
use tokio_modbus::client::{Client as _, Context, rtu};
use tokio_modbus::slave::{Slave, SlaveContext as _};
use tokio_modbus::{Request, Response};

use super::answer::{Shape, check, read};
use super::line::{LineCounters, Port};
use super::quarantine::Before;
use super::stream::Line;
use crate::config::SerialLine;
use crate::drivers::{DriverError, port};

/// A Modbus RTU link.
pub(super) struct Rtu {
    settings: SerialLine,
    line: Line,
    /// There between requests that came to their end. A call that was dropped leaves bytes in it that must
    /// never go out, so it is dropped too.
    context: Option<Context>,
    logged: LineCounters,
}

impl Rtu {
    /// A link that is not open yet.
    pub(super) fn new(settings: SerialLine) -> Self {
        Self {
            line: Line::new(Port::new(&settings)),
            settings,
            context: None,
            logged: LineCounters::default(),
        }
    }

    /// What the line brought that was not believed.
    pub(super) fn counters(&self) -> LineCounters {
        self.line.port().counters
    }

    /// Opens the port, closing it first: it is exclusive, also towards us.
    pub(super) fn open(&mut self) -> Result<(), DriverError> {
        self.context = None;
        self.line.port().attach(None);
        let stream = port::open(&self.settings)?;
        self.line.port().attach(Some(stream));
        Ok(())
    }

    /// Asks `unit`, which answers by `deadline` or not at all.
    ///
    /// `start` and `count` say what the request reads or writes.
    pub(super) async fn ask(
        &mut self,
        unit: u8,
        request: &Request<'_>,
        (start, count): (u16, u16),
        deadline: Instant,
    ) -> Result<Response, DriverError> {
        let result = self.probe_and_ask(unit, request, (start, count), deadline).await;
        let counters = self.counters();
        if counters != self.logged {
            let LineCounters { stale, garbage, skipped } = counters;
            let port = self.settings.path.display();
            tracing::debug!(%port, stale, garbage, skipped, "the line brought what nobody waits for");
            self.logged = counters;
        }
        result
    }

    async fn probe_and_ask(
        &mut self,
        unit: u8,
        request: &Request<'_>,
        (start, count): (u16, u16),
        deadline: Instant,
    ) -> Result<Response, DriverError> {
        let shape = Shape::of(unit, request).ok_or_else(too_large)?;
        loop {
            let before = self.line.port().quarantine.before(shape, count);
            match before {
                Before::Send => return self.call(shape, request, false, deadline).await,
                Before::Listen => return Err(self.listen(unit, deadline).await),
                Before::Probe { function, count } => {
                    // Not over the end of the area.
                    let start = start.min(u16::MAX - (count - 1));
                    let probe = read(function, start, count).ok_or_else(too_large)?;
                    let shape = Shape::of(unit, &probe).ok_or_else(too_large)?;
                    match self.call(shape, &probe, true, deadline).await {
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
        request: &Request<'_>,
        probe: bool,
        deadline: Instant,
    ) -> Result<Response, DriverError> {
        let slave = Slave(shape.unit);
        let mut context = self.context.take().unwrap_or_else(|| rtu::attach_slave(self.line.clone(), slave));
        context.set_slave(slave);
        let line = &self.line;
        line.port().begin(shape, probe);
        let mut call = context.call(request.clone());
        let answered = poll_fn(|cx| match call.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Ok(result)),
            Poll::Pending => match line.port().verdict() {
                Some(error) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            },
        });
        let answered = timeout_at(deadline, answered).await;
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
                Err(self.lose(&error))
            }
            Ok(Ok(Err(error))) => Err(DriverError::Malformed(error.to_string())),
            Ok(Err(verdict)) => Err(verdict),
            Err(_elapsed) => Err(line.port().expire(shape.unit)),
        };
        self.line.port().end();
        result
    }

    /// Waits for silence of a unit that says what nobody asked.
    async fn listen(&mut self, unit: u8, deadline: Instant) -> DriverError {
        let line = &self.line;
        line.port().end();
        let heard = timeout_at(deadline, poll_fn(|cx| line.port().poll_listen(cx))).await;
        match heard {
            Ok(error) => self.lose(&error),
            Err(_elapsed) => line.port().expire(unit),
        }
    }

    fn lose(&mut self, error: &io::Error) -> DriverError {
        self.context = None;
        self.line.port().attach(None);
        DriverError::Lost(format!("{}: {error}", self.settings.path.display()))
    }
}

fn too_large() -> DriverError {
    DriverError::Malformed("the request is larger than Modbus allows".to_owned())
}
