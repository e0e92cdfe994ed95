//! Modbus TCP: a connection that is dropped at the first doubt and made again by the next request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tokio_modbus::Response;
use tokio_modbus::client::{Client as _, Context, tcp};
use tokio_modbus::slave::{Slave, SlaveContext as _};

use super::answer::{Question, check, is_read};
use super::carrier::Carrier;
use super::dial::Dial;
use super::pace::Pace;
use crate::drivers::DriverError;

/// A Modbus TCP link.
pub(super) struct Tcp {
    dial: Dial,
    pace: Pace,
    /// There between requests that came to their end; a late answer dies with the connection it was for.
    connection: Option<Connection>,
}

struct Connection {
    context: Context,
    trace: Arc<Trace>,
}

/// What happened on a connection since the last request began.
#[derive(Debug, Default)]
struct Trace {
    /// Bytes of the request went out.
    sent: AtomicBool,
    /// Bytes came.
    heard: AtomicBool,
    /// The other side closed it, or it broke.
    ended: AtomicBool,
}

/// How a request on one connection ended without an answer.
enum Failure {
    Device(DriverError),
    /// The connection was gone; `again`: nothing can have been done twice by asking once more.
    Ended {
        error: DriverError,
        again: bool,
    },
}

impl Tcp {
    /// A link that is not connected yet.
    pub(super) fn new(dial: Dial, pace: Pace) -> Self {
        Self { dial, pace, connection: None }
    }

    /// The spare address, while it is in use.
    pub(super) fn backup(&self) -> Option<String> {
        self.dial.backup()
    }

    /// Connects anew.
    pub(super) async fn open(&mut self, deadline: Instant) -> Result<(), DriverError> {
        self.connection = None;
        self.connection = Some(self.connect(deadline).await?);
        Ok(())
    }

    /// What a request may need beside its own rest and the time of its unit: the rest of a connection that is made for
    /// it.
    pub(super) fn overhead(&self) -> Duration {
        self.pace.after_connect()
    }

    /// Asks a unit, which answers in its time, counted from when the rests are over, and by `deadline`, or not at all.
    ///
    /// Many devices close an idle connection. A request that finds it closed goes out once more on a fresh
    /// one: a read if nothing of an answer came, a write only if nothing of it was sent.
    pub(super) async fn ask(
        &mut self,
        question: Question<'_>,
        deadline: Instant,
    ) -> Result<Response, DriverError> {
        if let Some(kept) = self.connection.take() {
            match self.call(kept, question, deadline).await {
                Ok(response) => return Ok(response),
                Err(Failure::Ended { again: true, .. }) => {}
                Err(Failure::Device(error) | Failure::Ended { error, .. }) => return Err(error),
            }
        }
        let fresh = self.connect(deadline.min(Instant::now() + question.patience)).await?;
        match self.call(fresh, question, deadline).await {
            Ok(response) => Ok(response),
            Err(Failure::Device(error) | Failure::Ended { error, .. }) => Err(error),
        }
    }

    async fn connect(&mut self, deadline: Instant) -> Result<Connection, DriverError> {
        let stream = self.dial.connect(deadline).await?;
        self.pace.open();
        let trace = Arc::new(Trace::default());
        let wire = Wire {
            stream,
            trace: Arc::clone(&trace),
            #[cfg(feature = "mutant")]
            asked: None,
        };
        let context = tcp::attach_slave(wire, Slave::tcp_device());
        Ok(Connection { context, trace })
    }

    /// Asks on this connection, and keeps it if it is still good.
    async fn call(
        &mut self,
        mut connection: Connection,
        Question { unit, request, pause, patience, .. }: Question<'_>,
        deadline: Instant,
    ) -> Result<Response, Failure> {
        if let Err(error) = self.pace.wait(pause, deadline).await {
            self.connection = Some(connection);
            return Err(Failure::Device(error));
        }
        let deadline = deadline.min(Instant::now() + patience);
        let trace = &connection.trace;
        trace.sent.store(false, Relaxed);
        trace.heard.store(false, Relaxed);
        connection.context.set_slave(Slave(unit));
        let result = timeout_at(deadline, connection.context.call(request.clone())).await;
        self.pace.end();
        let error = match result {
            Ok(Ok(Ok(response))) => match check(request, &response) {
                Ok(()) => {
                    self.connection = Some(connection);
                    return Ok(response);
                }
                Err(error) => error,
            },
            Ok(Ok(Err(exception))) => {
                self.connection = Some(connection);
                DriverError::Refused(exception.into())
            }
            Ok(Err(error)) if trace.ended.load(Relaxed) => {
                return Err(Failure::Ended {
                    error: DriverError::Lost(format!("{}: {error}", self.dial.place())),
                    again: !trace.heard.load(Relaxed) && (is_read(request) || !trace.sent.load(Relaxed)),
                });
            }
            // A foreign answer, or bytes that are no Modbus.
            Ok(Err(error)) => DriverError::Malformed(error.to_string()),
            Err(_elapsed) if trace.heard.load(Relaxed) => {
                DriverError::Malformed("no whole answer came".to_owned())
            }
            Err(_elapsed) => DriverError::Timeout,
        };
        Err(Failure::Device(error))
    }
}

/// The socket under tokio-modbus, which would report a closed connection by whatever errno is around.
#[derive(Debug)]
struct Wire {
    stream: Carrier,
    trace: Arc<Trace>,
    /// How the last request began: transaction, protocol, length, unit, function.
    #[cfg(feature = "mutant")]
    asked: Option<[u8; 8]>,
}

impl Wire {
    fn ended(&self, error: io::Error) -> io::Error {
        self.trace.ended.store(true, Relaxed);
        error
    }

    /// Bytes or an end that came before the request: either way this connection is not to be used.
    fn stale(&mut self) -> Option<io::Error> {
        // Costs no system call while the reactor saw nothing.
        let mut byte = [0];
        match self.stream.try_read(&mut byte) {
            Ok(0) => Some(closed()),
            Ok(_) => {
                Some(io::Error::new(io::ErrorKind::ConnectionReset, "the device sent what nobody asked"))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(error),
        }
    }
}

/// Makes the head of an answer what a driver takes it for that does not look at transaction, unit or function.
#[cfg(feature = "mutant")]
fn mistake(head: &mut [u8], asked: [u8; 8]) {
    for (what, field) in [("no-transaction", 0..2), ("no-unit", 6..7), ("no-function", 7..8)] {
        if crate::mutant::is(what)
            && let (Some(head), Some(asked)) = (head.get_mut(field.clone()), asked.get(field))
        {
            head.copy_from_slice(asked);
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the device closed the connection")
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Task<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let result = ready!(self.stream.poll_read(cx, out));
        #[cfg(feature = "mutant")]
        if let Some(asked) = self.asked.take()
            && let Some(head) = out.filled_mut().get_mut(before..before + 8)
        {
            mistake(head, asked);
        }
        Poll::Ready(match result {
            Ok(()) if out.filled().len() == before => Err(self.ended(closed())),
            Ok(()) => {
                self.trace.heard.store(true, Relaxed);
                Ok(())
            }
            Err(error) => Err(self.ended(error)),
        })
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Task<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.trace.sent.load(Relaxed)
            && let Some(error) = self.stale()
        {
            return Poll::Ready(Err(self.ended(error)));
        }
        #[cfg(feature = "mutant")]
        {
            self.asked = bytes.first_chunk().copied();
        }
        let result = ready!(self.stream.poll_write(cx, bytes));
        Poll::Ready(match result {
            Ok(written) => {
                self.trace.sent.store(true, Relaxed);
                Ok(written)
            }
            Err(error) => Err(self.ended(error)),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
        // A connection keeps nothing back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Task<'_>) -> Poll<io::Result<()>> {
        // It is closed by being dropped.
        Poll::Ready(Ok(()))
    }
}
