//! `dethrone promote|rollback|hold|resume|retire|approve`: a person's word, sent to the admin listener.

use clap::Args;
use serde::Serialize;

use super::{Failure, Target, answer_of, block_on};
use crate::protocol::Action;

/// Who wants what, and why: both are written into the ledger.
#[derive(Debug, Clone, Args)]
pub struct ActArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Version meant (`promote`, `retire`, `approve`; optional for `rollback`)
    #[arg(long)]
    pub version: Option<String>,
    /// Who says so
    #[arg(long, env = "USER", default_value = "unknown", hide_env_values = true)]
    pub author: String,
    /// Why; kept with the decision
    #[arg(long)]
    pub reason: String,
    /// Print the gateway's answer as it is
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Order<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    author: &'a str,
    reason: &'a str,
}

/// Sends the order and says what came of it.
///
/// # Errors
/// The version is missing, or the gateway refused.
pub fn run(action: Action, args: &ActArgs) -> Result<(), Failure> {
    if matches!(action, Action::Promote | Action::Retire | Action::Approve) && args.version.is_none() {
        return Err(Failure::Usage(format!("{} needs --version", action.name())));
    }
    block_on(async {
        let mut client = args.target.door.client()?;
        let model = args.target.model(&mut client).await?;
        let order = Order {
            version: args.version.as_deref(),
            author: &args.author,
            reason: &args.reason,
        };
        let path = format!("/api/models/{model}/{}", action.name());
        let body = answer_of(client.post_json(&path, &order).await?)?;
        if args.json {
            println!("{}", String::from_utf8_lossy(&body));
        } else {
            println!("{model}: {} done, {}", action.name(), outcome(&body));
        }
        Ok(())
    })
}

/// Says who is champion now, where the answer tells.
fn outcome(body: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    if let Some(approvals) = json.get("approvals") {
        let by = approvals.get("by").and_then(serde_json::Value::as_array);
        let names: Vec<&str> = by.into_iter().flatten().filter_map(serde_json::Value::as_str).collect();
        let needed = approvals.get("needed").and_then(serde_json::Value::as_u64).unwrap_or(0);
        return format!("approved by {} of {needed}: {}", names.len(), names.join(", "));
    }
    let champion = json.get("champion");
    let version = champion.and_then(|c| c.get("version").or(Some(c))?.as_str());
    version.map_or_else(|| "recorded".into(), |v| format!("the champion is {v}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_names_the_champion_when_the_answer_does() {
        assert_eq!(outcome(br#"{"champion":{"version":"e05"}}"#), "the champion is e05");
        assert_eq!(outcome(br#"{"champion":"e05"}"#), "the champion is e05");
        assert_eq!(outcome(b"{}"), "recorded");
    }
}
