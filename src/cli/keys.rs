//! `dethrone rotate-key`: ids are issued under a new key, by a running gateway or in its state directory while it is down.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::{Failure, answer_of, block_on, parse};
use crate::config::ModelConfig;
use crate::id::{IdKey, time_of};
use crate::ledger::{Ledger, LedgerError, StateLock};
use crate::span::Span;
use crate::time::{now_ms, rfc3339};

/// `dethrone rotate-key`.
#[derive(Debug, Clone, Args)]
pub struct RotateKeyArgs {
    #[command(flatten)]
    pub(crate) door: super::Door,
    /// State directory of a gateway that is not running, instead of --admin
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Who says so
    #[arg(long, env = "USER", default_value = "unknown", hide_env_values = true)]
    pub author: String,
    /// Why; written into the gateway's log
    #[arg(long)]
    pub reason: String,
    /// Even where labels may still come for ids that are refused from then on
    #[arg(long)]
    pub force: bool,
}

#[derive(Serialize)]
struct Order<'a> {
    author: &'a str,
    reason: &'a str,
    force: bool,
}

/// Rotates the key and says what holds from now on.
///
/// # Errors
/// Refused, or the gateway, or the file, does not answer.
pub fn rotate(args: &RotateKeyArgs) -> Result<(), Failure> {
    let (generation, until) = match &args.state {
        Some(state) => at_rest(state, args.force)?,
        None => running(args)?,
    };
    println!("ids are issued under key {generation} from now on");
    if let Some(until) = until {
        println!("those of the key before it, issued until {until}, are taken until their label horizon");
    }
    Ok(())
}

fn running(args: &RotateKeyArgs) -> Result<(u64, Option<String>), Failure> {
    block_on(async {
        let mut client = args.door.client()?;
        let order = Order {
            author: &args.author,
            reason: &args.reason,
            force: args.force,
        };
        let body = answer_of(client.post_json("/api/rotate-key", &order).await?)?;
        let told: Value = parse(&body)?;
        let text = told.get("former_issued_until").and_then(Value::as_str);
        let generation = told.get("generation").and_then(Value::as_u64).unwrap_or(0);
        Ok((generation, text.map(str::to_owned)))
    })
}

fn at_rest(state: &Path, force: bool) -> Result<(u64, Option<String>), Failure> {
    let path = state.join("ids.key");
    if !path.exists() {
        let text = format!(
            "{} does not exist: is this a gateway's state directory?",
            path.display()
        );
        return Err(Failure::Failed(text));
    }
    let _lock = StateLock::take(state).map_err(|error| match error {
        LedgerError::Locked(_) => Failure::Failed(format!(
            "{} is in use by a gateway: leave --state out, and give its admin listener with --admin",
            state.display()
        )),
        error => Failure::failed(error),
    })?;
    let key = IdKey::load(&path).map_err(Failure::failed)?;
    let (last_ms, open_ms) = issued(state).map_err(Failure::failed)?;
    let generation = key
        .rotate(&path, (now_ms(), last_ms), open_ms, force)
        .map_err(Failure::failed)?;
    Ok((u64::from(generation.number), generation.former_until_ms.map(rfc3339)))
}

/// Up to when ids are recorded, and how long they may be labelled.
fn issued(state: &Path) -> Result<(i64, i64), LedgerError> {
    if !state.join("ledger.sqlite").exists() {
        return Ok((0, 0));
    }
    let ledger = Ledger::open_to_read(state)?;
    let reader = ledger.reader();
    let mut open_ms = 0;
    for name in reader.model_names()? {
        let settings = reader.known_model(&name)?.and_then(|row| row.settings);
        let config = settings.and_then(|text| ModelConfig::parse("model.toml", &text).ok());
        open_ms = open_ms.max(match config.unwrap_or_default().label.horizon {
            Span::Time(time) => i64::try_from(time.as_millis()).unwrap_or(i64::MAX),
            Span::Rows(_) => i64::MAX,
        });
    }
    Ok((time_of(reader.last_id()?), open_ms))
}
