//! Every folder under `plugins/` holds a plugin that answers as its recorded cases say, and a sample that runs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use support::plugins::{hostile, install, plugin_device};
use support::{Broker, Gateway, Subscriber, fieldgate, head, project, publish};

/// The names of the plugins of the project.
fn names() -> Vec<String> {
    let entries = fs::read_dir(project().join("plugins")).unwrap().map(Result::unwrap);
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.len() >= 2, "{names:?}");
    names
}

/// The sample of an installed plugin.
fn sample(folder: &Path, name: &str) -> String {
    let text = fs::read_to_string(folder.join("sample.toml")).unwrap();
    let driver = format!("driver = \"plugin:{name}\"\n");
    assert!(text.contains(&driver), "{name}");
    text.replace(&driver, &format!("{driver}folder = \"{}\"\n", folder.display()))
}

#[test]
fn each_plugin_answers_as_its_cases_say() {
    for name in names() {
        let folder = project().join("plugins").join(&name);
        let mut plugin = Command::new("./program")
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = plugin.stdin.take().unwrap();
        let mut answers = BufReader::new(plugin.stdout.take().unwrap()).lines();
        let cases = fs::read_to_string(folder.join("cases.jsonl")).unwrap();
        assert!(cases.lines().count() >= 5, "{name}");
        for case in cases.lines() {
            // As texts: a number must keep every digit.
            let (send, want) = case.strip_prefix("{\"send\":").unwrap().split_once(",\"want\":").unwrap();
            let want = want.strip_suffix('}').unwrap();
            writeln!(stdin, "{send}").unwrap();
            let answer = answers.next().unwrap_or_else(|| panic!("{name} ended at {send}")).unwrap();
            assert_eq!(dense(&answer), dense(want), "{name} was sent {send}");
        }
        drop(stdin);
        assert!(plugin.wait().unwrap().success(), "{name} does not end in order with its stdin");
    }
}

/// JSON without the blanks between its parts.
fn dense(json: &str) -> String {
    let mut text = String::new();
    let mut is_quoted = false;
    for character in json.chars() {
        is_quoted ^= character == '"';
        if is_quoted || character != ' ' {
            text.push(character);
        }
    }
    text
}

#[test]
fn each_sample_reaches_the_broker() {
    for name in names() {
        let folder = tempfile::tempdir().unwrap();
        let installed = install(folder.path(), &name);
        let broker = Broker::start();
        let watcher = Subscriber::start(&broker, "fieldgate/g/#");
        let config = head(folder.path(), &broker) + &sample(&installed, &name);
        let _gateway = Gateway::run(folder.path(), &config);
        let message = watcher.wait_for("a reading", |message| message.topic.ends_with("/readings"));
        let json = message.json();
        let values = json["values"].as_object().unwrap();
        assert!(!values.is_empty(), "{name}: {json}");
        // What this machine does not have is bad, and nothing else is wrong with it.
        let bad = json["bad"].as_object().cloned().unwrap_or_default();
        assert!(bad.values().all(|reason| reason == "invalid"), "{name}: {json}");
        if name == "pi-health" {
            assert!(values["uptime"].as_u64().unwrap() > 0, "{json}");
            let used = values["disk_used"].as_f64().unwrap();
            assert!((0.0..=100.0).contains(&used), "{json}");
        }
    }
}

#[test]
fn a_value_is_written_and_read_back_through_a_plugin() {
    let folder = tempfile::tempdir().unwrap();
    let installed = install(folder.path(), "template-python");
    let wrong = hostile(folder.path(), "one-too-many");
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let more = "big = { address = \"big\", type = \"u64\" }\nname = { address = \"level\", type = \"string\", \
                writable = true }\n";
    let config = head(folder.path(), &broker)
        + &sample(&installed, "template-python")
        + more
        + &plugin_device(&wrong, "");
    let _gateway = Gateway::run(folder.path(), &config);
    let readings = "fieldgate/g/template/readings";
    watcher.wait_json(readings, "a reading", |json| json["values"]["greeting"] == "good morning");
    let write = |device: &str, id: &str, values: &str| {
        let command = format!(
            r#"{{"id":"{id}","action":"write","values":{values},"expires_at":"2099-01-01T00:00:00Z"}}"#
        );
        publish(&broker, &format!("fieldgate/g/{device}/command"), &command, &[]);
        watcher.wait_json(&format!("fieldgate/g/{device}/reply"), id, |json| json["id"] == *id)
    };
    let reply = write("template", "w-1", r#"{"level":61.4}"#);
    assert_eq!((&reply["status"], &reply["values"]["level"]), (&"succeeded".into(), &61.4.into()), "{reply}");
    watcher.wait_json(readings, "the level", |json| json["values"]["level"] == 61.4);
    let reply = write("template", "w-2", r#"{"level":101}"#);
    assert_eq!(reply["error"]["code"], "out-of-range", "{reply}");
    let reply = write("template", "w-3", r#"{"name":"two words  "}"#);
    assert_eq!(reply["status"], "succeeded", "{reply}");
    // The device says something else than what was written.
    let reply = write("one-too-many", "w-4", r#"{"v":41}"#);
    assert_eq!(reply["error"]["code"], "verify-failed", "{reply}");
    assert_eq!(reply["values"]["v"], 42, "{reply}");
}

#[test]
fn a_plugin_gets_nothing_of_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let shows = hostile(folder.path(), "shows");
    let broker = Broker::start();
    let watcher = Subscriber::start(&broker, "fieldgate/g/#");
    let config = head(folder.path(), &broker)
        + &plugin_device(&shows, "").split("points.v").next().unwrap().replace("100ms", "1s")
        + "[devices.shows.points]\n"
        + &["environment", "open", "folder", "nice"]
            .map(|point| format!("{point} = {{ address = \"{point}\", type = \"string\" }}\n"))
            .concat();
    let environment = [("SECRET", "hunter2"), ("http_proxy", "http://x")];
    let _gateway = Gateway::run_with(folder.path(), &config, &environment);
    watcher.wait_json("fieldgate/g/status", "the connection", |json| json["state"] == "online");
    // It ends after each answer, so the third was started when the broker's socket was open.
    let reading = watcher.wait("the third reading", support::LIMIT, |messages| {
        let readings = messages.iter().filter(|message| message.topic == "fieldgate/g/shows/readings");
        readings.map(support::Message::json).filter(|json| json["values"]["open"].is_string()).nth(2)
    });
    let values = &reading["values"];
    // The fourth is the folder that it lists them by.
    assert_eq!(values["open"], "0 1 2 3");
    let environment: Vec<&str> = values["environment"].as_str().unwrap().split(' ').collect();
    assert!(environment.iter().all(|name| ["LANG", "LC_CTYPE", "PATH"].contains(name)), "{environment:?}");
    assert_eq!(values["folder"], shows.canonicalize().unwrap().to_str().unwrap());
    assert_eq!(values["nice"], "10");
}

/// What `check` says of a configuration with this plugin.
fn check(folder: &Path, config: &str) -> (Option<i32>, String) {
    let file = folder.join("check.toml");
    fs::write(&file, format!("[mqtt]\nurl = \"mqtt://127.0.0.1\"\n{config}")).unwrap();
    let output = fieldgate().args(["check", "--print", "--config"]).arg(&file).output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code(), text.concat())
}

#[test]
fn options_are_checked_against_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let installed = install(folder.path(), "template-python");
    let link =
        format!("[links.x]\ndriver = \"plugin:template-python\"\nfolder = \"{}\"\n", installed.display());
    let device = "[devices.d]\nlink = \"x\"\naddress = \"/dev/any thing\"\npoints.a = { address = \"a\", type = \"u8\" }\n";
    let (code, text) = check(folder.path(), &format!("{link}start = 12\n{device}"));
    assert_eq!(code, Some(0), "{text}");
    for shown in ["start = 12", "greeting = \"hello\"", "timeout = \"5s\"", "address = \"/dev/any thing\""] {
        assert!(text.contains(shown), "{shown} is not in {text}");
    }
    for (option, wanted) in [
        (
            "greting = 'x'",
            "links.x.greting is not a known key\n  in:   CHECK, line 6\n  help: did you mean `greeting`?",
        ),
        (
            "greeting = 5",
            "links.x.greeting must be text, not a number\n  in:   CHECK, line 6\n  help: write the text",
        ),
        ("start = 0.5", "links.x.start must be a whole number of 64 bits, not a number"),
        ("start = '5'", "links.x.start must be a whole number of 64 bits, not text"),
        ("path = '/dev/x'", "links.x.path is not a known key"),
        ("timeout = '5'", "links.x.timeout has no unit"),
    ] {
        let (code, text) = check(folder.path(), &format!("{link}{option}\n{device}"));
        let text = text.replace(folder.path().join("check.toml").to_str().unwrap(), "CHECK");
        assert_eq!(code, Some(78), "{option}: {text}");
        assert_eq!(text.matches("error: ").count(), 1, "{option}: {text}");
        assert!(text.contains(wanted), "{option}: {text}");
    }
    // From the environment everything is text.
    let file = folder.path().join("check.toml");
    fs::write(&file, format!("[mqtt]\nurl = \"mqtt://127.0.0.1\"\n{link}{device}")).unwrap();
    let output = fieldgate()
        .args(["check", "--print", "--config"])
        .arg(&file)
        .envs(BTreeMap::from([("FIELDGATE_LINKS__X__START", "7"), ("FIELDGATE_LINKS__X__GREETING", "7")]))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("start = 7") && text.contains("greeting = \"7\""), "{text}");
    // A folder of another name.
    let (code, text) = check(folder.path(), &link.replace("plugin:template-python", "plugin:other"));
    assert_eq!(code, Some(78));
    assert!(text.contains("name is not the name by which the plugin is used"), "{text}");
}

#[test]
fn a_faulty_manifest_is_told_with_its_own_lines() {
    let folder = tempfile::tempdir().unwrap();
    let installed = install(folder.path(), "template-python");
    let manifest = installed.join("plugin.toml");
    let good = fs::read_to_string(&manifest).unwrap();
    let link =
        format!("[links.x]\ndriver = \"plugin:template-python\"\nfolder = \"{}\"\n", installed.display());
    for (from, to, line, wanted) in [
        ("api = 1", "api = 2", 2, "api is not one that is known"),
        ("api = 1", "apy = 1", 2, "apy is not a known key"),
        ("[\"./program\"]", "[]", 3, "command names no program"),
        ("[\"./program\"]", "\"./program\"", 3, "command must be a list"),
        ("[\"./program\"]", "[\"program\"]", 3, "command must name its program by a path"),
        ("[\"./program\"]", "[\"./programm\"]", 3, "command: there is no program ./programm"),
        ("type = \"text\"", "type = \"word\"", 6, "options.greeting.type is none of the words"),
        ("default = 0", "default = 'x'", 12, "options.start.default must be a whole number"),
        ("[options.start]", "[options.timeout]", 10, "options.timeout has the name of a key"),
        ("help = \"write the text", "halp = \"write the text", 8, "options.greeting.halp is not a known key"),
        ("api = 1", "api =", 2, "this is not valid TOML"),
    ] {
        assert!(good.contains(from), "{from}");
        fs::write(&manifest, good.replacen(from, to, 1)).unwrap();
        let (code, text) = check(folder.path(), &link);
        assert_eq!(code, Some(78), "{to}: {text}");
        let place = format!("in:   {}, line {line}", manifest.canonicalize().unwrap().display());
        assert!(text.contains(wanted) && text.contains(&place), "{to}: {place} {text}");
    }
    fs::remove_file(&manifest).unwrap();
    let (_, text) = check(folder.path(), &link);
    assert!(text.contains("there is no such file"), "{text}");
    let (_, text) = check(folder.path(), &link.replace("template-python\"\n", "gone\"\n"));
    assert!(text.contains("links.x.folder names a plugin that is not there"), "{text}");
    // A link that is not used needs no plugin.
    let (code, text) = check(folder.path(), &link.replacen("[links.x]\n", "[links.x]\nenabled = false\n", 1));
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_program_that_others_can_change_is_not_run() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let installed = install(folder.path(), "template-python");
    let link =
        format!("[links.x]\ndriver = \"plugin:template-python\"\nfolder = \"{}\"\n", installed.display());
    for (path, mode, good) in [("program", 0o775, 0o755), ("plugin.toml", 0o646, 0o644), ("", 0o757, 0o755)] {
        let path = installed.join(path);
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(check(folder.path(), &link).0, Some(0));
        set(mode);
        let (code, text) = check(folder.path(), &link);
        assert_eq!(code, Some(78), "{}", path.display());
        assert!(text.contains("can be written by its group or by others"), "{text}");
        set(good);
    }
    // The folder may be named by a link; what counts is where it leads.
    let by_name = folder.path().join("by-name");
    std::os::unix::fs::symlink(&installed, &by_name).unwrap();
    let link = link.replace(&*installed.to_string_lossy(), &by_name.to_string_lossy());
    assert_eq!(check(folder.path(), &link).0, Some(0));
    fs::set_permissions(&installed, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(check(folder.path(), &link).0, Some(78));
    fs::set_permissions(&installed, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn simulate_says_that_it_leaves_plugins_out() {
    let folder = tempfile::tempdir().unwrap();
    let installed = install(folder.path(), "template-python");
    let file = folder.path().join("fieldgate.toml");
    fs::write(
        &file,
        format!("[mqtt]\nurl = \"mqtt://127.0.0.1\"\n{}", sample(&installed, "template-python")),
    )
    .unwrap();
    let mut command = fieldgate();
    command.arg("simulate").arg("--config").arg(&file);
    let process = support::Process::start("fieldgate simulate", &mut command);
    let line = process.wait_line("left out", support::LIMIT);
    assert_eq!(
        line,
        "link template: left out, because the plugin template-python is a program of its own: template"
    );
}
