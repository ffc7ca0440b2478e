//! `dethrone simulate`: the promise counted on streams of chance, by the real test, judge and policy.
//!
//! Always holds: the same seed gives the same table, on however many cores; what lies outside the promise is counted and
//! listed as well; a promise that is broken by more than chance explains ends the command with exit code 1.
#![doc = ""]
#![doc = include_str!("simulate/RESULTS.md")]

pub mod null;
pub mod power;
pub mod random;
pub mod report;
pub mod runs;
pub mod share;
pub mod source;

use std::path::PathBuf;

use clap::Args;

use crate::cli::Failure;
use crate::replay::progress::Progress;
use report::Report;

/// Labels of each run of a null.
const LABELS: u64 = 20_000;

/// `dethrone simulate`.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// Runs of each experiment
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
    pub runs: u64,
    /// The same seed gives the same table
    #[arg(long, value_name = "S", default_value_t = 20_260)]
    pub seed: u64,
    /// Write the tables as Markdown
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// One line of JSON instead of the tables
    #[arg(long)]
    pub json: bool,
}

/// Counts, and shows.
///
/// # Errors
/// A promise does not hold, or the file cannot be written.
pub fn run(args: &SimulateArgs) -> Result<(), Failure> {
    let bar = Progress::new("simulating", 18 + 4 + 17 + 6);
    let report = count(args.seed, args.runs, LABELS, false, || bar.advance(1));
    drop(bar);
    if let Some(file) = &args.markdown {
        let written = std::fs::write(file, report.markdown());
        written.map_err(|e| Failure::Failed(format!("cannot write {}: {e}", file.display())))?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&report).map_err(Failure::failed)?);
    } else {
        print!("{}", report.markdown());
    }
    match report.faults() {
        faults if faults.is_empty() => Ok(()),
        faults => Err(Failure::Failed(format!(
            "the promise does not hold: {}",
            faults.join("; ")
        ))),
    }
}

/// Counts everything; `short` only what is quick. `each` hears of every experiment.
pub fn count(seed: u64, runs: u64, labels: u64, short: bool, each: impl Fn()) -> Report {
    Report {
        seed,
        runs,
        labels,
        nulls: null::count(seed, runs, labels, &each),
        // Twenty challengers at once take their time.
        many: null::many(seed, runs, if short { labels / 5 } else { labels }, &each),
        effects: power::count(seed, runs, short, &each),
        changes: if short {
            Vec::new()
        } else {
            power::changes(seed, runs, &each)
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn within_the_promise_no_more_than_alpha_wins_outside_it_more_and_a_better_one_as_soon_as_it_may_take() {
        let report = count(20_260, 150, 2_500, true, || ());
        assert_eq!(report.faults(), Vec::<String>::new(), "{}", report.markdown());
        let of = |start: &str| {
            let found = report.nulls.iter().find(|null| null.name.starts_with(start));
            found.unwrap_or_else(|| panic!("{start}"))
        };
        // A test that never errs does not bet, and one that cannot be misled is not looked at.
        assert!(report.nulls.iter().filter(|n| n.promised).any(|n| n.bar_20.hits > 0));
        for outside in [
            "each label 10 times, folded row by row",
            "positives' labels early, folded as they arrive",
        ] {
            assert!(
                !of(outside).promised && of(outside).bar_20.interval[0] > 0.05,
                "{:?}",
                of(outside)
            );
        }
        assert!(of("each label 10 times, averaged").bar_20.hits < of("each label 10 times, folded").bar_20.hits);
        assert!(report.many[3].uncorrected.hits > report.many[3].corrected.hits);
        assert!(report.effects.len() >= 3 && report.effects.iter().all(|e| e.bar_200.median > e.bar_20.median));
    }

    #[test]
    fn a_broken_rule_is_named() {
        let mut report = count(1, 10, 50, true, || ());
        report.effects.clear();
        assert_eq!(report.faults(), Vec::<String>::new());
        report.nulls[0].bar_20 = share::Share::new(90, 1_000);
        report.many[1].default = share::Share::new(50, 1_000);
        let faults = report.faults().join("\n");
        assert!(
            faults.contains(&report.nulls[0].name) && faults.contains("3 challengers"),
            "{faults}"
        );
        assert!(report.markdown().contains("Not held"));
    }

    #[test]
    fn the_same_seed_gives_the_same_table() {
        let of = |seed| count(seed, 12, 300, true, || ()).markdown();
        assert_eq!(of(5), of(5));
        assert_ne!(of(5), of(6));
    }
}
