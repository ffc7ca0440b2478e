//! Texts of the kernel as numbers: no files, no failures.

/// From here on a limit of the first kind means none: the kernel writes the largest number of whole pages.
const NONE: u64 = 1 << 62;

/// Which groups a process is in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Membership {
    /// Of the second kind.
    pub(super) unified: Option<String>,
    /// Of the first kind: controllers that share a tree, and the group in it.
    pub(super) controllers: Vec<(Vec<String>, String)>,
}

/// `/proc/self/cgroup`: a line `number:controllers:group` for each tree; without controllers it is the second kind.
pub(super) fn membership(text: &str) -> Membership {
    let mut found = Membership::default();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if controllers.is_empty() {
            found.unified = Some(group.to_owned());
        } else {
            let names = controllers.split(',').map(str::to_owned).collect();
            found.controllers.push((names, group.to_owned()));
        }
    }
    found
}

/// `cpu.max`: `150000 100000` are one and a half processors, `max 100000` all of them.
pub(super) fn cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    cfs(quota, period)
}

/// `cpu.cfs_quota_us` and `cpu.cfs_period_us`; a quota of −1 is none.
pub(super) fn cfs(quota: &str, period: &str) -> Option<f64> {
    let quota: u32 = quota.trim().parse().ok()?;
    let period: u32 = period.trim().parse().ok().filter(|&period| period > 0)?;
    Some(f64::from(quota) / f64::from(period))
}

/// `memory.max` or `memory.limit_in_bytes`.
pub(super) fn memory(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|&bytes| bytes < NONE)
}

/// `nr_throttled` of `cpu.stat`.
pub(super) fn throttled(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("nr_throttled "))?;
    line.trim().parse().ok()
}

/// `MemTotal` of `/proc/meminfo`.
pub(super) fn mem_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}
