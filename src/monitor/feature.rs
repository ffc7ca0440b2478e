//! One watched feature, or one watched output: its baseline, its recent values in panes, and its alarm.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::alarm::{Raised, Watch};
use super::scale::{Sample, Scale};
use super::sketch::{Profile, Value};
use crate::span::Clock;

/// Panes of a window; as many again before it are what it is compared with.
pub const PANES: usize = 4;

/// The values of a feature that a version is compared with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// Its values.
    pub profile: Profile,
    /// The scale of the alarm; `None` while the baseline is being learned, and where it has no values.
    pub scale: Option<Scale>,
    /// What the scale is made from.
    pub sample: Option<Sample>,
}

impl Known {
    /// A feature of which nothing is known yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            sample: Some(Sample::default()),
            ..Self::default()
        }
    }

    /// Takes a value of the baseline in.
    pub fn add(&mut self, value: Value<'_>) {
        self.profile.add(value);
        if let (Value::Number(x), Some(sample)) = (value, &mut self.sample) {
            sample.add(x);
        }
    }

    /// The baseline is complete.
    pub fn settle(&mut self) {
        let sample = self.sample.take().unwrap_or_default();
        self.scale = Scale::of(&self.profile, &sample);
    }
}

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Feature {
    /// The baseline.
    pub known: Known,
    /// The alarm.
    pub watch: Watch,
    /// Recent values, the open pane last. Read again from the record at a start.
    #[serde(skip)]
    panes: VecDeque<Profile>,
}

impl Feature {
    /// A feature whose baseline is `known`, with so many panes.
    #[must_use]
    pub fn new(known: Known, seed: &str, panes: usize) -> Self {
        Self {
            known,
            watch: Watch::new(seed),
            panes: (0..panes).map(|_| Profile::default()).collect(),
        }
    }

    /// Takes a row in. While the baseline is learned, the row is part of it.
    pub fn add(&mut self, value: Value<'_>, is_learning: bool, is_repeated: bool) {
        if let Some(pane) = self.panes.back_mut() {
            pane.add(value);
        }
        if is_repeated {
            return;
        }
        if is_learning {
            self.known.add(value);
        } else {
            let rank = self.known.scale.as_ref().and_then(|scale| scale.rank(value));
            self.watch.add(rank);
        }
    }

    /// Takes over the recent values of another.
    pub fn keep_recent(&mut self, before: Self) {
        self.panes = before.panes;
    }

    /// A pane is over.
    pub fn turn(&mut self) {
        if self.panes.len() >= PANES * 2 {
            self.panes.pop_front();
        }
        self.panes.push_back(Profile::default());
    }

    /// Forgets recent values.
    pub fn clear(&mut self) {
        self.panes.clear();
        self.panes.push_back(Profile::default());
    }

    /// A block is over.
    pub fn close(&mut self, counts: bool, log_bar: f64, at: Clock) -> Option<Raised> {
        self.watch.close(counts, log_bar, at)
    }

    /// The recent window, and the one before it.
    #[must_use]
    pub fn windows(&self) -> (Profile, Profile) {
        let merged = |panes: &mut dyn Iterator<Item = &Profile>| {
            let mut all = Profile::default();
            panes.for_each(|pane| all.merge(pane));
            all
        };
        let mut newest_first = self.panes.iter().rev();
        let recent = merged(&mut newest_first.by_ref().take(PANES));
        (recent, merged(&mut newest_first))
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let panes: usize = self.panes.iter().map(Profile::bytes).sum();
        let scale = self.known.scale.as_ref().map_or(0, Scale::bytes);
        self.known.profile.bytes() + scale + self.watch.bytes() + panes
    }
}
