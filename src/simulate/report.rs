//! The tables: Markdown for people, JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::null::{Many, Null};
use super::power::{Change, Effect};
use super::share::Share;

/// Everything that was counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Seed of every stream.
    pub seed: u64,
    /// Runs of each null.
    pub runs: u64,
    /// Labels of each run of a null.
    pub labels: u64,
    /// Nulls, the promised ones first.
    pub nulls: Vec<Null>,
    /// Several challengers.
    pub many: Vec<Many>,
    /// Labels that an effect needs.
    pub effects: Vec<Effect>,
    /// Labels after a change.
    pub changes: Vec<Change>,
}

impl Report {
    /// What breaks a promise: a rate that lies above what is allowed with its whole interval, or more labels than
    /// allowed with the whole interval of their median.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |name: &str, rule: &str, share: &Share, most: f64| {
            if share.interval[0] > most {
                faults.push(format!(
                    "{name}, {rule}: {} of {}, allowed {most}",
                    share.hits, share.of
                ));
            }
        };
        for null in self.nulls.iter().filter(|null| null.promised) {
            check(&null.name, "bar 20", &null.bar_20, 0.05);
            check(&null.name, "bar 200", &null.bar_200, 0.005);
            check(&null.name, "the whole rule", &null.whole, 0.01);
        }
        for many in &self.many {
            let name = format!("{} challengers", many.challengers);
            check(&name, "alpha .05", &many.corrected, 0.05);
            check(&name, "alpha .01", &many.default, 0.01);
        }
        let slow = self.effects.iter().filter(|effect| effect.interval[0] > effect.at_most);
        faults.extend(slow.map(|e| {
            let [low, high] = e.interval;
            format!(
                "{}: {:.2} ({low:.2}–{high:.2}) times n80, allowed {:.2}",
                e.name, e.ratio, e.at_most
            )
        }));
        faults
    }

    /// The tables.
    #[must_use]
    pub fn markdown(&self) -> String {
        let Self { seed, runs, labels, .. } = self;
        let mut out = format!(
            "# What the rule promises, counted\n\n\
             Written by `dethrone simulate --runs {runs} --seed {seed} --markdown FILE`: {runs} runs of {labels} labels for each\n\
             row of the first two tables, everything drawn from the seed. Rates stand with their exact 95 % interval (Clopper\n\
             and Pearson). \"Bar 20\" and \"bar 200\" are the bare test of the first challenger at alpha .1 and at the default\n\
             alpha, .01, looked at after every label; \"whole rule\" waits as the defaults do, with a day of 2,000 labels.\n\n\
             ## A champion that nobody beats is displaced\n\n\
             Allowed are .05 at bar 20, .005 at bar 200 and .01 for the whole rule.\n\n\
             | nobody is better | bar 20 | bar 200 | whole rule |\n|---|---|---|---|\n"
        );
        let row = |out: &mut String, null: &Null| {
            // Writing to a string cannot fail.
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} |",
                null.name,
                shown(&null.bar_20),
                shown(&null.bar_200),
                shown(&null.whole)
            );
        };
        self.nulls
            .iter()
            .filter(|null| null.promised)
            .for_each(|null| row(&mut out, null));
        out += "\nOutside the promise. In the first two the challenger *is* better for half of each day, which the bare test\n\
                finds and `dwell` guards against; the others feed the test what it must not be fed, and are why entities are\n\
                averaged and rows fold in request order after maturity.\n\n\
                | outside | bar 20 | bar 200 | whole rule |\n|---|---|---|---|\n";
        self.nulls
            .iter()
            .filter(|null| !null.promised)
            .for_each(|null| row(&mut out, null));
        out += "\nSeveral challengers, all equal to the champion and sharing its errors; any of them wins. Allowed are .05 and\n\
                .01; without correction every challenger has bar 40 for itself.\n\n\
                | challengers | no correction | bars j(j+1)/.05 | bars j(j+1)/.01 |\n|---|---|---|---|\n";
        for many in &self.many {
            let _ = writeln!(
                out,
                "| {} | {} | {} | {} |",
                many.challengers,
                shown(&many.uncorrected),
                shown(&many.corrected),
                shown(&many.default)
            );
        }
        out += "\n## A better challenger wins\n\n\
                Labels until half, eight and nine of ten runs have won. n80 is what a test of fixed size needs at the same\n\
                error rate (.05, and .005 beside bar 200) for 80 % power, told effect and variance beforehand and looking once.\n\
                The ratio of the median to n80, with its 95 % interval, may be 1.1 times that of the reference, which rests on\n\
                300 runs, in the first row on 120.\n\n\
                | loss, effect | n80 | median | 80 % | 90 % | ratio | allowed | n80 at .005 | median at bar 200 | 80 % | 90 % |\n\
                |---|---|---|---|---|---|---|---|---|---|---|\n";
        for effect in &self.effects {
            let _ = writeln!(
                out,
                "| {} | {:.0} | {} | {} | {} | {:.2} ({:.2}–{:.2}) | {:.2} | {:.0} | {} | {} | {} |",
                effect.name,
                effect.n80,
                number(effect.bar_20.median),
                number(effect.bar_20.p80),
                number(effect.bar_20.p90),
                effect.ratio,
                effect.interval[0],
                effect.interval[1],
                effect.at_most,
                effect.n80_at_200,
                number(effect.bar_200.median),
                number(effect.bar_200.p80),
                number(effect.bar_200.p90)
            );
        }
        out += "\n## A challenger becomes better at label 10,000\n\n\
                0/1 loss, disagree .12. Median labels after the change, of the runs that had not won before it.\n\n\
                | before → after | n80, told when | bar 20 | bar 200 | at bar 20 before |\n|---|---|---|---|---|\n";
        for change in &self.changes {
            let _ = writeln!(
                out,
                "| {} | {:.0} | {} | {} | {:.3} |",
                change.name,
                change.n80,
                number(change.bar_20),
                number(change.bar_200),
                change.before
            );
        }
        let faults = self.faults();
        if faults.is_empty() {
            out += "\nEverything that is promised held.\n";
        } else {
            let _ = writeln!(out, "\n**Not held:** {}", faults.join("; "));
        }
        out
    }
}

fn shown(share: &Share) -> String {
    format!(
        "{:.4} ({:.4}–{:.4})",
        share.rate(),
        share.interval[0],
        share.interval[1]
    )
}

fn number(labels: Option<u64>) -> String {
    labels.map_or_else(|| "never".into(), |n| n.to_string())
}
