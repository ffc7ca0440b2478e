//! `[shadow]`: what shadow work may cost the answers.

use toml::de::DeValue;

use super::super::effective::Shown;
use super::super::reader::Section;
use super::super::value::{Value, expected};
use super::{ServeArgs, plain};

/// How many times as long as without shadow work the champion's 99th percentile may be, in thousandths; `None`: whatever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShadowBudget(Option<u32>);

impl Default for ShadowBudget {
    fn default() -> Self {
        Self(Some(1_050))
    }
}

impl ShadowBudget {
    /// How many times as long; `None`: nothing is measured or slowed.
    #[must_use]
    pub fn times(self) -> Option<f64> {
        self.0.map(|thousandths| f64::from(thousandths) / 1e3)
    }

    fn of(times: f64) -> Result<Self, String> {
        let rule =
            "must lie between 1.001 and 100, or be \"off\": how many times as long answers may take beside shadows";
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "its range is checked"
        )]
        let budget = (1.001..=100.0).contains(&times).then(|| (times * 1e3).round() as u32);
        budget
            .map(|thousandths| Self(Some(thousandths)))
            .ok_or_else(|| rule.into())
    }
}

impl Value for ShadowBudget {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(word) if word == "off" => Ok(Self(None)),
            DeValue::String(_) => Err(expected("a number such as 1.05, or \"off\"", value)),
            number => f64::read(number).and_then(Self::of),
        }
    }
}

impl Shown for ShadowBudget {
    fn shown(&self) -> serde_json::Value {
        self.times().map_or_else(|| "off".into(), Into::into)
    }
}

/// The same from a flag.
pub(super) fn budget(text: &str) -> Result<ShadowBudget, String> {
    match text.trim() {
        "off" => Ok(ShadowBudget(None)),
        number => number
            .parse()
            .map_err(|_| format!("'{text}' is not a number such as 1.05, nor \"off\""))
            .and_then(ShadowBudget::of),
    }
}

pub(super) fn shadow(s: &mut Section<'_>, args: &ServeArgs) -> ShadowBudget {
    plain(s, args.shadow_budget, "budget", ShadowBudget::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_number_above_one_or_off() {
        assert_eq!(budget("1.2").unwrap().times(), Some(1.2));
        assert_eq!(budget("off").unwrap().times(), None);
        assert_eq!(ShadowBudget::default().times(), Some(1.05));
        for wrong in ["1", "0.9", "1e9", "NaN", "none", ""] {
            assert!(budget(wrong).is_err(), "{wrong}");
        }
    }
}
