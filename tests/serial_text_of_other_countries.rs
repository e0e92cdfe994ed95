//! Texts in Latin-1 and numbers with a decimal comma are read as what they are, and nothing else is taken for them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs;
use std::sync::Arc;

use fieldgate::config::{Config, Environment, load_with};
use fieldgate::decode::decode;
use fieldgate::drivers::{DriverError, create};
use rustix::process::Signal;
use support::fault::real::pty;
use support::{LIMIT, Process, fieldgate};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

/// A link on this terminal and a device with these keys.
fn configure(path: &str, link: &str, device: &str) -> String {
    format!(
        "[mqtt]\nurl = 'mqtt://127.0.0.1:1'\n[links.l]\ndriver = 'serial'\npath = '{path}'\nframe = {{ end = \"\\n\" }}\n\
         {link}\n[devices.d]\nlink = 'l'\nrequest = 'W'\n{device}\n"
    )
}

fn load(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.toml");
    fs::write(&file, text).unwrap();
    load_with(&[&file], &Environment::new()).unwrap_or_else(|error| panic!("{text}\n{error}")).0
}

/// Each point as JSON, or why it has no value, when the device answers with these bytes; nothing where no frame fits.
async fn read(link: &str, device: &str, bytes: &[u8]) -> Vec<String> {
    let (mut terminal, path, _held) = pty();
    let config = load(&configure(&path, link, device));
    let device = Arc::new(config.devices[0].clone());
    let mut driver = create(&config.links[0], &[]);
    driver.open(Instant::now() + LIMIT).await.unwrap();
    let due: Vec<usize> = (0..device.points.len()).collect();
    let request = driver.plan(&device, &due).remove(0);
    let answer = async {
        let mut asked = [0];
        terminal.read_exact(&mut asked).await.unwrap();
        terminal.write_all(bytes).await.unwrap();
        std::future::pending::<()>().await;
    };
    // What fits no frame is waited for to the end.
    let limit = if bytes == b"\xB0\n" { LIMIT / 30 } else { LIMIT };
    let samples = tokio::select! {
        samples = driver.exchange(&request, Instant::now() + limit) => samples,
        () = answer => unreachable!(),
    };
    match samples {
        Ok(samples) => {
            let shown = |sample: &fieldgate::point::Sample| {
                let value = sample.raw.as_ref().map_err(|reason| *reason);
                let value = value.and_then(|raw| decode(&device.points[sample.point], raw));
                value.map_or_else(|reason| reason.to_string(), |value| value.to_string())
            };
            samples.iter().map(shown).collect()
        }
        Err(DriverError::Malformed(_)) => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

const LATIN: &str = "encoding = 'latin-1'";
const REGEX: &str = "decode = { regex = '^(?<t>[-+0-9.,]+) °(?<u>.+)$' }\npoints.t = { address = 't', type = 'f64' }\n\
                     points.u = { address = 'u', type = 'string', length = 2 }\n";
const TEXTS: &str = "decode = { bytes = true }\npoints.a = { address = 0, type = 'string', length = 4 }\n\
                     points.b = { address = 4, type = 'string', length = 4, order = 'BADC' }\n\
                     points.c = { address = 8, type = 'u8' }\n";

#[tokio::test]
async fn bytes_are_the_characters_of_their_encoding() {
    assert_eq!(read(LATIN, REGEX, b"21.5 \xB0\xD6C\n").await, ["21.5", "\"ÖC\""]);
    // Its length counts bytes of the device, which are characters.
    assert_eq!(read(LATIN, REGEX, b"21.5 \xB0\xD6CC\n").await, ["21.5", "invalid"]);
    assert_eq!(read("", REGEX, "21.5 °C\n".as_bytes()).await, ["21.5", "\"C\""]);
    let csv = "decode = { csv = ';' }\npoints.a = { address = 0, type = 'string' }\npoints.b = { address = 1, type = 'u8' }\n";
    assert_eq!(read(LATIN, csv, b"gr\xFCn;7\n").await, ["\"grün\"", "7"]);
    assert_eq!(read("encoding = 'utf-8'", csv, b"gr\xFCn;7\n").await, ["malformed", "7"]);
    assert_eq!(
        read(LATIN, TEXTS, b"\xC4\xD6\xDC \xB0\xE4\x00\xDF\xFF\n").await,
        ["\"ÄÖÜ\"", "\"ä°ß\"", "255"]
    );
    let json = "decode = { json = true }\npoints.a = { address = 'a', type = 'string' }\npoints.b = { address = 'b', type = 'f64' }\n";
    assert_eq!(read(LATIN, json, b"{\"a\":\"\xB5\",\"b\":1.5}\n").await, ["\"µ\"", "1.5"]);
    // A byte that is no UTF-8 makes no frame, as ever.
    assert_eq!(read("", REGEX, b"\xB0\n").await, Vec::<String>::new());
}

#[tokio::test]
async fn a_comma_is_a_decimal_mark_where_it_was_said() {
    let of = |mark: &str| format!("{mark}\n{REGEX}");
    for (mark, sent, expected) in [
        ("decimal = ','", "21,5", "21.5"),
        ("decimal = ','", "-0,25", "-0.25"),
        ("decimal = ','", "21", "21.0"),
        // Never a thousandth, never a thousandfold.
        ("decimal = ','", "1.234,5", "malformed"),
        ("decimal = ','", "21.5", "malformed"),
        ("decimal = ','", "1,234,5", "malformed"),
        ("", "21,5", "malformed"),
        ("decimal = '.'", "21,5", "malformed"),
        ("decimal = '.'", "21.5", "21.5"),
    ] {
        let bytes = [sent.as_bytes(), b" \xB0C\n"].concat();
        let read = read(LATIN, &of(mark), &bytes).await;
        assert_eq!(read, [expected, "\"C\""], "{mark} {sent}");
    }
    let csv = "decimal = ','\ndecode = { csv = ';' }\npoints.a = { address = 0, type = 'i16', scale = 0.1 }\n\
               points.b = { address = 1, type = 'f32' }\npoints.c = { address = 2, type = 'string' }\n";
    assert_eq!(read("", csv, b"215;2,5;a,b.c\n").await, ["21.5", "2.5", "\"a,b.c\""]);
}

#[test]
fn a_simulation_sends_what_its_gateway_understands() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tty");
    let device = format!("decimal = ','\n{REGEX}");
    let file = folder.path().join("a.toml");
    fs::write(&file, configure(path.to_str().unwrap(), LATIN, &device)).unwrap();
    let mut process =
        Process::start("fieldgate simulate", fieldgate().arg("simulate").arg("--config").arg(&file));
    process.wait_line("link l, ", LIMIT);
    let output = fieldgate().args(["read", "d", "--json", "--config"]).arg(&file).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    let all: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert!(all["points"]["t"]["value"].is_f64() && all["points"]["t"]["raw"].is_string(), "{shown}");
    process.signal(Signal::TERM);
    assert_eq!(process.wait_exit(LIMIT).code(), Some(0));
}
