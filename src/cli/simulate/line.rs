//! The Modbus units that share a link.

use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};
use tokio_modbus::{ExceptionCode, Response, SlaveRequest};

use super::unit::Unit;

/// How long to wait when connections cannot be accepted (no file descriptors left).
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// The units of one link.
#[derive(Clone, Debug)]
pub(super) struct Line {
    units: Arc<Mutex<BTreeMap<u8, Unit>>>,
    /// A serial line: no answer for a unit that is not there, and unit 0 means all of them.
    serial: bool,
}

impl Line {
    /// `serial`: as on a serial line, otherwise as a TCP server.
    pub(super) fn new(units: BTreeMap<u8, Unit>, serial: bool) -> Self {
        let units = Arc::new(Mutex::new(units));
        Self { units, serial }
    }
}

impl Service for Line {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Self::Response, Self::Exception>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        let SlaveRequest { slave, request } = request;
        if self.serial && slave == 0 {
            for unit in units.values_mut() {
                // Nobody answers to all.
                unit.answer(&request).ok();
            }
            return ready(Ok(None));
        }
        ready(match units.get_mut(&slave) {
            Some(unit) => unit.answer(&request).map(Some),
            None if self.serial => Ok(None),
            None => Err(ExceptionCode::GatewayTargetDevice),
        })
    }
}

/// Answers on a port, for ever.
pub(super) async fn serve_tcp(listener: TcpListener, line: Line) {
    let server = Server::new(listener);
    let connected = |stream: TcpStream, peer| {
        let line = line.clone();
        async move { accept_tcp_connection(stream, peer, |_| Ok(Some(line.clone()))) }
    };
    loop {
        let _ended = server.serve(&connected, |_gone| {}).await;
        tokio::time::sleep(ACCEPT_AGAIN).await;
    }
}
