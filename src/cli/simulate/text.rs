//! Devices of frames on a line: they answer their request, or talk by themselves.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until};
use tokio_serial::SerialStream;

use super::SimulateError;
use super::content::Content;
use crate::config::{Encoding, Frame};
use crate::point::{Device, Protocol};

/// Bytes that hold no request yet are kept up to here; a request has 256 at most.
const PENDING: usize = 1024;

/// A device that talks by itself is never faster than this.
const FASTEST: Duration = Duration::from_millis(5);

/// One text device.
#[derive(Debug)]
pub(super) struct Talker {
    content: Content,
    start: Instant,
    turn: Turn,
}

/// When it talks.
#[derive(Debug)]
enum Turn {
    Asked(Box<[u8]>),
    Alone { every: Duration, next: Instant },
}

impl Talker {
    /// `None` for a device that is none of text.
    pub(super) fn new(
        device: &Device,
        frame: &Frame,
        encoding: Encoding,
    ) -> Result<Option<Self>, SimulateError> {
        let Protocol::Text { request, decode, mark } = &device.protocol else {
            return Ok(None);
        };
        let content = Content::new(device, decode, *mark, encoding)?;
        if content.frame(frame, Duration::ZERO).is_none() {
            return Err(SimulateError::Frame(device.id.to_string()));
        }
        let start = Instant::now();
        let turn = match request {
            Some(request) => Turn::Asked(request.clone()),
            None => Turn::Alone { every: (device.poll_interval / 2).max(FASTEST), next: start },
        };
        Ok(Some(Self { content, start, turn }))
    }

    fn frame(&self, frame: &Frame) -> Vec<u8> {
        self.content.frame(frame, self.start.elapsed()).unwrap_or_default()
    }
}

/// Talks until the terminal fails.
pub(super) async fn talk(mut stream: SerialStream, talkers: &mut [Talker], frame: &Frame) {
    let mut pending: Vec<u8> = Vec::new();
    let mut buffer = [0; 256];
    loop {
        let next = talkers.iter().filter_map(|talker| match talker.turn {
            Turn::Alone { next, .. } => Some(next),
            Turn::Asked(_) => None,
        });
        let next = next.min();
        tokio::select! {
            read = stream.read(&mut buffer) => {
                let Ok(count @ 1..) = read else {
                    return;
                };
                pending.extend_from_slice(buffer.get(..count).unwrap_or_default());
                for answer in answers(talkers, &mut pending, frame) {
                    say(&mut stream, &answer);
                }
            }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                let now = Instant::now();
                for talker in &mut *talkers {
                    if let Turn::Alone { every, next } = &mut talker.turn && *next <= now {
                        // Turns that were missed stay missed.
                        *next = now + *every;
                        say(&mut stream, &talker.frame(frame));
                    }
                }
            }
        }
    }
}

/// The answers to all requests that have come, in their order.
fn answers(talkers: &[Talker], pending: &mut Vec<u8>, frame: &Frame) -> Vec<Vec<u8>> {
    let mut answers = Vec::new();
    loop {
        let found = talkers.iter().filter_map(|talker| match &talker.turn {
            Turn::Asked(request) => {
                let at = pending.windows(request.len()).position(|window| *window == **request)?;
                Some((at + request.len(), request.len(), talker))
            }
            Turn::Alone { .. } => None,
        });
        // The first to end; of those the longest, since one request may end like another.
        let first = found.min_by_key(|(until, length, _)| (*until, usize::MAX - length));
        let Some((until, _, talker)) = first else {
            break;
        };
        pending.drain(..until);
        answers.push(talker.frame(frame));
    }
    let surplus = pending.len().saturating_sub(PENDING);
    pending.drain(..surplus);
    answers
}

/// Drops what does not fit, as a line drops it when nobody listens.
fn say(stream: &mut SerialStream, bytes: &[u8]) {
    stream.write(bytes).now_or_never();
}
