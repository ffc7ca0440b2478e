//! A champion in processes of its own against the same one inside the gateway: two gateways in turns.

use super::super::Fallible;
use super::super::body::{Form, requests};
use super::super::duel::{Side, duel};
use super::super::load::{Load, Pace};
use super::super::report::{Report, at_most};
use super::super::server;
use super::super::settings::Settings;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> Fallible<()> {
    let (apart, _models) = server::fresh_gateway_with("in processes", settings, 1, "isolation = \"process\"")?;
    let (inside, _more) = server::fresh_gateway_with("inline", settings, 1, "isolation = \"inline\"")?;
    let requests = requests("logreg", Form::Lists, 1);
    for pace in [Pace::Open(2_000), Pace::Closed(1), Pace::Closed(16)] {
        let load = Load {
            requests: &requests,
            pace,
            time: settings.slice,
            check: None,
            held: None,
        };
        let sides = duel(&[&apart, &inside], "logreg", &load, settings.pairs)?;
        let [apart, inside] = <[Side; 2]>::try_from(sides).map_err(|_| "two servers, two sides")?;
        let name = match pace {
            Pace::Open(rate) => format!("apart-open{rate}"),
            Pace::Closed(connections) | Pace::Calls(connections) => format!("apart-c{connections}"),
        };
        let (added, tail) = (
            apart.difference(&inside, |s| s.p50),
            apart.difference(&inside, |s| s.p99),
        );
        let what = format!("champion in processes, {pace}");
        report.case(&name, &what, &[("in processes", apart), ("inline", inside)]);
        let measured = format!("adds {added} µs at p50, {tail} µs at p99");
        match pace {
            // Under a load that takes all processors, what is added is a matter of queues.
            Pace::Closed(16) => report.note(&format!("{name}: {measured}")),
            _ => report.figure(&name, &measured, "≤ 15 µs at p50", at_most(added, 15.0)),
        }
    }
    Ok(())
}
