//! What several gateways will share, as three contracts: who is champion ([`Register`]), what has happened ([`Log`]), and
//! the bytes of models ([`Blobs`]).
//!
//! One gateway keeps all three in its state directory: the first two are its ledger ([`Writer`]), the third is the content
//! store ([`Store`]). Whatever takes their place must pass `contract`, which is written against the traits alone.
//!
//! Always holds: a change of the register names the revision that it was made from, and is refused where another came
//! first; it carries a nonce, so that whoever does not learn what became of a change can ask; revisions and positions only
//! grow; what was appended together is there together or not at all; bytes lie under their digest and under no other.
//! Here a change is durable when the transaction around it ends ([`Ledger::transaction`]): a promotion changes register,
//! log and roles in one. Leaves to others: a backend over the network, of which there is none yet.
//!
//! [`Ledger::transaction`]: crate::ledger::Ledger::transaction

#[cfg(test)]
mod contract;

use std::path::PathBuf;
use std::time::SystemTime;

use crate::intake::External;
use crate::intake::store::{IntakeError, Store, Stored, Unit};
use crate::ledger::{JournalEntry, LedgerError, ModelRow, Writer};
use crate::score::ModelNo;

/// Who is champion, of every model.
pub trait Register {
    /// A model as it stands.
    ///
    /// # Errors
    /// The register cannot be read.
    fn read(&self, model: &str) -> Result<Option<ModelRow>, LedgerError>;

    /// A model as it stands, where it has changed since that revision: what a watch rests on. Never an older one.
    ///
    /// # Errors
    /// The register cannot be read.
    fn newer(&self, model: &str, than: u64) -> Result<Option<ModelRow>, LedgerError> {
        Ok(self.read(model)?.filter(|row| row.revision > than))
    }

    /// Makes a change as [`ModelRow::proposed`] has it.
    ///
    /// # Errors
    /// [`LedgerError::Conflict`] where another change came first: nothing has changed. After any other error, and where
    /// none comes back, the change may have been made: the nonce that is [`Register::read`] tells.
    fn compare_and_set(&self, change: &ModelRow) -> Result<(), LedgerError>;
}

/// What has happened to a model's judge, in order.
pub trait Log {
    /// Appends an event that happened after `after_row` was folded; gives its position, greater than all before.
    ///
    /// # Errors
    /// It was not appended.
    fn append(&self, model: ModelNo, time_ms: i64, after_row: u64, event: &str) -> Result<i64, LedgerError>;

    /// What was appended after a position, in order.
    ///
    /// # Errors
    /// The log cannot be read.
    fn read_after(&self, model: ModelNo, position: i64) -> Result<Vec<JournalEntry>, LedgerError>;
}

/// The bytes of models, by digest.
pub trait Blobs: std::fmt::Debug + Send + Sync {
    /// Takes a unit, unless the same bytes are there.
    ///
    /// # Errors
    /// See [`IntakeError`].
    fn put(&self, unit: &Unit, external: External<'_>) -> Result<Stored, IntakeError>;

    /// Takes a model that was made from the stored model `of`.
    ///
    /// # Errors
    /// See [`IntakeError`].
    fn put_derived(&self, bytes: &[u8], of: &str) -> Result<Stored, IntakeError>;

    /// Where the bytes of a digest lie, if they are there.
    fn get(&self, digest: &str) -> Option<PathBuf>;

    /// Compares what is there with its digest.
    ///
    /// # Errors
    /// It is not there, or is something else.
    fn verify(&self, digest: &str) -> Result<(), IntakeError>;

    /// Puts what is something else out of the way, so that the bytes can be put again.
    ///
    /// # Errors
    /// It cannot be moved.
    fn set_aside(&self, digest: &str) -> Result<PathBuf, IntakeError>;

    /// Removes what `is_needed` knows nothing of and was put after `since`; gives how many.
    ///
    /// # Errors
    /// They cannot be listed.
    fn sweep(&self, is_needed: &dyn Fn(&str) -> bool, since: SystemTime) -> Result<usize, IntakeError>;
}

impl Register for Writer<'_> {
    fn read(&self, model: &str) -> Result<Option<ModelRow>, LedgerError> {
        self.known_model(model)
    }

    fn compare_and_set(&self, change: &ModelRow) -> Result<(), LedgerError> {
        self.update_model(change)
    }
}

impl Log for Writer<'_> {
    fn append(&self, model: ModelNo, time_ms: i64, after_row: u64, event: &str) -> Result<i64, LedgerError> {
        self.insert_journal(model, time_ms, after_row, event)
    }

    fn read_after(&self, model: ModelNo, position: i64) -> Result<Vec<JournalEntry>, LedgerError> {
        self.journal(model, position)
    }
}

impl Blobs for Store {
    fn put(&self, unit: &Unit, external: External<'_>) -> Result<Stored, IntakeError> {
        self.put(unit, external)
    }

    fn put_derived(&self, bytes: &[u8], of: &str) -> Result<Stored, IntakeError> {
        self.put_derived(bytes, of)
    }

    fn get(&self, digest: &str) -> Option<PathBuf> {
        self.path(digest)
    }

    fn verify(&self, digest: &str) -> Result<(), IntakeError> {
        self.verify(digest)
    }

    fn set_aside(&self, digest: &str) -> Result<PathBuf, IntakeError> {
        self.set_aside(digest)
    }

    fn sweep(&self, is_needed: &dyn Fn(&str) -> bool, since: SystemTime) -> Result<usize, IntakeError> {
        self.sweep(is_needed, since)
    }
}
