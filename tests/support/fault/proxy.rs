//! Carries requests to a device and its answers back, with faults.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};

use super::Shared;
use super::harm::{Case, Step};
use super::wire::{Message, Wire};

/// A stream of any kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One end of a connection.
pub type End = Box<dyn Stream>;

/// One line to the device and the connections of the gateway to it, of which the newest counts.
///
/// As the worst of serial servers do, it hands what is late to whoever is connected then.
pub struct Proxy {
    gateways: UnboundedReceiver<End>,
    device: End,
    wire: Wire,
    is_connection: bool,
    faults: Shared,
    /// Of the gateway, not yet a request.
    kept: Vec<u8>,
    /// Of the device, for later.
    held: Vec<u8>,
}

/// The test is over: no gateway comes any more, or the device is gone.
struct Over;

impl Proxy {
    /// A proxy before this device. `is_connection`: a gateway's end may be reset and comes again.
    pub fn new(
        gateways: UnboundedReceiver<End>,
        device: End,
        wire: Wire,
        is_connection: bool,
        faults: Shared,
    ) -> Self {
        Self { gateways, device, wire, is_connection, faults, kept: Vec::new(), held: Vec::new() }
    }

    /// Carries until no gateway comes any more.
    pub async fn run(mut self) {
        let Some(mut gateway) = self.gateways.recv().await else { return };
        while self.carry(&mut gateway).await.is_ok() {}
    }

    /// One request and its answer.
    async fn carry(&mut self, gateway: &mut End) -> Result<(), Over> {
        let has_waited = !self.kept.is_empty();
        let request = self.request(gateway).await?;
        let begun = Instant::now();
        let answer = self.ask(&request).await?;
        self.look(gateway).await;
        let patience = self.faults.lock().times.patience;
        let is_fresh = !has_waited && self.kept.is_empty() && begun.elapsed() < patience / 2;
        let case = Case {
            wire: self.wire,
            is_connection: self.is_connection,
            request: &request,
            answer: &answer,
            is_fresh,
        };
        let steps = self.faults.lock().choose(&case);
        for step in steps {
            match step {
                Step::Wait(time) => sleep(time).await,
                Step::Send(bytes) => {
                    self.look(gateway).await;
                    self.held.extend(bytes);
                    while gateway.write_all(&self.held).await.is_err() {
                        self.replace(gateway).await?;
                    }
                    self.held.clear();
                }
                Step::Keep(bytes) => self.held.extend(bytes),
                Step::Reset | Step::Hang => {
                    if step == Step::Reset {
                        *gateway = Box::new(tokio::io::empty());
                    }
                    self.kept.clear();
                    return self.forget(gateway).await;
                }
            }
        }
        Ok(())
    }

    /// The next request, of this gateway or of the one that comes after it.
    async fn request(&mut self, gateway: &mut End) -> Result<Message, Over> {
        let mut chunk = [0; 512];
        loop {
            if let Some(request) = self.wire.cut_request(&mut self.kept) {
                return Ok(request);
            }
            tokio::select! {
                biased;
                read = gateway.read(&mut chunk) => match read {
                    Ok(count @ 1..) => self.kept.extend_from_slice(&chunk[..count]),
                    _ => self.replace(gateway).await?,
                },
                Some(newer) = self.gateways.recv(), if !self.gateways.is_closed() => *gateway = newer,
            }
        }
    }

    async fn ask(&mut self, request: &Message) -> Result<Message, Over> {
        let mut kept = Vec::new();
        let mut chunk = [0; 512];
        self.device.write_all(&self.wire.pack(request)).await.map_err(|_| Over)?;
        loop {
            if let Some(answer) = self.wire.cut_answer(&mut kept) {
                return Ok(answer);
            }
            match self.device.read(&mut chunk).await {
                Ok(count @ 1..) => kept.extend_from_slice(&chunk[..count]),
                _ => return Err(Over),
            }
        }
    }

    /// Takes what the gateway said meanwhile, and a newer gateway that came.
    async fn look(&mut self, gateway: &mut End) {
        loop {
            let mut chunk = [0; 512];
            let mut buffer = ReadBuf::new(&mut chunk);
            let read = poll_fn(|cx| match Pin::new(&mut *gateway).poll_read(cx, &mut buffer) {
                Poll::Pending => Poll::Ready(false),
                Poll::Ready(result) => Poll::Ready(result.is_ok()),
            });
            let more = read.await && !buffer.filled().is_empty();
            self.kept.extend_from_slice(buffer.filled());
            if more {
                continue;
            }
            match self.gateways.try_recv() {
                Ok(newer) => *gateway = newer,
                Err(_) => return,
            }
        }
    }

    /// Answers this gateway no more, until another comes.
    async fn forget(&mut self, gateway: &mut End) -> Result<(), Over> {
        let mut chunk = [0; 512];
        loop {
            tokio::select! {
                read = gateway.read(&mut chunk) => match read {
                    Ok(1..) => {}
                    _ => return self.replace(gateway).await,
                },
                Some(newer) = self.gateways.recv(), if !self.gateways.is_closed() => {
                    *gateway = newer;
                    return Ok(());
                }
            }
        }
    }

    async fn replace(&mut self, gateway: &mut End) -> Result<(), Over> {
        *gateway = self.gateways.recv().await.ok_or(Over)?;
        Ok(())
    }
}
