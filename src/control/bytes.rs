//! The bytes that a version runs: in the content store, and what their digest says.
//!
//! Always holds: bytes are compared with their digest before they are loaded, here or in a runner; what is damaged is set
//! aside and never loaded. It is made again from the original of a cut copy, or copied again from the models directory,
//! where a file of the same digest lies; then the version comes back without a restart.
//! Leaves to others: copying (`admission`), and what a version without bytes means (`restore`, `promote`).

use std::path::PathBuf;
use std::time::Instant;

use super::Thread;
use super::keeper::Version;
use crate::score::VersionNo;

impl Thread {
    /// Where a version's bytes lie in the content store.
    ///
    /// # Errors
    /// The store has lost them.
    pub(super) fn path_of(&self, version: &Version) -> Result<PathBuf, String> {
        let digest = bytes_run(version);
        self.admission
            .path_of(digest)
            .ok_or_else(|| format!("the content store has no {digest}: drop the file again"))
    }

    /// The same, compared with their digest.
    ///
    /// # Errors
    /// The store has lost them, or they are damaged and set aside by now.
    pub(super) fn whole_bytes_of(&self, model: &str, version: &Version) -> Result<PathBuf, String> {
        let digest = bytes_run(version);
        let missed = match self.admission.whole(digest) {
            Ok(path) => return Ok(path),
            Err(why) => why,
        };
        tracing::error!(model, version = version.row.name, "{missed}");
        let made_again = version.row.stored_digest.is_some() && self.cut_again(version);
        if made_again && let Ok(path) = self.admission.whole(digest) {
            tracing::info!(
                model,
                version = version.row.name,
                digest,
                "the stored copy was made again"
            );
            return Ok(path);
        }
        if !version.misses_bytes {
            self.missed.borrow_mut().insert(model.to_owned());
        }
        Err(format!(
            "{missed}; it is copied again from the models directory where a file of the same bytes lies, else drop the file again"
        ))
    }

    /// Makes a copy without its ZipMap again from the original, where that is whole.
    fn cut_again(&self, version: &Version) -> bool {
        self.admission
            .cut_again(&version.row.digest)
            .inspect_err(|why| tracing::error!(version = version.row.name, "{why}"))
            .is_ok()
    }

    /// Files of models whose stored bytes are missed are handed out again, whatever was known of them.
    pub(super) fn copy_missed(&mut self) {
        for model in std::mem::take(&mut *self.missed.borrow_mut()) {
            self.settler.forget_beneath(&self.config.models.join(model));
            self.look_at = Instant::now();
        }
    }

    /// A runner found its bytes damaged, or has none. It goes on by itself once they are there.
    pub(super) fn runner_misses_bytes(&mut self, no: VersionNo) {
        let Some((model, version)) = self
            .keepers
            .iter()
            .find_map(|(model, keeper)| Some((model.clone(), keeper.version(no)?)))
        else {
            return;
        };
        let reason = self.whole_bytes_of(&model, version).err();
        self.note_bytes(&model, no, reason.as_deref());
    }

    /// Shows, with the version, that its bytes are missed, or that they no longer are.
    pub(super) fn note_bytes(&mut self, model: &str, no: VersionNo, missed: Option<&str>) {
        let Some(version) = self.keepers.get_mut(model).and_then(|k| k.version_mut(no)) else {
            return;
        };
        if !version.is_loaded() || version.misses_bytes == missed.is_some() {
            return;
        }
        version.misses_bytes = missed.is_some();
        let role = version.row.role.clone();
        let done = self.set_role(model, no, &role, missed);
        self.report(done);
    }
}

/// The digest of the bytes that run: the copy without its ZipMap, where there is one.
pub(super) fn bytes_run(version: &Version) -> &str {
    version.row.stored_digest.as_ref().unwrap_or(&version.row.digest)
}
