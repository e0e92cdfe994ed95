//! Frames of requests and answers, by code that shares none with the gateway.

/// How messages are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Modbus TCP.
    Tcp,
    /// Binary with a CRC.
    Rtu,
    /// Hexadecimal with an LRC.
    Ascii,
}

/// A request or an answer without its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Zero where frames have none.
    pub transaction: u16,
    /// Who is asked or answers.
    pub unit: u8,
    /// The function and what follows it.
    pub pdu: Vec<u8>,
}

impl Message {
    /// The function asked, also of an exception.
    pub fn function(&self) -> u8 {
        self.pdu[0] & 0x7F
    }
}

impl Wire {
    /// The bytes of a message.
    pub fn pack(self, message: &Message) -> Vec<u8> {
        let Message { transaction, unit, pdu } = message;
        let mut frame = [&[*unit], pdu.as_slice()].concat();
        match self {
            Self::Tcp => {
                let length = u16::try_from(frame.len()).unwrap();
                [&transaction.to_be_bytes()[..], &[0, 0], &length.to_be_bytes(), &frame].concat()
            }
            Self::Rtu => {
                frame.extend_from_slice(&crc(&frame));
                frame
            }
            Self::Ascii => {
                frame.push(lrc(&frame));
                let digit = |nibble: u8| b"0123456789ABCDEF"[usize::from(nibble)];
                let digits = frame.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
                [b":".to_vec(), digits.collect(), b"\r\n".to_vec()].concat()
            }
        }
    }

    /// Cuts the first whole request off.
    pub fn cut_request(self, kept: &mut Vec<u8>) -> Option<Message> {
        self.cut(kept, |frame| match frame.get(1)? {
            15 | 16 => Some(9 + usize::from(*frame.get(6)?)),
            22 => Some(10),
            23 => Some(13 + usize::from(*frame.get(10)?)),
            _ => Some(8),
        })
    }

    /// Cuts the first whole answer off.
    pub fn cut_answer(self, kept: &mut Vec<u8>) -> Option<Message> {
        self.cut(kept, |frame| match frame.get(1)? {
            1..=4 | 23 => Some(5 + usize::from(*frame.get(2)?)),
            22 => Some(10),
            0x80.. => Some(5),
            _ => Some(8),
        })
    }

    fn cut(self, kept: &mut Vec<u8>, rtu_length: impl Fn(&[u8]) -> Option<usize>) -> Option<Message> {
        match self {
            Self::Tcp => {
                let length = 6 + usize::from(u16::from_be_bytes([*kept.get(4)?, *kept.get(5)?]));
                let frame: Vec<u8> = (kept.len() >= length).then(|| kept.drain(..length).collect())?;
                let transaction = u16::from_be_bytes([frame[0], frame[1]]);
                Some(Message { transaction, unit: frame[6], pdu: frame[7..].to_vec() })
            }
            Self::Rtu => {
                let length = rtu_length(kept)?;
                let frame: Vec<u8> = (kept.len() >= length).then(|| kept.drain(..length).collect())?;
                let (data, check) = frame.split_at(length - 2);
                assert_eq!(check, crc(data), "between the proxy and its neighbours nothing is damaged");
                Some(Message { transaction: 0, unit: data[0], pdu: data[1..].to_vec() })
            }
            Self::Ascii => {
                let end = kept.iter().position(|byte| *byte == b'\n')?;
                let text: Vec<u8> = kept.drain(..=end).collect();
                let digits = std::str::from_utf8(&text[1..end - 1]).unwrap();
                let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
                let mut frame: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
                assert_eq!(frame.pop(), Some(lrc(&frame)), "nothing is damaged here");
                Some(Message { transaction: 0, unit: frame[0], pdu: frame[1..].to_vec() })
            }
        }
    }
}

fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut value = 0xFFFF_u16;
    for byte in bytes {
        value ^= u16::from(*byte);
        for _ in 0..8 {
            value = if value & 1 == 1 { (value >> 1) ^ 0xA001 } else { value >> 1 };
        }
    }
    value.to_le_bytes()
}

fn lrc(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte))
}
