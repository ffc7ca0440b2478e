//! One key's part of the evidence: whoever reports labels must not crown a model alone.
//!
//! Each API key has an allowance of weight. It is full at first (`principal_share` of `min_labels`, and at least one whole
//! label), every label that is taken costs its weight, and every label of others fills it by `s / (1 - s)` of theirs. So
//! over any stretch of labels no key has more than `principal_share` of the weight, and its first allowance besides. A label
//! for which nothing is left is no evidence: it makes no pair and is counted nowhere, so that many labels of one key bring
//! neither `min_labels` nor a class nearer.
//!
//! Fewer than [`MANY`] keys cannot each have less than a twentieth: until so many have reported in the era nobody is
//! limited. Trusted keys never are, nor labels without a key, which are those of a gateway that asks nobody for one; both
//! fill the allowances of the others.
//!
//! Always holds: which labels are taken depends on what was folded before and on who reports, so that the test's promise
//! stands; the same rows give the same answer, bit for bit; so many keys are told apart and no more. Leaves to others: who
//! reported a label.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::judge::exact;
use crate::judge::policy::Policy;

/// Below so many keys none is limited.
pub const MANY: usize = 20;
/// Keys that are told apart: what is known of them is stored with every fold. All further ones share one allowance.
const MOST: usize = 1_000;
/// Name of those further ones: no key is called so.
const OTHERS: &str = "";

/// What one key has reported since the evidence was started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Part {
    /// Allowance, as of the time when `Shares::taken` was `at`.
    #[serde(with = "exact")]
    left: f64,
    #[serde(with = "exact")]
    at: f64,
    taken: u64,
    refused: u64,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Shares {
    /// Weight of all labels that were taken.
    #[serde(with = "exact")]
    taken: f64,
    keys: BTreeMap<String, Part>,
}

/// What is shown of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reporter<'a> {
    /// Its name.
    pub key: &'a str,
    /// Labels that are evidence.
    pub taken: u64,
    /// Labels that are not, because it has had its share.
    pub refused: u64,
}

impl Shares {
    /// Nobody has reported under a key.
    pub(super) fn is_idle(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether keys are limited now.
    #[must_use]
    pub fn is_limiting(&self, policy: &Policy) -> bool {
        policy.principal_share < 1.0 && self.keys.len() >= MANY
    }

    /// Labels that were no evidence for want of an allowance.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.keys.values().map(|part| part.refused).sum()
    }

    /// Who has reported, but for trusted keys.
    pub fn reporters(&self) -> impl Iterator<Item = Reporter<'_>> {
        self.keys.iter().map(|(key, part)| Reporter {
            key,
            taken: part.taken,
            refused: part.refused,
        })
    }

    /// Takes a label of this weight, or says that the key has had its share.
    pub(super) fn take(&mut self, policy: &Policy, principal: Option<&str>, weight: f64) -> bool {
        let Some(key) = principal.filter(|key| !policy.trusted.iter().any(|trusted| trusted == key)) else {
            self.taken += weight;
            return true;
        };
        let share = policy.principal_share;
        // As many as the least promotion rests on: less would refuse what comes in bursts.
        let full = (share * policy.min_labels as f64).max(1.0);
        let is_full = self.keys.len() >= MOST && !self.keys.contains_key(key);
        let key = if is_full { OTHERS } else { key };
        let mut part = self.keys.remove(key).unwrap_or(Part {
            left: full,
            at: self.taken,
            taken: 0,
            refused: 0,
        });
        let is_limited = share < 1.0 && self.keys.len() + 1 >= MANY;
        part.left = match share < 1.0 {
            true => (part.left + (self.taken - part.at) * share / (1.0 - share)).min(full),
            false => full,
        };
        let is_taken = !is_limited || part.left >= weight;
        if is_taken {
            self.taken += weight;
            part.taken += 1;
        } else {
            part.refused += 1;
        }
        if is_taken && is_limited {
            part.left -= weight;
        }
        part.at = self.taken;
        self.keys.insert(key.to_owned(), part);
        is_taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(k: usize) -> String {
        format!("key-{k:03}")
    }

    /// Labels of keys 0 to `keys`, a round each, then so many of key 0 at once, over and over: how many of key 0 and how
    /// many in all were taken.
    fn flood(policy: &Policy, keys: usize, rounds: usize, burst: usize) -> (u64, u64, Shares) {
        let mut shares = Shares::default();
        let (mut own, mut all) = (0, 0);
        for _ in 0..rounds {
            for k in 1..keys {
                all += u64::from(shares.take(policy, Some(&name(k)), 1.0));
            }
            for _ in 0..burst {
                let taken = u64::from(shares.take(policy, Some(&name(0)), 1.0));
                (own, all) = (own + taken, all + taken);
            }
        }
        (own, all, shares)
    }

    #[test]
    fn from_twenty_keys_on_a_key_that_floods_has_its_share_and_the_others_lose_nothing() {
        let policy = Policy::default();
        let (own, all, shares) = flood(&policy, 40, 100, 1_000);
        let first = policy.principal_share * policy.min_labels as f64;
        assert!(
            own as f64 <= policy.principal_share * all as f64 + first,
            "{own} of {all}"
        );
        assert!(own as f64 >= policy.principal_share * all as f64, "{own} of {all}");
        assert_eq!(all - own, 39 * 100);
        assert_eq!(shares.refused(), 100_000 - own);
        let (own, all, _) = flood(&policy, 19, 10, 1_000);
        assert_eq!((own, all), (10_000, 10_180), "with fewer nobody is limited");
        let free = Policy {
            principal_share: 1.0,
            ..Policy::default()
        };
        assert_eq!(flood(&free, 40, 10, 1_000).0, 10_000);
    }

    #[test]
    fn twenty_keys_that_report_alike_are_all_taken() {
        assert_eq!(flood(&Policy::default(), 20, 500, 1).2.refused(), 0);
    }

    #[test]
    fn trusted_keys_and_labels_without_a_key_are_never_limited() {
        let policy = Policy {
            trusted: vec![name(0)],
            ..Policy::default()
        };
        assert_eq!(flood(&policy, 40, 10, 1_000).0, 10_000);
        let mut shares = flood(&policy, 40, 1, 1).2;
        assert!((0..10_000).all(|_| shares.take(&policy, None, 1.0)));
        assert!(
            !shares.keys.contains_key(&name(0)),
            "nobody whom it would count among the many"
        );
    }

    #[test]
    fn small_weights_use_up_little_and_what_is_known_has_a_bound_and_reads_back() {
        let policy = Policy::default();
        let (_, _, mut shares) = flood(&policy, 40, 10, 1_000);
        while shares.take(&policy, Some(&name(1)), 1.0) {}
        assert!(shares.take(&policy, Some(&name(2)), 1.0));
        assert!(!shares.take(&policy, Some(&name(1)), 1.0) && shares.take(&policy, Some(&name(1)), 1e-3));
        for k in 0..3_000 {
            shares.take(&policy, Some(&name(k)), 0.1);
        }
        assert_eq!(shares.keys.len(), MOST + 1);
        let text = serde_json::to_string(&shares).unwrap();
        assert_eq!(serde_json::from_str::<Shares>(&text).unwrap(), shares);
    }
}
