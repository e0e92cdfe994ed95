//! A bad configuration is refused with what is wrong, where it stands and what to do; every fault at once,
//! and never with a secret in it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What must never be shown.
const CANARY: &str = "hunter2";

/// A configuration without fault, for the cases that add one.
const GOOD: &str = include_str!("config_good.toml");

/// What every case has in its environment.
const VARIABLES: [(&str, &str); 2] = [("EMPTY", ""), ("PW", CANARY)];

/// What a check came to.
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// Each fault as its lines: error, in, help.
    fn faults(&self) -> Vec<Vec<&str>> {
        let faults = self.stderr.split("error: ").filter(|text| !text.is_empty());
        faults.map(|fault| fault.lines().collect()).collect()
    }
}

fn check(files: &[PathBuf], variables: &[(&str, &str)]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fieldgate"));
    command.args(["check", "--print"]).env_clear().envs(variables.iter().copied());
    for file in files {
        command.arg("--config").arg(file);
    }
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The configuration without fault, and `bad` beside it.
fn folder(bad: impl AsRef<[u8]>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("main.toml"), GOOD).unwrap();
    fs::create_dir(folder.path().join("conf.d")).unwrap();
    fs::write(folder.path().join("conf.d/bad.toml"), bad).unwrap();
    folder
}

fn main_file(folder: &tempfile::TempDir) -> [PathBuf; 1] {
    [folder.path().join("main.toml")]
}

#[test]
fn the_base_of_the_cases_has_no_fault() {
    let outcome = check(&main_file(&folder("")), &VARIABLES);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
}

#[test]
fn each_fault_names_key_place_and_help_and_no_secret() {
    let cases =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config_faults.txt")).unwrap();
    let cases: String =
        cases.lines().filter(|line| !line.starts_with("###")).flat_map(|line| [line, "\n"]).collect();
    let mut wrong = Vec::new();
    let mut count = 0;
    for case in cases.split(">>> ").skip(1) {
        count += 1;
        let (wanted, text) = case.split_once('\n').unwrap();
        let wanted: Vec<&str> = wanted.split(" | ").collect();
        let (error, place, help) = (wanted[0], wanted[1], wanted[2]);
        let variables = text.lines().filter_map(|line| line.strip_prefix('$')?.split_once('='));
        let variables: Vec<_> = VARIABLES.into_iter().chain(variables).collect();
        let text: String =
            text.lines().filter(|line| !line.starts_with('$')).flat_map(|line| [line, "\n"]).collect();
        let folder = folder(&text);
        let place = match place.parse::<usize>() {
            Ok(line) => format!("{}, line {line}", folder.path().join("conf.d/bad.toml").display()),
            Err(_) => place.to_owned(),
        };

        let outcome = check(&main_file(&folder), &variables);
        let faults = outcome.faults();
        let told = faults.len() == 1
            && faults[0].len() == 3
            && faults[0][0].starts_with(error)
            && faults[0][1].strip_prefix("  in:   ") == Some(&place)
            && faults[0][2].strip_prefix("  help: ").is_some_and(|told| told.contains(help));
        let quiet = !outcome.stdout.contains(CANARY) && !outcome.stderr.contains(CANARY);
        if outcome.code != 78 || !told || !quiet {
            wrong.push(format!("{case}came to {}:\n{}", outcome.code, outcome.stderr));
        }
    }
    assert!(count > 240, "only {count} cases were read");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn a_template_without_a_device_may_be_a_plugins() {
    let folder = folder(
        "[templates.meter]\naddress = \"192.168.1.5\"\npoints.a = { address = \"40041\", type = \"u16\" }\n\
         points.c = { address = \"x\", type = \"u16\" }\n",
    );
    let outcome = check(&main_file(&folder), &VARIABLES);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
}

#[test]
fn every_fault_is_told_at_once() {
    let folder = folder(
        "[mqtt]\nqos = 9\npassword = \"hunter2\"\nversoin = \"5\"\n[devices.boiler]\npoll_interval = 5\n\
         [devices.boiler.points]\na = { address = \"coil:1\", type = \"u16\" }\nb = { address = \"x\", type = \"y\" }\n",
    );
    let outcome = check(&main_file(&folder), &[("FIELDGATE_LOG__LEVEL", "loud")]);
    let faults = outcome.faults();
    let errors: Vec<&str> = faults.iter().map(|lines| lines[0]).collect();
    let keys: Vec<&str> = errors.iter().filter_map(|error| error.split(' ').next()).collect();
    assert_eq!(
        keys,
        [
            "mqtt.qos",
            "mqtt.password",
            "mqtt.versoin",
            "devices.boiler.poll_interval",
            "devices.boiler.points.a.type",
            "devices.boiler.points.b.address",
            "devices.boiler.points.b.type",
            "log.level",
        ],
        "{}",
        outcome.stderr
    );
    assert!(!outcome.stderr.contains(CANARY));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = folder("");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("latin1.toml"), b"[gateway]\nlabel = \"H\xF6he\"\n").unwrap();
    fs::write(path("bom.toml"), b"\xEF\xBB\xBF[gateway]\n").unwrap();
    for (name, error, line) in [
        ("missing.toml", "there is no such file", ""),
        ("conf.d", "this is a directory", ""),
        ("latin1.toml", "the file is not UTF-8", ", line 2"),
        ("bom.toml", "the file begins with a byte order mark", ""),
    ] {
        let outcome = check(&[path(name)], &[]);
        let faults = outcome.faults();
        assert_eq!(outcome.code, 78, "{name}");
        assert!(faults[0][0].starts_with(error), "{name}: {}", outcome.stderr);
        assert_eq!(faults[0][1], format!("  in:   {}{line}", path(name).display()));
        assert!(faults[0][2].starts_with("  help: "), "{name}");
    }
    fs::remove_dir_all(path("conf.d")).unwrap();
    fs::write(path("conf.d"), "").unwrap();
    let outcome = check(&main_file(&folder), &[]);
    assert_eq!(outcome.faults()[0][1], format!("  in:   {}", path("conf.d").display()));
}

#[test]
fn a_secret_that_others_can_reach_is_refused() {
    let folder = folder("");
    let secret = folder.path().join("secret");
    fs::write(&secret, format!("{CANARY}\n")).unwrap();
    let password = format!("[mqtt]\npassword = {{ file = \"{}\" }}\n", secret.display());
    fs::write(folder.path().join("conf.d/bad.toml"), password).unwrap();
    for (mode, code) in [(0o600, 0), (0o640, 0), (0o400, 0), (0o644, 78), (0o602, 78), (0o660, 78)] {
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        let outcome = check(&main_file(&folder), &[("FIELDGATE_MQTT__USERNAME", "u")]);
        assert_eq!(outcome.code, code, "{mode:o}: {}", outcome.stderr);
        assert!(!outcome.stdout.contains(CANARY) && !outcome.stderr.contains(CANARY), "{mode:o}");
        let told = if code == 0 {
            outcome.stdout.contains("password = \"***\"")
        } else {
            outcome.stderr.contains("chmod")
        };
        assert!(told, "{mode:o}: {}{}", outcome.stdout, outcome.stderr);
    }
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    // A password may be bytes, but not a text that an editor saved in another way than everybody reads it.
    for (content, code) in [
        (&b""[..], 78),
        (b"\n", 78),
        (b"\xef\xbb\xbfhunter2", 78),
        (b"\xff\xfeh\0u\0n\0", 78),
        (b"\xffhunter2\0\n", 0),
    ] {
        fs::write(&secret, content).unwrap();
        let outcome = check(&main_file(&folder), &[]);
        assert_eq!(outcome.code, code, "{content:?}: {}", outcome.stderr);
        assert!(!outcome.stdout.contains(CANARY) && !outcome.stderr.contains(CANARY), "{content:?}");
    }
}

#[test]
fn depth_is_refused_not_fatal() {
    let deep = [
        format!("a = {}1{}", "[".repeat(50_000), "]".repeat(50_000)),
        format!("a = {}", "{a = ".repeat(50_000)),
        format!("{}a = 1", "a.".repeat(50_000)),
        format!("[{}a]", "a.".repeat(50_000)),
    ];
    for text in deep {
        let outcome = check(&main_file(&folder(&text)), &[]);
        assert_eq!(outcome.code, 78, "{}", &text[..20]);
        assert!(outcome.stderr.len() < 10_000, "{}", &text[..20]);
    }
    let name = format!("FIELDGATE_{}A", "A__".repeat(20_000));
    assert_eq!(check(&main_file(&folder("")), &[(&name, "1")]).code, 78);
}
