//! Champions in processes of their own: whatever kills a process, clients get answers, and the gateway lives.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{Gateway, Site, client, data, right_answers, shipped, until};

const QUICK: &str = "workers = 2\nsettle_ms = 50\npoll = \"100ms\"\n";

fn isolation(gateway: &Gateway, model: &str, version: &str) -> Value {
    gateway.version(model, version)["execution"]["isolation"].clone()
}

/// The processes of a version: those that run it and the spare, once there is one.
fn pids(gateway: &Gateway, model: &str, version: &str) -> BTreeSet<u64> {
    until("a spare", || {
        let shown = isolation(gateway, model, version);
        let spare = shown["spare"].as_u64()?;
        let pids = shown["pids"].as_array()?.iter().filter_map(Value::as_u64);
        Some(pids.chain([spare]).collect())
    })
}

fn kill(pid: u64) {
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(killed.unwrap().success());
}

fn stop(pid: u64) {
    let stopped = std::process::Command::new("kill")
        .args(["-STOP", &pid.to_string()])
        .status();
    assert!(stopped.unwrap().success());
}

fn exists(pid: u32) -> bool {
    // A process that has ended and is not reaped yet runs no more.
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status
        .rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim_start().starts_with('Z') && !rest.trim().is_empty())
}

fn divide(gateway: &Gateway, pairs: &[(i64, i64)]) -> (u16, Value) {
    let column = |of: fn(&(i64, i64)) -> i64| pairs.iter().map(|pair| [of(pair)]).collect::<Vec<_>>();
    let inputs = json!({"a": column(|pair| pair.0), "b": column(|pair| pair.1)});
    gateway.predict(&json!({"model": "d", "inputs": inputs}))
}

#[test]
fn a_client_that_kills_the_process_of_the_champion_gets_an_error_and_everybody_else_an_answer() {
    let site = Site::new(QUICK);
    site.model_toml("d", "task = \"regression\"\nscore_output = \"score\"\n")
        .drop_file("d", "div", &data("div"));
    let gateway = site.start().ready();
    assert_eq!(isolation(&gateway, "d", "div")["mode"], "process");
    pids(&gateway, "d", "div");
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for start in 1..=3_i64 {
            let (gateway, stop, answered) = (&gateway, &stop, &answered);
            scope.spawn(move || {
                for at in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let (a, b) = (start * 1_000 + at, start);
                    let (status, answer) = divide(gateway, &[(a, b), (-a, b)]);
                    assert_eq!(status, 200, "{answer}");
                    let given: Vec<f64> = (0..2)
                        .map(|row| answer["predictions"][row]["score"].as_f64().unwrap())
                        .collect();
                    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                    let right = (a / b) as f64;
                    assert_eq!(given, [right, -right], "{a} / {b}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let more = |count: usize| {
            let goal = answered.load(Ordering::Relaxed) + count;
            until("more answers", || {
                (answered.load(Ordering::Relaxed) >= goal).then_some(())
            });
        };
        // So that a failure here ends the others, too.
        let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            more(20);
            // Alone, and among innocent rows: the guilty row is named, and no other.
            let (status, answer) = divide(&gateway, &[(i64::MIN, -1)]);
            let says = |answer: &Value, text: &str| answer["error"].as_str().unwrap().contains(text);
            assert_eq!((status, &answer["code"]), (422, &json!("no_answer")), "{answer}");
            assert!(says(&answer, "SIGFPE"), "{answer}");
            more(20);
            let (status, answer) = divide(&gateway, &[(7, 2), (i64::MIN, -1), (9, 3)]);
            assert!(status == 422 && says(&answer, "row 1"), "{status} {answer}");
            more(20);
            // Known by now: it is refused without a run.
            let before = pids(&gateway, "d", "div");
            for _ in 0..20 {
                let (status, answer) = divide(&gateway, &[(i64::MIN, -1)]);
                assert!(status == 422 && says(&answer, "not run again"), "{status} {answer}");
            }
            assert_eq!(pids(&gateway, "d", "div"), before);
            more(20);
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = killed {
            std::panic::resume_unwind(panic);
        }
    });
    let shown = isolation(&gateway, "d", "div");
    assert!(shown["restarts"].as_u64().unwrap() >= 2, "{shown}");
    assert_eq!(shown["refused_rows"], 1, "{shown}");
    assert!(shown["last_fault"].as_str().unwrap().contains("SIGFPE"), "{shown}");
    let counted = gateway.metric("dethrone_runner_restarts_total{model=\"d\"}").unwrap();
    assert!(counted >= 2.0, "{counted}");
}

/// Rows with the answers that a version must give, asked for without a pause from so many threads until `work` is done.
fn under_load<T>(gateway: &Gateway, models: &[&str], threads: usize, work: impl FnOnce(&dyn Fn(usize)) -> T) -> T {
    let right = right_answers();
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for start in 0..threads {
            let (right, stop, answered) = (&right, &stop, &answered);
            scope.spawn(move || {
                for at in (start * 7).. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let (row, right) = &right[at % right.len()];
                    let (status, answer) = gateway.predict(&json!({"model": "elec2", "instances": [row]}));
                    assert_eq!(status, 200, "{answer}");
                    let version = answer["version"].as_str().unwrap();
                    assert!(models.contains(&version) && answer["fallback"].is_null(), "{answer}");
                    let given = answer["predictions"][0]["score"].as_f64().unwrap();
                    let right = right[version].as_f64().unwrap();
                    assert!((given - right).abs() < 1e-6, "{version}: {given} is not {right}");
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let more = |count: usize| {
            let goal = answered.load(Ordering::Relaxed) + count;
            until("more answers", || {
                (answered.load(Ordering::Relaxed) >= goal).then_some(())
            });
        };
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(&more)));
        stop.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn killing_processes_of_the_champion_under_load_fails_no_request() {
    for mode in ["auto", "threads"] {
        let site = Site::new(QUICK);
        site.model_toml(
            "elec2",
            &format!("isolation = \"process\"\nexecution.mode = \"{mode}\"\n"),
        )
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
        let gateway = site.start().ready();
        under_load(&gateway, &["e01_logreg"], 3, |more| {
            for turn in 0..6 {
                let all = pids(&gateway, "elec2", "e01_logreg");
                more(30);
                // The spare's turn comes too.
                kill(*all.iter().nth(turn % all.len()).unwrap());
                more(30);
                until("another process", || {
                    let now = pids(&gateway, "elec2", "e01_logreg");
                    (now != all && now.len() == all.len()).then_some(())
                });
            }
        });
        let shown = isolation(&gateway, "elec2", "e01_logreg");
        assert!(shown["restarts"].as_u64().unwrap() >= 6, "{shown}");
        assert_eq!(shown["refused_rows"], 0, "nobody's row is to blame: {shown}");
    }
}

#[test]
fn a_process_of_the_champion_that_is_stopped_is_replaced_and_fails_no_request() {
    for mode in ["auto", "threads"] {
        // A stopped process that was waited for would fail the test.
        let site = Site::new(&format!("{QUICK}[runner]\nwall_timeout = \"600s\"\n"));
        site.model_toml(
            "elec2",
            &format!("isolation = \"process\"\nexecution.mode = \"{mode}\"\n"),
        )
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
        let gateway = site.start().ready();
        under_load(&gateway, &["e01_logreg"], 3, |more| {
            for turn in 0..4 {
                let all = pids(&gateway, "elec2", "e01_logreg");
                let one = *all.iter().nth(turn % all.len()).unwrap();
                more(30);
                stop(one);
                more(30);
                let shown = isolation(&gateway, "elec2", "e01_logreg");
                if shown["spare"].as_u64() == Some(one) {
                    // It stands by until it is its turn: another one goes.
                    let pids: Vec<u64> = shown["pids"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .filter_map(Value::as_u64)
                        .collect();
                    stop(pids[0]);
                }
                until("another process", || {
                    let now = pids(&gateway, "elec2", "e01_logreg");
                    (!now.contains(&one) && now.len() == all.len()).then_some(())
                });
            }
        });
        let shown = isolation(&gateway, "elec2", "e01_logreg");
        assert!(shown["restarts"].as_u64().unwrap() >= 4, "{shown}");
        assert!(shown["last_fault"].as_str().unwrap().contains("stopped"), "{shown}");
        assert_eq!(shown["refused_rows"], 0, "nobody's row is to blame: {shown}");
    }
}

#[test]
fn a_process_answers_bit_for_bit_as_the_gateway_does_and_an_edit_moves_the_champion_with_no_request_lost() {
    let site = Site::new(QUICK);
    let settings = |isolation: &str| format!("champion = \"e05_forest\"\nisolation = \"{isolation}\"\n");
    site.model_toml("elec2", &settings("process"))
        .drop_file("elec2", "e05_forest", &shipped("e05_forest"));
    let gateway = site.start().ready();
    let rows: Vec<Value> = right_answers().into_iter().map(|(row, _)| row).collect();
    let answers = || {
        let answer = |rows: &[Value]| {
            let body = json!({"model": "elec2", "instances": rows, "outputs": true, "shadow": false});
            let (status, answer) = gateway.predict(&body);
            assert_eq!(status, 200, "{answer}");
            let scores: Vec<Value> = answer["predictions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|p| p["score"].clone())
                .collect();
            (scores, answer["outputs"].clone())
        };
        let alone: Vec<_> = rows.iter().map(|row| answer(std::slice::from_ref(row))).collect();
        (alone, answer(&rows))
    };
    let apart = answers();
    under_load(&gateway, &["e05_forest"], 2, |more| {
        for isolation in ["inline", "process", "inline"] {
            more(10);
            site.model_toml("elec2", &settings(isolation));
            until("the champion has moved", || {
                let shown = self::isolation(&gateway, "elec2", "e05_forest");
                (shown["mode"] == isolation).then_some(())
            });
            more(10);
        }
    });
    assert_eq!(answers(), apart);
    until("its processes have ended", || {
        gateway.children().is_empty().then_some(())
    });
}

#[test]
fn crowns_go_between_processes_and_the_gateway_under_load_and_survive_a_restart() {
    let site = Site::new("workers = 2\nsettle_ms = 50\n");
    site.model_toml("elec2", "champion = \"e01_logreg\"\nisolation = \"process\"\n");
    for version in ["e01_logreg", "e05_forest"] {
        site.drop_file("elec2", version, &shipped(version));
    }
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e05_forest", "challenger");
    let versions = ["e01_logreg", "e05_forest"];
    under_load(&gateway, &versions, 2, |more| {
        more(20);
        for (action, champion, previous) in [
            ("promote", "e05_forest", "e01_logreg"),
            ("rollback", "e01_logreg", "e05_forest"),
            ("promote", "e05_forest", "e01_logreg"),
        ] {
            let version = (action == "promote").then_some(champion);
            let (status, answer) = gateway.act("elec2", action, version);
            assert_eq!((status, &answer["champion"]), (200, &json!(champion)), "{answer}");
            for version in [champion, previous] {
                assert_eq!(isolation(&gateway, "elec2", version)["mode"], "process");
            }
            more(20);
        }
    });
    assert_eq!(gateway.metric("dethrone_requests_dropped_by_swap_total"), Some(0.0));
    let timed = &gateway.version("elec2", "e05_forest")["execution"]["recorded_rows"];
    assert!(
        timed["rows"].as_u64().unwrap() > 0 && timed["us_p50"].as_f64().unwrap() > 0.0,
        "{timed}"
    );
    let children = gateway.children();
    assert!(children.len() >= 6, "{children:?}");
    assert_eq!(gateway.stop(), Some(0));
    until("nothing runs on", || {
        (!children.iter().any(|pid| exists(*pid))).then_some(())
    });

    let gateway = site.start().ready();
    assert_eq!(gateway.view("elec2")["champion"]["version"], "e05_forest");
    assert_eq!(isolation(&gateway, "elec2", "e05_forest")["mode"], "process");
    under_load(&gateway, &["e05_forest"], 1, |more| more(20));
    let children = gateway.children();
    gateway.kill();
    until("nothing runs on", || {
        (!children.iter().any(|pid| exists(*pid))).then_some(())
    });
}

#[test]
fn a_version_that_could_bring_the_gateway_down_is_crowned_and_answers_from_a_process() {
    let site =
        Site::new("settle_ms = 100\npoll = \"100ms\"\n[runner]\ncpu_timeout = \"150ms\"\nwall_timeout = \"20s\"\n");
    site.model_toml("m", "champion = \"mean\"\n")
        .drop_file("m", "mean", &data("mean"))
        .drop_file("m", "endless", &data("endless"));
    let gateway = site.start().ready();
    let shadowed = gateway.until_role("m", "endless", "challenger");
    assert_ne!(
        shadowed["evidence"]["why"].as_str().map(|why| why.contains("Loop")),
        Some(true),
        "{shadowed}"
    );
    assert_eq!(gateway.act("m", "promote", Some("endless")).0, 200);
    assert_eq!(isolation(&gateway, "m", "endless")["mode"], "process");
    assert_eq!(isolation(&gateway, "m", "mean")["mode"], "inline");
    let ask = |x: f64| gateway.predict(&json!({"model": "m", "inputs": {"x": [[x, x, x]]}}));
    let (status, answer) = ask(3.0);
    assert_eq!((status, &answer["version"]), (200, &json!("endless")), "{answer}");
    assert!(answer["fallback"].is_null(), "{answer}");
    // A row on which it never ends: the previous champion answers, and is named.
    let (status, answer) = ask(1e18);
    assert_eq!((status, &answer["fallback"]), (200, &json!("mean")), "{answer}");
    assert_eq!(gateway.metric("dethrone_fallbacks_total{model=\"m\"}"), Some(1.0));
    assert_eq!(gateway.act("m", "rollback", None).0, 200);
    assert_eq!(ask(3.0).1["version"], "mean");
    assert_eq!(gateway.act("m", "promote", Some("endless")).0, 200);
    // Inside the gateway only if somebody says so, and back.
    for (settings, mode) in [("isolation = \"inline\"\n", "inline"), ("", "process")] {
        site.model_toml("m", settings);
        until("it has moved", || {
            (isolation(&gateway, "m", "endless")["mode"] == mode).then_some(())
        });
        assert_eq!(ask(3.0).1["version"], "endless");
    }
}

#[test]
fn a_champion_on_probation_that_fails_on_too_many_rows_goes_at_once_and_another_one_raises_an_alarm() {
    let site = Site::new(QUICK);
    site.model_toml(
        "m",
        "champion = \"mean\"\ntask = \"regression\"\nmetric = \"squared_error\"\nbound = 1.0\n",
    )
    .drop_file("m", "mean", &data("mean"))
    .drop_file("m", "root", &data("root"));
    site.model_toml("r", "task = \"regression\"\nmetric = \"squared_error\"\nbound = 1.0\n")
        .drop_file("r", "root", &data("root"));
    let gateway = site.start().ready();
    gateway.until_role("r", "root", "champion");
    gateway.until_role("m", "root", "challenger");
    assert_eq!(gateway.act("m", "promote", Some("root")).0, 200);
    // The square root of what is negative is no number.
    let ask = |model: &str, x: f64| gateway.predict(&json!({"model": model, "inputs": {"x": [[x, x, x]]}}));
    for x in 0..9 {
        let (status, answer) = ask("m", -1.0 - f64::from(x));
        assert_eq!((status, &answer["fallback"]), (200, &json!("mean")), "{answer}");
    }
    assert_eq!(ask("m", 4.0).1["version"], "root");
    assert_eq!(gateway.view("m")["champion"]["version"], "root", "nine are not enough");
    ask("m", -20.0);
    until("the crown goes back", || {
        (gateway.view("m")["champion"]["version"] == "mean").then_some(())
    });
    let decision = gateway.decisions("m").pop().unwrap();
    assert_eq!(
        (
            &decision["kind"],
            &decision["author"],
            &decision["from"],
            &decision["to"]
        ),
        (&json!("rollback"), &json!("tripwire"), &json!("root"), &json!("mean")),
        "{decision}"
    );
    assert!(
        decision["why"].as_str().unwrap().contains("failed on 10 of 11 rows"),
        "{decision}"
    );
    assert_eq!(gateway.version("m", "root")["role"], "previous");
    // The hold of a person's promotion stays, and nobody is left whom the judge could crown.
    assert!(gateway.view("m")["hold"].is_string());

    for x in 0..10 {
        assert_eq!(ask("r", -1.0 - f64::from(x)).0, 422);
    }
    let view = gateway.view("r");
    assert!(
        view["alarm"].as_str().unwrap().contains("failed on 10 of 10 rows"),
        "{view}"
    );
    assert_eq!(view["champion"]["version"], "root");
}

#[test]
fn a_row_that_the_champion_failed_on_is_its_loss_and_not_its_silence() {
    let site = Site::new(QUICK);
    let settings = "champion = \"mean\"\ntask = \"regression\"\nmetric = \"squared_error\"\nbound = 1.0\n\
                    [label]\nmaturity = \"1 rows\"\nhorizon = \"1000 rows\"\n";
    site.model_toml("m", settings)
        .drop_file("m", "mean", &data("mean"))
        .drop_file("m", "root", &data("root"));
    let gateway = site.start().ready();
    gateway.until_role("m", "root", "challenger");
    assert_eq!(gateway.act("m", "promote", Some("root")).0, 200);
    let ask = |x: f64| gateway.predict(&json!({"model": "m", "inputs": {"x": [[x, x, x]]}})).1;
    let failed = ask(-0.25);
    let id = failed["predictions"][0]["id"].as_str().unwrap();
    assert_eq!(gateway.label("m", &[(id, json!(-0.25))]), ["accepted"]);
    let entry = until("the row is folded", || {
        ask(0.25);
        let entry = gateway.version("m", "mean");
        (entry["evidence"]["labels"] == 1).then_some(entry)
    });
    // The bound for the champion, nothing for the other one.
    assert_eq!(entry["evidence"]["mean_difference"], 1.0, "{entry}");
    assert!(
        client::get(gateway.admin, "/metrics")
            .text()
            .contains("dethrone_fallbacks_total{model=\"m\"} 1")
    );
}

#[test]
fn the_spare_stands_by_at_the_priority_of_the_gateway_and_is_confined() {
    let site = Site::new(QUICK);
    site.model_toml("elec2", "isolation = \"process\"\nexecution.sessions = 1\n")
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    let all = pids(&gateway, "elec2", "e01_logreg");
    assert_eq!(all.len(), 2, "one that answers and one that stands by");
    let policy = |pid: u64| {
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).unwrap();
        // The 41st field; the second one may hold spaces.
        stat.rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .nth(38)
            .unwrap()
            .to_owned()
    };
    let gateways = policy(u64::from(gateway.pid()));
    for pid in all {
        assert_eq!(policy(pid), gateways);
        let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
        let says = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        assert_eq!(
            (says("NoNewPrivs:"), says("Seccomp:")),
            ("1", "2"),
            "confined as any runner"
        );
    }
}

#[test]
fn where_no_process_can_be_started_the_previous_champion_answers_until_one_can() {
    let site = Site::new("settle_ms = 50\n");
    site.model_toml("m", "champion = \"mean\"\n")
        .drop_file("m", "mean", &data("mean"))
        .drop_file("m", "endless", &data("endless"));
    let gateway = site.start().ready();
    gateway.until_role("m", "endless", "challenger");
    assert_eq!(gateway.act("m", "promote", Some("endless")).0, 200);
    let digest = gateway.version("m", "endless")["digest"].as_str().unwrap().to_owned();
    let stored = site
        .state()
        .join("blobs/sha256")
        .join(digest.trim_start_matches("sha256:"));
    let aside = site.state().join("aside");
    std::fs::rename(&stored, &aside).unwrap();
    let killed = pids(&gateway, "m", "endless");
    killed.iter().copied().for_each(kill);
    // A row that is inside one when it ends is blamed for it; two such, and it is refused for a while.
    until("they have ended", || {
        let lives = |&pid: &u64| exists(u32::try_from(pid).unwrap());
        (!killed.iter().any(lives)).then_some(())
    });
    let ask = || gateway.predict(&json!({"model": "m", "inputs": {"x": [[3.0, 3.0, 3.0]]}}));
    for _ in 0..3 {
        let (status, answer) = ask();
        assert_eq!(
            (status, &answer["version"], &answer["fallback"]),
            (200, &json!("endless"), &json!("mean"))
        );
        assert_eq!(answer["predictions"][0]["score"], 3.0);
    }
    std::fs::rename(&aside, &stored).unwrap();
    pids(&gateway, "m", "endless");
    let (status, answer) = ask();
    assert!(status == 200 && answer["fallback"].is_null(), "{answer}");
}

#[test]
fn an_examination_that_failed_for_no_fault_of_the_file_is_made_again_by_itself() {
    let site = Site::new(QUICK);
    site.model_toml(
        "m",
        "champion = \"mean\"\nisolation = \"inline\"\ntask = \"regression\"\n",
    )
    .drop_file("m", "mean", &data("mean"));
    let gateway = site.start().ready();
    let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let is_runner = |&pid: &u32| exists(pid) && name(pid).trim_end() == "dethrone-runner";
    // The champion is examined no longer, and answers in the gateway's own process.
    until("no runner", || {
        (!gateway.children().iter().any(is_runner)).then_some(())
    });
    site.drop_file("m", "endless", &data("endless"));
    let begun = std::time::Instant::now();
    let reason = loop {
        for pid in gateway.children().into_iter().filter(is_runner) {
            // It may have ended since.
            let _ = std::process::Command::new("kill")
                .args(["-9", &pid.to_string()])
                .status();
        }
        let seen = gateway.version("m", "endless");
        assert_ne!(seen["role"], "challenger", "{seen}");
        if seen["role"] == "rejected" {
            break seen["reason"].as_str().unwrap_or_default().to_owned();
        }
        assert!(
            begun.elapsed().as_secs() < 120,
            "its examination was never ended: {seen}"
        );
    };
    assert!(reason.contains("try it again"), "{reason}");
    gateway.until_role("m", "endless", "challenger");
}
