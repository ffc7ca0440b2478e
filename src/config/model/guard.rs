//! `[guardrail]` and `[groups]` of `model.toml`: what a challenger must keep to besides being better.

use serde::{Deserialize, Serialize};
use toml::de::DeValue;

use super::super::reader::Section;
use super::super::value::{Value, expected, nearest};
use crate::expr::{Expr, Field};
use crate::judge::policy::{GROUP_MARGIN, Guardrails, MAX_GROUPS};

/// Longest name of a group.
const MAX_NAME: usize = 64;

/// One group of `[groups]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupConfig {
    /// What it is called.
    pub name: String,
    /// Which rows belong to it, see [`crate::expr`].
    pub expr: String,
    /// So much worse, in loss units, is still good enough; `None`: 0.02 of the loss bound.
    pub margin: Option<f64>,
    /// Whether a challenger must have shown that.
    pub strict: bool,
}

impl GroupConfig {
    /// The margin under a metric whose largest loss is `bound`.
    #[must_use]
    pub fn margin(&self, bound: f64) -> f64 {
        self.margin.unwrap_or(GROUP_MARGIN * bound)
    }
}

pub(super) fn guardrails(s: &mut Section<'_>, default: Guardrails) -> Guardrails {
    let factor = |limit: &Limit| limit.0.is_none_or(|x| x >= 1.0);
    let share = |limit: &Limit| limit.0.is_none_or(|x| (0.0..=1.0).contains(&x));
    let above = |limit: &Limit| limit.0.is_none_or(|x| x > 0.0);
    let mut limit =
        |key, default, holds: &dyn Fn(&Limit) -> bool, rule: &str| s.get_if(key, Limit(default), holds, rule).0;
    let times = "is how many times the champion's it may be: write a number from 1 on, or \"off\"";
    Guardrails {
        latency: limit("latency", default.latency, &factor, times),
        errors: limit(
            "errors",
            default.errors,
            &share,
            "is a share between 0 and 1, or \"off\"",
        ),
        decision_rate: limit("decision_rate", default.decision_rate, &factor, times),
        score_shift: limit(
            "score_shift",
            default.score_shift,
            &above,
            "must be above 0, or \"off\"",
        ),
    }
}

/// `[groups]`: named tables. `dropped` is not recorded, so that nothing can be asked of it.
pub(super) fn groups(s: &mut Section<'_>, dropped: &[String]) -> Vec<GroupConfig> {
    let mut groups = Vec::new();
    for (name, table) in s.rest::<GroupTable>() {
        let known = |field: &Field| match field {
            Field::Feature(name) | Field::Context(name) => dropped.contains(name),
            Field::LabelKey => false,
        };
        let fields = Expr::parse(&table.expr)
            .map(|expr| expr.fields().to_vec())
            .unwrap_or_default();
        if let Some(field) = fields.into_iter().find(|field| known(field)) {
            s.fault(
                &name,
                format!("asks for {field}, which record.drop keeps from being recorded: no row could be in it"),
            );
        }
        if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
            s.fault(&name, format!("a group has a name of 1 to {MAX_NAME} characters"));
        }
        groups.push(GroupConfig {
            name,
            expr: table.expr,
            margin: table.margin,
            strict: table.strict,
        });
    }
    if groups.len() > MAX_GROUPS {
        s.fault("", format!("{} groups: at most {MAX_GROUPS}", groups.len()));
    }
    groups
}

/// A number, or `off`.
#[derive(Clone, Copy)]
struct Limit(Option<f64>);

impl Value for Limit {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        match value {
            DeValue::String(word) if word == "off" => Ok(Self(None)),
            DeValue::Integer(_) | DeValue::Float(_) => f64::read(value).map(|x| Self(Some(x))),
            other => Err(expected("a number, or \"off\"", other)),
        }
    }
}

/// `{ expr = "age >= 60", margin = 0.02, strict = true }`.
struct GroupTable {
    expr: String,
    margin: Option<f64>,
    strict: bool,
}

impl Value for GroupTable {
    fn read(value: &DeValue<'_>) -> Result<Self, String> {
        const KEYS: [&str; 3] = ["expr", "margin", "strict"];
        let DeValue::Table(table) = value else {
            return Err(expected(
                "a table such as { expr = \"age >= 60\", margin = 0.02 }",
                value,
            ));
        };
        let (mut text, mut margin, mut strict) = (None, None, true);
        for (key, value) in table {
            let (key, value) = (key.get_ref().as_ref(), value.get_ref());
            let named = |fault: String| format!("{key} {fault}");
            match key {
                "expr" => text = Some(String::read(value).map_err(named)?),
                "margin" => margin = Some(f64::read(value).map_err(named)?),
                "strict" => strict = bool::read(value).map_err(named)?,
                unknown => {
                    let hint = nearest(unknown, KEYS.into_iter());
                    let hint = hint.map_or_else(
                        || format!("use one of {}", KEYS.join(", ")),
                        |known| format!("did you mean \"{known}\"?"),
                    );
                    return Err(format!("unknown key {unknown}: {hint}"));
                }
            }
        }
        let expr = text.ok_or("needs expr, which says which rows belong to it, such as expr = \"age >= 60\"")?;
        Expr::parse(&expr).map_err(|fault| format!("expr \"{}\": {fault}", expr.escape_debug()))?;
        if margin.is_some_and(|margin| margin < 0.0) {
            return Err("margin must be at least 0: so much worse is still good enough".into());
        }
        Ok(Self { expr, margin, strict })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    fn read(text: &str) -> Result<ModelConfig, String> {
        ModelConfig::parse("model.toml", text).map_err(|error| error.to_string())
    }

    #[test]
    fn groups_and_guardrails_are_read_with_their_defaults_in_the_order_of_the_file() {
        let text = "metric = \"log_loss\"\n[guardrail]\nlatency = 2\nerrors = \"off\"\n[groups]\n\
                    young = { expr = \"age < 25\", strict = false }\n\
                    senior = { expr = \"age >= 60\", margin = 0.01 }\n";
        let config = read(text).unwrap();
        let expected = Guardrails {
            latency: Some(2.0),
            errors: None,
            ..Guardrails::default()
        };
        assert_eq!(config.guardrail, expected);
        let shown: Vec<_> = config
            .groups
            .iter()
            .map(|g| (g.name.as_str(), g.margin, g.strict))
            .collect();
        assert_eq!(shown, [("young", None, false), ("senior", Some(0.01), true)]);
        assert!((config.groups[0].margin(3.0) - 0.06).abs() < 1e-12);
        assert_eq!(read("").unwrap().guardrail, Guardrails::default());
    }

    #[test]
    fn what_a_group_or_a_limit_cannot_be_is_said() {
        for (text, says) in [
            ("[guardrail]\nlatency = 0.5", "write a number from 1 on"),
            ("[guardrail]\nlatency = \"no\"", "must be a number, or \"off\""),
            ("[guardrail]\nerrors = 2", "a share between 0 and 1"),
            ("[guardrail]\nlatancy = 2", "did you mean \"latency\"?"),
            ("[groups]\na = \"age > 1\"", "must be a table such as"),
            ("[groups]\na = { margin = 1 }", "needs expr"),
            ("[groups]\na = { expr = \"age >\" }", "at character 6: found the end"),
            (
                "[groups]\na = { expr = \"age > 1\", stict = true }",
                "did you mean \"strict\"?",
            ),
            (
                "[groups]\na = { expr = \"age > 1\", margin = -1 }",
                "margin must be at least 0",
            ),
            (
                "[record]\ndrop = [\"age\"]\n[groups]\na = { expr = \"age > 1\" }",
                "asks for age, which record.drop",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
        let many: String = (0..65).map(|k| format!("g{k} = {{ expr = \"a == {k}\" }}\n")).collect();
        assert!(
            read(&format!("[groups]\n{many}"))
                .unwrap_err()
                .contains("65 groups: at most 64")
        );
    }
}
