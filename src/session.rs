//! What Link and Uplink share: the wait between two lives of a connection.

use std::time::Duration;

/// How long to wait before the next try: not at all after the first failure, then from `min` doubling to
/// `max`, each a little shorter by chance so that many boxes do not come back in step.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
}

/// The largest part of a wait that chance takes away.
const JITTER: f64 = 0.2;

/// A little shorter, by chance.
#[must_use]
pub fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(1.0 - JITTER * fastrand::f64())
}

impl Backoff {
    /// Between these bounds.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max: max.max(min), next: Duration::ZERO }
    }

    /// The wait before the next try.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).clamp(self.min, self.max);
        jittered(wait)
    }

    /// Nothing has failed since it last worked: the failure now is worth a warning, the next ones are not.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.next.is_zero()
    }

    /// It worked: the next failure is a first one again.
    pub fn reset(&mut self) {
        self.next = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_start_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(backoff.next_wait(), Duration::ZERO);
        for nominal in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let wait = backoff.next_wait().as_secs_f64();
            assert!(wait <= nominal && wait >= nominal * (1.0 - JITTER), "{wait} for {nominal}");
        }
        backoff.reset();
        assert_eq!(backoff.next_wait(), Duration::ZERO);
    }
}
