//! A gateway in a container whose processors' time is used up: requests are answered, shadows rest, nobody is blamed.
//!
//! The quota is the kernel's own. Where no control group can be made (no root, no `cpu` controller) the test says loudly
//! that it does not test anything.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::{Site, Traffic, right_answers, shipped, until};

/// A control group of the test's own with three tenths of a processor.
struct Group(PathBuf);

impl Group {
    fn new() -> Option<Self> {
        let name = format!("dethrone-test-{}", std::process::id());
        // Groups of the first kind, and of the second.
        let kinds = [
            (
                "/sys/fs/cgroup/cpu",
                &[("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "30000")][..],
            ),
            ("/sys/fs/cgroup", &[("cpu.max", "30000 100000")][..]),
        ];
        kinds.into_iter().find_map(|(tree, limits)| {
            let group = Self(Path::new(tree).join(&name));
            std::fs::create_dir(&group.0).ok()?;
            let is_set = limits.iter().all(|(file, value)| {
                let file = group.0.join(file);
                file.exists() && std::fs::write(file, value).is_ok()
            });
            is_set.then_some(group)
        })
    }

    fn throttled(&self) -> u64 {
        let stat = std::fs::read_to_string(self.0.join("cpu.stat")).unwrap();
        let line = stat
            .lines()
            .find_map(|line| line.strip_prefix("nr_throttled "))
            .unwrap();
        line.parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Its last process may still be on its way out.
        for _ in 0..1_000 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(10));
        }
    }
}

#[test]
fn where_the_processors_time_is_used_up_shadows_rest_and_no_request_fails_and_nobody_is_quarantined() {
    let Some(group) = Group::new() else {
        eprintln!("\n!!! SKIPPED: no control group can be made here: what a quota does is NOT TESTED !!!\n");
        return;
    };
    let site = Site::new("settle_ms = 50\npoll = \"100ms\"\n");
    site.model_toml("elec2", "champion = \"e01_logreg\"\n");
    for version in ["e01_logreg", "e05_forest"] {
        site.drop_file("elec2", version, &shipped(version));
    }
    let program = site.models().parent().unwrap().join("limited");
    let binary = env!("CARGO_BIN_EXE_dethrone");
    let enter = format!("echo $$ > '{}/cgroup.procs'", group.0.display());
    // Written by another process: a descriptor that a concurrent fork inherits would make the file busy.
    let write = "printf '#!/bin/sh\\n%s\\nexec \"%s\" \"$@\"\\n' \"$1\" \"$2\" > \"$0\" && chmod +x \"$0\"";
    let made = std::process::Command::new("sh")
        .args(["-c", write])
        .arg(&program)
        .args([&enter, binary])
        .status();
    assert!(made.unwrap().success());
    let gateway = site.start_program(&program).ready();
    let container = gateway.admin("/api/models")["container"].clone();
    assert_eq!(container["cpus"], json!(0.3), "{container}");
    gateway.until_role("elec2", "e05_forest", "challenger");
    let rows: Vec<_> = right_answers().into_iter().map(|(row, _)| row).collect();
    let traffic = Traffic::of(gateway.data, vec![json!({"model": "elec2", "instances": rows})]);
    let throttled = "dethrone_shadow_dropped_total{model=\"elec2\",reason=\"throttled\"}";
    until("shadows to rest", || (gateway.metric(throttled)? > 0.0).then_some(()));
    traffic.more(20);
    traffic.end();
    assert!(group.throttled() > 0);
    let executed = "dethrone_shadow_executed_total{model=\"elec2\"}";
    let before = gateway.metric(executed).unwrap_or(0.0);
    until("shadows to go on", || {
        assert_eq!(
            gateway.predict(&json!({"model": "elec2", "instances": [rows[0]]})).0,
            200
        );
        // Asking all the time would use up what there is of the processors' time.
        std::thread::park_timeout(std::time::Duration::from_millis(400));
        (gateway.metric(executed)? > before).then_some(())
    });
    assert_eq!(gateway.version("elec2", "e05_forest")["role"], "challenger");
    assert_eq!(gateway.stop(), Some(0));
}
