//! Waits for the silence of a line.

use std::future::Future as _;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep, sleep_until};

/// Wakes its task at a point in time.
#[derive(Debug)]
pub(super) enum Timer {
    /// A timer of the kernel, for terminals. tokio counts whole milliseconds and rounds up twice, which makes 5.2 ms
    /// of the 3.6 ms that 9600 baud needs before each request: 7 % of a line that is read in small pieces.
    Exact(AsyncFd<OwnedFd>),
    /// tokio's, for what has no characters to count. It follows the clock that tests stop.
    Coarse(Pin<Box<Sleep>>),
}

impl Timer {
    /// A timer that is good to some microseconds.
    #[expect(
        deprecated,
        reason = "what takes its place is unsafe for what is no true owner; an `OwnedFd` is one"
    )]
    pub(super) fn exact() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self::Exact(AsyncFd::new(timerfd_create(TimerfdClockId::Monotonic, flags)?)?))
    }

    /// A timer that is good to two milliseconds.
    pub(super) fn coarse() -> Self {
        Self::Coarse(Box::pin(sleep_until(Instant::now())))
    }

    /// Ready from `until` on. Each call takes the place of the one before.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<io::Result<()>> {
        match self {
            Self::Exact(timer) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Poll::Ready(Ok(()));
                }
                // What went off before is of no interest; the task is known to the reactor after this.
                while let Poll::Ready(mut event) = timer.poll_read_ready(cx)? {
                    event.clear_ready();
                }
                let it_value = Timespec::try_from(left).map_err(io::Error::other)?;
                let once = Itimerspec { it_interval: Timespec::default(), it_value };
                timerfd_settime(timer.get_ref(), TimerfdTimerFlags::empty(), &once)?;
                Poll::Pending
            }
            Self::Coarse(sleep) => {
                sleep.as_mut().reset(until);
                ready!(sleep.as_mut().poll(cx));
                Poll::Ready(Ok(()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    async fn wait(timer: &mut Timer, time: Duration) -> Duration {
        let until = Instant::now() + time;
        poll_fn(|cx| {
            // As a line does: whoever is woken looks at the clock before it asks the timer again.
            if Instant::now() >= until { Poll::Ready(Ok(())) } else { timer.poll(cx, until) }
        })
        .await
        .unwrap();
        Instant::now() - until
    }

    #[tokio::test]
    async fn a_silence_of_a_line_is_little_longer_than_it_must_be() {
        // 3.5 characters of 11 bits at 19,200 baud. A busy machine wakes late at times, not always.
        let silence = Duration::from_micros(2_005);
        let mut timer = Timer::exact().unwrap();
        let give_up = Instant::now() + Duration::from_secs(60);
        loop {
            let mut late = Vec::new();
            for _ in 0..25 {
                late.push(wait(&mut timer, silence).await);
            }
            late.sort();
            if late[12] < Duration::from_micros(500) {
                return;
            }
            assert!(Instant::now() < give_up, "half of the waits are too long by more than {:?}", late[12]);
        }
    }

    #[tokio::test]
    async fn the_last_call_counts() {
        let mut timer = Timer::exact().unwrap();
        for _ in 0..100 {
            // One that nobody will wait for, and one that goes off unseen.
            for time in [Duration::from_secs(3600), Duration::from_micros(1)] {
                let until = Instant::now() + time;
                let ended = poll_fn(|cx| Poll::Ready(timer.poll(cx, until))).await;
                assert!(time < Duration::from_secs(1) || ended.is_pending());
            }
            tokio::task::yield_now().await;
            let waited = wait(&mut timer, Duration::from_micros(300));
            tokio::time::timeout(Duration::from_secs(60), waited).await.expect("it goes off");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_coarse_one_follows_the_clock_of_a_test() {
        let begun = Instant::now();
        wait(&mut Timer::coarse(), Duration::from_secs(3600)).await;
        assert!(begun.elapsed() >= Duration::from_secs(3600));
    }
}
