//! SIGKILL at every write, sync and rename of a promotion, and of a migration.

use std::process::{Command, Stdio};

use rusqlite::Connection;
use serde_json::json;

use super::tracer::{self, Tracer};
use super::{is_long, predict, site, skipped, told};
use crate::support::{Gateway, Site, client, shipped, until};

/// Whichever of them the system's library uses.
const RENAME: &str = "rename,renameat,renameat2";
const VERSIONS: [&str; 2] = ["e01_logreg", "e05_forest"];

fn champion(gateway: &Gateway) -> String {
    until("a champion", || {
        let view = gateway.view("elec2");
        view["champion"]["version"].as_str().map(str::to_owned)
    })
}

/// Promotes under a kill at the `n`th such call of a thread. Who was promoted and whether that was acknowledged, and
/// whether the kill struck.
fn promote(site: &Site, gateway: Gateway, call: &str, n: usize) -> (String, bool, bool) {
    for name in VERSIONS {
        until("both are loaded", || {
            let role = gateway.version("elec2", name)["role"].clone();
            (role == "champion" || role == "challenger" || role == "previous").then_some(())
        });
    }
    let now = champion(&gateway);
    let to = VERSIONS.into_iter().find(|name| *name != now).unwrap();
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={n}"));
    let tracer = Tracer::attach(&gateway, &site.state().join("../trace"), &["-e", &trace, "-e", &inject]);
    let body = json!({"version": to, "author": "test", "reason": "kill"}).to_string();
    let head = "content-type: application/json\r\n";
    let request = client::request("POST", "/api/models/elec2/promote", head, body.as_bytes());
    let answer = client::raw(gateway.admin, &request);
    let acknowledged = answer.is_ok_and(|answer| answer.status == 200);
    tracer.end();
    let struck = client::raw(gateway.data, &client::request("GET", "/v2/health/live", "", b"")).is_err();
    gateway.kill();
    (to.to_owned(), acknowledged, struck)
}

#[test]
fn a_kill_at_every_write_sync_and_rename_of_a_promotion_leaves_the_old_champion_or_the_new_one() {
    if !tracer::works() {
        return skipped("a kill at every write of a promotion: strace is missing or may not trace");
    }
    let site = site();
    site.drop_file("elec2", VERSIONS[1], &shipped(VERSIONS[1]));
    let gateway = site.start().ready();
    gateway.until_role("elec2", VERSIONS[1], "challenger");
    predict(&gateway);
    gateway.kill();
    let steps: Vec<(&str, Vec<usize>)> = match is_long() {
        true => vec![
            ("write", (1..400).collect()),
            ("fsync", (1..50).collect()),
            ("pwrite64", (1..50).collect()),
            ("ftruncate", (1..50).collect()),
            (RENAME, (1..50).collect()),
            ("unlink", (1..50).collect()),
        ],
        false => vec![("write", vec![2, 15]), ("fsync", vec![1])],
    };
    let (mut runs, mut kills, mut lost) = (0, 0, 0);
    for (call, numbers) in steps {
        for n in numbers {
            let gateway = site.start().ready();
            let before = champion(&gateway);
            let (to, acknowledged, struck) = promote(&site, gateway, call, n);
            let gateway = site.start().ready();
            let now = champion(&gateway);
            let is_one = now == before || now == to;
            let is_kept = !acknowledged || now == to;
            let (status, answer) = gateway.predict(&json!({"instances": [super::row()]}));
            let answers = status == 200 && answer["version"] == now.as_str();
            let audit = Command::new(env!("CARGO_BIN_EXE_dethrone"))
                .args(["audit", "--state"])
                .arg(site.state())
                .stdout(Stdio::null())
                .status()
                .unwrap();
            let epoch = gateway.view("elec2")["champion"]["epoch"].as_u64().unwrap();
            let changes = gateway.decisions("elec2");
            let changes = changes
                .iter()
                .filter(|d| ["first", "promotion", "rollback"].iter().any(|kind| d["kind"] == *kind))
                .count();
            // The register, the decisions and the chain tell the same, whichever it is.
            let agrees = audit.success() && (changes >= 100 || epoch == changes as u64);
            runs += 1;
            kills += usize::from(struck);
            if !(is_one && is_kept && answers && agrees) {
                eprintln!(
                    "{call} {n}: {before} -> {to}, acknowledged {acknowledged}, now {now}, {answer}, {epoch} {changes}"
                );
                lost += 1;
            }
            gateway.kill();
            if !struck {
                // There is no such call any more.
                break;
            }
        }
    }
    assert!(kills > 0, "no kill struck");
    told(
        "SIGKILL at the n-th write, sync, rename of a promotion",
        runs,
        kills,
        lost,
    );
}

/// Makes the ledger one of format 2, as an earlier program would have left it.
fn downgrade(site: &Site) {
    let ledger = Connection::open(site.state().join("ledger.sqlite")).unwrap();
    let tables: Vec<String> = ledger
        .prepare("SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name = 'seal'")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for table in tables {
        ledger
            .execute_batch(&format!("ALTER TABLE {table} DROP COLUMN seal"))
            .unwrap();
    }
    ledger
        .execute_batch(
            "ALTER TABLE models DROP COLUMN revision; ALTER TABLE models DROP COLUMN nonce; DROP TABLE commits;
             PRAGMA user_version = 2;",
        )
        .unwrap();
}

/// Starts the gateway with a kill at the `n`th such call; true when it struck.
fn start_and_kill(site: &Site, call: &str, n: usize) -> bool {
    let child = Command::new("strace")
        .args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:signal=KILL:when={n}")])
        .arg(env!("CARGO_BIN_EXE_dethrone"))
        .args(["serve", "--listen", "127.0.0.1:0", "--grpc-listen", "127.0.0.1:0"])
        .args(["--admin-listen", "127.0.0.1:0", "--models"])
        .arg(site.models())
        .arg("--state")
        .arg(site.state())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.unwrap();
    let mut line = String::new();
    // What listens has opened its ledger.
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let read = std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    let _ = child.kill();
    let _ = child.wait();
    read == 0
}

#[test]
fn a_kill_at_every_step_of_a_migration_leaves_a_ledger_that_the_next_start_brings_up_to_date() {
    if !tracer::works() {
        return skipped("a kill at every step of a migration: strace is missing or may not trace");
    }
    let site = site();
    let gateway = site.start().ready();
    let acknowledged: Vec<(String, u8)> = (0..5).map(|_| (predict(&gateway), 1)).collect();
    for (id, label) in &acknowledged {
        assert_eq!(super::label(&gateway, id, *label).2, "accepted");
    }
    assert_eq!(gateway.stop(), Some(0));
    downgrade(&site);
    let old = std::fs::read(site.state().join("ledger.sqlite")).unwrap();
    let steps: Vec<(&str, Vec<usize>)> = match is_long() {
        true => vec![
            ("write", (1..600).collect()),
            ("fsync", (1..20).collect()),
            (RENAME, (1..20).collect()),
            ("unlink", (1..40).collect()),
            ("link,linkat", (1..9).collect()),
        ],
        false => vec![("write", vec![40]), (RENAME, vec![1, 2])],
    };
    let (mut runs, mut kills, mut lost) = (0, 0, 0);
    for (call, numbers) in steps {
        for n in numbers {
            for entry in std::fs::read_dir(site.state()).unwrap().flatten() {
                if entry.file_name().to_string_lossy().starts_with("ledger.") {
                    std::fs::remove_file(entry.path()).unwrap();
                }
            }
            std::fs::write(site.state().join("ledger.sqlite"), &old).unwrap();
            let struck = start_and_kill(&site, call, n);
            runs += 1;
            kills += usize::from(struck);
            let gateway = site.start().ready();
            let missing = super::lost(&gateway, &acknowledged);
            let kept = std::fs::read_dir(site.state()).unwrap().flatten();
            let kept = kept
                .filter(|e| e.file_name().to_string_lossy().starts_with("ledger.format-2."))
                .count();
            if missing > 0 || kept == 0 {
                eprintln!("{call} {n}: {missing} labels are missing, {kept} backups");
                lost += 1;
            }
            gateway.kill();
            if !struck {
                break;
            }
        }
    }
    assert!(kills > 0, "no kill struck");
    told(
        "SIGKILL at the n-th write, sync, rename of a migration",
        runs,
        kills,
        lost,
    );
}
