//! Reads a settings file table by table and gathers every fault on the way.
//!
//! Always holds: a key is asked for before its table is finished; a key in the file that nobody asked for is a
//! fault; a faulty key reads as its default, so that reading goes on to the next fault.

use std::cell::RefCell;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::effective::{Effective, Shown, Source as From};
use super::fault::{ConfigError, Fault};
use super::unavailable;
use super::value::{Value, expected, nearest};

/// How much of a wrong value is shown.
const SHOWN_CHARS: usize = 40;

/// The file being read and its faults so far.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
    faults: RefCell<Vec<Fault>>,
    /// Values in force, as far as they were noted.
    noted: RefCell<Vec<Effective>>,
    /// No value is shown: it may be a secret in the wrong place.
    is_quiet: bool,
}

impl Source<'_> {
    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().get(..at).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn fault(&self, key: String, at: Option<usize>, message: String) {
        self.faults.borrow_mut().push(Fault {
            file: self.file.to_owned(),
            line: at.map(|at| self.line(at)),
            key,
            message,
        });
    }
}

/// One table of the file, or the absence of it.
pub(super) struct Section<'a> {
    source: &'a Source<'a>,
    prefix: String,
    table: Option<&'a DeTable<'a>>,
    asked: Vec<&'static str>,
    /// So has been every key that is in it.
    is_all_asked: bool,
    /// Where its name stands.
    at: Option<usize>,
}

/// Reads `text` with `build`, which asks for every known key.
pub(super) fn read<T>(file: &str, text: &str, build: impl FnOnce(&mut Section<'_>) -> T) -> Result<T, ConfigError> {
    read_noting(file, text, build).map(|(built, _)| built)
}

/// The same of a file whose values are not to be shown.
pub(super) fn read_quietly<T>(
    file: &str,
    text: &str,
    build: impl FnOnce(&mut Section<'_>) -> T,
) -> Result<T, ConfigError> {
    read_as(file, text, true, build).map(|(built, _)| built)
}

/// The same, with the values that were noted on the way.
pub(super) fn read_noting<T>(
    file: &str,
    text: &str,
    build: impl FnOnce(&mut Section<'_>) -> T,
) -> Result<(T, Vec<Effective>), ConfigError> {
    read_as(file, text, false, build)
}

fn read_as<T>(
    file: &str,
    text: &str,
    is_quiet: bool,
    build: impl FnOnce(&mut Section<'_>) -> T,
) -> Result<(T, Vec<Effective>), ConfigError> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let source = Source {
        file,
        text,
        faults: RefCell::new(Vec::new()),
        noted: RefCell::new(Vec::new()),
        is_quiet,
    };
    for error in &errors {
        let at = error.span().map(|span| span.start);
        let message = match is_quiet {
            true => "not TOML: mend this line".into(),
            false => format!("not TOML: {}", error.message().trim_end()),
        };
        source.fault(String::new(), at, message);
    }
    if errors.is_empty() {
        let mut root = Section {
            source: &source,
            prefix: String::new(),
            table: Some(document.get_ref()),
            asked: Vec::new(),
            is_all_asked: false,
            at: None,
        };
        let built = build(&mut root);
        root.finish();
        if source.faults.borrow().is_empty() {
            return Ok((built, source.noted.into_inner()));
        }
    }
    Err(ConfigError {
        faults: source.faults.into_inner(),
    })
}

impl<'a> Section<'a> {
    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn entry(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.push(key);
        let table = self.table?;
        table
            .iter()
            .find(|(name, _)| name.get_ref() == key)
            .map(|(_, value)| value)
    }

    /// True when the file holds the key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table
            .is_some_and(|t| t.iter().any(|(name, _)| name.get_ref() == key))
    }

    /// Notes the value in force of a key; `given`: by a flag or a variable.
    pub(super) fn note(&self, key: &str, value: &impl Shown, given: bool) {
        let at = self
            .table
            .and_then(|t| t.iter().find(|(name, _)| name.get_ref() == key))
            .map(|(name, _)| name.span().start);
        let source = match at {
            _ if given => From::Flag(format!("--{}", self.path(key).replace(['.', '_'], "-"))),
            Some(at) => From::File(self.source.line(at)),
            None => From::Default,
        };
        self.source.noted.borrow_mut().push(Effective {
            key: self.path(key),
            value: value.shown(),
            source,
        });
    }

    /// Reports a fault of a key of this table.
    pub(super) fn fault(&self, key: &str, message: impl Into<String>) {
        let at = self
            .table
            .and_then(|t| t.iter().find(|(name, _)| name.get_ref() == key))
            .map(|(name, _)| name.span().start);
        let path = match key {
            // Of the table itself.
            "" => self.prefix.trim_end_matches('.').to_owned(),
            key => self.path(key),
        };
        self.source.fault(path, at.or(self.at), message.into());
    }

    /// The value of a key, when it is there and sound.
    pub(super) fn opt<T: Value>(&mut self, key: &'static str) -> Option<T> {
        self.opt_if(key, |_| true, "")
    }

    /// The value of a key, when it is there, sound, and `holds`; `rule` says what must hold.
    pub(super) fn opt_if<T: Value>(&mut self, key: &'static str, holds: impl Fn(&T) -> bool, rule: &str) -> Option<T> {
        let value = self.entry(key)?;
        let word = match value.get_ref() {
            DeValue::String(word) => Some(word.as_ref()),
            _ => None,
        };
        if let Some(remedy) = unavailable::remedy(&self.path(key), word) {
            self.fault(key, format!("{}: {remedy}", self.shown(value)));
            return None;
        }
        let message = match T::read(value.get_ref()) {
            Ok(read) if holds(&read) => return Some(read),
            Ok(_) => rule.to_owned(),
            Err(message) => message,
        };
        self.fault(key, format!("{}: {message}", self.shown(value)));
        None
    }

    /// The value of a key, or its default.
    pub(super) fn get<T: Value>(&mut self, key: &'static str, default: T) -> T {
        self.opt(key).unwrap_or(default)
    }

    /// The value of a key, or its default where it is absent or does not hold.
    pub(super) fn get_if<T: Value>(
        &mut self,
        key: &'static str,
        default: T,
        holds: impl Fn(&T) -> bool,
        rule: &str,
    ) -> T {
        self.opt_if(key, holds, rule).unwrap_or(default)
    }

    /// Reads a table of the file.
    pub(super) fn table<T>(&mut self, key: &'static str, build: impl FnOnce(&mut Section<'a>) -> T) -> T {
        let table = match self.entry(key).map(Spanned::get_ref) {
            Some(DeValue::Table(table)) => Some(table),
            Some(other) => {
                self.fault(key, expected("a table", other));
                None
            }
            None => None,
        };
        let mut section = Section {
            source: self.source,
            prefix: format!("{}{key}.", self.prefix),
            table,
            asked: Vec::new(),
            is_all_asked: false,
            at: None,
        };
        let built = build(&mut section);
        section.finish();
        built
    }

    /// Reads a table of the file, if it is there.
    pub(super) fn has_table<T>(&mut self, key: &'static str, build: impl FnOnce(&mut Section<'a>) -> T) -> Option<T> {
        match self.entry(key).map(Spanned::get_ref) {
            Some(DeValue::Table(_)) => Some(self.table(key, build)),
            Some(other) => {
                self.fault(key, expected("a table", other));
                None
            }
            None => None,
        }
    }

    /// Reads each table that nobody asked for, under its name, in the order of the file.
    pub(super) fn tables<T>(&mut self, mut build: impl FnMut(&str, &mut Section<'a>) -> T) -> Vec<T> {
        let Some(table) = self.table else {
            return Vec::new();
        };
        self.is_all_asked = true;
        let is_left = |(name, _): &(&Spanned<_>, _)| !self.asked.contains(&AsRef::<str>::as_ref(name.get_ref()));
        let mut left: Vec<_> = table.iter().filter(is_left).collect();
        left.sort_by_key(|(name, _)| name.span().start);
        let mut built = Vec::new();
        for (name, value) in left {
            let (at, name) = (name.span().start, name.get_ref());
            let DeValue::Table(table) = value.get_ref() else {
                self.source
                    .fault(self.path(name), Some(at), expected("a table", value.get_ref()));
                continue;
            };
            let mut section = Section {
                source: self.source,
                prefix: format!("{}{name}.", self.prefix),
                table: Some(table),
                asked: Vec::new(),
                is_all_asked: false,
                at: Some(at),
            };
            built.push(build(name, &mut section));
            section.finish();
        }
        built
    }

    /// The keys that nobody asked for, as free keys; they are faults no more.
    pub(super) fn rest<T: Value>(&mut self) -> Vec<(String, T)> {
        let Some(table) = self.table.take() else {
            return Vec::new();
        };
        let mut rest = Vec::new();
        let is_left = |(name, _): &(&Spanned<_>, _)| !self.asked.contains(&AsRef::<str>::as_ref(name.get_ref()));
        let mut left: Vec<_> = table.iter().filter(is_left).collect();
        // As they stand in the file.
        left.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in left {
            match T::read(value.get_ref()) {
                Ok(read) => rest.push((name.get_ref().to_string(), read)),
                Err(message) => {
                    let at = Some(name.span().start);
                    self.source.fault(
                        self.path(name.get_ref()),
                        at,
                        format!("{}: {message}", self.shown(value)),
                    );
                }
            }
        }
        rest
    }

    fn shown(&self, value: &Spanned<DeValue<'_>>) -> String {
        if self.source.is_quiet {
            return "its value".into();
        }
        let raw = self.source.text.get(value.span()).unwrap_or_default();
        let line = raw.lines().next().unwrap_or_default();
        let mut shown: String = line.chars().take(SHOWN_CHARS).collect();
        if shown.len() < raw.len() {
            shown.push('…');
        }
        shown.escape_debug().to_string().replace("\\\"", "\"")
    }

    /// Reports the keys that nobody asked for.
    fn finish(self) {
        if self.is_all_asked {
            return;
        }
        for (name, value) in self.table.into_iter().flatten() {
            let key = name.get_ref().as_ref();
            if self.asked.contains(&key) {
                continue;
            }
            let is_empty = match value.get_ref() {
                DeValue::Table(table) => table.is_empty(),
                DeValue::Array(items) => items.is_empty(),
                _ => false,
            };
            match unavailable::remedy(&self.path(key), None) {
                Some(_) if is_empty => {}
                Some(remedy) => self.fault(key, remedy),
                None => self.fault(key, self.unknown(key)),
            }
        }
    }

    fn unknown(&self, key: &str) -> String {
        match nearest(key, self.asked.iter().copied()) {
            Some(known) => format!("unknown key: did you mean \"{known}\"?"),
            None => format!("unknown key: remove it, or use one of {}", self.asked.join(", ")),
        }
    }
}
