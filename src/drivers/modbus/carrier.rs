//! What carries the frames of a bus: a terminal, or a TCP connection to a serial server.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_serial::SerialStream;

/// An open terminal or connection.
#[derive(Debug)]
pub(super) enum Carrier {
    /// A terminal.
    Terminal(SerialStream),
    /// A connection to a serial server.
    Connection(TcpStream),
}

impl Carrier {
    /// Takes what is there without waiting; costs no system call while the reactor saw nothing.
    pub(super) fn try_read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Terminal(terminal) => terminal.try_read(out),
            Self::Connection(connection) => connection.try_read(out),
        }
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Terminal(terminal) => Pin::new(terminal).poll_read(cx, out),
            Self::Connection(connection) => Pin::new(connection).poll_read(cx, out),
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Terminal(terminal) => Pin::new(terminal).poll_write(cx, bytes),
            Self::Connection(connection) => Pin::new(connection).poll_write(cx, bytes),
        }
    }

    /// Why nothing more comes: the carrier was read and gave no byte.
    pub(super) fn gone(&self) -> io::Error {
        let why = match self {
            Self::Terminal(_) => "the port hung up",
            Self::Connection(_) => "the other side closed the connection",
        };
        io::Error::new(io::ErrorKind::BrokenPipe, why)
    }
}
