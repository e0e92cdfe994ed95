//! How fast the backlog shrinks, and when it will be gone.

use std::time::Duration;

use tokio::time::Instant;

/// The pace is taken over at least this long.
const SPAN: Duration = Duration::from_secs(5);

/// Where the backlog was, and its pace since.
#[derive(Debug)]
pub(super) struct Progress {
    at: Instant,
    records: u64,
    /// Records a second by which it shrinks.
    pace: Option<f64>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { at: Instant::now(), records: 0, pace: None }
    }

    /// Takes the present backlog; gives how long it will last, if it shrinks.
    pub(super) fn eta(&mut self, records: u64) -> Option<Duration> {
        let span = self.at.elapsed();
        if span >= SPAN {
            let less = f64::from(u32::try_from(self.records.saturating_sub(records)).unwrap_or(u32::MAX));
            self.pace = (less > 0.0).then(|| less / span.as_secs_f64());
            (self.at, self.records) = (Instant::now(), records);
        }
        let left = f64::from(u32::try_from(records).unwrap_or(u32::MAX));
        self.pace.filter(|_| records > 0).and_then(|pace| Duration::try_from_secs_f64(left / pace).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn a_backlog_that_shrinks_has_an_end() {
        tokio::time::pause();
        let mut progress = Progress::new();
        tokio::time::advance(SPAN).await;
        assert_eq!(progress.eta(10_000), None);
        tokio::time::advance(SPAN).await;
        assert_eq!(progress.eta(9_000), Some(Duration::from_secs(45)));
        tokio::time::advance(SPAN).await;
        assert_eq!(progress.eta(9_500), None, "it grows again");
    }
}
