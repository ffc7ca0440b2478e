//! Memory for all runners together: what does not fit waits.
//!
//! Always holds: what a version is expected to take is what its admission was seen to take; the sum of those that run
//! stays beneath the budget when another one is shadowed, also after a restart. Whoever answers in processes has them
//! whatever the budget says, and they count; the previous champion's shadow goes before challengers. A model that takes more than it did then meets its runner's own limit,
//! and where the container's is met first, the kernel ends runners before the gateway.
//! Leaves to others: how many challengers a model may have (`candidates::admit`).

use std::path::Path;

use super::keeper::{Keeper, Version};
use super::{Fault, Thread};
use crate::config::RunnerConfig;
use crate::container::{self, Limits};
use crate::score::VersionNo;

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
            "{WAITS}its runner takes {more} MiB, those that run take {taken} MiB, and all together may take \
             {all} MiB (runner.total_memory_bytes)"
        ))
    }
}

impl Thread {
    /// What all running versions are expected to take.
    pub(super) fn taken_by_runners(&self) -> u64 {
        self.keepers.values().map(taken).fold(0, u64::saturating_add)
    }

    /// Why a version's runner has to wait, if it has to.
    pub(super) fn lacks_memory(&self, model: &str, no: VersionNo) -> Option<String> {
        let version = self.keepers.get(model)?.version(no)?;
        if version.runner.is_some() {
            return None;
        }
        // Those that would have to wait for ever keep nobody waiting.
        let goes_before = |other: &&Version| {
            other.is("previous") && other.waits_for_memory && self.budget.lacks(0, expected(other)).is_none()
        };
        let kept = match version.is("previous") {
            true => 0,
            false => {
                let versions = self.keepers.values().flat_map(|keeper| &keeper.versions);
                versions.filter(goes_before).map(expected).fold(0, u64::saturating_add)
            }
        };
        let taken = self.taken_by_runners().saturating_add(kept);
        self.budget.lacks(taken, expected(version))
    }

    /// Shadows those of a model that run no more, or do not run yet, for want of memory.
    pub(super) fn shadow_waiting(&mut self, model: &str) -> Result<(), Fault> {
        for role in ["previous", "challenger"] {
            let Some(keeper) = self.keepers.get(model) else {
                return Ok(());
            };
            let waits = |v: &Version| v.waits_for_memory && v.runner.is_none() && v.is(role);
            if keeper.versions.iter().any(waits) && self.start_runners(model, role)? {
                self.line_up(model)?;
            }
        }
        Ok(())
    }

    /// A version is not shadowed for want of memory, and says so: a challenger goes back to those that wait, and its
    /// evidence with it; the previous champion stays what it is.
    pub(super) fn wait_for_memory(&mut self, model: &str, no: VersionNo, why: &str) -> Result<(), Fault> {
        let Some(version) = self.keepers.get_mut(model).and_then(|k| k.version_mut(no)) else {
            return Ok(());
        };
        if version.is("previous") {
            if !std::mem::replace(&mut version.waits_for_memory, true) {
                tracing::warn!(
                    model,
                    version = version.row.name,
                    why,
                    "the previous champion is not shadowed"
                );
            }
            return self.set_role(model, no, "previous", Some(why));
        }
        tracing::warn!(model, version = version.row.name, why, "a challenger waits");
        version.waits_for_memory = false;
        self.leave(model, no, ("candidate", why), None)
    }

    /// Room for the shadow of a champion that leaves its place to a challenger: other challengers of the model wait for
    /// it, the latest first.
    ///
    /// # Errors
    /// Why there is none all the same.
    pub(super) fn make_room_for_previous(&mut self, model: &str, from: VersionNo, to: VersionNo) -> Result<(), String> {
        loop {
            let keeper = self.keepers.get(model).ok_or("no such model")?;
            let more = keeper.version(from).map_or(0, expected);
            let leaves = keeper.version(to).filter(|to| to.runner.is_some()).map_or(0, expected);
            let Some(why) = self.budget.lacks(self.taken_by_runners().saturating_sub(leaves), more) else {
                return Ok(());
            };
            let others = keeper
                .versions
                .iter()
                .filter(|v| v.is("challenger") && v.runner.is_some() && v.row.no != to);
            let Some(last) = others.map(|v| v.row.no).max() else {
                return Err(why);
            };
            let first = format!("{WAITS}the previous champion's runner goes first (runner.total_memory_bytes)");
            self.wait_for_memory(model, last, &first)
                .map_err(|fault| fault.to_string())?;
        }
    }
}

/// What the processes of one model are expected to take.
fn taken(keeper: &Keeper) -> u64 {
    let shadows = keeper.versions.iter().filter(|version| version.runner.is_some());
    let loaded = keeper.served.slot.load().map(|c| c.loaded()).unwrap_or_default();
    let answering = loaded.iter().filter_map(|loaded| {
        let version = keeper.version(loaded.info.no)?;
        Some(expected(version).saturating_mul(loaded.processes()))
    });
    shadows.map(expected).chain(answering).fold(0, u64::saturating_add)
}

/// How every reason begins that says so.
const WAITS: &str = "waits for memory: ";

/// True for the reason of a version that waits for memory.
pub(super) fn is_for_memory(reason: Option<&str>) -> bool {
    reason.is_some_and(|reason| reason.starts_with(WAITS))
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
