//! Which of the policy's groups a closed row belongs to, by what was recorded of it.
//!
//! Always holds: a row is read only where there are groups; what is missing puts a row into no group. Rows that were asked
//! in vain are counted since the start of the process, for a warning; nothing is decided by that.

use std::fmt;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value as Json;

use crate::expr::{Expr, Field, Value};
use crate::judge::fold::Judge;
use crate::judge::policy::Group;
use crate::ledger::{LedgerError, Report, Writer};

/// From so many rows on, of which none had what a group asks for, it is said.
const LEAST: u64 = 100;

/// See the module.
#[derive(Debug, Default)]
pub struct Groups {
    /// What they were made from.
    of: Vec<Group>,
    ready: Vec<Ready>,
    rows: u64,
}

/// An expression; `None` for one that an older program understood.
#[derive(Debug)]
struct Ready {
    expr: Option<Expr>,
    /// Rows that had it, per field.
    found: Vec<u64>,
}

impl Groups {
    /// Takes over the groups of the rules in force; true when there are any.
    pub fn follow(&mut self, judge: Option<&Judge>) -> bool {
        self.follow_groups(judge.map(|judge| judge.policy().groups.as_slice()).unwrap_or_default())
    }

    /// Takes over these groups; true when there are any.
    pub fn follow_groups(&mut self, wanted: &[Group]) -> bool {
        if self.of != wanted {
            let ready = |group: &Group| {
                let expr = Expr::parse(&group.expr).ok();
                let found = vec![0; expr.as_ref().map_or(0, |expr| expr.fields().len())];
                Ready { expr, found }
            };
            *self = Self {
                of: wanted.to_vec(),
                ready: wanted.iter().map(ready).collect(),
                rows: 0,
            };
        }
        !self.of.is_empty()
    }

    /// The groups of a recorded row, a bit each.
    ///
    /// # Errors
    /// What the ledger says.
    pub fn of_recorded(&mut self, reader: &Writer<'_>, id: i64) -> Result<u64, LedgerError> {
        if self.of.is_empty() {
            return Ok(0);
        }
        let of_row = |field: &Field| *field != Field::LabelKey;
        let (inputs, context) = match self.asks(of_row) {
            true => reader.recorded(id)?,
            false => (None, None),
        };
        let key = match self.ask_for_keys() {
            true => reader.reported_by(id, Report::Label)?,
            false => None,
        };
        Ok(self.of_row(inputs.as_deref(), context.as_deref(), key.as_deref()))
    }

    /// Whether one asks which key has reported a row's label.
    #[must_use]
    pub fn ask_for_keys(&self) -> bool {
        self.asks(|field| *field == Field::LabelKey)
    }

    fn asks(&self, what: impl Fn(&Field) -> bool) -> bool {
        let fields = self.ready.iter().filter_map(|ready| ready.expr.as_ref());
        fields.flat_map(Expr::fields).any(what)
    }

    /// The groups of a row, a bit each, by its recorded features and context as JSON objects, and by the key that reported
    /// its label.
    pub fn of_row(&mut self, inputs: Option<&str>, context: Option<&str>, key: Option<&str>) -> u64 {
        self.rows += 1;
        let mut bits = 0;
        for (k, ready) in (0u32..).zip(&mut self.ready) {
            let Some(expr) = &ready.expr else { continue };
            let mut values = look_up(expr.fields(), inputs, context);
            for (value, _) in values
                .iter_mut()
                .zip(expr.fields())
                .filter(|(_, f)| **f == Field::LabelKey)
            {
                *value = key.map(Json::from);
            }
            for (found, value) in ready.found.iter_mut().zip(&values) {
                *found += u64::from(value.is_some());
            }
            let is_in = expr.holds(|field| values.get(field)?.as_ref().and_then(value));
            bits |= u64::from(is_in).checked_shl(k).unwrap_or(0);
        }
        bits
    }

    /// Names of the groups in a set of bits.
    pub fn names(&self, bits: u64) -> impl Iterator<Item = &str> {
        let all = (0_u32..).zip(&self.of);
        all.filter(move |(k, _)| bits.checked_shr(*k).unwrap_or(0) & 1 == 1)
            .map(|(_, group)| group.name.as_str())
    }

    /// Groups that ask for what no row has.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (group, ready) in self.of.iter().zip(&self.ready) {
            let Some(expr) = &ready.expr else {
                warnings.push(format!(
                    "group '{}': its expression is not understood, so that no row is in it",
                    group.name
                ));
                continue;
            };
            let missed = expr.fields().iter().zip(&ready.found).filter(|(_, found)| **found == 0);
            if self.rows >= LEAST {
                warnings.extend(missed.map(|(field, _)| {
                    format!(
                        "group '{}' asks for {field}, which none of the last {} closed rows has: correct its expr, or send it",
                        group.name, self.rows
                    )
                }));
            }
        }
        warnings
    }
}

fn value(json: &Json) -> Option<Value<'_>> {
    match json {
        Json::Number(x) => x.as_f64().map(Value::Number),
        Json::String(text) => Some(Value::Text(text)),
        Json::Bool(is) => Some(Value::Bool(*is)),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// What the row has of each field.
fn look_up(fields: &[Field], inputs: Option<&str>, context: Option<&str>) -> Vec<Option<Json>> {
    let mut values = vec![None; fields.len()];
    let name = |field: &Field, is_context: bool| match (field, is_context) {
        (Field::Feature(name), false) | (Field::Context(name), true) => Some(name.clone()),
        (Field::Feature(_) | Field::Context(_) | Field::LabelKey, _) => None,
    };
    for (text, is_context) in [(inputs, false), (context, true)] {
        let wanted: Vec<Option<String>> = fields.iter().map(|field| name(field, is_context)).collect();
        if let Some(text) = text.filter(|_| wanted.iter().any(Option::is_some)) {
            let picker = Picker {
                wanted: &wanted,
                values: &mut values,
            };
            // What is no object after all has none of it.
            let _ = serde_json::Deserializer::from_str(text).deserialize_map(picker);
        }
    }
    values
}

/// Takes the wanted keys out of an object and passes the others by.
struct Picker<'a> {
    wanted: &'a [Option<String>],
    values: &'a mut [Option<Json>],
}

impl<'de> Visitor<'de> for Picker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            let at = self.wanted.iter().position(|name| name.as_deref() == Some(&*key));
            match at.and_then(|at| self.values.get_mut(at)) {
                Some(place) => *place = Some(map.next_value()?).filter(|value| *value != Json::Null),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::policy::Policy;
    use crate::score::VersionNo;
    use crate::span::Clock;

    fn groups(exprs: &[&str]) -> Groups {
        let group = |(k, expr): (usize, &&str)| Group {
            name: format!("g{k}"),
            expr: (*expr).to_owned(),
            margin: 0.02,
            strict: true,
        };
        let policy = Policy {
            groups: exprs.iter().enumerate().map(group).collect(),
            ..Policy::default()
        };
        let judge = Judge::new(policy, VersionNo(1), 1, Clock::default());
        let mut groups = Groups::default();
        assert!(groups.follow(Some(&judge)));
        groups
    }

    #[test]
    fn a_row_is_in_the_groups_whose_conditions_it_meets() {
        let mut groups = groups(&["age >= 60", "context.channel == \"web\"", "day in [\"2\"]", "gone == 1"]);
        let row = |groups: &mut Groups, inputs, context| groups.of_row(Some(inputs), context, None);
        assert_eq!(
            row(
                &mut groups,
                r#"{"age":61.5,"x":[1],"day":"2"}"#,
                Some(r#"{"channel":"web"}"#)
            ),
            0b111
        );
        assert_eq!(
            row(&mut groups, r#"{"age":59,"channel":"web"}"#, Some(r#"{"age":70}"#)),
            0
        );
        assert_eq!(row(&mut groups, r#"{"age":null,"gone":1}"#, None), 0b1000);
        assert_eq!(groups.of_row(None, None, None), 0);
        assert_eq!(row(&mut groups, "[1]", Some("no JSON")), 0);
        assert!(!Groups::default().follow(None));
    }

    #[test]
    fn a_group_may_be_of_those_whose_label_a_key_has_reported() {
        let mut groups = groups(&["label.key in [\"ops\"]", "age > 1 and label.key != \"ops\""]);
        let row = |groups: &mut Groups, key| groups.of_row(Some(r#"{"age":61,"label.key":"ops"}"#), None, key);
        assert_eq!(row(&mut groups, Some("ops")), 0b1);
        assert_eq!(row(&mut groups, Some("shop")), 0b10);
        assert_eq!(row(&mut groups, None), 0);
    }

    #[test]
    fn what_no_row_has_is_said_after_a_hundred() {
        let mut groups = groups(&["age >= 60 and agee < 3", "x >"]);
        for _ in 0..99 {
            groups.of_row(Some(r#"{"age":61}"#), None, None);
        }
        assert_eq!(
            groups.warnings(),
            ["group 'g1': its expression is not understood, so that no row is in it"]
        );
        groups.of_row(Some(r#"{"age":61}"#), None, None);
        let said = groups.warnings();
        assert!(
            said[0].starts_with("group 'g0' asks for agee, which none of the last 100 closed rows has"),
            "{said:?}"
        );
        assert_eq!(said.len(), 2);
    }
}
