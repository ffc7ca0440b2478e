//! The file of API keys: a table for each, under its name. It holds hashes, and is read so that a secret that was put
//! there by mistake is not shown in a complaint.

use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

use super::fault::ConfigError;
use super::reader::{Section, read_quietly};
use super::value::{Value, choose, expected};
use crate::auth::Scope;

/// Each is looked for in a map: what bounds them is the file.
const MAX_KEYS: usize = 10_000;
const MAX_NAME: usize = 64;
/// The authors of what nobody ordered.
const RESERVED: [&str; 3] = ["judge", "monitor", "tripwire"];

/// One key.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyConfig {
    /// Whose it is.
    pub name: String,
    /// Hash of its secret.
    pub sha256: [u8; 32],
    /// What it allows.
    pub scopes: Vec<Scope>,
    /// For which models; `None`: for all.
    pub models: Option<Vec<String>>,
    /// Requests.
    pub requests: Allowance,
    /// Rows and labels.
    pub rows: Allowance,
    /// What was not asked for in this time may be asked for at once.
    pub burst: Duration,
}

/// How many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowance {
    /// A second.
    pub per_second: Option<f64>,
    /// A day, by UTC.
    pub per_day: Option<u64>,
}

struct Hash([u8; 32]);

impl Value for Hash {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        let rule = "must be the SHA-256 of a secret: 64 hexadecimal digits, as 'dethrone key new' prints them";
        let DeValue::String(text) = value else {
            return Err(expected("a string of 64 hexadecimal digits", value));
        };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes: Option<Vec<u8>> = pairs
            .iter()
            .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
            .collect();
        bytes
            .filter(|_| rest.is_empty())
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| rule.to_owned())
    }
}

struct One(Scope);

impl Value for One {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        choose(value, &Scope::ALL).map(Self)
    }
}

/// The keys of a file.
///
/// # Errors
/// It is not there, or all of its faults.
pub fn keys_of(path: &Path) -> Result<Vec<KeyConfig>, ConfigError> {
    let file = path.display().to_string();
    match super::text_of(path)? {
        Some(text) => parse(&file, &text),
        None => Err(ConfigError::one(
            &file,
            "does not exist: write it ('dethrone key new' makes its lines), or leave auth.keys out".into(),
        )),
    }
}

/// Whether a text could be such a file.
///
/// # Errors
/// All of its faults.
pub(crate) fn check_keys(text: &str) -> Result<(), ConfigError> {
    parse("the line", text).map(drop)
}

fn parse(file: &str, text: &str) -> Result<Vec<KeyConfig>, ConfigError> {
    read_quietly(file, text, |s| {
        let keys: Vec<KeyConfig> = s.tables(key);
        if keys.len() > MAX_KEYS {
            s.fault("", format!("{} keys: at most {MAX_KEYS}", keys.len()));
        }
        let mut sorted: Vec<&KeyConfig> = keys.iter().collect();
        sorted.sort_by_key(|key| key.sha256);
        for pair in sorted.windows(2) {
            if let [a, b] = pair
                && a.sha256 == b.sha256
                && a.sha256 != [0; 32]
            {
                s.fault(
                    &b.name,
                    format!("has the secret of '{}': give each key its own", a.name),
                );
            }
        }
        keys
    })
}

/// Whether a key may be called so. Names stand in logs, metrics and the ledger: none looks like a secret.
pub(super) fn is_key_name(name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    !name.is_empty() && name.len() <= MAX_NAME && name.chars().all(is_word) && !name.starts_with("dk_")
}

fn key(name: &str, s: &mut Section<'_>) -> KeyConfig {
    if !is_key_name(name) {
        s.fault(
            "",
            format!("a key has a name of 1 to {MAX_NAME} letters, digits, '-', '_', '.' and '@'"),
        );
    }
    if RESERVED.contains(&name) {
        s.fault(
            "",
            "is the author of what the gateway does by itself: choose another name",
        );
    }
    for needed in ["sha256", "scopes"] {
        if !s.has(needed) {
            s.fault(needed, "is missing: 'dethrone key new' prints a whole line");
        }
    }
    let sha256 = s.opt::<Hash>("sha256").map_or([0; 32], |hash| hash.0);
    let scopes = s.opt_if(
        "scopes",
        |scopes: &Vec<One>| !scopes.is_empty(),
        "must name at least one scope",
    );
    let models = s.opt_if(
        "models",
        |models: &Vec<String>| !models.is_empty(),
        "must name at least one model",
    );
    let rate = |rate: &f64| (0.001..=1e9).contains(rate);
    let rate_rule = "must be a number of them between 0.001 and 1000000000";
    let quota = |count: &u64| *count > 0;
    let quota_rule = "must be at least 1";
    let burst = |time: &Duration| (Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(time);
    KeyConfig {
        name: name.to_owned(),
        sha256,
        scopes: scopes.unwrap_or_default().into_iter().map(|one| one.0).collect(),
        models,
        requests: Allowance {
            per_second: s.opt_if("requests_per_second", rate, rate_rule),
            per_day: s.opt_if("requests_per_day", quota, quota_rule),
        },
        rows: Allowance {
            per_second: s.opt_if("rows_per_second", rate, rate_rule),
            per_day: s.opt_if("rows_per_day", quota, quota_rule),
        },
        burst: s.get_if("burst", Duration::from_secs(1), burst, "must lie between 1ms and 24h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    #[test]
    fn a_line_says_all_of_a_key() {
        let text = format!(
            "shop = {{ sha256 = \"{HASH}\", scopes = [\"predict\", \"feedback\"] }}\n\
             [\"ada@example.org\"]\nsha256 = \"{}\"\nscopes = [\"admin\"]\nmodels = [\"moons\"]\n\
             requests_per_second = 2.5\nrows_per_day = 1000\nburst = \"10s\"\n",
            HASH.replace('9', "8")
        );
        let keys = parse("keys.toml", &text).unwrap();
        assert_eq!(keys[0].name, "shop");
        assert_eq!(keys[0].sha256[..2], [0x9f, 0x86]);
        assert_eq!(keys[0].scopes, [Scope::Predict, Scope::Feedback]);
        assert_eq!(
            (keys[0].requests.per_second, keys[0].burst),
            (None, Duration::from_secs(1))
        );
        assert_eq!(keys[1].models.as_deref(), Some(&["moons".to_owned()][..]));
        assert_eq!(
            (keys[1].requests.per_second, keys[1].rows.per_day),
            (Some(2.5), Some(1_000))
        );
    }

    #[test]
    fn all_faults_are_told_with_their_lines_and_none_shows_what_may_be_a_secret() {
        let secret = "dk_QmFzZTY0IG9mIHNvbWUgc2VjcmV0IGJ5dGVz";
        let text = format!(
            "a = {{ sha256 = \"{secret}\", scopes = [\"predict\"] }}\n\
             b = {{ sha256 = \"{HASH}\", scopes = [\"{secret}\"] }}\n\
             c = {{ secret = \"{secret}\", scopes = [] }}\n\
             judge = {{ sha256 = \"{HASH}\", scopes = [\"read\"], models = [] }}\n\
             d = \"{secret}\"\n\
             e = {{ sha256 = \"{HASH}\", scopes = [\"read\"], rows_per_second = 0.0, burst = \"0s\" }}\n"
        );
        let error = parse("keys.toml", &text).unwrap_err();
        let said = error.to_string();
        assert!(!said.contains(secret) && !said.contains("QmFz"), "{said}");
        for (line, key) in [
            (1, "a.sha256"),
            (2, "b.scopes"),
            (3, "c.secret"),
            (3, "c.scopes"),
            (4, "judge"),
            (4, "judge.models"),
            (5, "d"),
            (6, "e.rows_per_second"),
            (6, "e.burst"),
        ] {
            let is_it = |fault: &&super::super::fault::Fault| fault.line == Some(line) && fault.key == key;
            assert!(error.faults.iter().any(|fault| is_it(&fault)), "{key}: {said}");
        }
        assert!(
            error
                .faults
                .iter()
                .any(|fault| fault.message.contains("has the secret of")),
            "{said}"
        );
        let broken = parse("keys.toml", &format!("a = {{ sha256 = \"{secret}"))
            .unwrap_err()
            .to_string();
        assert!(!broken.contains("QmFz"), "{broken}");
    }
}
