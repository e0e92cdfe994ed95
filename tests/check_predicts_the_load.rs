//! `fieldgate check` says how long a round of polls takes. Each figure here is worked out by hand.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs;

use serde_json::Value;
use support::fieldgate;

/// What `check --json` says of a configuration with one link: its report, and its link.
fn check(text: &str) -> (Value, Value) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fieldgate.toml");
    fs::write(&file, format!("[mqtt]\nurl = \"mqtt://127.0.0.1\"\n{text}")).unwrap();
    let output = fieldgate().args(["check", "--json", "--config"]).arg(&file).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], true, "{report:#}");
    let link = report["links"][0].clone();
    (report, link)
}

/// The time of a round is so many milliseconds, to a microsecond.
fn assert_round(link: &Value, expected: f64) {
    let found = link["round_ms"].as_f64().unwrap();
    assert!((found - expected).abs() < 0.001, "{found} ms instead of {expected}: {link:#}");
}

/// A link of Modbus units with one device of one second.
fn modbus(driver: &str, line: &str, points: &str) -> Value {
    let text = format!(
        "[links.a]\ndriver = \"{driver}\"\npath = \"/dev/ttyS7\"\n{line}\n\
         [devices.d]\nlink = \"a\"\naddress = 1\npoll_interval = \"1s\"\nanswer_time = \"2ms\"\n{points}"
    );
    check(&text).1
}

const ONE: &str = "points.p = { address = \"holding:0\", type = \"u16\" }\n";
const FOUR: &str = "points.p = { address = \"holding:0\", type = \"u64\" }\n";
const COIL: &str = "points.p = { address = \"coil:0\", type = \"bool\" }\n";

#[test]
fn a_modbus_line_is_counted_by_its_characters() {
    // RTU: unit, function, place, count, CRC; unit, function, count of bytes, data, CRC; 3.5 characters before each.
    let rtu = |data: f64| 8.0 + 5.0 + data + 7.0;
    // ASCII: colon, CR, LF; two characters for each of unit, function, place, count, LRC; the same with the answer.
    // No silence belongs to a frame, but 3.5 characters stand before the request here too.
    let ascii = |data: f64| (3.0 + 14.0) + (3.0 + 8.0) + 2.0 * data + 3.5;
    assert!((ascii(2.0) - 35.5).abs() < 1e-9 && (rtu(2.0) - 22.0).abs() < 1e-9);
    let eight = "baud_rate = 9600";
    // Start, eight bits, stop.
    let character = 10_000.0 / 9600.0;
    assert_round(&modbus("modbus-rtu", eight, ONE), rtu(2.0) * character + 2.0);
    assert_round(&modbus("modbus-rtu", eight, FOUR), rtu(8.0) * character + 2.0);
    assert_round(&modbus("modbus-rtu", eight, COIL), rtu(1.0) * character + 2.0);
    assert_round(&modbus("modbus-ascii", eight, ONE), ascii(2.0) * character + 2.0);
    assert_round(&modbus("modbus-ascii", eight, FOUR), ascii(8.0) * character + 2.0);
    assert_round(&modbus("modbus-ascii", eight, COIL), ascii(1.0) * character + 2.0);

    // Start, seven bits, one stop: nine bits. With parity ten, with two stop bits eleven.
    let seven = |more: &str| modbus("modbus-ascii", &format!("data_bits = 7\n{more}"), ONE);
    assert_round(&seven(""), 35.5 * 9_000.0 / 9600.0 + 2.0);
    assert_round(&seven("parity = \"even\""), 35.5 * 10_000.0 / 9600.0 + 2.0);
    assert_round(&seven("parity = \"even\"\nstop_bits = 2"), 35.5 * 11_000.0 / 9600.0 + 2.0);

    // Above 19,200 baud each silence is 1.75 ms.
    let fast = "baud_rate = 38400\npause = \"4ms\"";
    assert_round(&modbus("modbus-rtu", fast, ONE), 15.0 * 10_000.0 / 38_400.0 + 2.0 * 1.75 + 4.0 + 2.0);
    assert_round(&modbus("modbus-ascii", fast, ONE), 32.0 * 10_000.0 / 38_400.0 + 1.75 + 4.0 + 2.0);
    // A second device doubles it; the share is of its second.
    let link = modbus(
        "modbus-rtu",
        eight,
        &format!(
            "{ONE}[devices.e]\nlink = \"a\"\naddress = 2\n\
         poll_interval = \"1s\"\nanswer_time = \"2ms\"\n{ONE}"
        ),
    );
    assert_round(&link, 2.0 * (22.0 * character + 2.0));
    let percent = link["load_percent"].as_f64().unwrap();
    assert!((percent - 2.0 * (22.0 * character + 2.0) / 10.0).abs() < 0.001, "{percent}");
}

/// A line of 9600 baud 8N1 with a device of text, whose frames are these.
fn text(frame: &str, request: &str) -> Value {
    let text = format!(
        "[links.a]\ndriver = \"serial\"\npath = \"/dev/ttyS7\"\nframe = {frame}\n\
         [devices.d]\nlink = \"a\"\npoll_interval = \"1s\"\n{request}\ndecode = {{ regex = '^(?<p>.*)$' }}\n\
         points.p = {{ address = \"p\", type = \"f64\" }}\n"
    );
    check(&text).1
}

#[test]
fn a_line_of_text_is_counted_by_what_its_frames_say() {
    let asked = "request = \"W\\r\\n\"";
    // Three characters of request, and a millisecond in which is looked what lies on the line.
    let time = |answer: f64| 1.0 + (3.0 + answer) * 10_000.0 / 9600.0;
    for (frame, answer, basis) in [
        ("{ length = 12 }", 12.0, "answers of 12 bytes"),
        ("{ length = 300, checksum = \"crc16-modbus\" }", 300.0, "answers of 300 bytes"),
        // Two bytes, the count, and what a byte can count; then less by what the count counts itself.
        ("{ length_at = 2 }", 258.0, "answers of at most 258 bytes"),
        ("{ length_at = 2, length_adds = -3, checksum = \"sum8\" }", 255.0, "answers of at most 255 bytes"),
        // Nobody knows: 32 bytes between marks, count and checksum.
        ("{ length_at = 2, length_size = 2 }", 36.0, "answers assumed to have 36 bytes"),
        ("{ end = \"\\r\\n\" }", 34.0, "answers assumed to have 34 bytes"),
        (
            "{ start = \"\\u0002\", end = \"\\u0003\", checksum = \"xor8\", checksum_hex = true }",
            36.0,
            "answers assumed to have 36 bytes",
        ),
        (
            "{ start = \"$\", end = \"\\r\\n\", checksum = \"xor8\", checksum_hex = true, checksum_mark = \"*\" }",
            38.0,
            "answers assumed to have 38 bytes",
        ),
    ] {
        let link = text(frame, asked);
        assert_round(&link, time(answer));
        let told = link["basis"].as_str().unwrap();
        assert_eq!(told, format!("at 9600 baud, with {basis} that come at once"), "{frame}");
    }
    // The end of such an answer is known 20 ms later.
    assert_round(&text("{ silence = \"20ms\" }", asked), time(32.0) + 20.0);
    // A longer request, and a rest before it.
    let longer = text("{ length = 12 }", "request = { hex = \"02 57 03 04 05 06 07 08\" }\npause = \"5ms\"");
    assert_round(&longer, 1.0 + 20.0 * 10_000.0 / 9600.0 + 5.0);
    // What talks by itself takes nothing from anybody.
    assert_round(&text("{ length = 12 }", ""), 0.0);
}

#[test]
fn a_heartbeat_that_no_poll_can_keep_is_told() {
    let warnings = |more: &str| {
        let text = format!(
            "[links.a]\ndriver = \"simulator\"\n[devices.d]\nlink = \"a\"\npoll_interval = \"5s\"\n{more}\n\
             [devices.d.points]\n\
             own = {{ address = \"sine\", type = \"f64\", heartbeat = \"5s\", poll_interval = \"10s\" }}\n\
             fast = {{ address = \"sine\", type = \"f64\", heartbeat = \"1500ms\", poll_interval = \"500ms\" }}\n\
             short = {{ address = \"sine\", type = \"f64\", heartbeat = \"4s\" }}\n\
             same = {{ address = \"sine\", type = \"f64\", heartbeat = \"5s\" }}\n\
             none = {{ address = \"sine\", type = \"f64\", heartbeat = \"1s\", report = \"always\" }}\n\
             off = {{ address = \"sine\", type = \"f64\", heartbeat = \"1s\", enabled = false }}\n"
        );
        let report = check(&text).0;
        let all = report["warnings"].as_array().unwrap().iter();
        all.map(|text| text.as_str().unwrap().to_owned())
            .filter(|text| text.contains("cannot be kept"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        warnings(""),
        [
            "devices.d.points.own.heartbeat = 5s cannot be kept: the point is polled every 10s",
            "devices.d.points.short.heartbeat = 4s cannot be kept: the point is polled every 5s",
        ]
    );
    assert_eq!(warnings("enabled = false"), [""; 0]);
}

#[test]
fn an_answer_time_that_is_longer_than_the_timeout_is_told() {
    let warnings = |driver: &str, answer_time: &str| {
        let report = check(&format!(
            "[links.a]\ndriver = {driver}\ntimeout = \"100ms\"\n\
             [devices.d]\nlink = \"a\"\naddress = 1\nanswer_time = \"{answer_time}\"\n{ONE}"
        ));
        report.0["warnings"].clone()
    };
    for driver in ["\"modbus-rtu\"\npath = \"/dev/ttyS7\"", "\"modbus-tcp\"\naddress = \"192.0.2.1\""] {
        let told = "devices.d.answer_time = 2s is longer than links.a.timeout = 100ms: such an answer would always come \
                    too late";
        assert_eq!(warnings(driver, "2s"), serde_json::json!([told]));
        assert_eq!(warnings(driver, "100ms"), serde_json::json!([]));
    }
}
