//! Units whose every register says its unit, its table and its address.

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::wire::{Message, Wire};

/// Places of a table; the rest is refused.
pub const PLACES: u16 = 0x1000;

/// What a holding (3) or input (4) register of a unit from 1 to 7 holds.
pub fn word(unit: u8, function: u8, place: u16) -> u16 {
    let word = (u16::from(unit) << 12) | (place & 0xFFF);
    if function == 4 { !word } else { word }
}

/// What a coil or discrete input holds: nothing regular, so that one place more or less shows.
pub fn bit(unit: u8, place: u16) -> bool {
    let mixed = (u32::from(place) * 8 + u32::from(unit)).wrapping_mul(0x9E37_79B1);
    (mixed ^ (mixed >> 15)) & 0x1000 != 0
}

/// Units from 1 on for `tests/peers/modbus_device.py` that hold the same at these places, so many at each.
pub fn described(units: u8, starts: &[u16], count: u16) -> Value {
    let table = |hold: &dyn Fn(u16) -> Value| -> Value {
        let block = |start: u16| (start..start + count).map(hold).collect();
        starts.iter().map(|start| (start.to_string(), Value::Array(block(*start)))).collect()
    };
    let unit = |unit: u8| {
        json!({
            "coil": table(&|place| bit(unit, place).into()),
            "holding": table(&|place| word(unit, 3, place).into()),
            "input": table(&|place| word(unit, 4, place).into()),
        })
    };
    (1..=units).map(|number| (number.to_string(), unit(number))).collect()
}

/// The right answer. Writes are confirmed if they say what the place holds anyway, else refused.
pub fn answer(request: &Message) -> Message {
    let Message { transaction, unit, pdu } = request;
    let pdu = data(*unit, pdu).unwrap_or_else(|code| vec![pdu[0] | 0x80, code]);
    Message { transaction: *transaction, unit: *unit, pdu }
}

fn data(unit: u8, pdu: &[u8]) -> Result<Vec<u8>, u8> {
    let pair = |at: usize| u16::from_be_bytes([pdu[at], pdu[at + 1]]);
    let (function, start, second) = (pdu[0], pair(1), pair(3));
    let fits = |count: u16| if start + count <= PLACES { Ok(()) } else { Err(2) };
    match function {
        1 | 2 => {
            fits(second)?;
            let mut bytes = vec![0; usize::from(second.div_ceil(8))];
            for at in (0..second).filter(|at| bit(unit, start + at)) {
                bytes[usize::from(at / 8)] |= 1 << (at % 8);
            }
            Ok([&[function, u8::try_from(bytes.len()).unwrap()], bytes.as_slice()].concat())
        }
        3 | 4 => {
            fits(second)?;
            let words = (start..start + second).flat_map(|place| word(unit, function, place).to_be_bytes());
            let words: Vec<u8> = words.collect();
            Ok([&[function, u8::try_from(words.len()).unwrap()], words.as_slice()].concat())
        }
        6 if second == word(unit, 3, start) => Ok(pdu.to_vec()),
        16 => {
            let right = (0..second).all(|at| pair(6 + 2 * usize::from(at)) == word(unit, 3, start + at));
            if right { Ok(pdu[..5].to_vec()) } else { Err(3) }
        }
        6 => Err(3),
        _ => Err(1),
    }
}

/// Answers every request of a stream until it ends.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, wire: Wire) {
    let (mut kept, mut chunk) = (Vec::new(), [0; 512]);
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..count]);
        while let Some(request) = wire.cut_request(&mut kept) {
            if stream.write_all(&wire.pack(&answer(&request))).await.is_err() {
                return;
            }
        }
    }
}
