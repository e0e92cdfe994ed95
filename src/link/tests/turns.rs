//! Whose turn it is.

use tokio::time::advance;

use super::super::schedule::{Schedule, Turn};
use super::*;
use crate::clock::Timestamp;

#[actix::test]
async fn a_dead_device_takes_a_tenth_of_the_line_and_its_neighbour_keeps_its_interval() {
    let bench = bench(&["dead", "alive"], Vec::new());
    sleep(Duration::from_secs(600)).await;
    let dead = bench.asked("dead");
    assert!(dead.len() >= 10, "tried at least once a minute: {dead:?}");
    let longest = dead.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap();
    assert!(longest <= Duration::from_secs(61), "{longest:?}");
    let busy = Duration::from_millis(200) * u32::try_from(dead.len()).unwrap();
    assert!(busy < Duration::from_secs(60), "{busy:?} of ten minutes");
    let polls = bench.asked("alive").len() / 2;
    assert!((598..=601).contains(&polls), "{polls} polls in 600 s");
    let offline =
        bench.reports.borrow().iter().any(|r| r.device.as_str() == "dead" && r.state == State::Offline);
    assert!(offline);
}

#[actix::test]
async fn a_device_that_a_gateway_cannot_reach_backs_off_like_a_silent_one() {
    let bench = bench(&["absent", "alive"], Vec::new());
    sleep(Duration::from_secs(600)).await;
    let asked = bench.asked("absent").len();
    assert!((10..30).contains(&asked), "asked {asked} times in ten minutes");
    let reports = bench.reports.borrow();
    let report = reports.iter().find(|report| report.device.as_str() == "absent").unwrap();
    assert_eq!((report.state, report.reason.as_deref()), (State::Offline, Some("exception-11")));
    assert!(bench.records.borrow()[0].1.contains(r#""bad":{"a":"exception-11","b":"exception-11"}"#));
}

#[actix::test]
async fn a_device_that_noise_kept_from_being_asked_does_not_back_off() {
    let bench = bench(&["noisy"], Vec::new());
    sleep(Duration::from_secs(600)).await;
    let tried = bench.asked("noisy").len();
    assert!((599..=601).contains(&tried), "{tried} turns in 600 s");
    assert!(bench.records.borrow()[0].1.contains(r#""bad":{"a":"malformed","b":"malformed"}"#));
    assert!(bench.reports.borrow().iter().all(|report| report.state == State::Offline));
}

#[actix::test]
async fn after_a_time_out_the_rest_of_the_poll_is_not_asked() {
    let bench = bench(&["dead"], Vec::new());
    sleep(Duration::from_millis(900)).await;
    assert_eq!(bench.asked("dead").len(), 1, "two points, one request");
    assert!(bench.records.borrow()[0].1.contains(r#""bad":{"a":"timeout","b":"timeout"}"#));
}

/// How long the polls of a device were apart: least and most. A poll of these devices asks for two points.
fn apart(asked: &[Duration]) -> (Duration, Duration) {
    let begins: Vec<Duration> = asked.iter().step_by(2).copied().collect();
    let gaps = begins.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    (gaps.clone().min().unwrap(), gaps.max().unwrap())
}

#[actix::test]
async fn points_of_different_intervals_share_a_poll_when_they_are_due_together() {
    let mut mixed = device("mixed");
    mixed.points[0].poll_interval = Some(Duration::from_millis(100));
    let bench = bench_of(vec![mixed], 0.1, Vec::new());
    sleep(Duration::from_millis(10_050)).await;
    let readings = bench.readings("mixed");
    let with = |point: &str| readings.iter().filter(|body| body.contains(&format!("\"{point}\":7"))).count();
    assert_eq!((readings.len(), with("a"), with("b")), (101, 101, 11));
    assert_eq!(bench.asked("mixed").len(), 112, "and nothing is asked twice");
    let reports = bench.reports.borrow();
    assert!(reports.iter().all(|report| report.state == State::Online), "what is not due is not bad");
}

#[actix::test]
async fn the_nearest_deadline_goes_first_and_nobody_starves() {
    // Five slow devices take 3 s of every 5 s and come together; a fast one takes a fifth of the line.
    let mut devices: Vec<Device> = (300..305).map(|millis| device(&format!("slow-{millis}"))).collect();
    for slow in &mut devices {
        slow.poll_interval = Duration::from_secs(5);
        slow.patience = Duration::from_secs(1);
    }
    let mut fast = device("fast");
    fast.poll_interval = Duration::from_millis(100);
    devices.push(fast);
    let bench = bench_of(devices, 0.1, Vec::new());
    sleep(Duration::from_secs(100)).await;
    // A poll that has begun is not broken off.
    let (_, longest) = apart(&bench.asked("fast"));
    assert!(longest <= Duration::from_millis(740), "{longest:?}");
    for millis in 300..305 {
        let polls = bench.readings(&format!("slow-{millis}")).len();
        assert!((19..=20).contains(&polls), "slow-{millis}: {polls} polls in 100 s");
    }
}

#[actix::test]
async fn an_overloaded_line_is_shared() {
    // Each would take all of the line.
    let names = ["slow-600", "slow-601", "slow-602"];
    let mut devices: Vec<Device> = names.map(device).into();
    devices[0].poll_interval = Duration::from_millis(100);
    for slow in &mut devices {
        slow.patience = Duration::from_secs(1);
    }
    let bench = bench_of(devices, 0.1, Vec::new());
    sleep(Duration::from_secs(360)).await;
    for name in names {
        let polls = bench.readings(name).len();
        assert!(polls >= 60, "{name}: {polls} polls where 100 would be a third");
    }
}

#[actix::test]
async fn missed_turns_are_not_made_up_for() {
    let mut fast = device("fast");
    fast.poll_interval = Duration::from_millis(100);
    let bench = bench_of(vec![device("stall"), fast], 0.1, Vec::new());
    sleep(Duration::from_secs(30)).await;
    let asked = bench.asked("fast");
    let (shortest, longest) = apart(&asked);
    assert!(longest >= Duration::from_secs(9), "the line stood still: {longest:?}");
    assert!(shortest >= Duration::from_millis(50), "{shortest:?}");
    let after = asked.iter().filter(|at| (10..12).contains(&at.as_secs())).count();
    assert!(after <= 44, "{after} requests in two seconds, 40 were due");
    // Ten seconds without a turn: a hundred of the fast device's were left out, nine of the other's.
    let missed = bench.traffic.link.overruns.get();
    assert!((100..=115).contains(&missed), "{missed} overruns");
    let busy = bench.traffic.link.busy.total();
    let least = Duration::from_secs(10);
    assert!(busy > least && busy < Duration::from_secs(17), "{busy:?}");
}

#[actix::test]
async fn a_dead_device_takes_no_more_than_its_share() {
    for (share, patience) in [(0.01, 500), (0.1, 200), (0.1, 5_000), (0.3, 5_000), (0.5, 20_000)] {
        let patience = Duration::from_millis(patience);
        let mut dead = device("dead");
        dead.patience = patience;
        let bench = bench_of(vec![dead, device("alive")], share, Vec::new());
        sleep(Duration::from_secs(3_600)).await;
        let asked = bench.asked("dead");
        // The first three find out that it is dead.
        let probes = &asked[3..];
        let time = asked.last().unwrap().saturating_sub(asked[2]);
        let busy = patience * u32::try_from(probes.len()).unwrap();
        let found = busy.as_secs_f64() / time.as_secs_f64();
        assert!(found <= share * 1.001, "{found} of the line, {share} was allowed");
        let longest = probes.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap();
        assert!(longest <= Duration::from_millis(60_002), "tried once a minute: {longest:?}");
        bench.link.send(Stop).await.unwrap();
        tokio::time::resume();
    }
}

#[actix::test]
async fn several_dead_devices_share_one_share() {
    let mut devices: Vec<Device> = (0..5).map(|index| device(&format!("dead-{index}"))).collect();
    for dead in &mut devices {
        dead.patience = Duration::from_secs(1);
    }
    devices.push(device("alive"));
    let bench = bench_of(devices, 0.1, Vec::new());
    sleep(Duration::from_secs(3_600)).await;
    let dead: Vec<Vec<Duration>> = (0..5).map(|index| bench.asked(&format!("dead-{index}"))).collect();
    let probes: usize = dead.iter().map(|asked| asked.len() - 3).sum();
    assert!(probes <= 360, "{probes} probes of a second in an hour");
    for asked in &dead {
        // The others and their neighbour may be at work when its turn comes.
        let longest = asked.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap();
        assert!(longest <= Duration::from_secs(66), "{longest:?}");
    }
}

#[actix::test]
async fn many_that_are_dead_from_the_start_do_not_take_the_line() {
    let quick = |name: &str| Device { poll_interval: Duration::from_millis(100), ..device(name) };
    let mut devices: Vec<Device> = (0..20).map(|index| quick(&format!("dead-{index}"))).collect();
    devices.push(quick("alive"));
    let bench = bench_of(devices, 0.1, Vec::new());
    sleep(Duration::from_secs(64)).await;
    let dead: Vec<Duration> = (0..20).flat_map(|index| bench.asked(&format!("dead-{index}"))).collect();
    let alive = bench.asked("alive");
    let within = |asked: &[Duration], from: u64, to: u64| {
        asked.iter().filter(|at| (from..to).contains(&at.as_secs())).count()
    };
    // Each is asked once, which takes the four seconds and a little more. From then on they share their tenth: a fifth of
    // a second of every two.
    assert!((20..=21).contains(&within(&dead, 0, 5)), "{dead:?}");
    for from in (5..64).step_by(10).take(5) {
        let asked = within(&dead, from, from + 10);
        // Five, and some more while the first of them are dead already: they rest by themselves, for a time with a
        // little chance in it.
        assert!((4..=8).contains(&asked), "{asked} polls of the dead in ten seconds from {from}");
        let asked = within(&alive, from, from + 10) / 2;
        // One of them costs two of its polls.
        assert!((84..=100).contains(&asked), "{asked} polls of 100 in ten seconds from {from}");
    }
    for index in 0..20 {
        let asked = bench.asked(&format!("dead-{index}"));
        assert!(asked.len() >= 2, "dead-{index} was left alone: {asked:?}");
    }
}

#[actix::test]
async fn one_that_falls_silent_is_found_dead_at_its_own_pace() {
    let bench = bench(&["dead", "alive"], Vec::new());
    sleep(Duration::from_millis(2_500)).await;
    assert_eq!(bench.asked("dead").len(), 3, "three turns in a row, as if it were alone");
}

#[actix::test]
async fn a_burst_that_hit_all_is_over_when_it_is_over() {
    // All are silent for five seconds; the first who answers opens the line to the others.
    let names: Vec<String> = (0..10).map(|index| format!("until-5-{index}")).collect();
    let mut devices: Vec<Device> = names.iter().map(|name| device(name)).collect();
    devices.push(device("alive"));
    let bench = bench_of(devices, 0.1, Vec::new());
    sleep(Duration::from_secs(30)).await;
    for name in &names {
        let good = bench.readings(name).iter().filter(|body| body.contains("\"a\":7")).count();
        assert!(good >= 20, "{name}: {good} good polls of the 25 seconds after");
    }
}

/// Polls for so long by the wall clock, which shows `wall` now; gives what it showed at each poll.
async fn aligned(schedule: &mut Schedule, wall: &mut i64, time: Duration) -> Vec<i64> {
    let log = Log::default();
    let (flags, opens) = (<[Rc<RefCell<bool>>; 3]>::default(), Rc::default());
    let [has_panicked, has_stalled, has_taught] = flags;
    let mut driver = Scripted { log, start: Instant::now(), has_panicked, has_stalled, has_taught, opens };
    let end = Instant::now() + time;
    let mut polls = Vec::new();
    while Instant::now() < end {
        let now = Instant::now();
        let due = schedule.due(now, Timestamp::from_millis(*wall)).unwrap().min(end);
        // The timer of the loop rings up to a millisecond late.
        let step = (due - now).max(Duration::from_millis(1));
        advance(step).await;
        *wall += i64::try_from(step.as_millis()).unwrap();
        if let Some(Turn { .. }) = schedule.begin(&mut driver) {
            polls.push(*wall);
        }
    }
    polls
}

#[actix::test]
async fn aligned_polls_come_on_the_wall_clock_and_a_set_clock_makes_no_burst() {
    tokio::time::pause();
    let mut device = device("alive");
    (device.align, device.poll_interval) = (true, Duration::from_secs(60));
    let mut schedule = Schedule::new(&[Arc::new(device)], 0.1);
    let mut wall = Timestamp::parse("2026-03-01T10:15:02.120Z").unwrap().millis();
    let offsets = |polls: &[i64]| polls.iter().map(|at| at % 60_000).max().unwrap();
    let polls = aligned(&mut schedule, &mut wall, Duration::from_secs(600)).await;
    assert_eq!(polls.len(), 10);
    assert!(offsets(&polls) <= 2, "{polls:?}");
    // Set forward over many turns, back over many, and a little either way.
    for jump in [7_200_000, -7_200_000, 20_000, -20_000, 400, -400, 31_000, -31_000] {
        wall += jump;
        let polls = aligned(&mut schedule, &mut wall, Duration::from_secs(600)).await;
        assert!((9..=10).contains(&polls.len()), "{jump} ms: {} polls in ten minutes", polls.len());
        assert!(offsets(&polls) <= 2, "{jump} ms: {polls:?}");
    }
}
