//! Clients that give up midway: their work ends, nothing of it is recorded as answered, and nobody else notices.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::client::{get, post, request};
use crate::support::{Gateway, Site, Traffic, ask_ledger, data, right_answers, shipped, until};

/// Few enough that none of them is refused, as a rule.
const LEAVERS: usize = 4;

fn ask() -> Value {
    json!({"model": "slow", "inputs": {"x": [[0.5, 0.5, 0.5]]}})
}

/// The sum of all series of a family whose labels include these.
fn counted(gateway: &Gateway, family: &str, labels: &[&str]) -> f64 {
    let text = get(gateway.admin, "/metrics").text();
    let lines = text
        .lines()
        .filter(|line| line.starts_with(family) && labels.iter().all(|label| line.contains(label)));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[test]
fn the_work_of_clients_that_leave_ends_is_not_recorded_as_answered_and_others_are_not_touched() {
    let site = Site::new("workers = 2\n");
    let slow = "interface = \"tensors\"\ntask = \"regression\"\nmetric = \"squared_error\"\nbound = 1.0\n\
                [execution]\nmode = \"threads\"\nsessions = 1\n";
    site.model_toml("slow", slow).drop_file("slow", "slow", &data("slow"));
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    for model in ["slow", "elec2"] {
        until(model, || {
            (get(gateway.data, &format!("/v2/models/{model}/ready")).status == 200).then_some(())
        });
    }
    let bodies = right_answers()
        .into_iter()
        .map(|(row, _)| json!({"model": "elec2", "instances": [row]}));
    let others = Traffic::of(gateway.data, bodies.collect());
    let (stop, stayed) = (AtomicBool::new(false), AtomicUsize::new(0));
    let abandoned = || counted(&gateway, "dethrone_requests_abandoned_total", &["route=\"predict\""]);
    let whole = request("POST", "/predict", "", ask().to_string().as_bytes());
    let mut left = 0;
    std::thread::scope(|scope| {
        let client = || {
            while !stop.load(Ordering::Relaxed) {
                let answer = post(gateway.data, "/predict", &ask());
                match answer.status {
                    200 => stayed.fetch_add(1, Ordering::Relaxed),
                    // For a moment those who leave may have taken all places.
                    429 => 0,
                    other => panic!("{other}: {}", answer.text()),
                };
            }
        };
        let client = scope.spawn(client);
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // On a slow day the queue is empty before they leave: then more come.
            until("clients that leave while they wait", || {
                let leavers: Vec<TcpStream> = (0..LEAVERS)
                    .map(|_| {
                        let mut leaver = TcpStream::connect(gateway.data).unwrap();
                        leaver.write_all(&whole).unwrap();
                        leaver
                    })
                    .collect();
                left += LEAVERS;
                until("one of them to wait", || {
                    (counted(&gateway, "dethrone_queue_requests", &["model=\"slow\""]) > 1.0 || abandoned() > 0.0)
                        .then_some(())
                });
                // Half a request too: its body never comes.
                let mut half = TcpStream::connect(gateway.data).unwrap();
                half.write_all(&whole[..whole.len() - 5]).unwrap();
                drop(half);
                drop(leavers);
                assert!(!client.is_finished(), "who stays is answered");
                until("nobody to wait who has left", || {
                    (counted(&gateway, "dethrone_in_flight_requests", &[]) <= 2.0).then_some(())
                });
                (abandoned() >= 4.0).then_some(())
            });
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = tried {
            std::panic::resume_unwind(panic);
        }
    });
    others.end();
    let gave_up = abandoned();
    // What was answered: to those who stayed, and to leavers who had left too late.
    let stats = get(gateway.data, "/v2/models/slow/stats").json();
    let answered = stats["model_stats"][0]["inference_stats"]["success"]["count"]
        .as_u64()
        .unwrap();
    let (answered, stayed) = (usize::try_from(answered).unwrap(), stayed.load(Ordering::Relaxed));
    assert!(
        answered >= stayed && answered <= stayed + left,
        "{answered}: {stayed} stayed, {left} left"
    );
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let gave_up = gave_up as usize;
    let refused = counted(
        &gateway,
        "dethrone_requests_total",
        &["route=\"predict\"", "code=\"429\""],
    );
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
    let refused = refused as usize;
    assert!(
        answered + gave_up + refused >= stayed + left,
        "{answered} + {gave_up} + {refused}: {stayed} stayed, {left} left"
    );
    // Overload keeps rows from being recorded: these are counted, and no other is missing.
    let recorded = "SELECT count(*) FROM predictions JOIN models USING (model_no) WHERE name = 'slow'";
    until("what was answered to be recorded", || {
        let dropped = counted(&gateway, "dethrone_recorder_dropped_total", &["model=\"slow\""]);
        let kept: i64 = ask_ledger(&site, recorded)?;
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let (kept, answered) = (kept as f64, answered as f64);
        (kept + dropped - answered).abs().lt(&0.5).then_some(())
    });
    let (status, answer) = gateway.predict(&ask());
    assert_eq!(status, 200, "{answer}");
    assert_eq!(gateway.stop(), Some(0));
}
