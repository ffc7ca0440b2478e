//! More requests than can be answered: what is answered is answered in time, the rest is refused at once, and labels are
//! taken all the while.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use crate::support::client::{get, raw, request};
use crate::support::{Site, data, elec2_row, ids, shipped, until};

/// Lets the clients end, also where the test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn under_overload_shadows_rest_first_predictions_are_refused_in_time_and_labels_are_taken() {
    let site = Site::new("workers = 2\n");
    site.model_toml(
        "slow",
        "interface = \"tensors\"\ntask = \"regression\"\nmetric = \"squared_error\"\nbound = 1.0\n",
    )
    .drop_file("slow", "slow", &data("slow"));
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    for model in ["slow", "elec2"] {
        until(model, || {
            (get(gateway.data, &format!("/v2/models/{model}/ready")).status == 200).then_some(())
        });
    }
    let body = json!({"model": "slow", "inputs": {"x": [[0.5, 0.5, 0.5]]}}).to_string();
    let counted = |name: &str| -> f64 {
        let text = get(gateway.admin, "/metrics").text();
        let line = text
            .lines()
            .find(|line| line.starts_with(name) && line.contains("model=\"slow\"") && line.contains("overload"));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or(0.0)
    };
    let (stop, answered, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    // Half of them cannot wait long: they are refused rather than answered too late.
    let client = |number: usize| {
        let headers = if number.is_multiple_of(2) {
            "x-dethrone-timeout-ms: 200\r\n"
        } else {
            ""
        };
        while !stop.load(Ordering::Relaxed) {
            let answer = raw(gateway.data, &request("POST", "/predict", headers, body.as_bytes())).unwrap();
            match answer.status {
                200 => answered.fetch_add(1, Ordering::Relaxed),
                429 => {
                    assert!(answer.head.contains("retry-after: "), "{}", answer.head);
                    refused.fetch_add(1, Ordering::Relaxed)
                }
                504 if number.is_multiple_of(2) => 0,
                other => panic!("{other}: {}", answer.text()),
            };
        }
    };
    std::thread::scope(|scope| {
        let _ends = Ends(&stop);
        let clients: Vec<_> = (0..48).map(|number| scope.spawn(move || client(number))).collect();
        until("refusals beside answers", || {
            let enough = answered.load(Ordering::Relaxed) >= 20 && refused.load(Ordering::Relaxed) >= 20;
            assert!(
                !clients.iter().any(std::thread::ScopedJoinHandle::is_finished),
                "a client failed"
            );
            enough.then_some(())
        });
        until("rows that are not recorded, because requests are refused", || {
            (counted("dethrone_recorder_dropped_total") > 0.0).then_some(())
        });
        // Other models are answered, and their labels taken.
        let (status, answer) = gateway.predict(&json!({"model": "elec2", "instances": [elec2_row()]}));
        assert_eq!(status, 200, "{answer}");
        assert_eq!(gateway.label("elec2", &[(&ids(&answer)[0], json!(1))]), ["accepted"]);
    });
    let before = counted("dethrone_recorder_dropped_total");
    let fine = raw(gateway.data, &request("POST", "/predict", "", body.as_bytes())).unwrap();
    assert_eq!(
        (fine.status, counted("dethrone_recorder_dropped_total")),
        (200, before),
        "afterwards"
    );
}
