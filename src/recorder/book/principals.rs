//! What is shown of the API keys that report labels.

use serde_json::{Value, json};

use crate::judge::pair::{MANY, Reporter, Shares};
use crate::judge::policy::Policy;

/// Keys that are named.
const MOST: usize = 20;

/// The keys with most labels, in this tenure's evidence.
pub(super) fn show(shares: &Shares, policy: &Policy) -> Value {
    let all = sorted(shares, |reporter| reporter.taken.saturating_add(reporter.refused));
    let named = all.iter().take(MOST);
    let named = named.map(|one| json!({"key": one.key, "evidence": one.taken, "over_share": one.refused}));
    json!({
        "reported": all.len(),
        "share": policy.principal_share,
        "limited": shares.is_limiting(policy),
        "limited_from": MANY,
        "trusted": policy.trusted,
        "most": named.collect::<Vec<_>>(),
    })
}

/// Said where labels are left out.
pub(super) fn warning(shares: &Shares, policy: &Policy) -> Option<String> {
    let refused = sorted(shares, |reporter| reporter.refused);
    let most = refused.first().filter(|reporter| reporter.refused > 0)?;
    let (key, own, all) = (most.key, most.refused, shares.refused());
    Some(format!(
        "{all} labels are no evidence, {own} of them of the key '{key}': no key makes up more than {} % of it \
         (label.principal_share); one that reports for many belongs into label.trusted",
        (policy.principal_share * 1e5).round() / 1e3
    ))
}

fn sorted<'a>(shares: &'a Shares, by: impl Fn(&Reporter<'a>) -> u64) -> Vec<Reporter<'a>> {
    let mut all: Vec<Reporter<'a>> = shares.reporters().collect();
    all.sort_by_key(|reporter| std::cmp::Reverse(by(reporter)));
    all
}
