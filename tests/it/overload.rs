//! More requests than can be answered: what is answered is answered in time, the rest is refused at once, and labels are
//! taken all the while.

use std::io::{BufRead, Read};
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

/// Reads an answer of a connection that stays open; gives its head, in lower case.
fn read(from: &mut impl BufRead) -> std::io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head)? == 0 {
            return Err(std::io::Error::other(format!("it ended in {head:?}")));
        }
    }
    let head = head.to_lowercase();
    let length = head
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.lines().next());
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    std::io::copy(&mut from.take(length), &mut std::io::sink())?;
    Ok(head)
}

/// Sends the same request on all of these connections, then takes all answers; and again, until it is told to stop.
fn flood(
    address: std::net::SocketAddr,
    request: &[u8],
    connections: usize,
    stop: &AtomicBool,
    seen: &[AtomicUsize; 2],
) {
    let open = || std::net::TcpStream::connect(address).unwrap();
    let mut connections: Vec<_> = (0..connections).map(|_| std::io::BufReader::new(open())).collect();
    while !stop.load(Ordering::Relaxed) {
        for connection in &mut connections {
            std::io::Write::write_all(connection.get_mut(), request).unwrap();
        }
        for connection in &mut connections {
            let head = read(connection).unwrap();
            if head.starts_with("http/1.1 200 ") {
                seen[0].fetch_add(1, Ordering::Relaxed);
                continue;
            }
            assert!(
                head.starts_with("http/1.1 429 ") && head.contains("\r\nretry-after: "),
                "{head}"
            );
            seen[1].fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn where_requests_wait_for_a_thread_a_share_of_the_predictions_is_let_in_and_all_of_them_afterwards() {
    let site = Site::new("workers = 1\nmax_lag = \"20ms\"\n");
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    let scraped = |name: &str| -> f64 {
        let text = get(gateway.admin, "/metrics").text();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or(0.0)
    };
    let (_, answer) = gateway.predict(&json!({"model": "elec2", "instances": [elec2_row()]}));
    let id = ids(&answer)[0].clone();
    assert!(scraped("dethrone_admitted_share") >= 1.0);
    let body = json!({"model": "elec2", "instances": [elec2_row()]}).to_string();
    let length = body.len();
    let body = format!("POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{body}");
    let (stop, seen) = (AtomicBool::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]);
    std::thread::scope(|scope| {
        let _ends = Ends(&stop);
        let (body, stop, seen) = (body.as_bytes(), &stop, &seen);
        let floods: Vec<_> = (0..8)
            .map(|_| scope.spawn(move || flood(gateway.data, body, 60, stop, seen)))
            .collect();
        let count = |which: usize| seen[which].load(Ordering::Relaxed);
        until("refusals", || {
            assert!(
                !floods.iter().any(std::thread::ScopedJoinHandle::is_finished),
                "a client failed"
            );
            (count(1) > 0).then_some(())
        });
        let before = (count(0), count(1));
        until("answers beside refusals", || {
            (count(0) > before.0 + 100 && count(1) > before.1 + 100).then_some(())
        });
        until("rows that are not recorded, because requests are refused", || {
            let text = get(gateway.admin, "/metrics").text();
            let dropped = text
                .lines()
                .find(|line| line.starts_with("dethrone_recorder_dropped_total") && line.contains("\"overload\""))?;
            (!dropped.ends_with(" 0")).then_some(())
        });
        assert_eq!(gateway.label("elec2", &[(&id, json!(1))]), ["accepted"]);
    });
    until("all are let in again", || {
        (scraped("dethrone_admitted_share") >= 1.0).then_some(())
    });
    let (status, answer) = gateway.predict(&json!({"model": "elec2", "instances": [elec2_row()]}));
    assert_eq!(status, 200, "{answer}");
}
