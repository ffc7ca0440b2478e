//! From text to expression, by recursive descent: one method per level of binding.

use super::{Comparison, Expr, ExprError, Field, Literal, MAX_DEPTH, MAX_ITEMS, MAX_LENGTH, Node, Operand};

/// What stands next, with the place where it begins.
#[derive(Debug, Clone, PartialEq)]
enum Token {
    Number(f64),
    Text(String),
    /// A name, and whether it stood in backquotes.
    Name(String, bool),
    Sign(&'static str),
    End,
}

/// Longer signs first.
const SIGNS: [&str; 17] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "!", "(", ")", "[", "]", ",", ".", "-", "=",
];
const OPERAND: &str = "a feature, context.<key>, a number, a \"text\", true or false";

pub(super) fn expression(text: &str) -> Result<Expr, ExprError> {
    if text.len() > MAX_LENGTH {
        let message = format!("the expression has {} bytes, at most {MAX_LENGTH} are read", text.len());
        return Err(ExprError { at: 1, message });
    }
    let mut parser = Parser {
        text,
        next: 0,
        begin: 0,
        token: Token::End,
        fields: Vec::new(),
    };
    parser.advance()?;
    let root = parser.any(0)?;
    if parser.token != Token::End {
        return Err(parser.unexpected("\"and\", \"or\" or the end"));
    }
    Ok(Expr {
        root,
        fields: parser.fields,
    })
}

struct Parser<'a> {
    text: &'a str,
    /// Byte after the present token.
    next: usize,
    /// Byte at which it begins.
    begin: usize,
    token: Token,
    fields: Vec<Field>,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.next..).unwrap_or_default()
    }

    fn fault(&self, byte: usize, message: String) -> ExprError {
        let before = self.text.get(..byte).unwrap_or(self.text);
        ExprError {
            at: before.chars().count() + 1,
            message,
        }
    }

    fn unexpected(&self, wanted: &str) -> ExprError {
        let found = match &self.token {
            Token::Number(x) => format!("the number {x}"),
            Token::Text(text) => format!("the text {text:?}"),
            Token::Name(name, _) => format!("'{name}'"),
            Token::Sign(sign) => format!("'{sign}'"),
            Token::End => "the end".to_owned(),
        };
        self.fault(self.begin, format!("found {found}, expected {wanted}"))
    }

    fn advance(&mut self) -> Result<(), ExprError> {
        let rest = self.rest();
        self.next += rest.len() - rest.trim_start().len();
        self.begin = self.next;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            self.token = Token::End;
            return Ok(());
        };
        self.token = match first {
            '"' | '\'' => self.quoted(first)?,
            '`' => Token::Name(self.backquoted()?, true),
            c if c.is_ascii_digit() => self.number()?,
            c if c.is_alphabetic() || c == '_' => {
                let end = rest
                    .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                    .unwrap_or(rest.len());
                let name = rest.get(..end).unwrap_or_default().to_owned();
                self.next += end;
                Token::Name(name, false)
            }
            other => match SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
                Some(sign) => {
                    self.next += sign.len();
                    Token::Sign(sign)
                }
                None => return Err(self.fault(self.begin, format!("'{}' means nothing here", other.escape_debug()))),
            },
        };
        Ok(())
    }

    fn number(&mut self) -> Result<Token, ExprError> {
        let rest = self.rest().as_bytes();
        let digits = |mut at: usize| {
            while rest.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            at
        };
        let mut end = digits(0);
        if rest.get(end) == Some(&b'.') && rest.get(end + 1).is_some_and(u8::is_ascii_digit) {
            end = digits(end + 1);
        }
        if matches!(rest.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(rest.get(end + 1), Some(b'+' | b'-')));
            if rest.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
                end = digits(end + 1 + sign);
            }
        }
        let text = self.rest().get(..end).unwrap_or_default();
        let number = text.parse::<f64>().ok().filter(|x| x.is_finite());
        let number = number.ok_or_else(|| self.fault(self.begin, format!("'{text}' is no finite number")))?;
        self.next += end;
        Ok(Token::Number(number))
    }

    fn quoted(&mut self, quote: char) -> Result<Token, ExprError> {
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.next += at + c.len_utf8();
                    return Ok(Token::Text(text));
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('"' | '\'' | '\\'))) => text.push(c),
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    _ => {
                        let message = "after a backslash stands a quote, a backslash, n or t".to_owned();
                        return Err(self.fault(self.next + at, message));
                    }
                },
                c => text.push(c),
            }
        }
        Err(self.fault(self.begin, format!("the text has no closing {quote}")))
    }

    fn backquoted(&mut self) -> Result<String, ExprError> {
        let rest = self.rest().get(1..).unwrap_or_default();
        match rest.find('`') {
            Some(0) => Err(self.fault(self.begin, "a name must not be empty".to_owned())),
            Some(end) => {
                let name = rest.get(..end).unwrap_or_default().to_owned();
                self.next += end + 2;
                Ok(name)
            }
            None => Err(self.fault(self.begin, "the name has no closing `".to_owned())),
        }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.token, Token::Name(name, false) if name == word)
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(&self.token, Token::Sign(found) if *found == sign)
    }

    fn take(&mut self, word: &str, sign: &str) -> Result<bool, ExprError> {
        let is_there = self.is_word(word) || self.is_sign(sign);
        if is_there {
            self.advance()?;
        }
        Ok(is_there)
    }

    fn any(&mut self, depth: usize) -> Result<Node, ExprError> {
        let first = self.all(depth)?;
        let mut parts = vec![first];
        while self.take("or", "||")? {
            parts.push(self.all(depth)?);
        }
        Ok(one_or(parts, Node::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Node, ExprError> {
        let first = self.not(depth)?;
        let mut parts = vec![first];
        while self.take("and", "&&")? {
            parts.push(self.not(depth)?);
        }
        Ok(one_or(parts, Node::All))
    }

    fn not(&mut self, depth: usize) -> Result<Node, ExprError> {
        if depth > MAX_DEPTH {
            return Err(self.fault(self.begin, format!("nested deeper than {MAX_DEPTH}")));
        }
        if self.take("not", "!")? {
            return Ok(Node::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.is_sign("(") {
            self.advance()?;
            let inner = self.any(depth + 1)?;
            if !self.is_sign(")") {
                return Err(self.unexpected("')'"));
            }
            self.advance()?;
            return Ok(inner);
        }
        self.condition()
    }

    fn condition(&mut self) -> Result<Node, ExprError> {
        let left = self.operand()?;
        let comparison = match &self.token {
            Token::Sign("==") => Some(Comparison::Equal),
            Token::Sign("!=") => Some(Comparison::Other),
            Token::Sign("<") => Some(Comparison::Less),
            Token::Sign("<=") => Some(Comparison::AtMost),
            Token::Sign(">") => Some(Comparison::More),
            Token::Sign(">=") => Some(Comparison::AtLeast),
            Token::Sign("=") => return Err(self.unexpected("'==' to compare")),
            _ => None,
        };
        if let Some(comparison) = comparison {
            self.advance()?;
            let right = self.operand()?;
            if matches!(self.token, Token::Sign("==" | "!=" | "<" | "<=" | ">" | ">=")) {
                return Err(self.unexpected("\"and\" between two comparisons"));
            }
            return Ok(Node::Compare(left, comparison, right));
        }
        if self.is_word("in") {
            self.advance()?;
            return Ok(Node::In(left, self.list()?, true));
        }
        if self.is_word("not") {
            self.advance()?;
            if !self.is_word("in") {
                return Err(self.unexpected("\"in\""));
            }
            self.advance()?;
            return Ok(Node::In(left, self.list()?, false));
        }
        match left {
            Operand::Literal(Literal::Number(_) | Literal::Text(_)) => Err(self.unexpected("a comparison")),
            other => Ok(Node::Holds(other)),
        }
    }

    fn list(&mut self) -> Result<Vec<Literal>, ExprError> {
        if !self.is_sign("[") {
            return Err(self.unexpected("a list, such as [1, 2] or [\"a\", \"b\"]"));
        }
        self.advance()?;
        let mut items = Vec::new();
        while !self.is_sign("]") {
            if items.len() == MAX_ITEMS {
                return Err(self.fault(self.begin, format!("a list has at most {MAX_ITEMS} items")));
            }
            match self.operand()? {
                Operand::Literal(literal) => items.push(literal),
                Operand::Field(_) => {
                    let message = "a list holds numbers, texts (in quotes), true and false".to_owned();
                    return Err(self.fault(self.begin, message));
                }
            }
            if self.is_sign(",") {
                self.advance()?;
            } else if !self.is_sign("]") {
                return Err(self.unexpected("',' or ']'"));
            }
        }
        self.advance()?;
        Ok(items)
    }

    fn operand(&mut self) -> Result<Operand, ExprError> {
        let operand = match std::mem::replace(&mut self.token, Token::End) {
            Token::Number(x) => Operand::Literal(Literal::Number(x)),
            Token::Text(text) => Operand::Literal(Literal::Text(text)),
            Token::Name(name, false) if name == "true" || name == "false" => {
                Operand::Literal(Literal::Bool(name == "true"))
            }
            Token::Name(name, is_quoted) => {
                if !is_quoted && matches!(name.as_str(), "and" | "or" | "not" | "in") {
                    self.token = Token::Name(name, false);
                    return Err(self.unexpected(OPERAND));
                }
                self.advance()?;
                return self.field(name, is_quoted).map(Operand::Field);
            }
            Token::Sign("-") => {
                self.advance()?;
                let Token::Number(x) = self.token else {
                    return Err(self.unexpected("a number"));
                };
                Operand::Literal(Literal::Number(-x))
            }
            other => {
                self.token = other;
                return Err(self.unexpected(OPERAND));
            }
        };
        self.advance()?;
        Ok(operand)
    }

    fn field(&mut self, name: String, is_quoted: bool) -> Result<usize, ExprError> {
        let field = if self.is_sign(".") {
            if is_quoted || (name != "context" && name != "label") {
                let message =
                    format!("only context has keys: a feature whose name holds a dot stands in backquotes, `{name}.…`");
                return Err(self.fault(self.begin, message));
            }
            self.advance()?;
            if name == "label" {
                return self.label_key();
            }
            let Token::Name(key, _) = std::mem::replace(&mut self.token, Token::End) else {
                return Err(self.fault(self.begin, "expected a key of the context".to_owned()));
            };
            self.advance()?;
            Field::Context(key)
        } else {
            Field::Feature(name)
        };
        Ok(self.numbered(field))
    }

    /// What may stand after `label.`.
    fn label_key(&mut self) -> Result<usize, ExprError> {
        if !self.is_word("key") {
            let message =
                "of a label only label.key can be asked, the API key that reported it: a feature whose name holds \
                           a dot stands in backquotes"
                    .to_owned();
            return Err(self.fault(self.begin, message));
        }
        self.advance()?;
        Ok(self.numbered(Field::LabelKey))
    }

    fn numbered(&mut self, field: Field) -> usize {
        let known = self.fields.iter().position(|other| *other == field);
        known.unwrap_or_else(|| {
            self.fields.push(field);
            self.fields.len() - 1
        })
    }
}

fn one_or(mut parts: Vec<Node>, several: impl Fn(Vec<Node>) -> Node) -> Node {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            several(parts)
        }
        None => several(parts),
    }
}
