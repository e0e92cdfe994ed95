//! How fast the backlog may go: `backlog_rate`.

use std::time::Duration;

use tokio::time::Instant;

/// What was not used is saved up for this long.
const SAVED: Duration = Duration::from_millis(200);

/// A bucket that fills at a rate.
#[derive(Debug)]
pub(super) struct Allowance {
    rate: u32,
    saved: f64,
    at: Instant,
}

impl Allowance {
    /// So many a second; 0 is without end.
    pub(super) fn new(rate: u32) -> Self {
        Self { rate, saved: 1.0, at: Instant::now() }
    }

    /// How many may go now.
    pub(super) fn now(&mut self) -> usize {
        if self.rate == 0 {
            return usize::MAX;
        }
        let (now, rate) = (Instant::now(), f64::from(self.rate));
        let most = (rate * SAVED.as_secs_f64()).max(1.0);
        self.saved = (self.saved + rate * (now - self.at).as_secs_f64()).min(most);
        self.at = now;
        // At most a fifth of a u32, and never below nothing.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let whole = self.saved as usize;
        whole
    }

    /// So many went.
    pub(super) fn spend(&mut self, count: usize) {
        if self.rate > 0 {
            self.saved -= f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    /// When the next may go, if that is not now: then the backlog waits for something else.
    pub(super) fn next(&self) -> Option<Instant> {
        let missing = 1.0 - self.saved;
        (self.rate > 0 && missing > 0.0)
            .then(|| self.at + Duration::from_secs_f64(missing / f64::from(self.rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn so_many_go_in_a_second() {
        tokio::time::pause();
        let mut allowance = Allowance::new(50);
        let mut gone = 0;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            let now = allowance.now();
            allowance.spend(now);
            gone += now;
            let next = allowance.next().unwrap_or_else(Instant::now);
            tokio::time::sleep_until(next + Duration::from_millis(1)).await;
        }
        assert!((480..=512).contains(&gone), "{gone}");
        assert_eq!(Allowance::new(0).now(), usize::MAX);
        assert_eq!(Allowance::new(50).next(), None, "nothing to wake up for");
    }
}
