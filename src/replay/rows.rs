//! A backtest of files on past rows: no ledger, no live traffic.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ReplayArgs;
use super::picture::{Drawn, picture};
use super::progress::Progress;
use super::report::{Backtest, Names, Worth};
use super::table::{Table, Value};
use super::workshop::{Made, Scores, Workshop, interface_of, schema};
use crate::backtest::contest::Asked;
use crate::backtest::course::{Arrival, Course, Plan};
use crate::cli::Failure;
use crate::config::{Missing, ModelConfig};
use crate::control::policy;
use crate::id::IdKey;
use crate::intake::scan::scan_dir;
use crate::model::interface::Interface;
use crate::recorder::Closing;
use crate::score::VersionNo;
use crate::span::{Clock, Span};

/// A file may be as large as the gateway's default allows.
const MAX_BYTES: u64 = 2 << 30;

/// A file and the row before which it arrives, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrant {
    /// Name of the version.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// The row.
    pub row: usize,
}

/// Where a backtest's rows and files are.
#[derive(Debug)]
pub struct Setup {
    /// The rows' file.
    pub rows: PathBuf,
    /// Rows at the beginning that are passed over.
    pub skip: usize,
    /// The label's column.
    pub label: String,
    /// The column of request times.
    pub time: Option<String>,
    /// The settings.
    pub config: ModelConfig,
    /// The first champion, then the challengers.
    pub entrants: Vec<Entrant>,
}

/// Rows that were scored by everybody.
#[derive(Debug)]
pub struct Prepared {
    /// Names by number.
    pub names: Names,
    /// The rows.
    pub asked: Vec<Asked>,
    /// What everybody made of them.
    pub scores: Scores,
    /// What to run.
    pub plan: Plan,
}

/// `dethrone replay --rows`.
///
/// # Errors
/// Wrong usage, files that are refused, or rows that do not fit.
pub fn run(rows: &Path, args: &ReplayArgs) -> Result<(), Failure> {
    let prepared = prepare(&setup(rows, args)?)?;
    let bar = Progress::new("judging", prepared.asked.len() as u64);
    let course = Course::run(&prepared.plan, &prepared.asked, &prepared.scores, |_| bar.advance(1));
    drop(bar);
    let backtest = backtest(rows.display().to_string(), prepared, course, args.window);
    show(&backtest, args)
}

/// What a course was worth, ready to be shown.
#[must_use]
pub fn backtest(source: String, prepared: Prepared, course: Course, window: Option<usize>) -> Backtest {
    let Prepared {
        names,
        asked,
        scores,
        plan,
    } = prepared;
    let worth = Worth::of(&plan, &plan.policy, &asked, &scores, &course, window);
    Backtest {
        source,
        metric: plan.policy.metric.name().to_owned(),
        names,
        course,
        worth,
    }
}

/// Prints it, and draws it.
///
/// # Errors
/// The picture cannot be written.
pub fn show(backtest: &Backtest, args: &ReplayArgs) -> Result<(), Failure> {
    draw(backtest, args)?;
    if args.json {
        println!("{}", backtest.json());
    } else {
        print!("{}", backtest.text());
    }
    Ok(())
}

/// Draws it, where a picture is asked for.
///
/// # Errors
/// It cannot be written.
pub fn draw(backtest: &Backtest, args: &ReplayArgs) -> Result<(), Failure> {
    if let Some(file) = &args.svg {
        let drawn = Drawn {
            title: &format!(
                "Backtest of {}: evidence, and who would have been champion",
                backtest.source
            ),
            rows: backtest.course.rows,
            curve: &backtest.course.curve,
            reigns: &backtest.course.reigns,
            names: &backtest.names,
        };
        super::write(file, &picture(&drawn))?;
    }
    Ok(())
}

fn setup(rows: &Path, args: &ReplayArgs) -> Result<Setup, Failure> {
    let (config, entrants) = match &args.models {
        Some(directory) => served(directory, args)?,
        None => named(args)?,
    };
    Ok(Setup {
        rows: rows.to_owned(),
        skip: 0,
        label: args.label.clone().unwrap_or_else(|| "label".into()),
        time: args.time.clone(),
        config,
        entrants,
    })
}

fn config(path: Option<&Path>) -> Result<ModelConfig, Failure> {
    let loaded = path.map_or_else(|| Ok(ModelConfig::default()), ModelConfig::load);
    if let Some(path) = path.filter(|path| !path.exists()) {
        return Err(Failure::Usage(format!(
            "{} does not exist: give --policy a model.toml",
            path.display()
        )));
    }
    loaded.map_err(|e| Failure::Config(e.to_string()))
}

/// `--champion FILE --challenger FILE[@ROW]`.
fn named(args: &ReplayArgs) -> Result<(ModelConfig, Vec<Entrant>), Failure> {
    let Some(champion) = &args.champion else {
        return Err(Failure::Usage("--rows needs --champion FILE, or --models DIR".into()));
    };
    let mut entrants = vec![entrant(champion, 0)];
    for text in &args.challenger {
        let (file, row) = arrival(text)?;
        entrants.push(entrant(&file, row));
    }
    distinct(&mut entrants);
    Ok((config(args.policy.as_deref())?, entrants))
}

fn entrant(file: &Path, row: usize) -> Entrant {
    Entrant {
        name: file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        file: file.to_owned(),
        row,
    }
}

/// Names that are met twice get numbers.
fn distinct(entrants: &mut [Entrant]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for entrant in entrants {
        let times = seen.entry(entrant.name.clone()).or_default();
        *times += 1;
        if *times > 1 {
            entrant.name = format!("{}#{times}", entrant.name);
        }
    }
}

/// `FILE` or `FILE@ROW`, the row counted from 1.
fn arrival(text: &str) -> Result<(PathBuf, usize), Failure> {
    match text.rsplit_once('@') {
        Some((file, row)) if !file.is_empty() && !row.is_empty() && row.bytes().all(|b| b.is_ascii_digit()) => {
            match row.parse::<usize>() {
                Ok(row) if row > 0 => Ok((file.into(), row - 1)),
                _ => Err(Failure::Usage(format!("'{text}': rows are counted from 1"))),
            }
        }
        _ => Ok((text.into(), 0)),
    }
}

/// A model's directory as it is served; everybody is there from the first row on.
fn served(directory: &Path, args: &ReplayArgs) -> Result<(ModelConfig, Vec<Entrant>), Failure> {
    if args.champion.is_some() || !args.challenger.is_empty() {
        return Err(Failure::Usage(
            "--models names all files: leave --champion and --challenger out".into(),
        ));
    }
    let contents = scan_dir(directory, MAX_BYTES).map_err(|e| Failure::failed(e.reason))?;
    let own = directory.join("model.toml");
    let config = match &args.policy {
        Some(policy) => config(Some(policy))?,
        None => ModelConfig::load(&own).map_err(|e| Failure::Config(e.to_string()))?,
    };
    let mut entrants: Vec<Entrant> = contents
        .versions
        .iter()
        .map(|version| Entrant {
            name: version.name.clone(),
            file: version.path.clone(),
            row: 0,
        })
        .collect();
    let first = match (&config.champion, entrants.as_slice()) {
        (Some(named), all) => all.iter().position(|entrant| entrant.name == *named),
        (None, [_]) => Some(0),
        (None, _) => None,
    };
    let Some(first) = first else {
        return Err(Failure::Config(format!(
            "{} does not say who is champion first: add the line champion = \"…\" with one of its versions",
            own.display()
        )));
    };
    entrants.swap(0, first);
    Ok((config, entrants))
}

/// Examines the files, reads the rows, and has everybody score them.
///
/// # Errors
/// Files that are refused, or rows that do not fit.
pub fn prepare(setup: &Setup) -> Result<Prepared, Failure> {
    let config = &setup.config;
    check_spans(setup)?;
    let workshop = Workshop::new().map_err(Failure::Failed)?;
    let bar = Progress::new("examining", setup.entrants.len() as u64);
    let mut made = Vec::new();
    for entrant in &setup.entrants {
        made.push(
            workshop
                .examine(&entrant.file, &entrant.name, config)
                .map_err(Failure::Failed)?,
        );
        bar.advance(1);
    }
    drop(bar);
    let names = header(&setup.rows)?;
    let carried = |feature: &str| names.iter().any(|name| name == feature);
    let (interface, layouts) = interface_of(&made, config, carried).map_err(Failure::Failed)?;
    let schema = schema(&interface);
    if !interface.is_features() {
        return Err(Failure::Failed(
            "rows of a file need named features: add features = [\"…\"], the columns in order, to the model.toml that \
             --policy names"
                .into(),
        ));
    }
    let table = Table::read(&setup.rows, |name| {
        name == setup.label || setup.time.as_deref() == Some(name) || schema.number(name).is_some()
    });
    let table = table.map_err(Failure::Failed)?;
    check_columns(&table, setup, &interface)?;
    let asked = asked(&table, setup, &made)?;
    let takes_missing = config.missing == Missing::Nan;
    let batches = table
        .batches(&schema, setup.skip, takes_missing)
        .map_err(Failure::Failed)?;
    let bar = Progress::new("scoring", (made.len() * asked.len()) as u64);
    let mut scores = Scores::default();
    for ((no, made), layout) in (0..).zip(&made).zip(&layouts) {
        let outcomes = workshop.score(made, layout, &batches, &bar).map_err(Failure::Failed)?;
        scores.insert(VersionNo(no), outcomes);
    }
    drop(bar);
    let head = made.first().map(|made| &made.head);
    if let Some(head) = head {
        policy::metric(config, head.task).map_err(Failure::Config)?;
    }
    let arrivals = (0..).zip(&setup.entrants).skip(1).map(|(no, entrant)| Arrival {
        version: VersionNo(no),
        row: entrant.row,
    });
    Ok(Prepared {
        names: (0..)
            .map(VersionNo)
            .zip(made.iter().map(|made| made.name.clone()))
            .collect(),
        plan: Plan {
            policy: policy::policy(config, head.and_then(|head| head.task)),
            // Rows of a file have no ids: none is drawn for a slice.
            closing: Closing {
                slice: None,
                ..policy::closing(config, head, &IdKey::new([0; 16]))
            },
            champion: VersionNo(0),
            room: usize::try_from(config.shadow.max_challengers).unwrap_or(usize::MAX),
            arrivals: arrivals.collect(),
        },
        asked,
        scores,
    })
}

/// Without request times no span of time passes.
fn check_spans(setup: &Setup) -> Result<(), Failure> {
    let policy = &setup.config.policy;
    let spans = [
        ("label.maturity", setup.config.label.maturity),
        ("policy.dwell", policy.dwell),
        ("policy.cooldown", policy.cooldown),
        ("policy.probation", policy.probation),
        ("policy.rollback_wait", policy.rollback_wait),
    ];
    let timed = spans.iter().find(|(_, span)| matches!(span, Span::Time(_)));
    match timed.filter(|_| setup.time.is_none()) {
        Some((name, span)) => Err(Failure::Usage(format!(
            "{name} is {span}, and rows without times have no time: say --time COLUMN, or --policy with a model.toml whose \
             spans are in rows (\"{} rows\")",
            if *name == "label.maturity" { 48 } else { 336 }
        ))),
        None => Ok(()),
    }
}

/// Names of the columns, without the rows.
fn header(path: &Path) -> Result<Vec<String>, Failure> {
    super::table::names(path).map_err(Failure::Failed)
}

fn check_columns(table: &Table, setup: &Setup, interface: &Interface) -> Result<(), Failure> {
    let has = |name: &str| table.column(name).is_some();
    let missing = |what: &str, name: &str| {
        let file = setup.rows.display();
        Err(Failure::Usage(format!(
            "{file} has no column '{name}': say {what} COLUMN; it has {}",
            table.names.join(", ")
        )))
    };
    if !has(&setup.label) {
        return missing("--label", &setup.label);
    }
    if let Some(time) = setup.time.as_deref().filter(|time| !has(time)) {
        return missing("--time", time);
    }
    let schema = schema(interface);
    if !schema.features().iter().any(|feature| has(&feature.name)) {
        return missing(
            "a file with the models' features as columns, not another",
            schema.features().first().map_or("", |f| &f.name),
        );
    }
    Ok(())
}

fn asked(table: &Table, setup: &Setup, made: &[Made]) -> Result<Vec<Asked>, Failure> {
    let head = made
        .first()
        .map(|made| &made.head)
        .ok_or_else(|| Failure::failed("there is no champion"))?;
    let labels = table.column(&setup.label).unwrap_or_default();
    let times = setup.time.as_deref().and_then(|name| table.column(name));
    let mut asked = Vec::new();
    for (index, label) in labels.iter().skip(setup.skip).enumerate() {
        let row = setup.skip + index + 1;
        let place = |why: String| Failure::Failed(format!("{}, row {row}: {why}", setup.rows.display()));
        let truth = label.label().map(|json| {
            // Text that reads as a number may be a name all the same.
            let text = || match label {
                Value::Text(text) => head.truth(&serde_json::Value::from(text.trim())).ok(),
                _ => None,
            };
            head.truth(&json).or_else(|why| text().ok_or(why))
        });
        let time_ms = match times.and_then(|times| times.get(row - 1)) {
            Some(value) => value.time_ms().ok_or_else(|| place(format!("{value:?} is no time")))?,
            None => 0,
        };
        let clock = Clock {
            row: index as u64 + 1,
            time_ms,
        };
        asked.push(Asked::new(index, clock, truth.transpose().map_err(place)?));
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_may_say_when_it_arrives() {
        assert_eq!(arrival("a/b.onnx").unwrap(), ("a/b.onnx".into(), 0));
        assert_eq!(arrival("a@b.onnx@12").unwrap(), ("a@b.onnx".into(), 11));
        assert_eq!(arrival("a@b.onnx").unwrap(), ("a@b.onnx".into(), 0));
        assert!(arrival("b.onnx@0").is_err());
        let mut same = vec![entrant(Path::new("x/a.onnx"), 0), entrant(Path::new("y/a.onnx"), 0)];
        distinct(&mut same);
        assert_eq!((same[0].name.as_str(), same[1].name.as_str()), ("a", "a#2"));
    }
}
