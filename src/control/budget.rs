//! Memory for all runners together: what does not fit waits.
//!
//! Always holds: what a version is expected to take is what its admission was seen to take; the sum of those that run
//! stays beneath the budget when another one enters. A model that takes more than it did then meets its runner's own limit,
//! and where the container's is met first, the kernel ends runners before the gateway.
//! Leaves to others: how many challengers a model may have (`candidates::admit`).

use std::path::Path;

use super::Thread;
use super::keeper::Version;
use crate::config::RunnerConfig;
use crate::container::{self, Limits};

/// The share of the memory that runners may have where nothing is set, in hundredths.
const SHARE: u64 = 60;
const MIB: u64 = 1 << 20;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    bytes: Option<u64>,
}

impl Budget {
    /// What is set, else a share of the container's memory or the machine's, whichever is less.
    pub(super) fn of(runner: &RunnerConfig, limits: Limits) -> Self {
        let machine = container::machine_memory(Path::new("/"));
        let all = limits.memory_bytes.into_iter().chain(machine).min();
        Self {
            bytes: runner.total_memory_bytes.or(all.map(|all| all / 100 * SHARE)),
        }
    }

    /// Memory of its own that one runner may have.
    pub(super) fn of_one(self, runner: &RunnerConfig) -> u64 {
        self.bytes
            .map_or(runner.memory_bytes, |all| all.min(runner.memory_bytes))
    }

    /// Why another runner has to wait that is expected to take `more` beside those that take `taken`.
    pub(super) fn lacks(self, taken: u64, more: u64) -> Option<String> {
        let all = self.bytes?;
        if taken.saturating_add(more) <= all {
            return None;
        }
        let (more, taken, all) = (more.div_ceil(MIB), taken.div_ceil(MIB), all / MIB);
        Some(format!(
            "waits for memory: its runner takes {more} MiB, those that run take {taken} MiB, and all together may take \
             {all} MiB (runner.total_memory_bytes)"
        ))
    }
}

impl Thread {
    /// What all running versions are expected to take.
    pub(super) fn taken_by_runners(&self) -> u64 {
        let versions = self.keepers.values().flat_map(|keeper| &keeper.versions);
        versions
            .filter(|version| version.runner.is_some())
            .map(expected)
            .fold(0, u64::saturating_add)
    }
}

/// What a version's runner is expected to take.
pub(super) fn expected(version: &Version) -> u64 {
    version.facts.as_ref().map_or(0, |facts| facts.memory_bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn runner(total: Option<u64>) -> RunnerConfig {
        RunnerConfig {
            memory_bytes: 4 << 30,
            total_memory_bytes: total,
            cpu_timeout: Duration::ZERO,
            wall_timeout: Duration::ZERO,
        }
    }

    #[test]
    fn the_budget_lies_beneath_the_containers_limit_unless_it_is_set() {
        let limits = Limits {
            memory_bytes: Some(1_000 * MIB),
            cpus: None,
        };
        let budget = Budget::of(&runner(None), limits);
        assert_eq!(budget.of_one(&runner(None)), 600 * MIB);
        assert_eq!(budget.lacks(500 * MIB, 100 * MIB), None);
        let why = budget.lacks(500 * MIB, 101 * MIB).unwrap();
        assert!(
            why.contains("takes 101 MiB") && why.contains("take 500 MiB") && why.contains("may take 600 MiB"),
            "{why}"
        );
        let set = Budget::of(&runner(Some(2_000 * MIB)), limits);
        assert_eq!(
            (set.of_one(&runner(None)), set.lacks(1_900 * MIB, 100 * MIB)),
            (2_000 * MIB, None)
        );
    }
}
