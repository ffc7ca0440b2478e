//! What every backend must do, written against the traits; at the end, that the embedded ones do it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Barrier;

use super::{Blobs, Log, Register};
use crate::intake::store::{IntakeError, Part, Store, Unit};
use crate::ledger::{Ledger, LedgerError, ModelRow};
use crate::score::{ModelNo, VersionNo};

/// A register and a log that can be opened again, and whose next commit can be made to fail.
trait Shared {
    /// Runs `work` in one durable change; an error of it leaves nothing behind.
    fn change<T>(
        &mut self,
        work: impl FnOnce(&dyn Register, &dyn Log) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError>;
    /// Another process's, after this one was killed.
    fn reopened(&self) -> Self;
    /// The model `m`.
    fn model(&mut self) -> ModelRow;
}

fn champion(row: ModelRow, no: u32) -> ModelRow {
    ModelRow {
        champion: Some(VersionNo(no)),
        epoch: row.epoch + 1,
        ..row
    }
    .proposed()
}

fn of_two_proposers_one_wins_and_the_other_learns_of_it(mut shared: impl Shared) {
    let row = shared.model();
    let (one, other) = (champion(row.clone(), 1), champion(row.clone(), 2));
    shared.change(|register, _| register.compare_and_set(&one)).unwrap();
    let refused = shared.change(|register, _| register.compare_and_set(&other));
    assert!(matches!(refused, Err(LedgerError::Conflict)), "{refused:?}");
    let again = shared.change(|register, _| register.compare_and_set(&one));
    assert!(
        matches!(again, Err(LedgerError::Conflict)),
        "one change is made once: {again:?}"
    );
    let now = shared
        .change(|register, _| register.newer("m", row.revision))
        .unwrap()
        .unwrap();
    assert_eq!((now.champion, &now.nonce), (Some(VersionNo(1)), &one.nonce));
    let second = champion(now, 2);
    shared.change(|register, _| register.compare_and_set(&second)).unwrap();
    assert_eq!(second.revision, row.revision + 2);
}

fn a_watch_never_goes_back(mut shared: impl Shared) {
    let mut row = shared.model();
    for no in 1..20 {
        let change = champion(row.clone(), no);
        shared.change(|register, _| register.compare_and_set(&change)).unwrap();
        let seen = shared
            .change(|register, _| register.newer("m", row.revision))
            .unwrap()
            .unwrap();
        assert!(seen.revision > row.revision && seen.epoch > row.epoch);
        let later = seen.revision + 1;
        assert!(
            shared
                .change(|register, _| register.newer("m", later))
                .unwrap()
                .is_none()
        );
        assert!(
            shared
                .change(|register, _| register.newer("m", seen.revision))
                .unwrap()
                .is_none()
        );
        row = seen;
    }
    assert_eq!(shared.reopened().model(), row);
}

fn what_became_of_a_change_is_told_by_its_nonce(mut shared: impl Shared) {
    let row = shared.model();
    let (kept, lost) = (champion(row.clone(), 1), champion(row, 2));
    // In both the answer never comes; in the one the change was made.
    shared.change(|register, _| register.compare_and_set(&kept)).unwrap();
    let failed = shared.change(|register, log| {
        register.compare_and_set(&champion(kept.clone(), 3))?;
        log.append(kept.no, 1, 0, "half of it")?;
        Err::<(), _>(LedgerError::LogInUse)
    });
    assert!(failed.is_err());
    let mut reopened = shared.reopened();
    let now = reopened.model();
    assert!(now.nonce == kept.nonce && now.nonce != lost.nonce, "{now:?}");
    let entries = reopened.change(|_, log| log.read_after(now.no, 0)).unwrap();
    assert!(entries.is_empty(), "nothing is left of what failed: {entries:?}");
}

fn a_log_is_read_from_a_position_in_the_order_in_which_it_was_written(mut shared: impl Shared) {
    let model = shared.model().no;
    let mut positions: Vec<i64> = Vec::new();
    for batch in 0..4 {
        let appended = shared.change(|_, log| {
            (0..3)
                .map(|k| log.append(model, batch, 7, &format!("{batch} {k}")))
                .collect::<Result<Vec<_>, _>>()
        });
        positions.extend(appended.unwrap());
    }
    assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
    let mut shared = shared.reopened();
    for (k, position) in positions.iter().enumerate() {
        let rest = shared.change(|_, log| log.read_after(model, *position)).unwrap();
        let expected: Vec<i64> = positions[k + 1..].to_vec();
        assert_eq!(rest.iter().map(|entry| entry.no).collect::<Vec<_>>(), expected);
    }
    let all = shared.change(|_, log| log.read_after(model, 0)).unwrap();
    assert_eq!((all[4].event.as_str(), all[4].after_row), ("1 1", 7));
    assert!(
        shared
            .change(|_, log| log.read_after(ModelNo(99), 0))
            .unwrap()
            .is_empty()
    );
}

/// A file to be taken.
fn unit(folder: &Path, name: &str, bytes: &[u8]) -> Unit {
    let path = folder.join(format!("{name}.onnx"));
    fs::write(&path, bytes).unwrap();
    Unit {
        name: name.into(),
        root: folder.canonicalize().unwrap(),
        path: path.canonicalize().unwrap(),
        external: Vec::<Part>::new(),
    }
}

fn the_same_bytes_are_kept_once_however_many_put_them_at_a_time(blobs: &dyn Blobs) {
    let folder = tempfile::tempdir().unwrap();
    let units: Vec<Unit> = (0..8)
        .map(|k| unit(folder.path(), &format!("v{k}"), b"the same bytes"))
        .collect();
    let start = Barrier::new(units.len());
    let put = |unit: &Unit| {
        start.wait();
        blobs.put(unit, &|_| Ok(Vec::new())).unwrap()
    };
    let stored: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = units.iter().map(|unit| scope.spawn(|| put(unit))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(stored.windows(2).all(|two| two[0] == two[1]), "{stored:?}");
    let path = blobs.get(&stored[0].digest).unwrap();
    assert_eq!(fs::read(path).unwrap(), b"the same bytes");
    blobs.verify(&stored[0].digest).unwrap();
}

fn what_is_not_there_is_not_got_and_what_is_damaged_is_found_and_can_be_put_again(blobs: &dyn Blobs) {
    let nothing = format!("sha256:{}", "0".repeat(64));
    assert!(blobs.get(&nothing).is_none() && blobs.get("../../ids.key").is_none());
    assert!(matches!(blobs.verify(&nothing), Err(IntakeError::Missing(_))));
    let folder = tempfile::tempdir().unwrap();
    let unit = unit(folder.path(), "v", b"bytes that matter");
    let stored = blobs.put(&unit, &|_| Ok(Vec::new())).unwrap();
    flip(&blobs.get(&stored.digest).unwrap());
    assert!(matches!(blobs.verify(&stored.digest), Err(IntakeError::Damaged(_))));
    blobs.set_aside(&stored.digest).unwrap();
    assert!(blobs.get(&stored.digest).is_none());
    assert_eq!(blobs.put(&unit, &|_| Ok(Vec::new())).unwrap(), stored);
    blobs.verify(&stored.digest).unwrap();
}

fn flip(path: &PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut bytes = fs::read(path).unwrap();
    bytes[3] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// The ledger in a state directory.
struct Embedded(Ledger, std::sync::Arc<tempfile::TempDir>);

impl Embedded {
    fn new() -> Self {
        let dir = std::sync::Arc::new(tempfile::TempDir::new().unwrap());
        Self(Ledger::open(dir.path()).unwrap(), dir)
    }
}

impl Shared for Embedded {
    fn change<T>(
        &mut self,
        work: impl FnOnce(&dyn Register, &dyn Log) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        self.0.transaction(true, |writer| work(&*writer, &*writer))
    }

    fn reopened(&self) -> Self {
        Self(Ledger::open(self.1.path()).unwrap(), std::sync::Arc::clone(&self.1))
    }

    fn model(&mut self) -> ModelRow {
        self.0.transaction(true, |writer| writer.model("m")).unwrap()
    }
}

#[test]
fn the_ledger_is_a_register_and_a_log() {
    of_two_proposers_one_wins_and_the_other_learns_of_it(Embedded::new());
    a_watch_never_goes_back(Embedded::new());
    what_became_of_a_change_is_told_by_its_nonce(Embedded::new());
    a_log_is_read_from_a_position_in_the_order_in_which_it_was_written(Embedded::new());
}

#[test]
fn the_content_store_keeps_blobs() {
    let state = tempfile::tempdir().unwrap();
    let store = Store::open(state.path(), 1 << 20).unwrap();
    the_same_bytes_are_kept_once_however_many_put_them_at_a_time(&store);
    what_is_not_there_is_not_got_and_what_is_damaged_is_found_and_can_be_put_again(&store);
}
