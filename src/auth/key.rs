//! One key, and whoever asks with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::limit::{Counts, Limits, Usage};
use super::unauthenticated;
use crate::config::KeyConfig;
use crate::decode::clip;
use crate::error::{Error, Kind};

/// What a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Predictions by the champion, and what a model takes and gives.
    Predict,
    /// Predictions by a version that the request names.
    Pin,
    /// Labels and other words on answers.
    Feedback,
    /// Standings, decisions, metrics: nothing of a person.
    Read,
    /// Orders, and what is held on persons.
    Admin,
}

impl Scope {
    /// All of them by name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("predict", Self::Predict),
        ("pin", Self::Pin),
        ("feedback", Self::Feedback),
        ("read", Self::Read),
        ("admin", Self::Admin),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, scope)| *scope == self)
            .map_or("", |(name, _)| name)
    }
}

/// What was asked with a key since the process started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its name.
    pub key: String,
    /// Requests that were let in.
    pub allowed: u64,
    /// Requests that lacked a scope, or were for another model.
    pub forbidden: u64,
    /// Requests beyond the key's allowance of requests or rows.
    pub limited: u64,
    /// Rows and labels.
    pub rows: u64,
}

/// See the module.
pub(super) struct Key {
    config: KeyConfig,
    limits: Limits,
    usage: Arc<Usage>,
    is_revoked: AtomicBool,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&self.config.name).finish()
    }
}

impl Key {
    /// The key, and the one that stood under its name before.
    pub(super) fn new(config: KeyConfig, former: Option<&Self>) -> Self {
        Self {
            limits: Limits::of(&config),
            usage: former.map(|key| Arc::clone(&key.usage)).unwrap_or_default(),
            is_revoked: AtomicBool::new(false),
            config,
        }
    }

    pub(super) fn config(&self) -> &KeyConfig {
        &self.config
    }

    pub(super) fn name(&self) -> &str {
        &self.config.name
    }

    pub(super) fn hash(&self) -> &[u8; 32] {
        &self.config.sha256
    }

    /// What was asked with it, and with whatever stood under its name before.
    pub(super) fn asked(&self) -> Asked {
        let Counts {
            allowed,
            forbidden,
            limited,
            rows,
        } = &self.usage.asked;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Asked {
            key: self.name().to_owned(),
            allowed: read(allowed),
            forbidden: read(forbidden),
            limited: read(limited),
            rows: read(rows),
        }
    }

    pub(super) fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Relaxed);
    }
}

/// Who asks. Nobody is known, and everything allowed, where there is no file of keys.
#[derive(Debug, Clone, Default)]
pub struct Who(Option<Arc<Key>>);

impl Who {
    pub(super) fn of(key: Arc<Key>) -> Self {
        Self(Some(key))
    }

    /// The key's name.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref().map(Key::name)
    }

    /// Whether the key has one of these scopes; none: nothing is needed.
    ///
    /// # Errors
    /// It has not: which it would need.
    pub fn may(&self, scopes: &[Scope]) -> Result<(), Error> {
        let Some(key) = &self.0 else { return Ok(()) };
        if scopes.is_empty() || scopes.iter().any(|scope| key.config.scopes.contains(scope)) {
            return Ok(());
        }
        key.usage.asked.forbidden.fetch_add(1, Ordering::Relaxed);
        let names: Vec<String> = scopes.iter().map(|scope| format!("'{}'", scope.name())).collect();
        let text = format!(
            "the key '{}' lacks the scope {}: ask with a key that has it",
            key.name(),
            names.join(" or ")
        );
        Err(Error::new(Kind::Forbidden, text))
    }

    /// Whether the key is for this model.
    ///
    /// # Errors
    /// It is not.
    pub fn may_model(&self, model: &str) -> Result<(), Error> {
        let Some((key, models)) = self.models() else {
            return Ok(());
        };
        if models.iter().any(|own| own == model) {
            return Ok(());
        }
        key.usage.asked.forbidden.fetch_add(1, Ordering::Relaxed);
        let text = format!("the key '{}' is not for the model '{}'", key.name(), clip(model));
        Err(Error::new(Kind::Forbidden, text))
    }

    /// Whether the key is for all models.
    ///
    /// # Errors
    /// It is for some.
    pub fn may_all_models(&self) -> Result<(), Error> {
        let Some((key, _)) = self.models() else { return Ok(()) };
        key.usage.asked.forbidden.fetch_add(1, Ordering::Relaxed);
        let text = format!(
            "the key '{}' is for some models only: ask for one by its name",
            key.name()
        );
        Err(Error::new(Kind::Forbidden, text))
    }

    fn models(&self) -> Option<(&Key, &[String])> {
        let key = self.0.as_deref()?;
        Some((key, key.config.models.as_deref()?))
    }

    /// Whether the key is still in the file, as it was.
    ///
    /// # Errors
    /// It is not.
    pub fn in_force(&self) -> Result<(), Error> {
        match &self.0 {
            Some(key) if key.is_revoked.load(Ordering::Relaxed) => {
                Err(unauthenticated("the key was changed or taken back: ask anew"))
            }
            _ => Ok(()),
        }
    }

    /// Takes a request off the key's allowance.
    ///
    /// # Errors
    /// Nothing is left of it: says when to come again.
    pub fn spend_request(&self) -> Result<(), Error> {
        let Some(key) = &self.0 else { return Ok(()) };
        let asked = &key.usage.asked;
        match key.limits.requests.take(&key.usage.requests, 1) {
            Ok(()) => {
                asked.allowed.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(over) => {
                asked.limited.fetch_add(1, Ordering::Relaxed);
                Err(over.error(key.name(), "requests"))
            }
        }
    }

    /// Takes rows, or labels, off the key's allowance.
    ///
    /// # Errors
    /// Nothing is left of it: says when to come again.
    pub fn spend_rows(&self, rows: usize) -> Result<(), Error> {
        let Some(key) = &self.0 else { return Ok(()) };
        let asked = &key.usage.asked;
        match key.limits.rows.take(&key.usage.rows, rows as u64) {
            Ok(()) => {
                asked.rows.fetch_add(rows as u64, Ordering::Relaxed);
                Ok(())
            }
            Err(over) => {
                asked.limited.fetch_add(1, Ordering::Relaxed);
                Err(over.error(key.name(), "rows"))
            }
        }
    }
}
