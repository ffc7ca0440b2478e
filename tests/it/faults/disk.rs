//! The disk fails: an error at the n-th sync, no room, a sync that takes long.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::json;

use super::tracer::{self, Tracer};
use super::{degraded, is_long, label, lost, predict, site, skipped, told};
use crate::support::{Gateway, Site, Traffic, client, until};

/// Labels, one by one, until one is refused; every prediction in between is answered.
fn until_refused(gateway: &Gateway, acknowledged: &mut Vec<(String, u8)>) -> (u16, String) {
    until("a refusal", || {
        let id = predict(gateway);
        let (status, head, became) = label(gateway, &id, 1);
        if status == 200 {
            if became == "accepted" {
                acknowledged.push((id, 1));
            }
            return None;
        }
        Some((status, head))
    })
}

/// Injects `error` from the `n`th such call on, or only there; labels are refused meanwhile, and afterwards taken.
fn hit(gateway: &Gateway, (call, error): (&str, &str), when: &str, acknowledged: &mut Vec<(String, u8)>) {
    let inject = format!("inject={call}:error={error}:when={when}");
    let trace = format!("trace={call}");
    let tracer = Tracer::attach(gateway, Path::new("/dev/null"), &["-e", &trace, "-e", &inject]);
    let (status, head) = until_refused(gateway, acknowledged);
    let is_refusal = status == 503 || (status == 507 && error == "ENOSPC");
    assert!(
        is_refusal && head.contains("retry-after:"),
        "{call} {error} {when}: {head}"
    );
    if when.ends_with('+') {
        until("it is said", || degraded(gateway));
        let (status, answer) = gateway.act("elec2", "hold", None);
        assert!(status == 503 || (status == 507 && error == "ENOSPC"), "{answer}");
    }
    tracer.end();
    until("it heals", || degraded(gateway).is_none().then_some(()));
}

#[test]
fn an_error_at_the_nth_sync_or_write_refuses_what_it_hit_acknowledges_nothing_false_and_heals() {
    if !tracer::works() {
        return skipped("errors at the n-th sync and write: strace is missing or may not trace");
    }
    let site = site();
    let gateway = site.start().ready();
    let traffic = Traffic::of(gateway.data, vec![json!({"instances": [super::row()]})]);
    let mut acknowledged: Vec<(String, u8)> = Vec::new();
    let most = if is_long() { 50 } else { 2 };
    let mut runs = 0;
    for n in 1..=most {
        // Once, or from then on.
        let when = if n % 2 == 1 { format!("{n}+") } else { n.to_string() };
        hit(&gateway, ("fsync", "EIO"), &when, &mut acknowledged);
        runs += 1;
    }
    let faults: &[&str] = if is_long() {
        &["EIO", "EROFS", "ENOSPC"]
    } else {
        &["EROFS"]
    };
    for error in faults {
        for n in 1..=most / 2 {
            // A disk that has turned read-only stays so; and one write alone may be one that nothing rests on.
            hit(&gateway, ("pwrite64", error), &format!("{n}+"), &mut acknowledged);
            runs += 1;
        }
    }
    let id = predict(&gateway);
    until("labels are taken again", || {
        (label(&gateway, &id, 0).0 == 200).then_some(())
    });
    traffic.end();
    gateway.kill();
    let gateway = site.start().ready();
    let missing = lost(&gateway, &acknowledged);
    told("an error at the n-th sync or write", runs, runs, missing);
}

#[test]
fn a_state_directory_that_cannot_be_written_is_refused_at_the_start_with_what_to_do() {
    let site = site();
    let Some(disk) = Tmpfs::mount(&site, 4_096) else {
        return skipped("a read-only state directory: a tmpfs cannot be mounted here");
    };
    let gateway = site.start().ready();
    let id = predict(&gateway);
    assert_eq!(label(&gateway, &id, 1).2, "accepted");
    gateway.kill();
    disk.remount("ro");
    let (code, said) = site.refused();
    assert!(
        code != Some(0) && said.contains("--state") && said.contains(site.state().to_str().unwrap()),
        "{said}"
    );
    disk.remount("rw");
    let gateway = site.start().ready();
    assert_eq!(lost(&gateway, &[(id, 1)]), 0);
}

#[test]
fn while_a_sync_takes_long_predictions_are_answered_and_the_label_waits_for_it() {
    if !tracer::works() {
        return skipped("a slow sync: strace is missing or may not trace");
    }
    let site = site();
    let gateway = site.start().ready();
    let id = predict(&gateway);
    let args = ["-e", "trace=fsync", "-e", "inject=fsync:delay_enter=1500000"];
    let tracer = Tracer::attach(&gateway, Path::new("/dev/null"), &args);
    let answered = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let began = Instant::now();
            let (status, ..) = label(&gateway, &id, 1);
            answered.store(true, Ordering::Relaxed);
            (status, began.elapsed())
        });
        let mut meanwhile = 0;
        while !answered.load(Ordering::Relaxed) {
            predict(&gateway);
            meanwhile += 1;
        }
        let (status, took) = waiting.join().unwrap();
        assert_eq!(status, 200);
        assert!(
            took.as_millis() >= 1_500,
            "it was acknowledged before its sync: {took:?}"
        );
        assert!(meanwhile > 1, "predictions wait for the disk");
    });
    tracer.end();
}

/// A small file system of its own under the state directory; it goes when this does.
struct Tmpfs<'a>(&'a Site);

impl<'a> Tmpfs<'a> {
    fn mount(site: &'a Site, kib: u32) -> Option<Self> {
        std::fs::create_dir_all(site.state()).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k,mode=700"), "tmpfs"]);
        let done = mount.arg(site.state()).output();
        done.is_ok_and(|done| done.status.success()).then_some(Self(site))
    }

    fn fill(&self) {
        let block = vec![0x55; 4_096];
        let mut file = std::fs::File::create(self.0.state().join("ballast")).unwrap();
        while std::io::Write::write(&mut file, &block).is_ok_and(|written| written > 0) {}
    }

    fn remount(&self, how: &str) {
        let how = format!("remount,{how}");
        let mut mount = Command::new("mount");
        assert!(mount.args(["-o", &how]).arg(self.0.state()).status().unwrap().success());
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.state().join("ballast")).unwrap();
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.state()).status();
    }
}

#[test]
fn on_a_full_disk_predictions_go_on_labels_are_refused_with_507_and_it_heals_when_there_is_room() {
    let (mut runs, mut refusals, mut missing) = (0, 0, 0);
    let sizes: &[u32] = if is_long() {
        &[64, 256, 512, 1_024, 2_048, 4_096, 16_384]
    } else {
        &[2_048]
    };
    for &kib in sizes {
        let site = site();
        let Some(disk) = Tmpfs::mount(&site, kib) else {
            return skipped("a full disk: a tmpfs cannot be mounted here");
        };
        runs += 1;
        if kib < 1_024 {
            // Too small for a ledger: it says so, or serves without.
            let (code, said) = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| site.start())) {
                Ok(gateway) => {
                    drop(gateway);
                    continue;
                }
                Err(_) => (Some(1), site.log()),
            };
            assert!(code != Some(0) && said.contains("make room"), "{kib} KiB: {said}");
            refusals += 1;
            continue;
        }
        let gateway = site.start().ready();
        let mut acknowledged = Vec::new();
        let id = predict(&gateway);
        assert_eq!(label(&gateway, &id, 1).2, "accepted");
        acknowledged.push((id, 1));
        let traffic = Traffic::of(gateway.data, vec![json!({"instances": [super::row()]})]);
        disk.fill();
        let (status, head) = until_refused(&gateway, &mut acknowledged);
        let why = until("it is said", || degraded(&gateway));
        assert!(why.contains("make room"), "{why}");
        let (status, head) = match status {
            507 => (status, head),
            // The request that met the full disk first, before anybody knew.
            _ => until("507", || {
                let (status, head, _) = label(&gateway, &acknowledged[0].0, 1);
                (status == 507).then_some((status, head))
            }),
        };
        assert!(status == 507 && head.contains("retry-after:"), "{head}");
        let (status, answer) = gateway.act("elec2", "hold", None);
        assert_eq!(status, 507, "{answer}");
        assert!(
            gateway
                .metric("dethrone_ledger_healthy")
                .is_some_and(|healthy| healthy < 0.5)
        );
        refusals += 1;
        // Also when it starts so.
        traffic.end();
        gateway.kill();
        let gateway = site.start().ready();
        let (status, answer) = gateway.predict(&json!({"instances": [super::row()]}));
        assert_eq!((status, &answer["version"]), (200, &json!("e01_logreg")), "{answer}");
        until("it is degraded", || {
            label(&gateway, &predict(&gateway), 1);
            degraded(&gateway)
        });
        let traffic = Traffic::of(gateway.data, vec![json!({"instances": [super::row()]})]);
        disk.make_room();
        let room = Instant::now();
        until("it heals", || degraded(&gateway).is_none().then_some(()));
        println!("{kib} KiB: healed {:?} after there was room", room.elapsed());
        let id = until("rows are recorded and labels are taken", || {
            let id = predict(&gateway);
            let (status, _, became) = label(&gateway, &id, 1);
            (status == 200 && became == "accepted").then_some(id)
        });
        acknowledged.push((id, 1));
        traffic.end();
        missing += lost(&gateway, &acknowledged);
        gateway.kill();
    }
    told("a full disk (tmpfs), also at the start", runs, refusals, missing);
}

#[test]
fn a_second_gateway_on_the_same_state_is_refused_and_the_first_goes_on() {
    let site = site();
    let gateway = site.start().ready();
    let (code, said) = site.refused();
    assert!(code != Some(0) && said.contains("in use"), "{said}");
    assert_eq!(client::get(gateway.data, "/v2/health/ready").status, 200);
    predict(&gateway);
}
