//! From a fault and an answer to what is sent, and when.

use std::time::Duration;

use super::wire::{Message, Wire};
use super::{Fault, Faults, unit};

/// One thing that the proxy does instead of handing an answer on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, so long.
    Wait(Duration),
    /// These bytes go out, after what was kept.
    Send(Vec<u8>),
    /// These bytes wait for the next that go out.
    Keep(Vec<u8>),
    /// The connection ends here and now.
    Reset,
    /// Nothing more on this connection.
    Hang,
}

/// An answer and where it stands.
pub struct Case<'c> {
    pub wire: Wire,
    /// Between ptys nobody can reset.
    pub is_connection: bool,
    pub request: &'c Message,
    pub answer: &'c Message,
    /// The gateway waits for this very answer.
    ///
    /// A device that is late *and* says something false with a good check can say exactly what is awaited by
    /// then; no program can notice. So only what is in time is made false.
    pub is_fresh: bool,
}

impl Faults {
    /// Chooses a fault that can befall this answer, and says what comes of it.
    pub fn choose(&mut self, case: &Case<'_>) -> Vec<Step> {
        let mut roll = self.dice.u32(0..1000);
        let mut chosen = Fault::None;
        for (fault, share) in self.shares {
            // What cannot befall this one leaves its share to those behind it.
            if !case.suffers(*fault) {
                continue;
            }
            if roll < *share {
                chosen = *fault;
                break;
            }
            roll -= share;
        }
        *self.done.entry(chosen).or_default() += 1;
        self.steps(chosen, case)
    }

    fn steps(&mut self, fault: Fault, case: &Case<'_>) -> Vec<Step> {
        let Case { wire, answer, request, .. } = *case;
        let whole = wire.pack(answer);
        let patience = self.times.patience;
        let changed = |change: &dyn Fn(&mut Message)| {
            let mut answer = answer.clone();
            change(&mut answer);
            wire.pack(&answer)
        };
        // The right answer about a place further on.
        let elsewhere = || {
            let mut request = request.clone();
            let place = u16::from_be_bytes([request.pdu[1], request.pdu[2]]);
            request.pdu[1..3].copy_from_slice(&(place ^ 0x10).to_be_bytes());
            unit::answer(&request)
        };
        let noise =
            |dice: &mut fastrand::Rng| -> Vec<u8> { (0..dice.usize(1..40)).map(|_| dice.u8(..)).collect() };
        match fault {
            Fault::None => vec![Step::Send(whole)],
            Fault::Late => vec![Step::Wait(patience.mul_f64(1.02 + self.dice.f64())), Step::Send(whole)],
            Fault::Delay => vec![Step::Wait(patience.mul_f64(0.8 * self.dice.f64())), Step::Send(whole)],
            Fault::Split => {
                whole.iter().flat_map(|byte| [Step::Send(vec![*byte]), Step::Wait(self.times.byte)]).collect()
            }
            Fault::Merge => vec![Step::Keep(whole)],
            Fault::Drop => Vec::new(),
            Fault::Corrupt => vec![Step::Send(self.corrupt(wire, whole))],
            Fault::NoiseBefore => vec![Step::Send([noise(&mut self.dice), whole].concat())],
            Fault::NoiseAfter => vec![Step::Send([whole, noise(&mut self.dice)].concat())],
            Fault::Echo => vec![Step::Send([wire.pack(request), whole].concat())],
            Fault::Twice if self.times.silence.is_zero() => vec![Step::Send([whole.clone(), whole].concat())],
            Fault::Twice => {
                vec![
                    Step::Send(whole.clone()),
                    Step::Wait(self.times.silence.mul_f64(0.4)),
                    Step::Send(whole),
                ]
            }
            Fault::WrongSize => vec![Step::Send(wire.pack(&self.resized(answer)))],
            Fault::WrongUnit => {
                let mut answer = elsewhere();
                answer.unit = answer.unit % 7 + 1;
                vec![Step::Send(wire.pack(&answer))]
            }
            Fault::WrongFunction => {
                let mut answer = elsewhere();
                // 1 and 2 change places, and so do 3 and 4.
                answer.pdu[0] = ((answer.pdu[0] - 1) ^ 1) + 1;
                vec![Step::Send(wire.pack(&answer))]
            }
            Fault::Foreign => {
                let mut answer = elsewhere();
                answer.transaction = answer.transaction.wrapping_sub(self.dice.u16(1..5));
                vec![Step::Send(wire.pack(&answer))]
            }
            Fault::Refusal => {
                let code = *self.dice.choice(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0x2A]).unwrap();
                vec![Step::Send(changed(&|answer| answer.pdu = vec![request.function() | 0x80, code]))]
            }
            Fault::WrongEcho => vec![Step::Send(changed(&|answer| answer.pdu[2] ^= 1))],
            Fault::Reset => vec![Step::Send(whole[..whole.len() / 2].to_vec()), Step::Reset],
            Fault::HalfOpen => vec![Step::Hang],
        }
    }

    /// Damage that the check of the frame finds for sure: up to three bits under a CRC, one character under an
    /// LRC. Modbus TCP leaves the check of data to TCP, so there it is the head that suffers.
    fn corrupt(&mut self, wire: Wire, mut frame: Vec<u8>) -> Vec<u8> {
        match wire {
            Wire::Tcp => frame[self.dice.usize(0..9)] ^= 1 << self.dice.u8(0..8),
            Wire::Rtu => {
                for _ in 0..self.dice.u8(1..=3) {
                    let at = self.dice.usize(..frame.len());
                    frame[at] ^= 1 << self.dice.u8(0..8);
                }
            }
            Wire::Ascii => {
                let at = self.dice.usize(..frame.len());
                // Half of them become another digit, which only the LRC tells.
                let digit = b"0123456789ABCDEF"[self.dice.usize(..16)];
                let other = if self.dice.bool() { digit } else { self.dice.u8(..) };
                frame[at] = if other == frame[at] { other ^ 1 } else { other };
            }
        }
        frame
    }

    /// The first value is gone, there is one more or half of one before it, or the count does not fit what follows.
    fn resized(&mut self, answer: &Message) -> Message {
        let size = if answer.function() <= 2 { 1 } else { 2 };
        let mut data = answer.pdu[2..].to_vec();
        let mut count = data.len();
        match self.dice.u8(..4) {
            0 if data.len() > size => drop(data.drain(..size)),
            1 if data.len() <= 248 => drop(data.splice(..0, vec![0x5A; size])),
            2 if data.len() <= 248 => drop(data.splice(..0, [0x5A])),
            _ if count > size => count -= size,
            _ => count += size,
        }
        if data.len() != answer.pdu.len() - 2 {
            count = data.len();
        }
        let count = u8::try_from(count).unwrap();
        Message { pdu: [&[answer.pdu[0], count], data.as_slice()].concat(), ..answer.clone() }
    }
}

impl Case<'_> {
    fn suffers(&self, fault: Fault) -> bool {
        let is_refusal = self.answer.pdu[0] & 0x80 != 0;
        let is_read = self.answer.pdu[0] <= 4;
        let is_tcp = self.wire == Wire::Tcp;
        match fault {
            Fault::WrongSize | Fault::WrongUnit | Fault::WrongFunction => is_read && self.is_fresh,
            Fault::Foreign => is_tcp && is_read,
            Fault::WrongEcho => !is_read && !is_refusal && self.is_fresh,
            // The confirmation of a write is its echo.
            Fault::Echo => !is_tcp && is_read,
            Fault::Reset | Fault::HalfOpen => self.is_connection,
            _ => true,
        }
    }
}
