//! The cheapest way to read some places with few requests: pure numbers, so that it can be proved.

use std::collections::VecDeque;
use std::ops::Range;

/// A place: its first register or bit, and the first one behind it.
pub(super) type Place = (u32, u32);

/// What a request may be, and what it costs.
#[derive(Clone, Debug)]
pub(super) struct Rules<'h> {
    /// Most registers or bits.
    pub(super) limit: u32,
    /// Most of them read across between two places.
    pub(super) gap: u32,
    /// What a request costs, in nanoseconds.
    pub(super) request: i64,
    /// What each of its registers or bits costs.
    pub(super) each: i64,
    /// No request may hold the whole of one of these; sorted by their ends.
    pub(super) holes: &'h [Place],
}

/// Splits the places into requests of the least cost, each a range of indices.
///
/// Starts and ends of the places must both ascend, no place may be longer than the limit or hold a whole hole.
/// Then the best requests are ranges, and the window of possible beginnings only moves on: `O(places + holes)`.
pub(super) fn cover(places: &[Place], rules: &Rules<'_>) -> Vec<Range<usize>> {
    // What the places before each one cost, and where the request before it begins.
    let mut best: Vec<(i64, usize)> = Vec::with_capacity(places.len());
    let mut cost_before = 0;
    // Beginnings that may be the best one for a later end: a better one that came later rules earlier ones out.
    let mut window: VecDeque<(usize, i64)> = VecDeque::new();
    let mut holes = rules.holes.iter().peekable();
    let mut first = 0;
    let mut behind = 0;
    let mut end_before = None;
    for (index, &(start, end)) in places.iter().enumerate() {
        let key = cost_before - rules.each * i64::from(start);
        while window.back().is_some_and(|(_, other)| *other > key) {
            window.pop_back();
        }
        window.push_back((index, key));
        while let Some((hole_start, _)) = holes.next_if(|(_, hole_end)| *hole_end <= end) {
            behind = behind.max(hole_start + 1);
        }
        if end_before.is_some_and(|before| start.saturating_sub(before) > rules.gap) {
            first = index;
        }
        while let Some((start, _)) = places.get(first)
            && first < index
            && (end - start > rules.limit || *start < behind)
        {
            first += 1;
        }
        while window.front().is_some_and(|(begin, _)| *begin < first) {
            window.pop_front();
        }
        let (begin, key) = window.front().copied().unwrap_or((index, key));
        cost_before = key + rules.request + rules.each * i64::from(end);
        best.push((cost_before, begin));
        end_before = Some(end);
    }
    let mut ranges = Vec::new();
    let mut end = best.len();
    while let Some((_, begin)) = end.checked_sub(1).and_then(|last| best.get(last)) {
        ranges.push(*begin..end);
        end = *begin;
    }
    ranges.reverse();
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(places: &[Place]) -> Place {
        (places[0].0, places[places.len() - 1].1)
    }

    fn is_allowed(places: &[Place], rules: &Rules<'_>) -> bool {
        let (start, end) = span(places);
        let gap = |pair: &[Place]| pair[1].0.saturating_sub(pair[0].1);
        end - start <= rules.limit
            && places.windows(2).all(|pair| gap(pair) <= rules.gap)
            && !rules.holes.iter().any(|hole| start <= hole.0 && hole.1 <= end)
    }

    fn cost(places: &[Place], rules: &Rules<'_>) -> i64 {
        let (start, end) = span(places);
        rules.request + rules.each * i64::from(end - start)
    }

    /// The least cost over every way to put the places into any sets, neighbours or not.
    fn least(places: &[Place], rules: &Rules<'_>) -> i64 {
        fn go(rest: &[Place], sets: &mut Vec<Vec<Place>>, rules: &Rules<'_>) -> i64 {
            let Some((place, rest)) = rest.split_first() else {
                let whole = |set: &Vec<Place>| is_allowed(set, rules).then(|| cost(set, rules));
                let sum = sets.iter().map(whole).sum::<Option<i64>>();
                return sum.unwrap_or(i64::MAX);
            };
            let mut least = i64::MAX;
            for index in 0..sets.len() {
                sets[index].push(*place);
                least = least.min(go(rest, sets, rules));
                sets[index].pop();
            }
            sets.push(vec![*place]);
            least = least.min(go(rest, sets, rules));
            sets.pop();
            least
        }
        go(places, &mut Vec::new(), rules)
    }

    /// Places whose starts and ends ascend, and holes that lie whole in none of them.
    fn field(most: usize) -> impl Strategy<Value = (Vec<Place>, Vec<Place>)> {
        let places = prop::collection::vec((1_u32..9, 1_u32..5), 0..most);
        let holes = prop::collection::vec((0_u32..60, 1_u32..5), 0..5);
        (places, holes).prop_map(|(steps, holes)| {
            let mut places: Vec<Place> = Vec::new();
            for (step, length) in steps {
                let (start, end) = places.last().map_or((0, 0), |place| (place.0, place.1));
                let start = start + step;
                places.push((start, (start + length).max(end + 1)));
            }
            let mut holes: Vec<Place> =
                holes.iter().map(|(start, length)| (*start, start + length)).collect();
            holes.retain(|hole| !places.iter().any(|place| place.0 <= hole.0 && hole.1 <= place.1));
            holes.sort_by_key(|hole| hole.1);
            (places, holes)
        })
    }

    proptest! {
        #[test]
        fn nothing_is_cheaper(
            (places, holes) in field(8),
            limit in 12_u32..60,
            gap in prop_oneof![0_u32..6, Just(125)],
            request in 0_i64..40,
            each in 0_i64..6,
        ) {
            let rules = Rules { limit, gap, request, each, holes: &holes };
            prop_assume!(places.iter().all(|place| place.1 - place.0 <= limit));
            let ranges = cover(&places, &rules);
            let mut next = 0;
            let mut sum = 0;
            for range in ranges {
                prop_assert_eq!(range.start, next);
                prop_assert!(range.end > range.start);
                next = range.end;
                let set = &places[range];
                prop_assert!(is_allowed(set, &rules), "{:?}", set);
                sum += cost(set, &rules);
            }
            prop_assert_eq!(next, places.len());
            let each_alone: i64 = places.iter().map(|place| cost(&[*place], &rules)).sum();
            prop_assert!(sum <= each_alone);
            prop_assert_eq!(sum, if places.is_empty() { 0 } else { least(&places, &rules) });
        }
    }
}
