//! How often the log hears of a fault that comes again and again.

use std::time::{Duration, Instant};

/// Between two lines on the same fault.
const PAUSE: Duration = Duration::from_secs(10);

/// What was said, and what was not.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    said: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    /// Counts one more. Where it is to be said, gives the number that was not said since the last.
    pub(super) fn due(&mut self, now: Instant) -> Option<u64> {
        if self.said.is_some_and(|said| now.duration_since(said) < PAUSE) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_then_one_in_ten_seconds_with_the_number_of_the_others() {
        let (start, mut complaints) = (Instant::now(), Complaints::default());
        let mut due = |seconds: u64| complaints.due(start + Duration::from_secs(seconds));
        assert_eq!(due(0), Some(0));
        assert_eq!((due(1), due(2), due(9)), (None, None, None));
        assert_eq!(due(10), Some(3));
        assert_eq!(due(11), None);
        assert_eq!(due(60), Some(1));
        assert_eq!(due(90), Some(0));
    }
}
