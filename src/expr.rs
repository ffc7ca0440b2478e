//! A small language for groups of rows: `age >= 60 and context.channel in ["web", "app"]`.
//!
//! | written | means |
//! |---|---|
//! | `age`, `` `hours per week` `` | a recorded feature |
//! | `context.channel`, ``context.`a b` `` | a key of the row's context |
//! | `label.key` | the API key that reported the row's label |
//! | `60`, `-1.5e3`, `"web"`, `true` | a number, a text (`\"`, `\\`, `\n`, `\t`), a truth value |
//! | `==` `!=` `<` `<=` `>` `>=` | comparison; a text that is a number compares with numbers as that number |
//! | `x in [1, 2]`, `x not in ["a"]` | equal to one of them, to none of them |
//! | `and` `&&`, `or` `\|\|`, `not` `!`, `( )` | as usual; `and` binds closer than `or` |
//! | `vip` alone | it is `true`, or a number other than 0 |
//!
//! Always holds: a condition on something that is missing, null or of another kind is false, also with `!=` and `not in`
//! (`not (x == 1)` is then true); evaluation neither fails nor allocates, and takes no longer than the text is long; texts
//! are bounded in length, depth and items. Leaves to others: where the values come from, what follows.

mod parse;

#[cfg(test)]
mod tests;

use std::cmp::Ordering;

/// Longest text of an expression, bytes.
pub const MAX_LENGTH: usize = 2_048;
/// Deepest nesting.
pub const MAX_DEPTH: usize = 32;
/// Most items of a list.
pub const MAX_ITEMS: usize = 256;

/// A value, as a row has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// A number.
    Number(f64),
    /// A text.
    Text(&'a str),
    /// True or false.
    Bool(bool),
}

/// Where a value is looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// A recorded feature.
    Feature(String),
    /// A key of the row's context.
    Context(String),
    /// The API key that reported the row's label.
    LabelKey,
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Feature(name) => f.write_str(name),
            Self::Context(name) => write!(f, "context.{name}"),
            Self::LabelKey => f.write_str("label.key"),
        }
    }
}

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {message}")]
pub struct ExprError {
    /// Counted from 1.
    pub at: usize,
    /// What was found, and what may stand there.
    pub message: String,
}

/// A parsed expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    root: Node,
    fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Compare(Operand, Comparison, Operand),
    /// One of the list, or (`false`) none of it.
    In(Operand, Vec<Literal>, bool),
    Holds(Operand),
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    /// The number of a field.
    Field(usize),
    Literal(Literal),
}

#[derive(Debug, Clone, PartialEq)]
enum Literal {
    Number(f64),
    Text(String),
    Bool(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Other,
    Less,
    AtMost,
    More,
    AtLeast,
}

impl Expr {
    /// Reads an expression.
    ///
    /// # Errors
    /// What is wrong with the text, and where.
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        parse::expression(text)
    }

    /// What it asks of a row, each once, in the order in which it is named.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Whether it holds for a row; `value` gives the row's value of field number `k`.
    pub fn holds<'a>(&'a self, value: impl Fn(usize) -> Option<Value<'a>>) -> bool {
        self.root.holds(&value)
    }
}

impl Node {
    fn holds<'a>(&'a self, value: &impl Fn(usize) -> Option<Value<'a>>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(value)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(value)),
            Self::Not(part) => !part.holds(value),
            Self::Compare(left, comparison, right) => match (left.value(value), right.value(value)) {
                (Some(left), Some(right)) => comparison.holds(left, right),
                _ => false,
            },
            Self::In(operand, list, is_in) => operand.value(value).is_some_and(|own| {
                let mut comparable = list.iter().filter_map(|item| order(own, item.value()));
                if *is_in {
                    comparable.any(|order| order == Ordering::Equal)
                } else {
                    // Something that none of them can be compared with is of another kind.
                    let mut any = false;
                    let is_other = comparable.all(|order| {
                        any = true;
                        order != Ordering::Equal
                    });
                    is_other && (any || list.is_empty())
                }
            }),
            Self::Holds(operand) => match operand.value(value) {
                Some(Value::Bool(is)) => is,
                Some(Value::Number(x)) => x != 0.0 && !x.is_nan(),
                Some(Value::Text(_)) | None => false,
            },
        }
    }
}

impl Operand {
    fn value<'a>(&'a self, value: &impl Fn(usize) -> Option<Value<'a>>) -> Option<Value<'a>> {
        match self {
            Self::Field(number) => value(*number),
            Self::Literal(literal) => Some(literal.value()),
        }
    }
}

impl Literal {
    fn value(&self) -> Value<'_> {
        match self {
            Self::Number(x) => Value::Number(*x),
            Self::Text(text) => Value::Text(text),
            Self::Bool(is) => Value::Bool(*is),
        }
    }
}

impl Comparison {
    fn holds(self, left: Value<'_>, right: Value<'_>) -> bool {
        let Some(order) = order(left, right) else { return false };
        match self {
            Self::Equal => order == Ordering::Equal,
            Self::Other => order != Ordering::Equal,
            Self::Less => order == Ordering::Less,
            Self::AtMost => order != Ordering::Greater,
            Self::More => order == Ordering::Greater,
            Self::AtLeast => order != Ordering::Less,
        }
    }
}

/// `None` for values of different kinds, and for NaN.
fn order(left: Value<'_>, right: Value<'_>) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => a.partial_cmp(&b),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(&b)),
        (Value::Text(a), Value::Number(b)) => a.trim().parse::<f64>().ok()?.partial_cmp(&b),
        (Value::Number(a), Value::Text(b)) => a.partial_cmp(&b.trim().parse::<f64>().ok()?),
        _ => None,
    }
}
