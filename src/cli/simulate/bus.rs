//! Frames of a bus, RTU and ASCII, on a line or over TCP. tokio-modbus has a server for RTU on a line alone, and that one
//! is silent about a function it does not know instead of refusing it.

use std::io;
use std::time::Duration;

use crc::{CRC_16_MODBUS, Crc};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_modbus::server::Service as _;
use tokio_modbus::{Request, Response, SlaveRequest};

use super::line::Line;
use crate::config::Framing;

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_MODBUS);

/// Most bytes kept while no frame is whole; more than the largest ASCII frame has.
const KEPT: usize = 1024;

/// An RTU frame that has paused for so long does not go on. Far more than the characters of a line have between them, and
/// than a busy machine takes.
const PAUSE: Duration = Duration::from_millis(100);

/// How long to wait when connections cannot be accepted (no file descriptors left).
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Answers on a port, for ever.
pub(super) async fn serve_tcp(listener: TcpListener, line: Line, framing: Framing) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let line = line.clone();
                connections.spawn(async move { serve(stream, &line, framing).await });
            }
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Answers the frames of a stream until it ends. What is no frame is forgotten, as a unit does.
pub(super) async fn serve<S>(mut stream: S, line: &Line, framing: Framing) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut kept = Vec::new();
    loop {
        let mut chunk = [0; 512];
        let read = stream.read(&mut chunk);
        let count = if kept.is_empty() || framing == Framing::Ascii {
            read.await?
        } else if let Ok(count) = timeout(PAUSE, read).await {
            count?
        } else {
            kept.clear();
            continue;
        };
        if count == 0 {
            return Ok(());
        }
        kept.extend_from_slice(chunk.get(..count).unwrap_or_default());
        while let Some(frame) = take(&mut kept, framing) {
            if let Some(answer) = answer(line, &frame).await {
                stream.write_all(&seal(answer, framing)).await?;
            }
        }
        if kept.len() > KEPT {
            kept.clear();
        }
    }
}

/// The next whole request, unit first, without its check.
fn take(kept: &mut Vec<u8>, framing: Framing) -> Option<Vec<u8>> {
    if framing == Framing::Ascii {
        let end = kept.windows(2).position(|pair| pair == b"\r\n")?;
        let text: Vec<u8> = kept.drain(..end + 2).collect();
        let start = text.iter().rposition(|c| *c == b':')?;
        let (pairs, _) = text.get(start + 1..end)?.as_chunks::<2>();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let mut bytes = pairs.iter().map(byte).collect::<Option<Vec<u8>>>()?;
        let check = bytes.pop()?;
        return (lrc(&bytes) == check).then_some(bytes);
    }
    let length = match kept.get(1)? {
        1..=6 => 8,
        15 | 16 => 9 + usize::from(*kept.get(6)?),
        22 => 10,
        23 => 13 + usize::from(*kept.get(10)?),
        // Nobody knows how long it is: all that came is it, once its CRC fits.
        _ if kept.len() < 4 || CRC.checksum(kept) != 0 => return None,
        _ => kept.len(),
    };
    if kept.len() < length {
        return None;
    }
    let mut bytes: Vec<u8> = kept.drain(..length).collect();
    // The CRC of a frame with its own CRC behind it is zero.
    if CRC.checksum(&bytes) != 0 {
        kept.clear();
        return None;
    }
    bytes.truncate(length - 2);
    Some(bytes)
}

fn seal(mut bytes: Vec<u8>, framing: Framing) -> Vec<u8> {
    if framing == Framing::Ascii {
        bytes.push(lrc(&bytes));
        let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 };
        let digits = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
        return std::iter::once(b':').chain(digits).chain(*b"\r\n").collect();
    }
    bytes.extend_from_slice(&CRC.checksum(&bytes).to_le_bytes());
    bytes
}

fn lrc(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte))
}

/// Unit, function and data of the answer, if there is one.
async fn answer(line: &Line, frame: &[u8]) -> Option<Vec<u8>> {
    let (&slave, pdu) = frame.split_first()?;
    let function = *pdu.first()?;
    let request = Request::try_from(tokio_modbus::bytes::Bytes::copy_from_slice(pdu)).ok()?;
    let mut bytes = vec![slave];
    match line.call(SlaveRequest { slave, request }).await {
        Ok(response) => bytes.extend(encode(&response?)?),
        Err(exception) => bytes.extend([function | 0x80, exception.into()]),
    }
    Some(bytes)
}

fn encode(response: &Response) -> Option<Vec<u8>> {
    let function = response.function_code().value();
    let pair = |first: u16, second: u16| [first.to_be_bytes(), second.to_be_bytes()].concat();
    let data = match response {
        Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) => {
            let byte = |bits: &[bool]| bits.iter().rev().fold(0_u8, |byte, bit| (byte << 1) | u8::from(*bit));
            counted(&bits.chunks(8).map(byte).collect::<Vec<u8>>())?
        }
        Response::ReadHoldingRegisters(words)
        | Response::ReadInputRegisters(words)
        | Response::ReadWriteMultipleRegisters(words) => {
            counted(&words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>())?
        }
        Response::WriteSingleCoil(place, on) => pair(*place, if *on { 0xFF00 } else { 0 }),
        Response::WriteSingleRegister(place, second)
        | Response::WriteMultipleCoils(place, second)
        | Response::WriteMultipleRegisters(place, second) => pair(*place, *second),
        Response::MaskWriteRegister(place, and, or) => {
            [place.to_be_bytes(), and.to_be_bytes(), or.to_be_bytes()].concat()
        }
        _ => return None,
    };
    Some([&[function], data.as_slice()].concat())
}

/// The bytes with their number before them.
fn counted(bytes: &[u8]) -> Option<Vec<u8>> {
    let count = u8::try_from(bytes.len()).ok()?;
    Some([&[count], bytes].concat())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::io::duplex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_no_frame_is_forgotten_after_a_pause() {
        let (mut gateway, device) = duplex(1 << 10);
        let line = Line::new(BTreeMap::new(), false);
        let served = async { serve(device, &line, Framing::Rtu).await };
        let asked = async {
            // The beginning of a write whose count says that 255 bytes more come; then a read, which nobody is there for.
            gateway.write_all(&[1, 16, 0, 0, 0, 1, 255]).await.unwrap();
            tokio::time::sleep(PAUSE * 2).await;
            let read = [1, 3, 0, 0, 0, 1];
            gateway.write_all(&[&read[..], &CRC.checksum(&read).to_le_bytes()].concat()).await.unwrap();
            let mut answer = [0; 5];
            gateway.read_exact(&mut answer).await.unwrap();
            answer
        };
        let answer = tokio::select! {
            _ = served => [0; 5],
            answer = asked => answer,
        };
        assert_eq!(answer[..3], [1, 0x83, 11]);
    }
}
