//! What carries frames: a terminal, or a TCP connection to a server or serial server.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_serial::SerialStream;

use super::timer::Timer;

/// An open terminal or connection.
#[derive(Debug)]
pub(super) enum Carrier {
    /// A terminal.
    Terminal(SerialStream),
    /// A connection to a server.
    Connection(TcpStream),
    /// A pipe in memory, for tests whose time stands still while they wait.
    #[cfg(test)]
    Memory(tokio::io::DuplexStream),
}

impl Carrier {
    /// Takes what is there without waiting; costs no system call while the reactor saw nothing.
    pub(super) fn try_read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Terminal(terminal) => terminal.try_read(out),
            Self::Connection(connection) => connection.try_read(out),
            #[cfg(test)]
            Self::Memory(pipe) => {
                let mut buffer = ReadBuf::new(out);
                let mut cx = Context::from_waker(std::task::Waker::noop());
                match Pin::new(pipe).poll_read(&mut cx, &mut buffer) {
                    Poll::Ready(result) => result.map(|()| buffer.filled().len()),
                    Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
                }
            }
        }
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Terminal(terminal) => Pin::new(terminal).poll_read(cx, out),
            Self::Connection(connection) => Pin::new(connection).poll_read(cx, out),
            #[cfg(test)]
            Self::Memory(pipe) => Pin::new(pipe).poll_read(cx, out),
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Terminal(terminal) => Pin::new(terminal).poll_write(cx, bytes),
            Self::Connection(connection) => Pin::new(connection).poll_write(cx, bytes),
            #[cfg(test)]
            Self::Memory(pipe) => Pin::new(pipe).poll_write(cx, bytes),
        }
    }

    /// What times its silences.
    pub(super) fn timer(&self) -> io::Result<Timer> {
        match self {
            Self::Terminal(_) => Timer::exact(),
            Self::Connection(_) => Ok(Timer::coarse()),
            #[cfg(test)]
            Self::Memory(_) => Ok(Timer::coarse()),
        }
    }

    /// Why nothing more comes: the carrier was read and gave no byte.
    pub(super) fn gone(&self) -> io::Error {
        let why = match self {
            Self::Terminal(_) => "the port hung up",
            Self::Connection(_) => "the other side closed the connection",
            #[cfg(test)]
            Self::Memory(_) => "the pipe ended",
        };
        io::Error::new(io::ErrorKind::BrokenPipe, why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_terminal_has_characters_to_count() {
        let (terminal, _other) = SerialStream::pair().unwrap();
        assert!(matches!(Carrier::Terminal(terminal).timer(), Ok(Timer::Exact(_))));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(matches!(Carrier::Connection(connection).timer(), Ok(Timer::Coarse(_))));
    }
}
