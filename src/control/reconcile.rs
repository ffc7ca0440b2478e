//! When a change of the register was refused, or nobody knows what became of it: the register is asked, and followed.

use super::Thread;
use crate::shared::Register;

impl Thread {
    /// Takes over what the register says of a model, where it has moved on from what is known here.
    pub(super) fn reconcile(&mut self, model: &str) {
        let Some(keeper) = self.keepers.get(model) else { return };
        let (name, no, known) = (model.to_owned(), keeper.row.no, keeper.row.revision);
        let asked = self.recorder.call_blocking(move |_, writer| {
            let newer = writer.newer(&name, known)?;
            newer.map(|row| Ok((row, writer.versions(no)?))).transpose()
        });
        let (row, versions) = match asked {
            Ok(Some(newer)) => newer,
            Ok(None) => return,
            // It is asked again with the next change.
            Err(error) => return tracing::warn!(model, %error, "the register cannot be asked"),
        };
        tracing::warn!(
            model,
            revision = row.revision,
            nonce = row.nonce,
            "the register has moved on from what was known: following it"
        );
        if let Some(keeper) = self.keepers.get_mut(model) {
            keeper.row = row;
            for row in versions {
                if let Some(version) = keeper.version_mut(row.no) {
                    version.row = row;
                }
            }
        }
        self.seat_recorded(model);
    }
}
