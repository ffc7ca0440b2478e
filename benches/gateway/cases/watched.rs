//! What the champion's clients notice of the monitor: two gateways in turns, of which one watches nothing.

use super::super::Fallible;
use super::super::body::{Form, requests};
use super::super::duel::{Side, duel};
use super::super::load::{Load, Pace};
use super::super::report::{Report, at_least, at_most};
use super::super::server;
use super::super::settings::Settings;

/// So many rows that the windows are full after a second or two.
const ON: &str = "[monitor]\nbaseline_rows = 2000\nwindow = \"4000 rows\"\ncycle = \"48 rows\"\n";
const OFF: &str = "[monitor]\nmode = \"off\"\n";

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Fallible<()> {
    let (on, _models) = server::fresh_gateway_with("monitor on", settings, 1, ON)?;
    let (off, _more) = server::fresh_gateway_with("monitor off", settings, 1, OFF)?;
    let requests = requests("logreg", Form::Lists, 1);
    for pace in [Pace::Open(2_000), Pace::Closed(16)] {
        let load = Load {
            requests: &requests,
            pace,
            time: settings.slice,
            check: None,
            held: None,
        };
        let sides = duel(&[&on, &off], "logreg", &load, settings.pairs)?;
        let [with, without] = <[Side; 2]>::try_from(sides).map_err(|_| "two servers, two sides")?;
        let (tail, middle, rate) = (
            with.ratio(&without, |s| s.p99),
            with.ratio(&without, |s| s.p50),
            with.ratio(&without, |s| s.per_second),
        );
        let name = match pace {
            Pace::Open(rate) => format!("monitor-open{rate}"),
            Pace::Closed(connections) | Pace::Calls(connections) => format!("monitor-c{connections}"),
        };
        let what = format!("everything watched, {pace}");
        report.case(&name, &what, &[("monitor on", with), ("monitor off", without)]);
        let rows = on.metric("dethrone_monitor_rows")?;
        if rows < 1.0 || off.metric("dethrone_monitor_rows").is_ok_and(|rows| rows > 0.0) {
            return Err(format!("{rows} rows were watched where all are, and some where none is").into());
        }
        let measured = format!("{tail} × p99, {middle} × p50, {rate} × the requests a second; {rows:.0} rows watched");
        // What is done at idle priority is to cost nobody anything: the bounds are those of shadows.
        let (target, verdict) = match pace {
            Pace::Closed(_) | Pace::Calls(_) => ("≥ 0.95 × the requests a second", at_least(rate, 0.95)),
            Pace::Open(_) => ("p99 ≤ 1.05 ×", at_most(tail, 1.05)),
        };
        report.figure(&name, &measured, target, verdict);
    }
    Ok(())
}
