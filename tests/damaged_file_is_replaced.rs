//! A buffer file that is damaged, cut off, taken away or somebody else's never keeps the gateway from starting or
//! going on: it is moved aside whole, what can be read of it arrives, the rest is told lost, and later data is safe.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::collector::Collector;
use support::count::{Rule, Verdict, judge};
use support::counted::{Counted, Served, killing, monotonic};
use support::{Broker, Gateway, LIMIT, Message, Subscriber, head};

/// Points of a unit.
const POINTS: usize = 4;
/// Answers before the damage.
const BEFORE: usize = 600;
/// Answers after it.
const AFTER: usize = 200;
/// A page of the file.
const PAGE: u64 = 4096;
/// What a commit may take beyond its window on a busy machine.
const SYNC: Duration = Duration::from_secs(2);
/// Losses that a damaged file may cost, by the names that events give them.
const DAMAGE: [&str; 2] = ["corrupt", "damaged"];

/// A gateway with a good deal in its buffer and no broker.
struct Scene {
    folder: tempfile::TempDir,
    broker: Broker,
    device: Counted,
    collector: Collector,
    events: Subscriber,
    config: String,
    rule: Rule,
}

/// What came of it.
struct Outcome {
    verdict: Verdict,
    /// Values received of those served before the damage, in percent.
    kept: usize,
    /// Times an event told that the file was replaced.
    replaced: usize,
    /// What was moved aside is what was there before the start, byte for byte.
    is_whole: bool,
}

impl Scene {
    fn begin(max_size: &str) -> (Self, Gateway) {
        let folder = tempfile::tempdir().unwrap();
        let mut broker = Broker::persistent();
        let device = Counted::start(POINTS);
        let collector = Collector::start(&broker, POINTS);
        let events = Subscriber::durable(&broker, "fieldgate/g/event");
        let size = format!(
            "max_size = \"{max_size}\"
[mqtt]"
        );
        let config = head(folder.path(), &broker).replace("[mqtt]", &size) + &device.devices(2, "10ms");
        broker.stop();
        let gateway = Gateway::run(folder.path(), &config);
        device.wait_served(BEFORE);
        let rule =
            Rule { window: Duration::from_millis(250) + SYNC, excuses: DAMAGE.to_vec(), ..Rule::default() };
        (Self { folder, broker, device, collector, events, config, rule }, gateway)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("buffer.db")
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(self.file()).unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    /// Starts the gateway on what there is, or lets it go on, and counts what arrives. `found` are its files before.
    fn finish(mut self, gateway: Option<Gateway>, found: Option<&[Vec<u8>; 2]>) -> Outcome {
        let damaged = monotonic();
        let mut gateway = gateway.unwrap_or_else(|| Gateway::run(self.folder.path(), &self.config));
        self.broker.start_again();
        self.device.wait_served(AFTER);
        self.device.mute();
        let served = self.device.served();
        let later: Vec<Served> = served.iter().copied().filter(|answer| answer.asked > damaged).collect();
        let nothing = Rule::default();
        self.collector.wait(LIMIT, |received| {
            let is_all = judge(&later, received, &nothing).lost.count == 0;
            (is_all && judge(&served, received, &self.rule).is_clean()).then_some(())
        });
        assert!(gateway.stop().success());
        let received = self.collector.received();
        let verdict = judge(&served, &received, &self.rule);
        verdict.report(&format!("{:?}", verdict.told));
        assert!(verdict.is_clean(), "{verdict}");
        let late = judge(&later, &received, &nothing).lost;
        assert_eq!(late.count, 0, "later data is lost: {late:?}");
        let earlier = served.len() - later.len();
        let kept = 100 * (verdict.received - later.len()) / earlier;
        let events = self.events.messages();
        let replaced = events.iter().map(Message::json).filter(|json| json["event"] == "buffer-replaced");
        let moved_to: Vec<Option<PathBuf>> =
            replaced.map(|json| json["moved_to"].as_str().map(PathBuf::from)).collect();
        assert!(moved_to.iter().flatten().all(|path| path.exists()), "{moved_to:?}");
        let is_whole = moved_to.iter().flatten().any(|path| Some(&files(path)) == found);
        Outcome { verdict, kept, replaced: moved_to.len(), is_whole }
    }
}

/// The gateway has stopped in order, this is done to its file, and another one starts.
fn after_a_stop(damage: impl FnOnce(&mut Scene)) -> Outcome {
    // Small enough that the log is folded into the file before the end, too.
    let (mut scene, mut gateway) = Scene::begin("2MiB");
    assert!(gateway.stop().success());
    damage(&mut scene);
    let found = files(&scene.file());
    scene.finish(None, Some(&found))
}

/// The gateway was killed with everything in its log, this is done to its files, and another one starts.
fn after_a_kill(damage: impl FnOnce(&mut Scene)) -> Outcome {
    let (mut scene, mut gateway) = Scene::begin("256MiB");
    scene.rule.kills.push(killing(|| gateway.kill()));
    damage(&mut scene);
    let found = files(&scene.file());
    scene.finish(None, Some(&found))
}

/// This is done to the file of a running gateway.
fn while_open(damage: impl FnOnce(&mut Scene)) -> Outcome {
    let (mut scene, gateway) = Scene::begin("2MiB");
    damage(&mut scene);
    scene.finish(Some(gateway), None)
}

/// A database file and its log; one that is missing is empty.
fn files(file: &Path) -> [Vec<u8>; 2] {
    ["", "-wal"].map(|end| fs::read(with_end(file, end)).unwrap_or_default())
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut longer = path.as_os_str().to_owned();
    longer.push(end);
    longer.into()
}

/// Sixty-four bytes that no format has.
fn garbage(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..64).map(|_| random.u8(..)).collect()
}

fn pages(scene: &Scene) -> u64 {
    fs::metadata(scene.file()).unwrap().len() / PAGE
}

#[test]
fn garbage_at_its_beginning() {
    let Outcome { replaced, is_whole, kept, .. } = after_a_stop(|scene| scene.write(0, &garbage(1)));
    assert_eq!((replaced, is_whole), (1, true));
    assert!(kept > 90, "{kept} %");
}

#[test]
fn garbage_at_its_beginning_after_a_kill() {
    // The log is long, and has the page whole.
    let Outcome { kept, .. } = after_a_kill(|scene| scene.write(0, &garbage(1)));
    assert!(kept > 90, "{kept} %");
}

#[test]
fn garbage_in_many_of_its_pages() {
    let Outcome { kept, verdict, .. } = after_a_stop(|scene| {
        for (seed, page) in (10..pages(scene)).step_by(9).enumerate() {
            scene.write(page * PAGE + 500 + 97 * seed as u64, &garbage(seed as u64));
        }
    });
    assert!(kept > 50, "{kept} %: {verdict}");
}

#[test]
fn a_page_of_zeros() {
    let Outcome { kept, replaced, .. } =
        after_a_stop(|scene| scene.write(pages(scene) / 2 * PAGE, &[0; 4096]));
    assert_eq!(replaced, 1);
    assert!(kept > 70, "{kept} %");
}

#[test]
fn half_of_it_is_gone() {
    let Outcome { kept, replaced, is_whole, .. } = after_a_stop(|scene| {
        let half = pages(scene) / 2 * PAGE;
        File::options().write(true).open(scene.file()).unwrap().set_len(half).unwrap();
    });
    assert_eq!((replaced, is_whole), (1, true));
    assert!(kept > 20, "{kept} %");
}

#[test]
fn all_of_it_is_gone() {
    let Outcome { kept, .. } =
        after_a_stop(|scene| File::options().write(true).open(scene.file()).unwrap().set_len(0).unwrap());
    assert_eq!(kept, 0);
}

#[test]
fn its_log_is_gone() {
    let Outcome { verdict, .. } = after_a_kill(|scene| {
        fs::remove_file(with_end(&scene.file(), "-wal")).unwrap();
    });
    assert!(verdict.received >= AFTER, "{verdict}");
}

#[test]
fn garbage_in_its_log() {
    // What follows it in the log looks like a commit that was cut off.
    let Outcome { kept, verdict, .. } = after_a_kill(|scene| {
        let log = with_end(&scene.file(), "-wal");
        let middle = fs::metadata(&log).unwrap().len() / 2;
        File::options().write(true).open(log).unwrap().write_all_at(&garbage(3), middle).unwrap();
        scene.rule.excuses.push("unclean-stop");
    });
    assert!(kept > 20, "{kept} %: {verdict}");
}

#[test]
fn it_is_a_text() {
    let Outcome { replaced, is_whole, .. } = after_a_stop(|scene| {
        let mut text = File::create(scene.file()).unwrap();
        text.write_all("it is not what you think\n".repeat(500).as_bytes()).unwrap();
    });
    assert_eq!((replaced, is_whole), (1, true));
}

#[test]
fn it_is_the_database_of_somebody_else() {
    let Outcome { replaced, is_whole, .. } = after_a_stop(|scene| {
        fs::remove_file(scene.file()).unwrap();
        let other = rusqlite::Connection::open(scene.file()).unwrap();
        other.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1), (2), (3)").unwrap();
    });
    assert_eq!((replaced, is_whole), (1, true));
}

#[test]
fn it_is_deleted_while_it_is_open() {
    let Outcome { kept, replaced, .. } = while_open(|scene| {
        // Again and again: once it may hit the middle of a commit.
        for round in 0..5 {
            for end in ["", "-wal", "-shm"] {
                let path = with_end(&scene.file(), end);
                assert!(fs::remove_file(&path).is_ok() || !path.exists(), "{}", path.display());
            }
            scene.device.wait_served(100 + 13 * round);
        }
    });
    assert!((1..=5).contains(&replaced), "{replaced}");
    assert_eq!(kept, 100, "an open file can still be read");
}

#[test]
fn another_takes_its_place_while_it_is_open() {
    let Outcome { kept, replaced, .. } = while_open(|scene| {
        let other = scene.folder.path().join("other");
        fs::write(&other, garbage(7).repeat(1_000)).unwrap();
        fs::rename(other, scene.file()).unwrap();
    });
    assert_eq!(replaced, 1);
    assert_eq!(kept, 100, "an open file can still be read");
}

#[test]
fn garbage_in_it_while_it_is_open() {
    let Outcome { kept, .. } = while_open(|scene| {
        for (seed, page) in (2..pages(scene)).step_by(5).enumerate() {
            scene.write(page * PAGE + 1_000, &garbage(seed as u64));
        }
    });
    assert!(kept > 20, "{kept} %");
}
