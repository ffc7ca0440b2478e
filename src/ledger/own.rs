//! What a version's own toml said when it was last in force: a restart that cannot read the directory goes on with it.

use rusqlite::params;

use super::seal::insert_sealed;
use super::{LedgerError, Writer};
use crate::score::{ModelNo, VersionNo};

impl Writer<'_> {
    /// Stores the settings of a version, as JSON.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn put_own_settings(&self, version: VersionNo, settings: &str) -> Result<(), LedgerError> {
        self.connection
            .prepare_cached(insert_sealed!("INSERT OR REPLACE INTO ", "version_settings", "?1, ?2"))?
            .execute(params![version.0, settings])?;
        Ok(())
    }

    /// The settings of a model's versions that were ever in force.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn own_settings(&self, model: ModelNo) -> Result<Vec<(VersionNo, String)>, LedgerError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT s.version_no, s.settings FROM version_settings s JOIN versions USING (version_no) WHERE model_no = ?1",
        )?;
        let rows = statement.query_map([model.0], |row| Ok((VersionNo(row.get(0)?), row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
