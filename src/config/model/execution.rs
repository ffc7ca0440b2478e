//! `[execution]` of `model.toml`: how a version computes inside the gateway.
//!
//! Admission and a shadow's runner go by none of it: they have one session on one thread of the processor, because a
//! shadow must not take what requests need.

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use super::super::reader::Section;
use super::super::value::{Value, choose, expected};
use crate::model::session::{Optimization, Provider, SessionOptions};

/// Where runs take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExecutionMode {
    /// By what was measured at load.
    #[default]
    Auto,
    /// On the threads that serve requests.
    Inline,
    /// On threads of the version's own.
    Threads,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecutionConfig {
    /// Threads, optimisation and providers of a session.
    pub options: SessionOptions,
    /// Most rows of requests that share a run; 1: none is shared.
    pub max_batch: usize,
    /// Sessions of a version; `None`: one per worker, fewer where its weights are large and cannot be shared.
    pub sessions: Option<usize>,
    /// Where runs take place.
    pub mode: ExecutionMode,
}

impl Default for ExecutionConfig {
    fn default() -> Self {
        Self {
            options: SessionOptions::default(),
            max_batch: 64,
            sessions: None,
            mode: ExecutionMode::Auto,
        }
    }
}

pub(super) fn execution(s: &mut Section<'_>, default: ExecutionConfig) -> ExecutionConfig {
    let options = SessionOptions {
        threads: number(s, "threads", default.options.threads, 256),
        optimization: s.get("optimization", default.options.optimization),
        providers: s.get_if(
            "providers",
            default.options.providers,
            |list: &Vec<Provider>| !list.is_empty(),
            "must name at least one provider, such as [\"cpu\"]",
        ),
    };
    ExecutionConfig {
        options,
        max_batch: number(s, "max_batch", default.max_batch, 65_536),
        sessions: s
            .opt_if(
                "sessions",
                |sessions: &Sessions| sessions.0.is_none_or(|n| (1..=1_024).contains(&n)),
                "must be \"auto\" or lie between 1 and 1024",
            )
            .and_then(|sessions| sessions.0),
        mode: s.get("mode", default.mode),
    }
}

fn number(s: &mut Section<'_>, key: &'static str, default: usize, most: u64) -> usize {
    let rule = format!("must lie between 1 and {most}");
    let read = s.opt_if(key, |n: &u64| (1..=most).contains(n), &rule);
    read.and_then(|n| usize::try_from(n).ok()).unwrap_or(default)
}

/// A number, or `auto`.
struct Sessions(Option<usize>);

impl Value for Sessions {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(word) if word == "auto" => Ok(Self(None)),
            DeValue::Integer(_) => Ok(Self(Some(usize::try_from(u64::read(value)?).unwrap_or(usize::MAX)))),
            other => Err(expected("\"auto\" or a whole number", other)),
        }
    }
}

impl Value for ExecutionMode {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        choose(
            value,
            &[
                ("auto", Self::Auto),
                ("inline", Self::Inline),
                ("threads", Self::Threads),
            ],
        )
    }
}

impl Value for Optimization {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let choices = [
            ("none", Self::None),
            ("basic", Self::Basic),
            ("extended", Self::Extended),
            ("all", Self::All),
        ];
        choose(value, &choices)
    }
}

impl Value for Provider {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let choices = [
            ("cpu", Self::Cpu),
            ("cuda", Self::Cuda),
            ("tensorrt", Self::Tensorrt),
            ("openvino", Self::Openvino),
        ];
        choose(value, &choices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    #[test]
    fn every_key_is_read_and_what_it_cannot_be_is_said() {
        let text = "[execution]\nthreads = 2\noptimization = \"basic\"\nproviders = [\"cuda\", \"cpu\"]\nmax_batch = 1\n\
                    sessions = 3\nmode = \"threads\"\n";
        let read = ModelConfig::parse("model.toml", text).unwrap().execution;
        let expected = ExecutionConfig {
            options: SessionOptions {
                threads: 2,
                optimization: Optimization::Basic,
                providers: vec![Provider::Cuda, Provider::Cpu],
            },
            max_batch: 1,
            sessions: Some(3),
            mode: ExecutionMode::Threads,
        };
        assert_eq!(read, expected);
        let auto = ModelConfig::parse("model.toml", "execution.sessions = \"auto\"").unwrap();
        assert_eq!(auto.execution, ExecutionConfig::default());
        for (line, says) in [
            ("threads = 0", "must lie between 1 and 256"),
            (
                "optimization = \"fast\"",
                "must be one of \"none\", \"basic\", \"extended\", \"all\"",
            ),
            ("providers = [\"gpu\"]", "must be one of \"cpu\", \"cuda\""),
            ("providers = []", "must name at least one provider"),
            ("max_batch = 100000", "must lie between 1 and 65536"),
            ("sessions = \"many\"", "must be \"auto\" or a whole number"),
            ("mode = \"batch\"", "must be one of \"auto\", \"inline\", \"threads\""),
            ("thread = 2", "did you mean \"threads\"?"),
        ] {
            let error = ModelConfig::parse("model.toml", &format!("[execution]\n{line}\n")).unwrap_err();
            assert!(error.to_string().contains(says), "{line}: {error}");
        }
    }
}
