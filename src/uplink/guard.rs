//! The packets that come down, looked at before paho gets them: it aborts the process for a topic that is not
//! text, keeps a packet of any size in memory, and knows no AUTH.

use super::client::ClientError;
use super::paho::parting;

/// A length has at most so many bytes (MQTT 5.0, 1.5.5).
const LENGTH: usize = 4;

const PUBLISH: u8 = 3;
const SUBACK: u8 = 9;
const UNSUBACK: u8 = 11;
const DISCONNECT: u8 = 14;
const AUTH: u8 = 15;

/// A packet's first byte, what follows its length, and its length in all.
type Packet<'p> = (u8, &'p [u8], usize);

/// What came and is not yet a whole packet.
#[derive(Debug)]
pub(super) struct Guard {
    pending: Vec<u8>,
    /// Nothing is whole before so many bytes are there.
    needed: usize,
    /// Largest packet.
    most: usize,
    is_v5: bool,
    /// Ours, for the words when another takes the session over.
    client_id: String,
}

impl Guard {
    pub(super) fn new(most: u32, is_v5: bool, client_id: String) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        Self { pending: Vec::new(), needed: 0, most, is_v5, client_id }
    }

    /// Takes bytes; gives the whole packets among all that came.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<Vec<u8>, ClientError> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() < self.needed {
            return Ok(Vec::new());
        }
        let mut end = 0;
        while let Some(rest) = self.pending.get(end..)
            && let Some((head, body, length)) = self.packet(rest)?
        {
            self.judge(head, body)?;
            end += length;
        }
        if end == 0 {
            // A large packet comes in thousands of pieces: it is not copied with each.
            self.needed = self.length(&self.pending)?.map_or(0, |(_, whole)| whole);
            return Ok(Vec::new());
        }
        self.needed = 0;
        let rest = self.pending.split_off(end);
        Ok(std::mem::replace(&mut self.pending, rest))
    }

    /// The first packet: its first byte, what follows its length, and its length in all.
    fn packet<'p>(&self, bytes: &'p [u8]) -> Result<Option<Packet<'p>>, ClientError> {
        let Some((start, whole)) = self.length(bytes)? else { return Ok(None) };
        let head = bytes.first().copied().unwrap_or_default();
        Ok(bytes.get(start..whole).map(|body| (head, body, whole)))
    }

    /// Where the body of the first packet begins and ends, once its length is there.
    fn length(&self, bytes: &[u8]) -> Result<Option<(usize, usize)>, ClientError> {
        let Some(Some((length, used))) = bytes.get(1..).map(number).transpose()? else { return Ok(None) };
        if length > self.most {
            return Err(lost(&format!("sent a packet of {length} bytes, more than mqtt.max_packet_size")));
        }
        Ok(Some((1 + used, 1 + used + length)))
    }

    fn judge(&self, head: u8, body: &[u8]) -> Result<(), ClientError> {
        match head >> 4 {
            AUTH => Err(ClientError::Refused(
                "it asks for an exchange of AUTH packets, which this gateway does not do; see mqtt.auth"
                    .to_owned(),
            )),
            PUBLISH => {
                self.judge_publish(head, body).ok_or_else(|| lost("sent a PUBLISH that is not well formed"))
            }
            // It closes the connection right behind it, and paho would see the end first.
            DISCONNECT if self.is_v5 => Err(parting(body.first().copied().unwrap_or(0), &self.client_id)),
            SUBACK if body.len() < 3 => Err(lost("sent a SUBACK without a code")),
            UNSUBACK if body.len() < 2 => Err(lost("sent an UNSUBACK that is not well formed")),
            0 => Err(lost("sent a packet of no known type")),
            _ => Ok(()),
        }
    }

    /// Topic and texts among the properties are UTF-8 without NUL (MQTT 5.0, 1.5.4).
    fn judge_publish(&self, head: u8, body: &[u8]) -> Option<()> {
        let (topic, rest) = text(body)?;
        is_text(topic).then_some(())?;
        let rest = if head & 6 == 0 { rest } else { rest.get(2..)? };
        if !self.is_v5 {
            return Some(());
        }
        let (length, used) = number(rest).ok()??;
        let mut properties = rest.get(used..used.checked_add(length)?)?;
        while let Some((&id, rest)) = properties.split_first() {
            properties = match id {
                0x01 => rest.get(1..)?,
                0x02 => rest.get(4..)?,
                0x23 => rest.get(2..)?,
                0x0b => rest.get(number(rest).ok()??.1..)?,
                0x09 => text(rest)?.1,
                0x03 | 0x08 => {
                    let (value, rest) = text(rest)?;
                    is_text(value).then_some(rest)?
                }
                0x26 => {
                    let (key, rest) = text(rest)?;
                    let (value, rest) = text(rest)?;
                    (is_text(key) && is_text(value)).then_some(rest)?
                }
                _ => return None,
            };
        }
        Some(())
    }
}

fn lost(what: &str) -> ClientError {
    ClientError::Lost(format!("the broker {what}"))
}

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0'))
}

/// Two bytes of length and so many more; then the rest.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// A number of one to four bytes, and how many they are; nothing while it is not whole.
fn number(bytes: &[u8]) -> Result<Option<(usize, usize)>, ClientError> {
    let mut value = 0_usize;
    for (index, byte) in bytes.iter().enumerate().take(LENGTH) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= LENGTH { Err(lost("sent a packet whose length has no end")) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A PUBLISH of MQTT 5 with QoS 1 and one user property.
    fn publish(topic: &[u8], key: &[u8]) -> Vec<u8> {
        let field = |bytes: &[u8]| [&[0, u8::try_from(bytes.len()).unwrap()], bytes].concat();
        let properties = [&[0x26][..], &field(key), &field(b"v")].concat();
        let body = [&field(topic)[..], &[0, 7, u8::try_from(properties.len()).unwrap()], &properties, b"{}"]
            .concat();
        [&[0x32, u8::try_from(body.len()).unwrap()], &body[..]].concat()
    }

    #[test]
    fn what_would_kill_the_library_does_not_reach_it() {
        for (bytes, part) in [
            (publish(b"a\0b", b"k"), "PUBLISH"),
            (publish(b"a\xffb", b"k"), "PUBLISH"),
            (publish(b"a", b"\xc3"), "PUBLISH"),
            (vec![0x30, 1, 0], "PUBLISH"),
            (vec![0xf0, 0], "AUTH"),
            (vec![0x90, 2, 0, 1], "SUBACK"),
            (vec![0x30, 0xff, 0xff, 0xff, 0x7f], "max_packet_size"),
            (vec![0x30, 0xff, 0xff, 0xff, 0xff], "no end"),
            (vec![0x00, 0], "type"),
        ] {
            let error = Guard::new(1000, true, String::new()).pass(&bytes).unwrap_err().to_string();
            assert!(error.contains(part), "{bytes:x?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn good_packets_pass_as_they_are_however_they_are_cut(cuts in prop::collection::vec(1..20_usize, 0..30)) {
            let all = [&[0x20, 3, 0, 0, 0][..], &publish("straße/1".as_bytes(), b"k"), &[0xd0, 0], &[0x40, 2, 0, 1]].concat();
            let mut guard = Guard::new(1000, true, String::new());
            let (mut rest, mut passed) = (&all[..], Vec::new());
            for cut in cuts.into_iter().chain([all.len()]) {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                passed.extend(guard.pass(piece).unwrap());
                rest = after;
            }
            prop_assert_eq!(passed, all);
        }

        #[test]
        fn nothing_makes_it_panic_or_keep_more_than_one_packet(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut guard = Guard::new(50, true, String::new());
            if guard.pass(&bytes).is_ok() {
                prop_assert!(guard.pending.len() <= 50 + 1 + LENGTH);
            }
        }
    }
}
