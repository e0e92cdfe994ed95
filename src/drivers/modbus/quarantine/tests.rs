//! The rules one by one, and a model of a unit that answers in order.

use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

fn shape(function: u8, bytes: u8) -> Shape {
    Shape { unit: 1, function, bytes }
}

/// One holding register, two, and one input register.
const ONE: (u8, u8) = (3, 3);
const TWO: (u8, u8) = (3, 5);
const INPUT: (u8, u8) = (4, 3);

fn sent(shapes: &[(u8, u8)]) -> Quarantine {
    let mut quarantine = Quarantine::default();
    for &(function, bytes) in shapes {
        quarantine.sent(shape(function, bytes), false);
    }
    quarantine
}

/// What is heard, as (function, bytes), with `true` for an exception.
fn heard(quarantine: &mut Quarantine, it: (u8, u8), exception: bool, newest: (u8, u8)) -> Heard {
    let bytes = if exception { 1 } else { it.1 };
    quarantine.heard(shape(it.0, bytes), exception, Some(shape(newest.0, newest.1)))
}

#[test]
fn a_request_like_an_unanswered_one_needs_a_probe_and_another_does_not() {
    let quarantine = sent(&[ONE]);
    let before = |(function, bytes), count| quarantine.before(shape(function, bytes), count);
    assert_eq!(before(ONE, 1), Before::Probe { function: 3, count: 2 });
    assert_eq!(before(TWO, 2), Before::Send);
    assert_eq!(before(INPUT, 1), Before::Send);
    let other_unit = Shape { unit: 2, ..shape(3, 3) };
    assert_eq!(quarantine.before(other_unit, 1), Before::Send);
}

#[test]
fn probes_alternate_and_are_never_of_the_shape_in_question() {
    for (function, count) in [(1, 1), (1, 8), (1, 9), (2, 2000), (3, 1), (3, 125), (4, 2)] {
        let bytes = |function: u8, count: u16| {
            let bytes = if function <= 2 { count.div_ceil(8) } else { 2 * count };
            shape(function, u8::try_from(1 + bytes).unwrap())
        };
        let asked = bytes(function, count);
        let mut quarantine = Quarantine::default();
        quarantine.sent(asked, false);
        let mut functions = Vec::new();
        for _ in 0..4 {
            let Before::Probe { function, count } = quarantine.before(asked, count) else {
                panic!("no probe")
            };
            assert_ne!(bytes(function, count), asked);
            assert!((1..=2000).contains(&count));
            functions.push(function);
            quarantine.sent(bytes(function, count), true);
        }
        assert_eq!(functions[0], function, "the same function first: every device knows it");
        assert_ne!(functions[1], function);
        assert_eq!(functions[..2], functions[2..]);
    }
}

#[test]
fn a_write_is_never_a_probe() {
    for function in [5, 6, 15, 16] {
        let quarantine = sent(&[(function, 4)]);
        let Before::Probe { function, .. } = quarantine.before(shape(function, 4), 1) else {
            panic!("no probe")
        };
        assert!(function <= 4);
    }
}

#[test]
fn a_late_answer_is_skipped_and_settles_what_it_belongs_to() {
    let mut quarantine = sent(&[ONE, TWO]);
    assert_eq!(heard(&mut quarantine, ONE, false, TWO), Heard::Late);
    assert_eq!(quarantine.before(shape(ONE.0, ONE.1), 1), Before::Send);
    assert_eq!(heard(&mut quarantine, TWO, false, TWO), Heard::Answer);
    assert_eq!(quarantine.before(shape(TWO.0, TWO.1), 2), Before::Send);
}

#[test]
fn an_answer_settles_everything_older() {
    let mut quarantine = sent(&[ONE, INPUT, TWO]);
    assert_eq!(heard(&mut quarantine, TWO, false, TWO), Heard::Answer);
    assert!(quarantine.units.is_empty());
}

#[test]
fn an_exception_is_believed_only_if_it_can_belong_to_nothing_older() {
    let mut quarantine = sent(&[ONE, TWO]);
    assert_eq!(heard(&mut quarantine, TWO, true, TWO), Heard::Late);
    assert_eq!(heard(&mut quarantine, TWO, true, TWO), Heard::Answer);
    let mut quarantine = sent(&[ONE, INPUT]);
    assert_eq!(heard(&mut quarantine, INPUT, true, INPUT), Heard::Answer);
    assert!(quarantine.units.is_empty());
}

#[test]
fn a_wrong_size_is_told_only_where_it_can_belong_to_nothing_older() {
    let mut quarantine = sent(&[TWO]);
    assert_eq!(heard(&mut quarantine, ONE, false, TWO), Heard::WrongSize);
    assert_eq!(heard(&mut quarantine, INPUT, false, TWO), Heard::Foreign, "function");
    let mut quarantine = sent(&[ONE, TWO]);
    assert_eq!(heard(&mut quarantine, (3, 7), false, TWO), Heard::Foreign);
}

#[test]
fn after_an_ambiguous_exception_the_probe_has_a_function_of_its_own() {
    let mut quarantine = sent(&[ONE, TWO, INPUT, ONE]);
    assert_eq!(heard(&mut quarantine, ONE, true, ONE), Heard::Late);
    let Before::Probe { function, .. } = quarantine.before(shape(ONE.0, ONE.1), 1) else {
        panic!("no probe")
    };
    assert_eq!(function, 1);
}

#[test]
fn silence_ends_it_and_a_frame_starts_the_count_again() {
    let mut quarantine = sent(&[ONE, TWO]);
    for _ in 1..SILENCE {
        quarantine.silent(1);
    }
    let frame = quarantine.heard(shape(9, 9), false, None);
    assert_eq!(frame, Heard::Foreign);
    for _ in 1..SILENCE {
        quarantine.silent(1);
        quarantine.silent(2);
        assert!(matches!(quarantine.before(shape(ONE.0, ONE.1), 1), Before::Probe { .. }));
    }
    quarantine.silent(1);
    assert_eq!(quarantine.before(shape(ONE.0, ONE.1), 1), Before::Send);
}

#[test]
fn what_is_kept_has_a_bound() {
    let mut quarantine = sent(&[TWO; MAX_UNANSWERED]);
    assert_eq!(quarantine.before(shape(INPUT.0, INPUT.1), 1), Before::Listen);
    for _ in 0..SILENCE {
        quarantine.silent(1);
    }
    assert_eq!(quarantine.before(shape(INPUT.0, INPUT.1), 1), Before::Send);
}

/// What a unit does with one request.
#[derive(Clone, Copy, Debug)]
enum Behaviour {
    /// Never hears it.
    Lost,
    /// Answers so many ticks after it could begin.
    Good(u32),
    /// Refuses so many ticks after it could begin.
    Refuse(u32),
    /// Answers so many ticks after it could begin, but not whole.
    Damaged(u32),
}

/// Ticks the gateway waits for an answer.
const WINDOW: u32 = 10;

/// A unit that answers in order, at its own pace, and the gateway's waiting windows.
struct Model<'a> {
    now: u32,
    free: u32,
    /// When, the shape if it is whole, whether an exception, and which request it answers.
    wire: VecDeque<(u32, Option<Shape>, bool, usize)>,
    quarantine: Quarantine,
    behaviours: std::iter::Cycle<std::slice::Iter<'a, Behaviour>>,
    asked: usize,
    on: bool,
    wrong: usize,
    good: usize,
}

impl Model<'_> {
    /// Sends one request and waits its window; true if an answer was believed.
    fn call(&mut self, shape: Shape, probe: bool) -> bool {
        self.deliver(None, usize::MAX, self.now);
        let id = self.asked;
        self.asked += 1;
        self.quarantine.sent(shape, probe);
        let start = self.now.max(self.free);
        match self.behaviours.next() {
            None | Some(Behaviour::Lost) => {}
            Some(Behaviour::Good(ticks)) => {
                self.free = start + ticks;
                self.wire.push_back((self.free, Some(shape), false, id));
            }
            Some(Behaviour::Refuse(ticks)) => {
                self.free = start + ticks;
                let exception = Shape { bytes: 1, ..shape };
                self.wire.push_back((self.free, Some(exception), true, id));
            }
            Some(Behaviour::Damaged(ticks)) => {
                self.free = start + ticks;
                self.wire.push_back((self.free, None, false, id));
            }
        }
        let end = self.now + WINDOW;
        if self.deliver(Some(shape), id, end) {
            return true;
        }
        self.now = end;
        false
    }

    /// What arrives until `end`; true as soon as a frame is believed.
    fn deliver(&mut self, newest: Option<Shape>, id: usize, end: u32) -> bool {
        let mut came = false;
        while let Some(&(when, shape, exception, answered)) = self.wire.front() {
            if when > end {
                break;
            }
            self.wire.pop_front();
            came = true;
            let Some(shape) = shape else { continue };
            let fits = |n: Shape| n.function == shape.function && (exception || n == shape);
            let heard = self.quarantine.heard(shape, exception, newest);
            if heard == Heard::Answer || (!self.on && newest.is_some_and(fits)) {
                self.now = self.now.max(when);
                self.wrong += usize::from(answered != id);
                self.good += usize::from(answered == id);
                return true;
            }
        }
        if !came && newest.is_some() {
            self.quarantine.silent(1);
        }
        false
    }

    /// Polls single registers, pairs and inputs, as the driver does.
    fn run(&mut self, polls: usize) {
        for n in 0..polls {
            let (function, count) = [(3, 1), (3, 1), (3, 2), (4, 1), (3, 1)][n % 5];
            let bytes = |count: u16| u8::try_from(1 + 2 * count).unwrap();
            let asked = shape(function, bytes(count));
            match self.quarantine.before(asked, count) {
                Before::Probe { function, count } if self.on => {
                    let size = if function <= 2 { 2 } else { bytes(count) };
                    if self.call(shape(function, size), true) {
                        self.call(asked, false);
                    }
                }
                Before::Listen if self.on => {
                    let end = self.now + WINDOW;
                    if self.wire.front().is_none_or(|(when, ..)| *when > end) {
                        self.quarantine.silent(1);
                    }
                    self.deliver(None, usize::MAX, end);
                    self.now = end;
                }
                _ => {
                    self.call(asked, false);
                }
            }
        }
    }
}

fn model(behaviours: &[Behaviour], on: bool) -> Model<'_> {
    Model {
        now: 0,
        free: 0,
        wire: VecDeque::new(),
        quarantine: Quarantine::default(),
        behaviours: behaviours.iter().cycle(),
        asked: 0,
        on,
        wrong: 0,
        good: 0,
    }
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    // Each far less than SILENCE windows: silence that long is taken as the end of what was asked.
    prop_oneof![
        Just(Behaviour::Lost),
        (1_u32..25).prop_map(Behaviour::Good),
        (1_u32..5).prop_map(Behaviour::Good),
        (1_u32..25).prop_map(Behaviour::Refuse),
        (1_u32..25).prop_map(Behaviour::Damaged),
    ]
}

proptest! {
    #[test]
    fn no_late_answer_is_ever_believed(script in prop::collection::vec(behaviour(), 1..40)) {
        let mut model = model(&script, true);
        model.run(200);
        prop_assert_eq!(model.wrong, 0);
    }

    #[test]
    fn a_unit_that_answers_in_time_again_is_believed_again(
        script in prop::collection::vec(behaviour(), 1..40),
        refuses in any::<bool>(),
    ) {
        let end = if refuses { Behaviour::Refuse(1) } else { Behaviour::Good(1) };
        let mut behaviours = script;
        // Long enough that what the unit owes runs out, then as much again to be believed in.
        behaviours.extend(std::iter::repeat_n(end, 400));
        let mut model = model(&behaviours, true);
        model.run(200);
        let before = model.good;
        model.run(20);
        prop_assert!(model.good >= before + 20);
    }
}

#[test]
fn without_the_quarantine_late_answers_are_believed() {
    let script = [Behaviour::Good(1), Behaviour::Good(15), Behaviour::Good(1), Behaviour::Lost];
    let mut without = model(&script, false);
    without.run(100);
    assert!(without.wrong > 10, "the model has no teeth");
    let mut with = model(&script, true);
    with.run(100);
    assert_eq!(with.wrong, 0);
    assert!(with.good > 10);
}
