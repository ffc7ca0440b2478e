//! What the container lets this process have, read from control groups of either kind, and whether it is being slowed.
//!
//! Always holds: nothing here fails: what cannot be read is no limit; the tightest limit on the way from this process's
//! group up to the root counts, for each of them binds.
//! Leaves to others: what follows from a limit (`control`, `arena`). Linux only.
//!
//! Groups of the second kind are one tree (`cpu.max`, `memory.max`), those of the first kind a tree per controller
//! (`cpu/cpu.cfs_quota_us`, `memory/memory.limit_in_bytes`); a machine may have both.

mod parse;
mod pressure;

use std::fs;
use std::path::{Path, PathBuf};

pub use pressure::Pressure;

/// A group and those above it, from the inside out, as folders that exist.
type Line = Vec<PathBuf>;

/// What the container lets this process have.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Processors, in parts; `None`: all.
    pub cpus: Option<f64>,
    /// Memory, in bytes; `None`: all.
    pub memory_bytes: Option<u64>,
}

/// This process's place among the control groups.
#[derive(Debug, Clone, Default)]
pub struct Container {
    unified: Line,
    cpu: Line,
    memory: Line,
}

impl Container {
    /// Finds it beneath `root`, which is `/` but for a test.
    #[must_use]
    pub fn find(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let member = parse::membership(&text("proc/self/cgroup"));
        let tree = root.join("sys/fs/cgroup");
        let line = |base: PathBuf, group: &str| -> Line {
            let group = Path::new(group.trim_start_matches('/'));
            // Inside a container its own group may stand at the root, under another name than it has outside.
            let folders = group.ancestors().map(|above| base.join(above));
            folders.filter(|folder| folder.is_dir()).collect()
        };
        let of = |name: &str| {
            let group = member
                .controllers
                .iter()
                .find(|(names, _)| names.iter().any(|n| n == name));
            let Some((names, group)) = group else {
                return Line::new();
            };
            // Mounted under its own name, or with others that it shares its tree with.
            let places = [name.to_owned(), names.join(",")];
            let base = places.iter().map(|place| tree.join(place)).find(|base| base.is_dir());
            base.map(|base| line(base, group)).unwrap_or_default()
        };
        let unified = member.unified.as_deref().map(|group| line(tree.clone(), group));
        Self {
            unified: unified.unwrap_or_default(),
            cpu: of("cpu"),
            memory: of("memory"),
        }
    }

    /// The limits of this moment.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let unified_cpus = numbers(&self.unified, "cpu.max", parse::cpu_max);
        let cpus = self.cpu.iter().filter_map(|folder| {
            let period = read(folder, "cpu.cfs_period_us")?;
            parse::cfs(&read(folder, "cpu.cfs_quota_us")?, &period)
        });
        let unified_memory = numbers(&self.unified, "memory.max", parse::memory);
        let memory = numbers(&self.memory, "memory.limit_in_bytes", parse::memory);
        Limits {
            cpus: unified_cpus.chain(cpus).min_by(f64::total_cmp),
            memory_bytes: unified_memory.chain(memory).min(),
        }
    }

    /// How often the groups were slowed because they had used up their processors' time; `None` where nobody counts.
    #[must_use]
    pub fn throttled(&self) -> Option<u64> {
        let unified = numbers(&self.unified, "cpu.stat", parse::throttled);
        let counts: Vec<u64> = unified
            .chain(numbers(&self.cpu, "cpu.stat", parse::throttled))
            .collect();
        (!counts.is_empty()).then(|| counts.into_iter().fold(0, u64::saturating_add))
    }
}

/// Memory of the whole machine, in bytes.
#[must_use]
pub fn machine_memory(root: &Path) -> Option<u64> {
    parse::mem_total(&fs::read_to_string(root.join("proc/meminfo")).ok()?)
}

fn read(folder: &Path, name: &str) -> Option<String> {
    fs::read_to_string(folder.join(name)).ok()
}

fn numbers<T>(line: &[PathBuf], name: &'static str, parse: fn(&str) -> Option<T>) -> impl Iterator<Item = T> {
    line.iter().filter_map(move |folder| parse(&read(folder, name)?))
}

#[cfg(test)]
mod tests;
