//! The examples of the Modbus Application Protocol V1.1b3, byte for byte on every transport: what the gateway sends is
//! what the specification sends, its answers are understood, and the simulator answers with them.
//!
//! Function and data stand there as the specification prints them; where the gateway uses a function in another way
//! (15 with one coil, 22 with one bit, 23 at one place), the bytes are written by the same figures. The unit is 0x11.
//! The CRC of each frame and its LRC were worked out with another program by the Serial Line specification V1.02; its
//! `02 07` gives `41 12` there too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod peers;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use fieldgate::address::{Address, Area};
use fieldgate::drivers::modbus::Modbus;
use fieldgate::drivers::{Driver, DriverError};
use fieldgate::point::{Device, Kind, Protocol, Raw, Reads};
use peers::{Peer, device, driver, soon};
use serde_json::json;
use support::{LIMIT, Process, fieldgate};

const TRANSPORTS: [&str; 5] = ["tcp", "rtu", "rtu-tcp", "ascii", "ascii-tcp"];

/// Function and data, the CRC (low byte first) and the LRC behind unit 0x11.
type Frame = (&'static str, &'static str, &'static str);

/// A request and its answer.
type Exchange = [Frame; 2];

const READ_COILS: Exchange = [("01 00 13 00 13", "8E 92", "C8"), ("01 03 CD 6B 05", "40 12", "AE")];
const READ_DISCRETE: Exchange = [("02 00 C4 00 16", "BA A9", "13"), ("02 03 AC DB 35", "20 18", "2E")];
const READ_HOLDING: Exchange =
    [("03 00 6B 00 03", "76 87", "7E"), ("03 06 02 2B 00 00 00 64", "C8 BA", "55")];
const READ_INPUT: Exchange = [("04 00 08 00 01", "B2 98", "E2"), ("04 02 00 0A", "F8 F4", "DF")];
const WRITE_COIL: Exchange = [("05 00 AC FF 00", "4E 8B", "3F"), ("05 00 AC FF 00", "4E 8B", "3F")];
const WRITE_REGISTER: Exchange = [("06 00 01 00 03", "9A 9B", "E5"), ("06 00 01 00 03", "9A 9B", "E5")];
const WRITE_COILS: Exchange = [("0F 00 13 00 0A 02 CD 01", "BF 0B", "F3"), ("0F 00 13 00 0A", "26 99", "C3")];
const WRITE_REGISTERS: Exchange =
    [("10 00 01 00 02 04 00 0A 01 02", "C6 F0", "CB"), ("10 00 01 00 02", "12 98", "DC")];
const MASK_WRITE: Exchange =
    [("16 00 04 00 F2 00 25", "66 E2", "BE"), ("16 00 04 00 F2 00 25", "66 E2", "BE")];
const READ_WRITE: Exchange = [
    ("17 00 03 00 06 00 0E 00 03 06 00 FF 00 FF 00 FF", "4B 54", "BB"),
    ("17 0C 00 FE 0A CD 00 01 00 03 00 0D 00 FF", "0D 75", "E7"),
];
const REFUSED: Exchange = [("01 04 A1 00 01", "AF 88", "48"), ("81 02", "C0 54", "6C")];

// By the same figures.
const COIL_IS_ON: Exchange = [("01 00 AC 00 01", "3F 7B", "41"), ("01 01 01", "94 88", "EC")];
const REGISTER_IS_3: Exchange = [("03 00 01 00 01", "D7 5A", "EA"), ("03 02 00 03", "39 86", "E7")];
const REGISTERS_ARE: Exchange = [("03 00 01 00 02", "97 5B", "E9"), ("03 04 00 0A 01 02", "4B A1", "DB")];
const NO_FUNCTION_5: Exchange = [("05 00 AC FF 00", "4E 8B", "3F"), ("85 01", "82 95", "69")];
const WRITE_ONE_COIL: Exchange = [("0F 00 AC 00 01 01 01", "7E 43", "31"), ("0F 00 AC 00 01", "56 BA", "33")];
const SET_BIT_3: Exchange =
    [("16 00 04 FF F7 00 08", "86 EA", "D7"), ("16 00 04 FF F7 00 08", "86 EA", "D7")];
const BIT_3_IS_SET: Exchange = [("03 00 04 00 01", "C7 5B", "E7"), ("03 02 00 1A", "F8 4C", "D0")];
const WRITE_AND_READ: Exchange =
    [("17 00 01 00 02 00 01 00 02 04 00 0A 01 02", "4B 10", "C1"), ("17 04 00 0A 01 02", "48 B5", "C7")];

/// What the simulator is asked, in this order: what one example reads was written by another or by the same figures.
const ASKED: [Exchange; 24] = [
    [("0F 00 13 00 13 03 CD 6B 05", "B8 2D", "7A"), ("0F 00 13 00 13", "E7 53", "BA")],
    READ_COILS,
    WRITE_COILS,
    [("01 00 13 00 0A", "4F 58", "D1"), ("01 02 CD 01", "ED 6F", "1E")],
    WRITE_COIL,
    COIL_IS_ON,
    WRITE_REGISTER,
    REGISTER_IS_3,
    [("10 00 6B 00 03 06 02 2B 00 00 00 64", "8E 44", "DA"), ("10 00 6B 00 03", "F3 44", "71")],
    READ_HOLDING,
    WRITE_REGISTERS,
    REGISTERS_ARE,
    [("06 00 04 00 12", "4A 96", "D3"), ("06 00 04 00 12", "4A 96", "D3")],
    MASK_WRITE,
    // (12 AND F2) OR (25 AND NOT F2), says the specification.
    [("03 00 04 00 01", "C7 5B", "E7"), ("03 02 00 17", "39 89", "D3")],
    [
        ("10 00 03 00 06 0C 00 FE 0A CD 00 01 00 03 00 0D 00 FF", "14 F8", "E5"),
        ("10 00 03 00 06", "B2 9B", "D6"),
    ],
    READ_WRITE,
    [("03 00 0E 00 03", "66 98", "DB"), ("03 06 00 FF 00 FF 00 FF", "88 D1", "E9")],
    REFUSED,
    // None, and one more than a frame holds.
    [("03 00 01 00 00", "16 9A", "EB"), ("83 03", "00 F4", "69")],
    [("03 00 01 00 7E", "96 BA", "6D"), ("83 03", "00 F4", "69")],
    // What it does not do: an exception, and the next one is answered as before.
    [("07", "4C 22", "E8"), ("87 01", "83 F5", "67")],
    [("08 00 00 A5 37", "D8 1D", "0B"), ("88 01", "86 05", "66")],
    COIL_IS_ON,
];

/// The bytes of a frame on a transport. The transaction of TCP is any.
fn on_wire(transport: &str, (pdu, crc, lrc): Frame) -> String {
    let (pdu, crc) = (pdu.replace(' ', ""), crc.replace(' ', ""));
    match transport {
        "tcp" => format!("TTTT0000{:04X}11{pdu}", pdu.len() / 2 + 1),
        "rtu" | "rtu-tcp" => format!("11{pdu}{crc}"),
        _ => format!(":11{pdu}{lrc}\r\n").bytes().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02X}").unwrap();
            hex
        }),
    }
}

fn pair(transport: &str, [request, answer]: Exchange) -> [String; 2] {
    [on_wire(transport, request), on_wire(transport, answer)]
}

struct Bench {
    transport: &'static str,
    peer: Peer,
    driver: Modbus,
}

impl Bench {
    async fn start(transport: &'static str) -> Self {
        let medium = if matches!(transport, "rtu" | "ascii") { "pty" } else { "tcp" };
        let peer = Peer::start("wire.py", &["serve", medium]);
        let mut driver = driver(transport, &peer.place);
        driver.open(soon()).await.unwrap();
        Self { transport, peer, driver }
    }

    fn expect(&mut self, exchanges: &[Exchange]) {
        let script: Vec<_> = exchanges.iter().map(|exchange| pair(self.transport, *exchange)).collect();
        assert_eq!(self.peer.tell(&format!("script {}", json!(script))), "ok");
    }

    /// What was sent is what was expected.
    fn assert_heard(&mut self, exchanges: &[Exchange]) {
        let heard: Vec<String> = serde_json::from_str(&self.peer.tell("heard")).unwrap();
        let wanted: Vec<String> =
            exchanges.iter().map(|exchange| on_wire(self.transport, exchange[0])).collect();
        let any = |heard: &String| {
            if self.transport == "tcp" { format!("TTTT{}", &heard[4..]) } else { heard.clone() }
        };
        assert_eq!(heard.iter().map(any).collect::<Vec<_>>(), wanted, "{}", self.transport);
    }

    async fn read(&mut self, device: &Arc<Device>, exchange: Exchange) -> Result<Vec<Raw>, DriverError> {
        self.expect(&[exchange]);
        let due: Vec<usize> = (0..device.points.len()).collect();
        let requests = self.driver.plan(device, &due);
        assert_eq!(requests.len(), 1, "{}: {requests:?}", self.transport);
        let samples = self.driver.exchange(&requests[0], soon()).await;
        self.assert_heard(&[exchange]);
        let mut samples = samples?;
        samples.sort_unstable_by_key(|sample| sample.point);
        Ok(samples.into_iter().map(|sample| sample.raw.unwrap()).collect())
    }

    async fn write(&mut self, device: &Arc<Device>, raw: &Raw, exchanges: &[Exchange]) -> Raw {
        self.expect(exchanges);
        let told = self.driver.write(device, 0, raw, soon()).await;
        self.assert_heard(exchanges);
        told.unwrap()
    }
}

/// Unit 0x11 with points of one area, one after the other.
fn unit(area: Area, first: u16, count: u16, kind: Kind) -> Arc<Device> {
    let points: Vec<_> = (first..first + count).map(|number| (area, number, kind)).collect();
    patient(&device(0x11, &points), |_| {})
}

fn patient(device: &Device, change: impl FnOnce(&mut Device)) -> Arc<Device> {
    let mut device = device.clone();
    device.patience = Duration::from_secs(20);
    change(&mut device);
    Arc::new(device)
}

fn words(words: &[u16]) -> Raw {
    Raw::Words(words.iter().copied().collect())
}

fn bits(text: &str) -> Vec<Raw> {
    text.chars().filter(|c| *c != ' ').map(|c| Raw::Bit(c == '1')).collect()
}

#[tokio::test]
async fn what_is_sent_and_how_answers_are_understood() {
    for transport in TRANSPORTS {
        let mut bench = Bench::start(transport).await;
        let coils = bench.read(&unit(Area::Coil, 19, 19, Kind::Bool), READ_COILS).await;
        assert_eq!(coils.unwrap(), bits("10110011 11010110 101"), "{transport}");
        let inputs = bench.read(&unit(Area::Discrete, 196, 22, Kind::Bool), READ_DISCRETE).await;
        assert_eq!(inputs.unwrap(), bits("00110101 11011011 101011"), "{transport}");
        let registers = bench.read(&unit(Area::Holding, 107, 3, Kind::U16), READ_HOLDING).await;
        assert_eq!(registers.unwrap(), [555, 0, 100].map(|word| words(&[word])), "{transport}");
        let register = bench.read(&unit(Area::Input, 8, 1, Kind::U16), READ_INPUT).await;
        assert_eq!(register.unwrap(), [words(&[10])], "{transport}");
        let refused = bench.read(&unit(Area::Coil, 0x04A1, 1, Kind::Bool), REFUSED).await;
        assert_eq!(refused, Err(DriverError::Refused(2)), "{transport}");

        let (coil, on) = (unit(Area::Coil, 172, 1, Kind::Bool), Raw::Bit(true));
        assert_eq!(bench.write(&coil, &on, &[WRITE_COIL, COIL_IS_ON]).await, on, "{transport}");
        let (register, three) = (unit(Area::Holding, 1, 1, Kind::U16), words(&[3]));
        assert_eq!(
            bench.write(&register, &three, &[WRITE_REGISTER, REGISTER_IS_3]).await,
            three,
            "{transport}"
        );
        let (long, two) = (unit(Area::Holding, 1, 1, Kind::U32), words(&[0x000A, 0x0102]));
        assert_eq!(bench.write(&long, &two, &[WRITE_REGISTERS, REGISTERS_ARE]).await, two, "{transport}");
        let bit = patient(&unit(Area::Holding, 4, 1, Kind::Bool), |device| {
            device.points[0].address = Address::Register { area: Area::Holding, number: 4, bit: Some(3) };
        });
        let told = bench.write(&bit, &words(&[8]), &[SET_BIT_3, BIT_3_IS_SET]).await;
        assert_eq!(told, words(&[0x001A]), "{transport}: all of the register");
        let both = patient(&long, |device| {
            device.protocol =
                Protocol::Modbus { unit: 0x11, reads: Reads::default(), broadcast: false, read_write: true };
        });
        assert_eq!(bench.write(&both, &two, &[WRITE_AND_READ]).await, two, "{transport}");
        let without_5 = [NO_FUNCTION_5, WRITE_ONE_COIL, COIL_IS_ON];
        assert_eq!(bench.write(&coil, &on, &without_5).await, on, "{transport}");
    }
}

#[test]
fn what_the_simulator_answers() {
    for transport in TRANSPORTS {
        let folder = tempfile::tempdir().unwrap();
        let driver = if transport == "ascii-tcp" { "ascii" } else { transport };
        let place = if matches!(transport, "rtu" | "ascii") {
            format!("path = \"{}/port\"", folder.path().display())
        } else {
            "address = \"192.0.2.10\"".to_owned()
        };
        let mut config = format!(
            "[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\n[links.line]\ndriver = \"modbus-{driver}\"\n{place}\n[devices.unit]\nlink = \"line\"\naddress = 17\n[devices.unit.points]\n"
        );
        for (area, kind, numbers) in [
            ("coil", "bool", (19..38).chain(172..173).collect::<Vec<_>>()),
            ("holding", "u16", (1..9).chain(14..17).chain(107..110).collect()),
        ] {
            for number in numbers {
                let point = format!("{area}-{number} = {{ address = \"{area}:{number}\", type = \"{kind}\"");
                writeln!(config, "{point}, writable = true }}").unwrap();
            }
        }
        let file = folder.path().join("fieldgate.toml");
        fs::write(&file, config).unwrap();
        let simulator =
            Process::start("fieldgate simulate", fieldgate().arg("simulate").arg("--config").arg(&file));
        let told = simulator.wait_line("link line, ", LIMIT);
        let place = told.strip_prefix("link line, ").unwrap().split_once(": device").unwrap().0;
        let mut peer = Peer::start("wire.py", &["ask", place]);
        for exchange in ASKED {
            let [request, answer] = pair(transport, exchange);
            let came = peer.tell(&format!("ask {}", json!([request, answer])));
            assert_eq!(came, answer.replace('T', "1"), "{transport}: to {request}");
        }
    }
}
