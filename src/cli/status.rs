//! `dethrone status`: who is champion, who is ahead, and why not yet.
//!
//! Always holds: the wire types here read the admin API's answer leniently, so that a newer gateway can be asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use super::{Failure, Target, answer_of, block_on, colour, parse};
use crate::client::Client;
use crate::span::Span;

/// `dethrone status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Print the gateway's answer as it is
    #[arg(long)]
    pub json: bool,
    /// Print it again and again, on a terminal in place, until it is interrupted
    #[arg(long)]
    pub watch: bool,
    /// How often, with --watch
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = interval, requires = "watch")]
    pub every: Duration,
}

/// `GET /api/models/{m}`, as far as a client needs it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ModelStatus {
    /// Name of the model.
    pub model: String,
    /// Who answers.
    pub champion: Option<Champion>,
    /// Why automatic changes are stopped, when they are.
    pub hold: Option<serde_json::Value>,
    /// Why the ledger cannot be written, while it cannot.
    pub ledger_fault: Option<String>,
    /// What was found damaged in the ledger, and is not counted.
    pub ledger_damage: Option<LedgerDamage>,
    /// How shadow work is ruled.
    pub shadow: Shadow,
    /// Versions that the gateway has left out, because there are too many.
    pub versions_left_out: u64,
    /// The version whose promotion or rollback is decided and being carried out.
    pub deciding: Option<String>,
    /// What is wrong with the champion, while it is.
    pub alarm: Option<String>,
    /// How much an A/A copy differs from its original.
    pub noise: Option<Noise>,
    /// When the next retraining may come, and the latest one.
    pub retrain: Option<serde_json::Value>,
    /// Signs that the verdicts rest on less than their numbers.
    pub warnings: Vec<String>,
    /// All versions in the registry's order.
    pub versions: Vec<VersionStatus>,
}

/// Damage in the ledger.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct LedgerDamage {
    /// How much was found.
    pub found: u64,
    /// The first of it, by table and key.
    pub first: Vec<String>,
}

/// What shadow work costs the answers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Shadow {
    /// Why it is slowed, while it is.
    pub why: Option<String>,
}

/// The champion's line.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Champion {
    /// Its version.
    pub version: String,
    /// Number of its tenure.
    pub epoch: u64,
    /// Since when.
    pub since: serde_json::Value,
}

/// One version's line.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct VersionStatus {
    /// Its name.
    pub version: String,
    /// champion, challenger, previous, rejected, …
    pub role: String,
    /// Why it is rejected, quarantined or retired.
    pub reason: Option<String>,
    /// What the judge has against or for it.
    pub evidence: Option<Evidence>,
    /// What it was offered and what became of that.
    pub coverage: Option<Coverage>,
    /// Figures that decide nothing.
    pub display: Option<Display>,
}

/// Figures beside the metric that decides.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Display {
    /// Of the last labelled rows.
    pub window: Figures,
}

/// What applies to the model's task.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Labelled rows.
    pub labels: u64,
    /// Share of right labels.
    pub accuracy: Option<f64>,
    /// Of two classes.
    pub auc: Option<f64>,
    /// Of classes.
    pub log_loss: Option<f64>,
    /// Mean absolute error of a value.
    pub mae: Option<f64>,
    /// Root of its mean square.
    pub rmse: Option<f64>,
}

/// The judge's numbers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// Folded pairs.
    pub labels: u64,
    /// Logarithm of its wealth.
    pub log_wealth: f64,
    /// Logarithm of the wealth that it needs.
    pub log_bar: f64,
    /// Mean loss difference; above 0 it is better than the champion.
    pub mean_difference: Option<f64>,
    /// 95 % interval for it.
    pub interval: Option<[f64; 2]>,
    /// Place in the queue of challengers.
    pub place: Option<u32>,
    /// About how many labels more this place costs than the first one.
    pub place_costs_labels: Option<u64>,
    /// What it must keep to.
    pub guardrails: Vec<Guardrail>,
    /// `wins`, `loses`, `not yet`.
    pub verdict: String,
    /// One sentence.
    pub why: String,
}

/// One guardrail.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Guardrail {
    /// What it is called.
    pub name: String,
    /// Its number.
    pub value: Option<f64>,
    /// Its limit.
    pub limit: Option<f64>,
    /// Whether it lets the challenger pass.
    pub passes: bool,
}

/// The disagreement of an A/A copy.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Noise {
    /// Rows that it was found on.
    pub labels: u64,
    /// Mean size of the loss difference.
    pub mean_abs_difference: f64,
    /// Mean loss difference.
    pub mean_difference: f64,
    /// Share of rows on which the losses differ.
    pub share_of_rows_that_differ: f64,
}

/// Rows offered in shadow.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Coverage {
    /// Rows offered.
    pub offered: u64,
    /// Rows scored.
    pub scored: u64,
    /// Rows dropped, by reason.
    pub dropped: BTreeMap<String, u64>,
}

fn interval(text: &str) -> Result<Duration, String> {
    match text.parse()? {
        Span::Time(time) if (Duration::from_millis(100)..=Duration::from_secs(3_600)).contains(&time) => Ok(time),
        _ => Err("must be a time between 100ms and 1h".into()),
    }
}

/// Prints the state of one model, or of all; with `--watch` for ever.
///
/// # Errors
/// The gateway does not answer, or knows no such model; who watches is told, and watches on.
pub fn run(args: &StatusArgs) -> Result<(), Failure> {
    block_on(async {
        let mut client = args.target.door.client()?;
        if !args.watch {
            return print(&shown(args, &mut client).await?);
        }
        let is_terminal = std::io::stdout().is_terminal();
        loop {
            let text = match shown(args, &mut client).await {
                Ok(text) => text,
                Err(failure) => format!("{failure}\n"),
            };
            // From the top, and away with what stood there.
            let top = if is_terminal { "\u{1b}[H\u{1b}[2J\u{1b}[3J" } else { "" };
            print(&format!("{top}{text}"))?;
            tokio::time::sleep(args.every).await;
        }
    })
}

/// Whoever read along may have gone.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    printed.map_err(|error| Failure::Failed(format!("cannot print: {error}")))
}

/// One model, or all, as they stand now.
async fn shown(args: &StatusArgs, client: &mut Client) -> Result<String, Failure> {
    let models = match &args.target.model {
        Some(model) => vec![model.clone()],
        None => args.target.models(client).await?,
    };
    let mut text = String::new();
    if models.is_empty() {
        text.push_str("no models: put a directory with an ONNX file into the gateway's directory of models\n");
    }
    for model in models {
        let body = answer_of(client.get(&format!("/api/models/{model}")).await?)?;
        if args.json {
            text += &String::from_utf8_lossy(&body);
            text.push('\n');
        } else {
            text += &colour::status(&table(&parse(&body)?));
        }
    }
    Ok(text)
}

/// The readable form.
#[must_use]
pub fn table(status: &ModelStatus) -> String {
    let mut out = String::new();
    let champion = status.champion.as_ref();
    let name = champion.map_or("no champion yet", |c| c.version.as_str());
    let epoch = champion.map_or(0, |c| c.epoch);
    let since = champion
        .and_then(|c| c.since.as_str())
        .map_or_else(String::new, |t| format!(" since {t}"));
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{}: champion {name}{since}, epoch {epoch}{}",
        status.model,
        hold(status)
    );
    if let Some(fault) = &status.ledger_fault {
        let _ = writeln!(
            out,
            "  the ledger cannot be written: labels are refused, rows are not recorded, promotions wait: {fault}"
        );
    }
    if let Some(damage) = &status.ledger_damage {
        let first = damage.first.join("; ");
        let _ = writeln!(
            out,
            "  the ledger is damaged in {} places, which are not counted: {first}",
            damage.found
        );
    }
    if let Some(why) = &status.shadow.why {
        let _ = writeln!(out, "  {why}");
    }
    if let Some(alarm) = &status.alarm {
        let _ = writeln!(out, "  alarm: {alarm}");
    }
    let width = status
        .versions
        .iter()
        .map(|v| v.version.chars().count())
        .max()
        .unwrap_or(0)
        .max(7);
    let columns = columns(&status.versions);
    let mut figures = String::new();
    for (name, _) in columns {
        let _ = write!(figures, " {name:>9}");
    }
    let _ = writeln!(
        out,
        "  {:<width$}  {:<11}{figures} {:>5} {:>8} {:>17} {:>27} {:>9}  verdict",
        "version", "role", "place", "labels", "ln wealth / bar", "difference (95 %)", "coverage"
    );
    for version in by_lead(&status.versions) {
        let _ = writeln!(out, "  {}", line(version, width, columns));
    }
    if status.versions.iter().any(|v| v.display.is_some()) {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        let _ = writeln!(
            out,
            "  {}: over the last 1,000 labelled rows, for display, deciding nothing",
            names.join(", ")
        );
    }
    if status.versions_left_out > 0 {
        let _ = writeln!(out, "  and {} older versions", status.versions_left_out);
    }
    for version in by_lead(&status.versions) {
        if let Some((name, why)) = sentence(version) {
            let _ = writeln!(out, "  {name}: {why}");
        }
        let evidence = version.evidence.as_ref();
        let rails = evidence
            .map(|evidence| evidence.guardrails.as_slice())
            .unwrap_or_default();
        for rail in rails.iter().filter(|rail| !rail.passes) {
            let _ = writeln!(
                out,
                "    guardrail {}: {}, limit {}",
                rail.name,
                figure(rail.value),
                figure(rail.limit)
            );
        }
        if let Some((evidence, costs)) = evidence.and_then(|e| Some((e, e.place_costs_labels.filter(|n| *n > 0)?))) {
            let place = evidence.place.unwrap_or_default();
            let _ = writeln!(out, "    place {place} costs about {costs} labels more than the first");
        }
    }
    if let Some(noise) = &status.noise {
        let _ = writeln!(
            out,
            "  noise: a twin differs from its original on {:.2} % of {} rows, by {:.5} on average ({:+.5})",
            noise.share_of_rows_that_differ * 100.0,
            noise.labels,
            noise.mean_abs_difference,
            noise.mean_difference
        );
    }
    let latest = status.retrain.as_ref().and_then(|retrain| retrain.get("latest"));
    if let Some(latest) = latest.filter(|latest| latest.is_object()) {
        let _ = writeln!(out, "  {}", super::retrain::entry(latest));
    }
    for warning in &status.warnings {
        let _ = writeln!(out, "  warning: {warning}");
    }
    out
}

fn figure(number: Option<f64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| format!("{number:.4}"))
}

/// The champion first, then who has evidence by lead, then the others as they come.
fn by_lead(versions: &[VersionStatus]) -> Vec<&VersionStatus> {
    let mut sorted: Vec<&VersionStatus> = versions.iter().collect();
    let rank = |version: &VersionStatus| match &version.evidence {
        _ if version.role == "champion" => (0, 0.0),
        Some(evidence) => (1, evidence.log_bar - evidence.log_wealth),
        None => (2, 0.0),
    };
    sorted.sort_by(|a, b| {
        let (a, b) = (rank(a), rank(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    sorted
}

fn hold(status: &ModelStatus) -> String {
    match &status.hold {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::Object(hold)) => {
            let text = |key: &str| hold.get(key).and_then(|v| v.as_str()).unwrap_or("?");
            format!(", on hold by {}: {}", text("author"), text("reason"))
        }
        Some(other) => format!(", on hold: {other}"),
    }
}

/// A column of figures: its name, and where it stands.
type Column = (&'static str, fn(&Figures) -> Option<f64>);

/// The figures that the model's task has.
fn columns(versions: &[VersionStatus]) -> &'static [Column] {
    const CLASSES: &[Column] = &[
        ("accuracy", |f| f.accuracy),
        ("AUC", |f| f.auc),
        ("log-loss", |f| f.log_loss),
    ];
    const VALUES: &[Column] = &[("MAE", |f| f.mae), ("RMSE", |f| f.rmse)];
    let mut shown = versions.iter().filter_map(|v| v.display.as_ref());
    match shown.any(|display| display.window.mae.is_some()) {
        true => VALUES,
        false => CLASSES,
    }
}

fn line(version: &VersionStatus, width: usize, columns: &[Column]) -> String {
    let blank = || "-".to_owned();
    let mut figures = String::new();
    for (_, figure) in columns {
        let figure = version.display.as_ref().and_then(|display| figure(&display.window));
        let _ = write!(figures, " {:>9}", figure.map_or_else(blank, |x| format!("{x:.4}")));
    }
    let evidence = version.evidence.as_ref();
    let labels = evidence.map_or_else(blank, |e| e.labels.to_string());
    let wealth = evidence.map_or_else(blank, |e| format!("{:.2} / {:.2}", e.log_wealth, e.log_bar));
    let difference = evidence.and_then(|e| e.mean_difference);
    let interval = evidence.and_then(|e| e.interval);
    let interval = interval.map_or_else(String::new, |[low, high]| format!(" [{low:+.4} {high:+.4}]"));
    let difference = difference.map_or_else(blank, |d| format!("{d:+.4}{interval}"));
    let place = evidence
        .and_then(|e| e.place)
        .map_or_else(blank, |place| place.to_string());
    let coverage = version.coverage.as_ref().and_then(Coverage::share);
    let coverage = coverage.map_or_else(blank, |c| format!("{:.1} %", c * 100.0));
    let verdict = evidence.map_or("-", |e| e.verdict.as_str());
    format!(
        "{:<width$}  {:<11}{figures} {place:>5} {labels:>8} {wealth:>17} {difference:>27} {coverage:>9}  {verdict}",
        version.version, version.role
    )
}

fn sentence(version: &VersionStatus) -> Option<(&str, &str)> {
    let why = version.evidence.as_ref().map(|e| e.why.as_str());
    let text = version.reason.as_deref().or(why).filter(|text| !text.is_empty())?;
    Some((&version.version, text))
}

impl Coverage {
    /// Share of the offered rows that were scored.
    #[must_use]
    pub fn share(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
        (self.offered > 0).then(|| self.scored as f64 / self.offered as f64)
    }

    /// Rows offered of which nothing is known yet.
    #[must_use]
    pub fn open(&self) -> u64 {
        let dropped: u64 = self.dropped.values().sum();
        self.offered.saturating_sub(self.scored).saturating_sub(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_of_a_ledger_that_fails_and_of_versions_left_out() {
        let answer = r#"{"model":"m","ledger_fault":"the disk is full","ledger_damage":{"found":3,"first":["labels 7"]},
            "versions_left_out":7,"shadow":{"duty":0.1,"why":"shadows are slowed to 10 %"}}"#;
        let table = table(&serde_json::from_str(answer).unwrap());
        for part in [
            "labels are refused",
            "the disk is full",
            "damaged in 3 places, which are not counted: labels 7",
            "and 7 older versions",
            "shadows are slowed to 10 %",
        ] {
            assert!(table.contains(part), "'{part}' is not in\n{table}");
        }
    }

    const ANSWER: &str = r#"{"model":"elec2","champion":{"version":"e01_logreg","digest":"sha256:00","since":"2026-01-01T00:00:00Z","epoch":3},
        "hold":{"author":"ada","reason":"audit"},"alarm":"the champion fails",
        "retrain":{"latest":{"n":4,"time":"t","author":"retrain","row":9,"reason":"decay","state":"empty","outcome":"nothing to export"}},
        "noise":{"labels":900,"mean_abs_difference":0.002,"mean_difference":0.0001,"share_of_rows_that_differ":0.01},"policy":{"alpha":0.01},"versions":[
        {"version":"e02_tree","role":"challenger","digest":"sha256:01","reason":null,"evidence":{"labels":1234,"log_wealth":2.31,
         "log_bar":5.30,"mean_difference":0.012,"interval":[-0.001,0.025],"place":2,"place_costs_labels":120,
         "guardrails":[{"name":"latency","value":2.1,"limit":1.5,"passes":false},{"name":"errors","value":0.0,"limit":0.001,"passes":true}],"verdict":"not yet","why":"needs more labels"},
         "coverage":{"offered":9000,"scored":8990,"dropped":{"queue_full":8},"labelled":1234,"late":3},
         "display":{"window":{"labels":1000,"accuracy":0.8125,"auc":0.9,"log_loss":0.4321},"note":"decides nothing"}},
        {"version":"half","role":"rejected","digest":"sha256:02","reason":"not a whole file"}]}"#;

    #[test]
    fn the_table_tells_who_leads_and_why_not_yet() {
        let status: ModelStatus = serde_json::from_str(ANSWER).unwrap();
        let table = table(&status);
        for part in [
            "champion e01_logreg since 2026-01-01T00:00:00Z, epoch 3, on hold by ada: audit",
            "    2     1234       2.31 / 5.30   +0.0120 [-0.0010 +0.0250]    99.9 %  not yet",
            "challenger     0.8125    0.9000    0.4321     2     1234",
            "accuracy, AUC, log-loss: over the last 1,000 labelled rows, for display, deciding nothing",
            "    guardrail latency: 2.1000, limit 1.5000",
            "    place 2 costs about 120 labels more than the first",
            "alarm: the champion fails",
            "retraining 4 at t by retrain, row 9: decay\n    empty: nothing to export",
            "noise: a twin differs from its original on 1.00 % of 900 rows, by 0.00200 on average (+0.00010)",
            "e02_tree: needs more labels",
            "half: not a whole file",
        ] {
            assert!(table.contains(part), "'{part}' is not in\n{table}");
        }
        assert!(
            !table.contains("ledger") && !table.contains("older versions"),
            "{table}"
        );
        let lead = |version: &str, role: &str, log_wealth: f64| VersionStatus {
            version: version.into(),
            role: role.into(),
            evidence: Some(Evidence {
                log_wealth,
                log_bar: 5.0,
                ..Evidence::default()
            }),
            ..VersionStatus::default()
        };
        let mut champion = lead("a", "champion", 0.0);
        champion.evidence = None;
        let mixed = [lead("b", "challenger", 1.0), champion, lead("c", "challenger", 2.0)];
        let order: Vec<&str> = by_lead(&mixed).iter().map(|v| v.version.as_str()).collect();
        assert_eq!(order, ["a", "c", "b"]);
        assert_eq!(status.versions[0].coverage.as_ref().unwrap().open(), 2);
    }
}
