//! The stream under tokio-modbus.
//!
//! tokio-modbus owns the stream it is given and would believe any frame with a good CRC. So it gets a
//! [`Line`], while the [`Port`] behind it stays with the driver: both are used by one task, the lock is never
//! contended and never held over an await.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::line::Port;

/// The stream tokio-modbus gets: one of any number of doors to the same [`Port`].
#[derive(Clone)]
pub(super) struct Line(Arc<Mutex<Port>>);

impl Line {
    /// A door to a port.
    pub(super) fn new(port: Port) -> Self {
        Self(Arc::new(Mutex::new(port)))
    }

    /// The port behind it.
    pub(super) fn port(&self) -> MutexGuard<'_, Port> {
        // Nothing in a port is half done after a panic: it is bytes and counters.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.port().poll_answer(cx, out)
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.port().poll_send(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Flushing a terminal is tcdrain(3), which blocks the loop until the last bit has left.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
