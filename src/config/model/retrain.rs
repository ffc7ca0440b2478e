//! `[retrain]` of `model.toml`: when recorded rows leave to be learned from, which ones, and who is called.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use super::super::reader::Section;
use super::super::value::{Value, expected};
use super::MonitorConfig;
use crate::retrain::schedule::Schedule;
use crate::span::Span;

/// Words of a command at most, and their bytes.
const MAX_WORDS: usize = 64;
const MAX_WORD_BYTES: usize = 4_096;

/// What makes it time to retrain; nothing: only an order does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct When {
    /// The decay alarm is raised.
    pub decay: bool,
    /// The loss is expected to cross its limit within this span.
    pub forecast: Option<Span>,
    /// The alarm of a feature, or of the score, is raised.
    pub drift: bool,
    /// So many labelled rows have closed since the last time.
    pub labels: Option<u64>,
    /// At these times (UTC).
    pub schedule: Option<Schedule>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetrainConfig {
    /// What makes it time.
    pub when: When,
    /// Shortest span between two times; orders do not wait.
    pub cooldown: Span,
    /// Rows no older than this; `None`: all that are kept.
    pub window: Option<Span>,
    /// At most so many labelled rows, the latest.
    pub max_labels: u64,
    /// Rows that this version answered.
    pub version: Option<String>,
    /// Share of the rows.
    pub sample: f64,
    /// Directory of the exports; `None`: `retrain` in the state directory.
    pub to: Option<String>,
    /// Exports that are kept.
    pub keep: u64,
    /// Program and arguments; empty: nothing is run.
    pub command: Vec<String>,
    /// Longest time of the command.
    pub timeout: Duration,
}

impl Default for RetrainConfig {
    fn default() -> Self {
        Self {
            when: When::default(),
            cooldown: super::days(1),
            window: None,
            max_labels: 1_000_000,
            version: None,
            sample: 1.0,
            to: None,
            keep: 3,
            command: Vec::new(),
            timeout: Duration::from_secs(3_600),
        }
    }
}

pub(super) fn retrain(s: &mut Section<'_>, default: RetrainConfig, monitor: &MonitorConfig) -> RetrainConfig {
    let when = s.table("when", |s| when(s, default.when, monitor));
    let is_command = |words: &Vec<String>| {
        words.len() <= MAX_WORDS
            && words.first().is_none_or(|program| !program.is_empty())
            && words
                .iter()
                .all(|word| word.len() <= MAX_WORD_BYTES && !word.contains('\0'))
    };
    RetrainConfig {
        when,
        cooldown: s.get_if(
            "cooldown",
            default.cooldown,
            |span| !span.is_zero() && !matches!(span, Span::Time(time) if *time < Duration::from_secs(1)),
            "must be at least \"1s\" or \"1 row\"",
        ),
        window: s.opt_if("window", |span: &Span| !span.is_zero(), "must be longer than nothing"),
        max_labels: s.get_if(
            "max_labels",
            default.max_labels,
            |n| (1..=100_000_000).contains(n),
            "must lie between 1 and 100000000",
        ),
        version: s.opt_if("version", |name: &String| !name.is_empty(), "must not be empty"),
        sample: s.get_if(
            "sample",
            default.sample,
            |share| *share > 0.0 && *share <= 1.0,
            "must be greater than 0 and at most 1",
        ),
        to: s.opt_if(
            "to",
            |path: &String| !path.is_empty() && !path.contains('\0'),
            "must be a directory, absolute or beneath the state directory",
        ),
        keep: s.get_if(
            "keep",
            default.keep,
            |n| (1..=1_000).contains(n),
            "must lie between 1 and 1000",
        ),
        command: s.get_if(
            "command",
            default.command,
            is_command,
            &format!("must be a program and its arguments, at most {MAX_WORDS} words, for example [\"python3\", \"train.py\", \"{{path}}\"]"),
        ),
        timeout: s.get_if(
            "timeout",
            default.timeout,
            |time| (Duration::from_secs(1)..=Duration::from_secs(7 * 86_400)).contains(time),
            "must lie between 1s and 7d",
        ),
    }
}

fn when(s: &mut Section<'_>, default: When, monitor: &MonitorConfig) -> When {
    let when = When {
        decay: s.get("decay", default.decay),
        forecast: s.opt_if("forecast", |span: &Span| !span.is_zero(), "must be longer than nothing"),
        drift: s.get("drift", default.drift),
        labels: s.opt_if(
            "labels",
            |n| (1..=1_000_000_000).contains(n),
            "must lie between 1 and 1000000000",
        ),
        schedule: s.opt("schedule"),
    };
    if !monitor.on {
        let watched = [
            ("decay", when.decay),
            ("forecast", when.forecast.is_some()),
            ("drift", when.drift),
        ];
        for (key, is_set) in watched {
            if is_set {
                s.fault(
                    key,
                    "is seen by the monitor, which is off: set monitor.mode = \"on\", or remove it",
                );
            }
        }
    }
    when
}

impl Value for Schedule {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(text) => text.parse(),
            other => Err(expected("a schedule such as \"0 3 * * sun\"", other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    #[test]
    fn every_key_is_read_and_what_it_cannot_be_is_said() {
        let read = |text: &str| ModelConfig::parse("model.toml", text).map_err(|e| e.to_string());
        assert_eq!(read("").unwrap().retrain, RetrainConfig::default());
        let set = read(
            "[retrain]\nwhen = { decay = true, forecast = \"336 rows\", drift = true, labels = 500, schedule = \"0 3 * * sun\" }\n\
             cooldown = \"48 rows\"\nwindow = \"30d\"\nmax_labels = 9\nversion = \"a\"\nsample = 0.5\nto = \"/else where\"\n\
             keep = 1\ncommand = [\"train\", \"{path}\"]\ntimeout = \"90s\"\n",
        )
        .unwrap()
        .retrain;
        assert!(set.when.decay && set.when.drift && set.when.labels == Some(500));
        assert_eq!(set.when.forecast, Some(Span::Rows(336)));
        assert_eq!(set.when.schedule.as_ref().map(Schedule::text), Some("0 3 * * sun"));
        assert_eq!((set.cooldown, set.keep, set.timeout.as_secs()), (Span::Rows(48), 1, 90));
        assert_eq!(set.command, ["train", "{path}"]);
        let again: RetrainConfig = serde_json::from_str(&serde_json::to_string(&set).unwrap()).unwrap();
        assert_eq!(again, set);
        for (text, says) in [
            ("when = { decya = true }", "did you mean \"decay\"?"),
            ("when = \"decay\"", "must be a table"),
            ("when = { decay = \"yes\" }", "true or false"),
            ("when = { labels = 0 }", "between 1 and 1000000000"),
            ("when = { forecast = \"0s\" }", "longer than nothing"),
            ("when = { schedule = \"0 3 * *\" }", "five fields"),
            ("when = { schedule = \"0 25 * * *\" }", "hour"),
            ("when = { schedule = \"0 0 30 2 *\" }", "never comes"),
            ("when = { schedule = 5 }", "a schedule such as"),
            ("cooldwn = \"1h\"", "did you mean \"cooldown\"?"),
            ("cooldown = \"0s\"", "at least \"1s\""),
            ("cooldown = \"20ms\"", "at least \"1s\""),
            ("command = \"train\"", "a list"),
            ("command = [\"\"]", "a program and its arguments"),
            ("timeout = \"10 rows\"", "not a number of rows"),
            ("keep = 0", "between 1 and 1000"),
            ("sample = 0.0", "greater than 0"),
            ("window = \"0 rows\"", "longer than nothing"),
        ] {
            let error = read(&format!("[retrain]\n{text}\n")).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        let off = read("[monitor]\nmode = \"off\"\n[retrain]\nwhen = { drift = true, labels = 5 }\n").unwrap_err();
        assert!(
            off.contains("retrain.when.drift") && off.contains("monitor.mode"),
            "{off}"
        );
    }
}
