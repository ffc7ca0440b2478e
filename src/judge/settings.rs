//! What a version's own settings change for the judge: its threshold, its calibration; and the bound that is estimated.
//!
//! Always holds: what a version said under other settings of its own is no evidence for it. A version that reads its
//! scores, or decides by them, in another way starts its evidence anew; the champion's change starts everybody's. A
//! threshold counts only under a metric that rests on labels. Its place in the queue stays: the bar it must reach was
//! given to the version, not to its settings.

use super::contender::Contender;
use super::evidence::Evidence;
use super::fold::Judge;
use crate::score::VersionNo;
use crate::span::Clock;

impl Judge {
    /// From now on the label of `version` is positive from this score on. Gives the version back where its evidence,
    /// and its alone, was started anew.
    pub fn set_threshold(&mut self, version: VersionNo, threshold: f64) -> Option<VersionNo> {
        let before = self.threshold_of(version);
        self.thresholds.retain(|(other, _)| *other != version);
        if threshold.to_bits() != self.policy.metric.threshold().to_bits() {
            self.thresholds.push((version, threshold.to_bits()));
        }
        let changed = before.to_bits() != threshold.to_bits();
        if changed && self.policy.metric.rests_on_labels() {
            return self.restart_of(version);
        }
        None
    }

    /// From which score on the label of `version` is positive.
    #[must_use]
    pub fn threshold_of(&self, version: VersionNo) -> f64 {
        let own = self.thresholds.iter().find(|(other, _)| *other == version);
        own.map_or(self.policy.metric.threshold(), |(_, bits)| f64::from_bits(*bits))
    }

    /// From now on the scores of `version` go through this calibration, named by its digest, or through none. Rows
    /// recorded until `clock` were scored without it, and make no entry any more. Gives the version back where its
    /// evidence, and its alone, was started anew.
    pub fn set_calibration(
        &mut self,
        version: VersionNo,
        calibration: Option<String>,
        clock: Clock,
    ) -> Option<VersionNo> {
        if self.calibration_of(version) == calibration.as_deref() {
            return None;
        }
        self.calibrations.retain(|(other, _)| *other != version);
        self.calibrations.extend(calibration.map(|digest| (version, digest)));
        self.stale.retain(|(other, _)| *other != version);
        self.stale.push((version, clock.row));
        self.restart_of(version)
    }

    /// The digest of the calibration of `version`.
    #[must_use]
    pub fn calibration_of(&self, version: VersionNo) -> Option<&str> {
        let own = self.calibrations.iter().find(|(other, _)| *other == version);
        own.map(|(_, digest)| digest.as_str())
    }

    /// True when what `version` made of a row at `clock` was read as its scores are read now.
    pub(super) fn is_fresh(&self, version: VersionNo, clock: Clock) -> bool {
        let of = |no: VersionNo| self.stale.iter().find(|(other, _)| *other == no);
        [version, self.champion]
            .into_iter()
            .filter_map(of)
            .all(|(_, row)| clock.row > *row)
    }

    fn restart_of(&mut self, version: VersionNo) -> Option<VersionNo> {
        if version == self.champion {
            self.restart_evidence();
            return None;
        }
        if self.pending == Some(version) {
            self.pending = None;
        }
        let clock = self.clock;
        for contender in self.queue.iter_mut().filter(|c| c.version == version) {
            *contender = Contender {
                order: contender.order,
                present: contender.present,
                ..Contender::new(version, clock)
            };
        }
        if let Some(probation) = self.probation.as_mut().filter(|p| p.against == version) {
            probation.evidence = Evidence::default();
            probation.groups.clear();
        }
        Some(version)
    }

    /// What was set for `from` is set for `to`: the same bytes under another number.
    pub(super) fn inherit_settings(&mut self, from: VersionNo, to: VersionNo) {
        fn pass<T>(list: &mut Vec<(VersionNo, T)>, from: VersionNo, to: VersionNo) {
            list.retain(|(version, _)| *version != to);
            for (version, _) in list.iter_mut().filter(|(version, _)| *version == from) {
                *version = to;
            }
        }
        pass(&mut self.thresholds, from, to);
        pass(&mut self.calibrations, from, to);
        pass(&mut self.stale, from, to);
    }

    /// Forgets the settings of versions that have no place in the tenure; they are said again when one comes.
    pub(super) fn prune_settings(&mut self) {
        let (champion, previous, queue) = (self.champion, self.previous, &self.queue);
        let known = |v: VersionNo| v == champion || previous == Some(v) || queue.iter().any(|c| c.version == v);
        self.thresholds.retain(|(version, _)| known(*version));
        self.calibrations.retain(|(version, _)| known(*version));
        self.stale.retain(|(version, _)| known(*version));
    }

    /// The loss bound, which was to be estimated, is this. Without effect where it is known.
    pub fn set_bound(&mut self, estimated: f64) {
        if self.policy.needs_bound()
            && estimated > 0.0
            && estimated.is_finite()
            && let Some(bound) = self.policy.metric.bound_mut()
        {
            *bound = estimated;
        }
    }

    /// What scores or labels mean has changed: all evidence starts anew, and so does an estimate of the loss bound.
    pub fn relearn(&mut self) {
        self.policy.forget_bound();
        self.restart_evidence();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::loss::Metric;
    use crate::judge::pair::{Classes, Entry, Kind, Pair, Seen};
    use crate::judge::policy::Policy;

    const CHAMPION: VersionNo = VersionNo(0);
    const ONE: VersionNo = VersionNo(1);
    const TWO: VersionNo = VersionNo(2);

    fn judge(metric: Metric) -> Judge {
        let policy = Policy {
            metric,
            ..Policy::default()
        };
        let mut judge = Judge::new(policy, CHAMPION, 1, Clock::default());
        for version in [ONE, TWO] {
            judge.enter(version, Clock::default());
        }
        let entry = |version| Entry {
            version,
            difference: 0.5,
            kind: Kind::Scored,
            classes: Classes::Enough,
            seen: Seen::default(),
        };
        for row in 1..=10 {
            let clock = Clock { row, time_ms: 0 };
            judge.fold(&Pair {
                clock,
                epoch: 1,
                weight: 1.0,
                champion_loss: Some(0.5),
                champion: Seen::default(),
                groups: 0,
                entries: vec![entry(ONE), entry(TWO)],
            });
        }
        judge
    }

    fn labels(judge: &Judge) -> [u64; 2] {
        [ONE, TWO].map(|version| judge.verdict(version).unwrap().numbers.labels)
    }

    #[test]
    fn a_threshold_restarts_its_versions_evidence_only_where_labels_count() {
        let mut brier = judge(Metric::Brier);
        assert_eq!(brier.set_threshold(ONE, 0.3), None);
        assert_eq!(brier.set_threshold(CHAMPION, 0.7), None);
        assert_eq!((labels(&brier), brier.era()), ([10, 10], 0));
        assert!((brier.threshold_of(ONE) - 0.3).abs() < 1e-12);

        let mut judge = judge(Metric::ZeroOne { threshold: 0.5 });
        assert_eq!(judge.set_threshold(TWO, 0.5), None, "it is what it was");
        assert_eq!(judge.set_threshold(ONE, 0.3), Some(ONE));
        assert_eq!((labels(&judge), judge.era()), ([0, 10], 0));
        assert_eq!(judge.set_threshold(CHAMPION, 0.3), None);
        assert_eq!((labels(&judge), judge.era()), ([0, 0], 1));
    }

    #[test]
    fn a_calibration_restarts_evidence_under_every_metric_and_earlier_rows_are_none() {
        let mut judge = judge(Metric::Brier);
        let clock = Clock { row: 20, time_ms: 0 };
        assert_eq!(judge.set_calibration(ONE, None, clock), None, "there was none");
        assert_eq!(judge.set_calibration(ONE, Some("a".into()), clock), Some(ONE));
        assert_eq!(labels(&judge), [0, 10]);
        assert_eq!(judge.set_calibration(ONE, Some("a".into()), clock), None);
        let collects = |judge: &Judge, version, row| judge.collects(version, Clock { row, time_ms: 0 });
        assert!(!collects(&judge, ONE, 20) && collects(&judge, ONE, 21) && collects(&judge, TWO, 20));
        let later = Clock { row: 30, time_ms: 0 };
        assert_eq!(judge.set_calibration(CHAMPION, Some("b".into()), later), None);
        assert!(!collects(&judge, TWO, 30) && collects(&judge, TWO, 31));
        assert_eq!((labels(&judge), judge.era()), ([0, 0], 1));
    }

    #[test]
    fn an_estimated_bound_is_set_once_and_lives_until_labels_mean_something_else() {
        let mut judge = judge(Metric::SquaredError { bound: 0.0 });
        judge.policy.bound_from = Some(200);
        let declared = judge.policy.clone();
        judge.set_bound(f64::NAN);
        assert!(judge.policy.needs_bound());
        judge.set_bound(8.0);
        judge.set_bound(9.0);
        let bound = |judge: &Judge| judge.policy.metric.bound();
        assert!((bound(&judge) - 8.0).abs() < 1e-12);
        assert_eq!(judge.policy.declared(), declared);
        judge.set_policy(Policy {
            min_labels: 7,
            ..declared.clone()
        });
        assert!(
            (bound(&judge) - 8.0).abs() < 1e-12,
            "another waiting rule asks the same question"
        );
        assert_eq!(judge.era(), 0);
        judge.swap(ONE, crate::judge::tenure::Swap::Promotion, Clock::default());
        assert!(
            (bound(&judge) - 8.0).abs() < 1e-12,
            "the mirrored test must be able to begin at once"
        );
        judge.set_policy(Policy {
            metric: Metric::AbsoluteError { bound: 0.0 },
            ..declared
        });
        assert!(judge.policy.needs_bound(), "another loss");
        judge.set_bound(3.0);
        judge.relearn();
        assert!(judge.policy.needs_bound());
    }

    #[test]
    fn settings_go_with_the_bytes_and_are_forgotten_with_the_version() {
        let mut judge = judge(Metric::ZeroOne { threshold: 0.5 });
        let clock = Clock::default();
        judge.set_threshold(ONE, 0.3);
        judge.set_calibration(ONE, Some("a".into()), clock);
        judge.leave(ONE);
        let again = VersionNo(7);
        judge.inherit(ONE, again);
        assert!((judge.threshold_of(again) - 0.3).abs() < 1e-12);
        assert_eq!(judge.calibration_of(again), Some("a"));
        judge.enter(again, clock);
        assert_eq!(judge.set_threshold(again, 0.3), None, "nothing new");
        judge.leave(again);
        judge.swap(TWO, crate::judge::tenure::Swap::Promotion, clock);
        assert!(judge.thresholds.is_empty() && judge.calibrations.is_empty());
    }
}
