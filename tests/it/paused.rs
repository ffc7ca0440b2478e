//! A gateway that stands still for five seconds under its clients, as one does whose machine is moved or swaps: it goes on
//! where it was, nothing is lost, and nobody is blamed for the time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Gateway, Site, Traffic, ask_ledger, data, ids, right_answers, shipped, until};
use crate::webhook::{Call, Listener};

/// Longer than the wall limit of runs here, the silence of labels and the time after which somebody counts as away.
const PAUSE: Duration = Duration::from_secs(5);

fn send(signal: &str, pid: u32) {
    let sent = std::process::Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Sees to it that the gateway goes on, also where the test fails.
struct Goes(u32);

impl Drop for Goes {
    fn drop(&mut self) {
        send("-CONT", self.0);
    }
}

/// Rows and their labels, one after the other, until somebody says stop; how many labels were acknowledged.
fn labelled(gateway: &Gateway, stop: &AtomicBool, done: &AtomicUsize) {
    let rows = right_answers();
    for (row, _) in rows.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let (status, answer) = gateway.predict(&json!({"model": "elec2", "instances": [row]}));
        assert_eq!(status, 200, "{answer}");
        let id = ids(&answer).remove(0);
        assert_eq!(gateway.label("elec2", &[(&id, json!(1))]), ["accepted"]);
        done.fetch_add(1, Ordering::Relaxed);
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_gateway_that_is_paused_for_five_seconds_loses_nothing_and_blames_nobody() {
    let hook = Listener::start(&[]);
    let settings = format!(
        "workers = 2\nsettle_ms = 50\npoll = \"100ms\"\n[runner]\ncpu_timeout = \"2s\"\nwall_timeout = \"4s\"\n\
         [webhook]\nurl = \"http://{}/told\"\nlabel_silence = \"4s\"\n",
        hook.address
    );
    let site = Site::new(&settings);
    let elec2 = "champion = \"e01_logreg\"\n[policy]\nmode = \"off\"\n";
    site.model_toml("elec2", elec2)
        .drop_file("elec2", "e01_logreg", &shipped("e01_logreg"))
        .drop_file("elec2", "e02_tree", &shipped("e02_tree"));
    site.model_toml("d", "task = \"regression\"\nscore_output = \"score\"\n")
        .drop_file("d", "div", &data("div"));
    let gateway = site.start().ready();
    gateway.until_role("elec2", "e02_tree", "challenger");
    let isolated = || gateway.version("d", "div")["execution"]["isolation"].clone();
    until("a champion in a process, and its spare", || {
        isolated()["spare"].as_u64()
    });
    let rows: Vec<_> = right_answers().into_iter().map(|(row, _)| row).collect();
    let traffic = [
        Traffic::of(gateway.data, vec![json!({"model": "elec2", "instances": rows})]),
        Traffic::of(
            gateway.data,
            vec![json!({"model": "d", "inputs": {"a": [[7]], "b": [[2]]}})],
        ),
    ];
    let (stop, labels) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let labelling = scope.spawn(|| labelled(&gateway, &stop, &labels));
        let goes_on = |what: &str| {
            let before = labels.load(Ordering::Relaxed);
            until(what, || {
                assert!(!labelling.is_finished(), "a labelled request failed");
                (labels.load(Ordering::Relaxed) >= before + 5).then_some(())
            });
            traffic.iter().for_each(|traffic| traffic.more(20));
        };
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            goes_on("labels before");
            send("-STOP", gateway.pid());
            {
                let (_goes, begun) = (Goes(gateway.pid()), Instant::now());
                while begun.elapsed() < PAUSE {
                    std::thread::park_timeout(PAUSE);
                }
            }
            goes_on("labels after");
            // Whoever would tell of labels that have fallen silent has looked since.
            let back = Instant::now();
            until("looks of the webhook", || (back.elapsed() > PAUSE).then_some(()));
            goes_on("labels long after");
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = tried {
            std::panic::resume_unwind(panic);
        }
    });
    traffic.into_iter().for_each(Traffic::end);
    let kinds: Vec<String> = hook.calls().iter().map(Call::kind).collect();
    assert!(
        kinds
            .iter()
            .all(|kind| ["promotion", "recommendation"].contains(&kind.as_str())),
        "{kinds:?}"
    );
    assert_eq!(gateway.version("elec2", "e02_tree")["role"], "challenger");
    for (series, count) in [
        ("dethrone_quarantines_total{model=\"elec2\"}", 0.0),
        ("dethrone_runner_restarts_total{model=\"elec2\"}", 0.0),
        ("dethrone_runner_restarts_total{model=\"d\"}", 0.0),
        ("dethrone_fallbacks_total{model=\"elec2\"}", 0.0),
        ("dethrone_champion_alarm{model=\"elec2\"}", 0.0),
        ("dethrone_ledger_healthy", 1.0),
        ("dethrone_requests_abandoned_total{route=\"predict\"}", 0.0),
    ] {
        assert_eq!(gateway.metric(series), Some(count), "{series}");
    }
    let acknowledged = labels.load(Ordering::Relaxed);
    let kept: Option<i64> = ask_ledger(&site, "SELECT count(*) FROM labels");
    assert_eq!(kept, i64::try_from(acknowledged).ok());
    until("an outcome for each row that was offered", || {
        let text = crate::support::client::get(gateway.admin, "/metrics").text();
        let sum = |family: &str| -> f64 {
            let start = format!("dethrone_shadow_{family}_total{{model=\"elec2\"");
            let lines = text.lines().filter(|line| line.starts_with(&start));
            lines
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum()
        };
        ((sum("offered") - sum("executed") - sum("dropped")).abs() < 0.5 && sum("executed") > 0.0).then_some(())
    });
    assert_eq!(gateway.stop(), Some(0));
}
