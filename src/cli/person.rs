//! `dethrone show` and `dethrone erase`: what is held on somebody, and how it goes.

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::shown::{as_json, plain};
use super::{Failure, Target, answer_of, block_on, parse};

/// `dethrone show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// A prediction id, or an id of the caller's own
    #[arg(required_unless_present = "entity", conflicts_with = "entity")]
    pub id: Option<String>,
    /// All rows of this entity
    #[arg(long)]
    pub entity: Option<String>,
    /// Print the gateway's answer as it is, on one line
    #[arg(long)]
    pub json: bool,
}

/// `dethrone erase`.
#[derive(Debug, Clone, Args)]
pub struct EraseArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Prediction ids, or ids of the caller's own
    #[arg(required_unless_present = "entity")]
    pub ids: Vec<String>,
    /// All rows of this entity
    #[arg(long)]
    pub entity: Vec<String>,
    /// Who says so
    #[arg(long, env = "USER", default_value = "unknown", hide_env_values = true)]
    pub author: String,
    /// Why; kept with the numbers of the rows
    #[arg(long)]
    pub reason: String,
    /// Print the gateway's answer as it is
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Order<'a> {
    ids: &'a [String],
    entities: &'a [String],
    author: &'a str,
    reason: &'a str,
}

/// Prints all that is held.
///
/// # Errors
/// The gateway does not answer, or holds nothing.
pub fn show(args: &ShowArgs) -> Result<(), Failure> {
    block_on(async {
        let mut client = args.target.door.client()?;
        let model = args.target.model(&mut client).await?;
        let path = match (&args.id, &args.entity) {
            (_, Some(entity)) => format!("/api/models/{model}/entities/{}", encoded(entity)),
            (Some(id), None) => format!("/api/models/{model}/rows/{}", encoded(id)),
            (None, None) => return Err(Failure::Usage("say which row: an ID, or --entity".into())),
        };
        let body = answer_of(client.get(&path).await?)?;
        if args.json {
            println!("{}", as_json(&String::from_utf8_lossy(&body)));
            return Ok(());
        }
        let shown: Value = parse(&body)?;
        let rows = shown
            .get("rows")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        for row in rows {
            println!("{}", as_json(&serde_json::to_string_pretty(row).unwrap_or_default()));
        }
        if shown.get("more") == Some(&Value::Bool(true)) {
            eprintln!("there are more rows than these {}", rows.len());
        }
        Ok(())
    })
}

/// Sends the order and says what came of it.
///
/// # Errors
/// The gateway refused.
pub fn erase(args: &EraseArgs) -> Result<(), Failure> {
    block_on(async {
        let mut client = args.target.door.client()?;
        let model = args.target.model(&mut client).await?;
        let order = Order {
            ids: &args.ids,
            entities: &args.entity,
            author: &args.author,
            reason: &args.reason,
        };
        let body = answer_of(client.post_json(&format!("/api/models/{model}/erase"), &order).await?)?;
        if args.json {
            println!("{}", String::from_utf8_lossy(&body));
            return Ok(());
        }
        let done: Value = parse(&body)?;
        println!("{model}: {} rows erased", done.get("erased").unwrap_or(&Value::Null));
        for export in done.get("exports").and_then(Value::as_array).into_iter().flatten() {
            let word = |key: &str| plain(export.get(key).and_then(Value::as_str).unwrap_or("?"));
            let rows = export.get("rows").and_then(Value::as_u64).unwrap_or(0);
            let what = match export.get("deleted").and_then(Value::as_str) {
                Some(at) => format!(
                    "were also in the export of {} by {}, deleted at {}",
                    word("time"),
                    word("author"),
                    plain(at)
                ),
                None => format!(
                    "are also in the export of {} by {}, in {}: delete it, or export anew",
                    word("time"),
                    word("author"),
                    word("path")
                ),
            };
            println!("{rows} of them {what}");
        }
        if let Some(note) = done.get("note").and_then(Value::as_str) {
            println!("{note}");
        }
        Ok(())
    })
}

/// A name as a segment of a path.
pub(super) fn encoded(name: &str) -> String {
    let mut path = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    #[test]
    fn any_name_is_one_segment_of_a_path() {
        assert_eq!(super::encoded("p1_0a.3"), "p1_0a.3");
        assert_eq!(super::encoded("a/b ä?"), "a%2Fb%20%C3%A4%3F");
    }
}
