//! Requests whose clients leave before the answer: nobody else would count them, for the work for them just ends.

use metrics::Counter;

/// A request that is not answered yet; when this goes before it is, the request is counted as abandoned.
pub(crate) struct Unanswered<'a>(Option<&'a Counter>);

impl<'a> Unanswered<'a> {
    pub(super) fn new(counter: Option<&'a Counter>) -> Self {
        Self(counter)
    }

    /// There is an answer.
    pub(crate) fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(counter) = self.0 {
            counter.increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Format, Metrics, RouteName};

    #[test]
    fn what_is_dropped_before_its_answer_is_abandoned_and_nothing_else() {
        let metrics = Metrics::default();
        let http = metrics.http();
        drop(http.unanswered(RouteName::Predict));
        http.unanswered(RouteName::Feedback).answered();
        let text = String::from_utf8(Format::Prometheus.write(&metrics.page())).unwrap();
        for series in ["route=\"predict\"} 1\n", "route=\"feedback\"} 0\n"] {
            let series = format!("dethrone_requests_abandoned_total{{{series}");
            assert!(text.contains(&series), "{series}");
        }
    }
}
