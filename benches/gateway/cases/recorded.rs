//! Everything recorded: the load holds back whenever the recorder has much left to do, so that nothing is shed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::super::Fallible;
use super::super::body::{Form, requests};
use super::super::duel::{Side, duel};
use super::super::load::{Load, Pace};
use super::super::report::{Report, Verdict, at_least};
use super::super::server::{self, Server};
use super::super::settings::Settings;

/// Observations that may wait; the gateway's queue holds twice as many.
const FULL: f64 = 8_192.0;
/// How often the queue is looked at.
const LOOK: Duration = Duration::from_millis(10);

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Fallible<()> {
    let (gateway, models) = server::fresh_gateway("gateway", settings, 1)?;
    let requests = requests("logreg", Form::Lists, 1);
    let floor = server::floor(models.path(), &requests[..1])?;
    let held = AtomicBool::new(false);
    for connections in [16, 64] {
        let load = Load {
            requests: &requests,
            pace: Pace::Closed(connections),
            // Long enough for the queue to matter.
            time: settings.slice.max(Duration::from_secs(1)),
            check: None,
            held: Some(&held),
        };
        let sides = watched(&gateway, &held, || {
            duel(&[&gateway, &floor], "logreg", &load, settings.pairs)
        })?;
        let [gateway, floor] = <[Side; 2]>::try_from(sides).map_err(|_| "two servers, two sides")?;
        let ratio = gateway.ratio(&floor, |s| s.per_second);
        let shed = gateway.shed_share().unwrap_or(0.0) * 100.0;
        let measured = format!("{ratio} × requests/s of the floor, {shed:.2} % shed");
        let verdict = if gateway.shed > 0.0 {
            Verdict::Missed
        } else {
            at_least(ratio, 0.75)
        };
        let name = format!("recorded-c{connections}");
        report.case(
            &name,
            &format!("all rows recorded, {}", load.pace),
            &[("gateway", gateway), ("floor", floor)],
        );
        report.figure(&name, &measured, "≥ 0.75, 0 % shed", verdict);
    }
    drop(models);
    Ok(())
}

/// Does the work while another thread holds the load back as needed.
fn watched<T>(gateway: &Server, held: &AtomicBool, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let backlog = gateway.metric("dethrone_recorder_backlog").unwrap_or(0.0);
                held.store(backlog > FULL, Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    })
}
