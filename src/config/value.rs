//! Single values out of TOML or out of a flag: numbers, sizes, times, choices.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use crate::arena::SandboxPolicy;
use crate::span::Span;

/// A type that a TOML value can be read as. The error says what to write.
pub(super) trait Value: Sized {
    fn read(value: &DeValue<'_>) -> Result<Self, String>;
}

/// `must be a number, not a string`.
pub(super) fn expected(what: &str, value: &DeValue<'_>) -> String {
    let found = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("must be {what}, not {found}")
}

/// The nearest of `known` names, when it is near enough to be a slip.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|k| (k, strsim::jaro_winkler(name, k)))
        .filter(|(_, nearness)| *nearness >= 0.8)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(k, _)| k)
}

/// One of a few words.
pub(super) fn choose<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Result<T, String> {
    let names = || choices.iter().map(|(name, _)| *name);
    let all = || names().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
    let DeValue::String(word) = value else {
        return Err(expected(&format!("one of {}", all()), value));
    };
    if let Some((_, choice)) = choices.iter().find(|(name, _)| name == word) {
        return Ok(*choice);
    }
    let hint = nearest(word, names()).map_or_else(String::new, |n| format!("; did you mean \"{n}\"?"));
    Err(format!("must be one of {}{hint}", all()))
}

impl Value for String {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(text) if text.chars().any(char::is_control) => {
                Err("must not hold control characters".into())
            }
            DeValue::String(text) => Ok(text.to_string()),
            other => Err(expected("a string", other)),
        }
    }
}

impl Value for PathBuf {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match String::read(value)? {
            empty if empty.is_empty() => Err("must not be empty".into()),
            path => Ok(Self::from(path)),
        }
    }
}

impl Value for bool {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::Boolean(b) => Ok(*b),
            other => Err(expected("true or false", other)),
        }
    }
}

impl Value for f64 {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let number = match value {
            DeValue::Float(x) => x.as_str().parse::<Self>().ok(),
            // A decimal's digits are a float's too; other radixes make no sense for a share or a bound.
            DeValue::Integer(n) if n.radix() == 10 => n.as_str().parse::<Self>().ok(),
            other => return Err(expected("a number", other)),
        };
        number
            .filter(|x| x.is_finite())
            .ok_or_else(|| "must be a finite number".into())
    }
}

impl Value for u64 {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let DeValue::Integer(n) = value else {
            return Err(expected("a whole number", value));
        };
        Self::from_str_radix(n.as_str(), n.radix()).map_err(|_| "must be a whole number from 0 on".into())
    }
}

impl Value for Span {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(text) => text.parse(),
            other => Err(expected("a span such as \"24h\" or \"336 rows\"", other)),
        }
    }
}

impl Value for Duration {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(text) => duration(text),
            other => Err(expected("a time such as \"30s\"", other)),
        }
    }
}

impl Value for SocketAddr {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(text) => address(text),
            other => Err(expected("an address such as \"127.0.0.1:8080\"", other)),
        }
    }
}

impl<T: Value> Value for Vec<T> {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::Array(items) => items.iter().map(|item| T::read(item.get_ref())).collect(),
            other => Err(expected("a list", other)),
        }
    }
}

/// Anything, as JSON: what is only stored and shown.
impl Value for serde_json::Value {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        Ok(match value {
            DeValue::String(text) => Self::String(text.to_string()),
            DeValue::Boolean(b) => Self::Bool(*b),
            DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix())
                .map_err(|_| "must fit in 64 bits".to_owned())?
                .into(),
            DeValue::Float(_) => f64::read(value)?.into(),
            DeValue::Datetime(date) => Self::String(date.to_string()),
            DeValue::Array(items) => Self::Array(
                items
                    .iter()
                    .map(|item| Self::read(item.get_ref()))
                    .collect::<Result<_, _>>()?,
            ),
            DeValue::Table(table) => Self::Object(
                table
                    .iter()
                    .map(|(key, item)| Ok((key.get_ref().to_string(), Self::read(item.get_ref())?)))
                    .collect::<Result<_, String>>()?,
            ),
        })
    }
}

const POLICIES: [(&str, SandboxPolicy); 2] = [("require", SandboxPolicy::Require), ("prefer", SandboxPolicy::Prefer)];

impl Value for SandboxPolicy {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        choose(value, &POLICIES)
    }
}

/// The same from a flag.
pub(super) fn policy(text: &str) -> Result<SandboxPolicy, String> {
    choose(&DeValue::String(text.into()), &POLICIES)
}

/// A number of bytes: a whole number, or text with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) u64);

impl Value for Bytes {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::Integer(_) => u64::read(value).map(Self),
            DeValue::String(text) => bytes(text).map(Self),
            other => Err(expected("a size such as 1048576 or \"1MiB\"", other)),
        }
    }
}

/// `64MiB`, `1GB`, `4096`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a size: write bytes, or a number with kB, MB, GB, KiB, MiB or GiB");
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match text.get(digits.len()..).unwrap_or_default().trim() {
        "" | "B" => 1,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).ok_or_else(wrong)
}

/// A span that is a time.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match text.parse()? {
        Span::Time(time) => Ok(time),
        Span::Rows(_) => Err("must be a time such as \"30s\", not a number of rows".into()),
    }
}

/// An address with its port; names are not looked up, except that `localhost` is what it always is.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.trim()
        .replacen("localhost:", "127.0.0.1:", 1)
        .parse()
        .map_err(|_| format!("'{text}' is not an address: write one with its port, such as \"127.0.0.1:8080\""))
}
