//! The cases: which servers, which load, which figure.

mod apart;
mod burdens;
mod overload;
mod recorded;
mod rest;
mod shadows;
mod swaps;
mod watched;

use std::path::Path;

use super::Fallible;
use super::body::{Form, requests};
use super::client::Connection;
use super::duel::duel;
use super::load::{Load, Pace};
use super::models;
use super::report::{Report, at_least, at_most};
use super::server::{self, Server};
use super::settings::Settings;

/// A load that all servers take.
struct Case {
    model: &'static str,
    form: Form,
    rows: usize,
    pace: Pace,
    /// Part of `--quick`.
    is_quick: bool,
}

impl Case {
    fn name(&self) -> String {
        let form = match self.form {
            Form::Lists => "json",
            Form::Named => "named",
            Form::Oip => "oip",
            Form::Binary => "binary",
            Form::Grpc => "grpc",
        };
        let pace = match self.pace {
            Pace::Closed(connections) | Pace::Calls(connections) => format!("c{connections}"),
            Pace::Open(rate) => format!("open{rate}"),
        };
        format!("{}-{form}-b{}-{pace}", self.model, self.rows)
    }

    fn what(&self) -> String {
        format!("{} × {}, {}", self.rows, self.form.name(), self.pace)
    }
}

/// Every plain case; the figures' own come first.
fn plain() -> Vec<Case> {
    let case = |model, form, rows, pace, is_quick| Case {
        model,
        form,
        rows,
        pace,
        is_quick,
    };
    use Form::{Binary, Grpc, Lists, Named, Oip};
    use Pace::{Calls, Closed, Open};
    vec![
        case("logreg", Lists, 1, Closed(16), true),
        case("logreg", Lists, 1, Closed(64), true),
        case("logreg", Named, 1, Closed(16), true),
        case("logreg", Named, 1, Closed(64), false),
        case("logreg", Lists, 1, Open(2_000), true),
        case("logreg", Binary, 64, Closed(16), true),
        case("trees", Lists, 1, Closed(16), true),
        case("logreg", Lists, 1, Closed(1), false),
        case("logreg", Lists, 8, Closed(16), false),
        case("logreg", Lists, 64, Closed(16), false),
        case("logreg", Named, 64, Closed(16), false),
        case("trees", Lists, 64, Closed(16), false),
        case("trees", Lists, 1, Open(5_000), false),
        case("mlp", Lists, 1, Closed(16), true),
        case("mlp", Lists, 64, Closed(16), false),
        case("mlp", Lists, 1, Open(2_000), false),
        case("logreg", Oip, 1, Closed(16), false),
        case("logreg", Oip, 64, Closed(16), false),
        case("logreg", Binary, 1, Closed(16), false),
        case("logreg", Binary, 8, Closed(16), false),
        case("trees", Binary, 64, Closed(16), false),
        case("logreg", Grpc, 1, Calls(16), false),
        case("logreg", Grpc, 64, Calls(16), true),
        case("mlp", Grpc, 8, Calls(16), false),
        case("mlp", Binary, 64, Closed(16), false),
        case("slow", Lists, 1, Closed(1), false),
        case("slow", Lists, 1, Closed(16), true),
    ]
}

type Special = fn(&Settings, &mut Report) -> Fallible<()>;

/// The cases that are no plain load.
const SPECIAL: [(&str, Special); 9] = [
    ("apart", apart::run),
    ("burdens", burdens::shadowed),
    ("vetting", burdens::vetted),
    ("overload", overload::run),
    ("recorded", recorded::run),
    ("shadows", shadows::run),
    ("swaps", swaps::run),
    ("rest", rest::run),
    ("monitor", watched::run),
];

/// Runs what was asked for.
pub(crate) fn run(settings: &Settings) -> Fallible<Report> {
    let mut report = Report::default();
    let cases: Vec<Case> = plain()
        .into_iter()
        .filter(|case| settings.wants(&case.name(), case.is_quick))
        .collect();
    let special = SPECIAL.iter().filter(|(name, ..)| settings.wants(name, true));
    if settings.list {
        let names = cases
            .iter()
            .map(Case::name)
            .chain(special.map(|(name, ..)| (*name).to_owned()));
        names.for_each(|name| println!("{name}"));
        return Ok(report);
    }
    if !cases.is_empty() {
        let dir = tempfile::tempdir()?;
        models::lay_down(dir.path(), &models::ALL, 1, "")?;
        let servers = servers(settings, dir.path())?;
        let servers: Vec<&Server> = servers.iter().collect();
        for case in &cases {
            measure(case, &servers, settings, &mut report)?;
        }
    }
    for (_, case) in special {
        case(settings, &mut report)?;
    }
    Ok(report)
}

/// All servers on these models; the last one is what the others are compared with.
fn servers(settings: &Settings, models: &Path) -> Fallible<Vec<Server>> {
    let probes: Vec<Vec<u8>> = models::ALL
        .iter()
        .flat_map(|model| requests(model, Form::Lists, 1).into_iter().take(1))
        .collect();
    let mut servers = vec![server::gateway("gateway", &settings.gateway, models, None, &probes)?];
    if let Some(binary) = &settings.against {
        servers.push(server::gateway("other gateway", binary, models, None, &probes)?);
    }
    if let Some(python) = &settings.python {
        for name in server::PYTHON {
            servers.push(server::python(name, python, models, &probes)?);
        }
    }
    servers.push(server::floor(models, &probes)?);
    agree(&servers, &probes)?;
    Ok(servers)
}

/// Who computes something else is not measured.
fn agree(servers: &[Server], probes: &[Vec<u8>]) -> Fallible<()> {
    for probe in probes {
        let scores = servers
            .iter()
            .map(|server| Ok((server.name, score(&Connection::open(server.data)?.ask(probe)?.1)?)))
            .collect::<Fallible<Vec<(&str, f64)>>>()?;
        if scores.windows(2).any(|pair| (pair[0].1 - pair[1].1).abs() > 1e-5) {
            return Err(format!("the servers do not agree: {scores:?}").into());
        }
    }
    Ok(())
}

fn score(answer: &[u8]) -> Fallible<f64> {
    let answer: serde_json::Value = serde_json::from_slice(answer)?;
    let score = answer["predictions"][0]["score"].as_f64();
    score.ok_or_else(|| format!("no score in {answer}").into())
}

fn measure(case: &Case, servers: &[&Server], settings: &Settings, report: &mut Report) -> Fallible<()> {
    // The servers in Python speak `/predict` alone.
    let servers: Vec<&Server> = match case.form {
        Form::Lists | Form::Named => servers.to_vec(),
        Form::Oip | Form::Binary | Form::Grpc => servers.iter().copied().filter(|server| !server.is_python()).collect(),
    };
    let servers = &servers[..];
    if case.form == Form::Grpc && servers.iter().any(|server| server.grpc.is_none()) {
        report.note(&format!("{}: not measured, a server does not speak gRPC", case.name()));
        return Ok(());
    }
    let requests = requests(case.model, case.form, case.rows);
    let load = Load {
        requests: &requests,
        pace: case.pace,
        time: settings.slice,
        check: None,
        held: None,
    };
    let sides = duel(servers, case.model, &load, settings.pairs)?;
    let sides: Vec<_> = servers.iter().map(|server| server.name).zip(sides).collect();
    report.case(&case.name(), &case.what(), &sides);
    let (Some((_, gateway)), Some((_, floor))) = (sides.first(), sides.last()) else {
        return Ok(());
    };
    let shed = match gateway.shed_share() {
        Some(share) => format!(
            "; the recorder took {:.1} µs CPU per request and shed {:.1} % of the rows",
            gateway.median(|s| s.recorder),
            share * 100.0
        ),
        None => String::new(),
    };
    let ratio = gateway.ratio(floor, |s| s.per_second);
    match (case.model, case.pace) {
        ("logreg", Pace::Closed(16 | 64)) if case.rows == 1 && matches!(case.form, Form::Lists | Form::Named) => {
            report.figure(
                &case.name(),
                &format!("{ratio} × requests/s of the floor{shed}"),
                "≥ 0.90",
                at_least(ratio, 0.90),
            );
        }
        ("logreg", _) if matches!(case.form, Form::Binary | Form::Grpc) && case.rows == 64 => {
            report.figure(
                &case.name(),
                &format!("{ratio} × rows/s of the floor{shed}"),
                "≥ 0.90",
                at_least(ratio, 0.90),
            );
        }
        ("logreg", Pace::Open(2_000)) => {
            let added = gateway.difference(floor, |s| s.p50);
            let tail = gateway.ratio(floor, |s| s.p99);
            report.figure(
                &case.name(),
                &format!("adds {added} µs at p50"),
                "≤ 5 µs",
                at_most(added, 5.0),
            );
            report.figure(&case.name(), &format!("{tail} × p99"), "≤ 1.10 ×", at_most(tail, 1.10));
        }
        ("trees", Pace::Closed(16)) if case.rows == 1 => {
            let cpu = gateway.ratio(floor, |s| s.cpu);
            let own = gateway.interval(|s| s.cpu);
            let measured = format!("{own} µs CPU per request, {cpu} × the floor{shed}");
            report.figure(&case.name(), &measured, "≤ 17 µs", at_most(own, 17.0));
        }
        _ if !shed.is_empty() => report.note(&format!("{}: {}", case.name(), &shed[2..])),
        _ => {}
    }
    Ok(())
}
