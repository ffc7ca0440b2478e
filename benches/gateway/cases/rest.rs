//! At rest: from start to the first answer, and resident memory.

use super::super::Fallible;
use super::super::body::{Form, requests};
use super::super::models;
use super::super::numbers::Interval;
use super::super::report::{Report, at_most};
use super::super::server::{self, Server};
use super::super::settings::Settings;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Fallible<()> {
    let dir = tempfile::tempdir()?;
    models::lay_down(dir.path(), &["logreg"], 1, "")?;
    let requests = requests("logreg", Form::Lists, 1);
    let probes = &requests[..1];
    let state = tempfile::tempdir()?;
    let gateway = |state| server::gateway("gateway", &settings.gateway, dir.path(), state, probes);
    let (mut first, mut again, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    let millis = |server: &Server| server.started_in.as_secs_f64() * 1e3;
    drop(gateway(Some(state.path()))?);
    for _ in 0..settings.pairs {
        first.push(millis(&gateway(None)?));
        again.push(millis(&gateway(Some(state.path()))?));
        floor.push(millis(&server::floor(dir.path(), probes)?));
    }
    let floor = Interval::of(&floor);
    for (name, times) in [("an empty state directory", &first), ("a known champion", &again)] {
        let time = Interval::of(times);
        let measured = format!("{time} ms to the first answer; the floor, which only loads the model: {floor} ms");
        let target = "≤ 1 s + the model's own load";
        report.figure(
            &format!("start with {name}"),
            &measured,
            target,
            at_most(time, 1_000.0 + floor.median),
        );
    }
    let (server, floor) = (gateway(None)?, server::floor(dir.path(), probes)?);
    server.settle()?;
    let (resident, children) = server.memory();
    let mb = |bytes: u64| bytes as f64 / 1e6;
    let measured = format!(
        "{:.1} MB resident with one small model ({} children left), the floor {:.1} MB",
        mb(resident),
        children.len(),
        mb(floor.memory().0)
    );
    report.figure("memory at rest", &measured, "≤ 60 MB", (mb(resident) <= 60.0).into());
    Ok(())
}
