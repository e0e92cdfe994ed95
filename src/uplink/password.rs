//! The password, put into CONNECT on its way out: it may be any bytes, which paho's binding does not take, and it is
//! nowhere in paho's memory.

use crate::config::Secret;

/// Stands for the password in what paho writes.
const PLACEHOLDER: &str = "the password stands here";

/// Waits for CONNECT, whose last field is the password (MQTT 5.0, 3.1.3.6).
pub(super) struct Splice {
    secret: Secret,
    pending: Vec<u8>,
}

impl Splice {
    pub(super) fn new(secret: Secret) -> Self {
        Self { secret, pending: Vec::new() }
    }

    /// What paho is given as the password.
    pub(super) fn placeholder() -> &'static str {
        PLACEHOLDER
    }

    /// Takes bytes of paho's; gives CONNECT with the password in its place once it is whole, and what followed it.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.pending.extend_from_slice(bytes);
        let (head, rest) = self.pending.split_first()?;
        let (length, used) = number(rest)?;
        let (body, after) = rest.get(used..)?.split_at_checked(length)?;
        let body = body.strip_suffix(PLACEHOLDER.as_bytes()).and_then(|body| body.get(..body.len() - 2));
        // What paho wrote is no CONNECT with the placeholder: it goes as it is, and the broker refuses it.
        let Some(body) = body else { return Some(self.pending.clone()) };
        let secret = self.secret.expose();
        // At once as long as it gets: what grows leaves its beginnings in freed memory.
        let mut out = Vec::with_capacity(self.pending.len() + secret.len());
        out.push(*head);
        write_number(&mut out, body.len() + 2 + secret.len());
        out.extend_from_slice(body);
        out.extend_from_slice(&u16::try_from(secret.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(secret);
        out.extend_from_slice(after);
        Some(out)
    }
}

fn number(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0_usize;
    for (index, byte) in bytes.iter().enumerate().take(4) {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

fn write_number(out: &mut Vec<u8>, mut value: usize) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_takes_the_place_however_the_packet_is_cut() {
        let body = [&b"\x00\x04MQTT\x05\xc2"[..], &[0, 24], PLACEHOLDER.as_bytes()].concat();
        let packet = [&[0x10, u8::try_from(body.len()).unwrap()], &body[..], &[0xc0, 0]].concat();
        for secret in [vec![0, 255], vec![b'x'; 300]] {
            let body =
                [&b"\x00\x04MQTT\x05\xc2"[..], &u16::try_from(secret.len()).unwrap().to_be_bytes(), &secret]
                    .concat();
            let mut expected = vec![0x10];
            write_number(&mut expected, body.len());
            expected.extend(body);
            expected.extend([0xc0, 0]);
            for cut in 1..packet.len() - 3 {
                let mut splice = Splice::new(Secret::from_bytes(secret.clone()));
                assert_eq!(splice.pass(&packet[..cut]), None, "{cut}");
                assert_eq!(splice.pass(&packet[cut..]).as_deref(), Some(&expected[..]));
            }
        }
    }
}
