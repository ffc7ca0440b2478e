//! Who may do what: API keys, each with scopes, models and limits of its own, from a file of their hashes.
//!
//! A secret is 32 random bytes, so that its bare SHA-256 can be kept: there is nothing to guess that a salt would slow.
//!
//! Always holds: no secret is kept, shown, logged or counted; without a file of keys a request pays one branch, with one
//! a hash and a look into a map, and no lock; a key that was taken out of the file, or changed in it, is good for no
//! further request, nor for the next message of a stream.
//! Leaves to others: what a route needs (`http::gate`, `grpc::gate`), reading the file (`config`) and following it.

mod key;
mod limit;
mod secret;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::config::{ConfigError, KeyConfig, keys_of};
use crate::error::{Error, Kind};
pub use key::{Asked, Scope, Who};
pub use secret::Secret;

use key::Key;

/// No secret of ours is longer; what is longer is not hashed.
const MAX_SECRET: usize = 256;

/// The keys in force.
#[derive(Debug)]
pub struct Auth {
    path: PathBuf,
    keys: ArcSwap<Keys>,
}

/// A file's keys, by the first bytes of their hashes: what a look-up's time could tell of those says nothing of a secret.
#[derive(Debug, Default)]
struct Keys {
    found: HashMap<u64, Vec<Arc<Key>>>,
}

impl Keys {
    /// The keys of a file. One that stands in it as before is the same key; one that was changed has its limits filled
    /// as they were.
    fn of(configs: Vec<KeyConfig>, before: &Self) -> Self {
        let mut known: HashMap<&str, &Arc<Key>> = before.all().map(|key| (key.name(), key)).collect();
        let mut found: HashMap<u64, Vec<Arc<Key>>> = HashMap::new();
        for config in configs {
            let former = known.remove(config.name.as_str());
            let key = match former {
                Some(key) if *key.config() == config => Arc::clone(key),
                former => Arc::new(Key::new(config, former.map(|key| &**key))),
            };
            found.entry(first(key.hash())).or_default().push(key);
        }
        Self { found }
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.found.values().flatten()
    }

    fn find(&self, hash: &[u8; 32]) -> Option<&Arc<Key>> {
        let same = |key: &&Arc<Key>| bool::from(key.hash().ct_eq(hash));
        self.found.get(&first(hash))?.iter().find(same)
    }
}

fn first(hash: &[u8; 32]) -> u64 {
    let bytes = hash.first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(bytes)
}

impl Auth {
    /// The keys of this file.
    ///
    /// # Errors
    /// It is not there, or all of its faults.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let keys = keys_of(path)?;
        if keys.is_empty() {
            tracing::warn!(file = %path.display(), "the file of keys holds none: every request that needs one is refused");
        }
        Ok(Self {
            path: path.to_owned(),
            keys: ArcSwap::from_pointee(Keys::of(keys, &Keys::default())),
        })
    }

    /// Where the keys stand.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes on the file as it is now; gives how many keys there are.
    ///
    /// # Errors
    /// As [`Auth::load`]; nothing has changed then.
    pub fn reload(&self) -> Result<usize, ConfigError> {
        let configs = keys_of(&self.path)?;
        let before = self.keys.load_full();
        let keys = Arc::new(Keys::of(configs, &before));
        let count = keys.all().count();
        self.keys.store(Arc::clone(&keys));
        for old in before.all() {
            if !keys.all().any(|key| Arc::ptr_eq(key, old)) {
                old.revoke();
            }
        }
        Ok(count)
    }

    /// What was asked with each key that is in force, by name.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        let mut asked: Vec<Asked> = self.keys.load().all().map(|key| key.asked()).collect();
        asked.sort_by(|a, b| a.key.cmp(&b.key));
        asked
    }

    /// Whose key the head of a request bears.
    ///
    /// # Errors
    /// None, or one that nobody has.
    pub(crate) fn who(&self, headers: &HeaderMap) -> Result<Who, Error> {
        let secret = bearer(headers)?;
        let hash: [u8; 32] = Sha256::digest(secret).into();
        match self.keys.load().find(&hash) {
            Some(key) => Ok(Who::of(Arc::clone(key))),
            None => Err(unauthenticated(
                "the key is not one of this gateway's, or is not any more: send 'Authorization: Bearer' with a key that is",
            )),
        }
    }
}

/// The secret of the one `Authorization` header.
fn bearer(headers: &HeaderMap) -> Result<&[u8], Error> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else {
        return Err(unauthenticated(
            "this needs a key: send one header 'Authorization: Bearer' with it",
        ));
    };
    let value = value.as_bytes();
    let secret = match value.split_at_checked(7) {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case(b"bearer ") => secret.trim_ascii(),
        _ => &[],
    };
    if secret.is_empty() || secret.len() > MAX_SECRET {
        return Err(unauthenticated(
            "the Authorization header holds no key: send 'Bearer', a space and the key",
        ));
    }
    Ok(secret)
}

pub(crate) fn unauthenticated(text: &str) -> Error {
    Error::new(Kind::Unauthenticated, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, secret: &Secret, rest: &str) -> String {
        format!("{name} = {{ sha256 = \"{}\", {rest} }}\n", secret.sha256())
    }

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        headers
    }

    fn bearing(secret: &Secret) -> HeaderMap {
        headers(&format!("Bearer {}", secret.text()))
    }

    struct File(tempfile::TempDir);

    impl File {
        fn new(text: &str) -> Self {
            let file = Self(tempfile::tempdir().unwrap());
            file.write(text);
            file
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("keys.toml")
        }

        fn write(&self, text: &str) {
            std::fs::write(self.path(), text).unwrap();
        }
    }

    #[test]
    fn a_key_is_known_by_its_secret_alone_and_nothing_else_is_one() {
        let (ada, bob) = (Secret::new().unwrap(), Secret::new().unwrap());
        let file = File::new(&format!(
            "{}{}",
            line("ada", &ada, "scopes = [\"predict\"]"),
            line("bob", &bob, "scopes = [\"admin\", \"read\"]")
        ));
        let auth = Auth::load(&file.path()).unwrap();
        assert_eq!(auth.who(&bearing(&ada)).unwrap().name(), Some("ada"));
        assert_eq!(auth.who(&bearing(&bob)).unwrap().name(), Some("bob"));
        let lower = headers(&format!("bearer {}", bob.text()));
        assert_eq!(auth.who(&lower).unwrap().name(), Some("bob"));
        let mut twice = bearing(&ada);
        twice.append(AUTHORIZATION, "Bearer x".parse().unwrap());
        let stranger = Secret::new().unwrap();
        for headers in [
            HeaderMap::new(),
            headers("Bearer "),
            headers("Bearer"),
            headers("Basic YWRhOmFkYQ=="),
            headers(ada.text()),
            headers(&format!("Bearer {}x", ada.text())),
            headers(&format!("Bearer {}", ada.sha256())),
            headers(&format!("Bearer {}", "x".repeat(100_000))),
            bearing(&stranger),
            twice,
        ] {
            assert_eq!(auth.who(&headers).unwrap_err().kind, Kind::Unauthenticated);
        }
        let said = format!("{auth:?}");
        assert!(!said.contains(ada.text()), "{said}");
    }

    #[test]
    fn a_faulty_file_changes_nothing_and_a_good_one_ends_what_is_not_in_it() {
        let (ada, bob) = (Secret::new().unwrap(), Secret::new().unwrap());
        let (a, b) = (
            line("ada", &ada, "scopes = [\"predict\"]"),
            line("bob", &bob, "scopes = [\"predict\"]"),
        );
        let file = File::new(&format!("{a}{b}"));
        let auth = Auth::load(&file.path()).unwrap();
        let (kept, gone) = (auth.who(&bearing(&ada)).unwrap(), auth.who(&bearing(&bob)).unwrap());
        for faulty in [
            format!("{a}bob = {{"),
            a.replace("predict", "everything"),
            a.replace("sha256", "sha265"),
        ] {
            file.write(&faulty);
            assert!(auth.reload().is_err(), "{faulty}");
            assert!(auth.who(&bearing(&bob)).is_ok() && gone.in_force().is_ok());
        }
        file.write(&a);
        assert_eq!(auth.reload().unwrap(), 1);
        assert!(auth.who(&bearing(&bob)).is_err());
        assert_eq!(gone.in_force().unwrap_err().kind, Kind::Unauthenticated);
        assert!(kept.in_force().is_ok() && auth.who(&bearing(&ada)).is_ok());
        // The same secret with other scopes is another key to whoever holds a stream open.
        file.write(&a.replace("predict", "read"));
        auth.reload().unwrap();
        assert!(kept.in_force().is_err());
        assert!(auth.who(&bearing(&ada)).unwrap().may(&[Scope::Read]).is_ok());
    }

    #[test]
    fn what_a_key_may_is_said_by_scope_and_by_model() {
        let secret = Secret::new().unwrap();
        let file = File::new(&line("ada", &secret, "scopes = [\"predict\"], models = [\"moons\"]"));
        let who = Auth::load(&file.path()).unwrap().who(&bearing(&secret)).unwrap();
        assert!(who.may(&[Scope::Predict]).is_ok() && who.may(&[Scope::Read, Scope::Predict]).is_ok());
        let refused = who.may(&[Scope::Admin]).unwrap_err();
        assert_eq!(refused.kind, Kind::Forbidden);
        assert!(
            refused.message.contains("'admin'") && refused.message.contains("'ada'"),
            "{refused}"
        );
        assert!(who.may_model("moons").is_ok());
        assert_eq!(who.may_model("elec2").unwrap_err().kind, Kind::Forbidden);
        assert_eq!(who.may_all_models().unwrap_err().kind, Kind::Forbidden);
        let nobody = Who::default();
        assert!(nobody.may(&[Scope::Admin]).is_ok() && nobody.may_all_models().is_ok());
    }

    #[test]
    fn what_was_asked_is_counted_by_key_over_reloads_and_goes_with_the_key() {
        let (ada, bob) = (Secret::new().unwrap(), Secret::new().unwrap());
        let (a, b) = (
            line(
                "ada",
                &ada,
                "scopes = [\"predict\"], models = [\"moons\"], rows_per_day = 10",
            ),
            line("bob", &bob, "scopes = [\"read\"]"),
        );
        let file = File::new(&format!("{b}{a}"));
        let auth = Auth::load(&file.path()).unwrap();
        let who = auth.who(&bearing(&ada)).unwrap();
        who.spend_request().unwrap();
        who.spend_rows(9).unwrap();
        assert!(who.spend_rows(9).is_err() && who.may(&[Scope::Admin]).is_err() && who.may_model("elec2").is_err());
        file.write(&a.replace("predict", "pin"));
        auth.reload().unwrap();
        auth.who(&bearing(&ada)).unwrap().spend_request().unwrap();
        let asked = Asked {
            key: "ada".into(),
            allowed: 2,
            forbidden: 2,
            limited: 1,
            rows: 9,
        };
        assert_eq!(auth.asked(), [asked]);
    }

    #[test]
    fn limits_hold_over_a_reload() {
        let secret = Secret::new().unwrap();
        let text = line("ada", &secret, "scopes = [\"predict\"], rows_per_day = 10");
        let file = File::new(&text);
        let auth = Auth::load(&file.path()).unwrap();
        auth.who(&bearing(&secret)).unwrap().spend_rows(8).unwrap();
        file.write(&text.replace("predict", "read"));
        auth.reload().unwrap();
        let who = auth.who(&bearing(&secret)).unwrap();
        who.spend_rows(2).unwrap();
        let over = who.spend_rows(1).unwrap_err();
        assert_eq!(over.kind, Kind::RateLimited);
        assert!(over.retry_after.is_some_and(|s| (1..=86_400).contains(&s)), "{over:?}");
    }
}
