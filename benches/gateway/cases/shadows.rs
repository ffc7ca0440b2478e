//! Three challengers on every row against none: two gateways in turns.

use super::super::Fallible;
use super::super::body::{Form, requests};
use super::super::duel::{Side, duel};
use super::super::load::{Load, Pace};
use super::super::report::{Report, at_least, at_most};
use super::super::server;
use super::super::settings::Settings;

const CHALLENGERS: usize = 3;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Fallible<()> {
    let (alone, _models) = server::fresh_gateway("none", settings, 1)?;
    let (shadowed, _more) = server::fresh_gateway("three challengers", settings, 1 + CHALLENGERS as u64)?;
    shadowed.wait_for_challengers("logreg", CHALLENGERS)?;
    let requests = requests("logreg", Form::Lists, 1);
    for pace in [Pace::Open(2_000), Pace::Closed(16), Pace::Closed(64)] {
        let load = Load {
            requests: &requests,
            pace,
            time: settings.slice,
            check: None,
            held: None,
        };
        let count = |name| shadowed.metric(name);
        let before = (
            count("dethrone_shadow_executed_total")?,
            count("dethrone_shadow_dropped_total")?,
        );
        let sides = duel(&[&shadowed, &alone], "logreg", &load, settings.pairs)?;
        let executed = count("dethrone_shadow_executed_total")? - before.0;
        let dropped = count("dethrone_shadow_dropped_total")? - before.1;
        let [with, without] = <[Side; 2]>::try_from(sides).map_err(|_| "two servers, two sides")?;
        let (name, what) = match pace {
            Pace::Open(rate) => (
                format!("shadows-open{rate}"),
                format!("{CHALLENGERS} challengers, {pace}"),
            ),
            Pace::Closed(connections) | Pace::Calls(connections) => (
                format!("shadows-c{connections}"),
                format!("{CHALLENGERS} challengers, {pace}"),
            ),
        };
        let shadows = format!(
            "{executed:.0} shadow rows scored, {dropped:.0} shed by challengers, {:.1} % of rows shed by the recorder",
            100.0 * with.shed_share().unwrap_or(0.0)
        );
        match pace {
            Pace::Open(_) => {
                let ratio = with.ratio(&without, |s| s.p99);
                report.case(&name, &what, &[("three challengers", with), ("none", without)]);
                report.figure(
                    &name,
                    &format!("{ratio} × p99; {shadows}"),
                    "≤ 1.05 ×",
                    at_most(ratio, 1.05),
                );
            }
            Pace::Closed(_) | Pace::Calls(_) => {
                let ratio = with.ratio(&without, |s| s.per_second);
                report.case(&name, &what, &[("three challengers", with), ("none", without)]);
                report.figure(
                    &name,
                    &format!("{ratio} × requests/s; {shadows}"),
                    "≥ 0.95 ×",
                    at_least(ratio, 0.95),
                );
            }
        }
    }
    let (gateway, runners) = shadowed.memory();
    let runners: Vec<String> = runners.into_iter().map(mb).collect();
    report.note(&format!(
        "memory with {CHALLENGERS} challengers: gateway {}, runners {}",
        mb(gateway),
        runners.join(", ")
    ));
    Ok(())
}

fn mb(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}
