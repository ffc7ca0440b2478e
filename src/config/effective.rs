//! Settings as they are in force: each key with its value and where that came from.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value as Json;

use crate::arena::SandboxPolicy;
use crate::span::Span;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// A line of the settings file.
    File(usize),
    /// This variable of the environment.
    Variable(String),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(line) => write!(f, "file, line {line}"),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One key in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// With its table: `runner.memory_bytes`.
    pub key: String,
    /// As it would stand in the file; null where nothing is set.
    pub value: Json,
    /// Where from.
    pub source: Source,
}

/// A value as it would stand in the file: JSON's numbers, strings and booleans are TOML's too.
pub(super) trait Shown {
    fn shown(&self) -> Json;
}

impl Shown for u64 {
    fn shown(&self) -> Json {
        (*self).into()
    }
}

impl Shown for f64 {
    fn shown(&self) -> Json {
        (*self).into()
    }
}

impl Shown for bool {
    fn shown(&self) -> Json {
        (*self).into()
    }
}

impl Shown for String {
    fn shown(&self) -> Json {
        self.as_str().into()
    }
}

impl Shown for PathBuf {
    fn shown(&self) -> Json {
        self.to_string_lossy().into()
    }
}

impl Shown for SocketAddr {
    fn shown(&self) -> Json {
        self.to_string().into()
    }
}

impl Shown for Duration {
    fn shown(&self) -> Json {
        Span::Time(*self).to_string().into()
    }
}

impl Shown for SandboxPolicy {
    fn shown(&self) -> Json {
        self.name().into()
    }
}

impl<T: Shown> Shown for Vec<T> {
    fn shown(&self) -> Json {
        self.iter().map(Shown::shown).collect()
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> Json {
        self.as_ref().map_or(Json::Null, Shown::shown)
    }
}
