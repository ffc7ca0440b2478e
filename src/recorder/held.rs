//! A recorder that takes over from another process's: until that one has let the ledger go, rows and labels wait in their
//! queues, and whoever looks sees the ledger as it was at the beginning.
//!
//! Always holds: nothing is written, and no label acknowledged, before the ledger is this process's own and the books of all
//! models are open; then what has waited is written in the order in which it came. A label whose sender has given up
//! meanwhile is not stored. Leaves to others: when the ledger is free (`gateway::hand_over`), and opening the books (`control`).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::thread::{Queues, Thread};
use super::{Core, Recorder, StorageError, Verdicted};
use crate::config::RetentionConfig;
use crate::ledger::{Damage, Ledger, LedgerError};

/// A label that waits this long for the ledger is to be sent again.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// The way to let a held recorder write. Dropped, it never does.
#[derive(Debug)]
pub struct Held {
    free: Sender<()>,
    opened: Receiver<Result<(), LedgerError>>,
}

impl Held {
    /// The state directory is this process's own: opens the ledger. Rows and labels go on waiting until
    /// [`Recorder::go_on`].
    ///
    /// # Errors
    /// What the ledger says at opening.
    pub fn open(self) -> Result<(), LedgerError> {
        let ended = || LedgerError::Damaged("the recorder has ended".into());
        self.free.send(()).map_err(|_| ended())?;
        self.opened.recv().map_err(|_| ended())?
    }
}

impl Recorder {
    /// [`Recorder::start`] beside another process that still writes the ledger.
    ///
    /// # Errors
    /// The ledger cannot be read, or is of another format.
    pub fn start_held(
        state: &Path,
        decisions: Sender<Verdicted>,
        share: f64,
        limits: &RetentionConfig,
    ) -> Result<(Self, Held, JoinHandle<()>), LedgerError> {
        let before = Ledger::open_to_read(state)?;
        let damage = Damage::default();
        let (recorder, queues, room) = Self::with_queues(damage.clone());
        recorder.held.store(true, Ordering::Release);
        let (free, is_free) = bounded(0);
        let (tell, opened) = bounded(1);
        let (own, limits, directory) = (recorder.clone(), limits.clone(), state.to_path_buf());
        let (watched, ended) = bounded(0);
        let join = recorder.spawn(state, move || {
            // Its end ends the look at the ledger, too.
            let _watched = watched;
            if !wait(&before, &queues, &is_free, &own.stopping) {
                return;
            }
            drop(before);
            let ledger = match Ledger::open_counting(&directory, damage) {
                Ok(ledger) => ledger,
                Err(error) => return drop(tell.send(Err(error))),
            };
            let (fault, stopping) = (Arc::clone(&own.fault), Arc::clone(&own.stopping));
            let mut thread = Thread::new(ledger, queues, decisions, fault, stopping, (room, share));
            thread.keep(limits, Arc::clone(&own.keeping));
            thread.hold(Arc::clone(&own.held));
            own.look_at_all(&directory, ended);
            // The thread must not be what keeps its own queues open.
            drop(own);
            drop(tell.send(Ok(())));
            thread.run();
        })?;
        Ok((recorder, Held { free, opened }, join))
    }

    /// The books are open: what has waited is written.
    pub fn go_on(&self) {
        self.held.store(false, Ordering::Release);
        // Full: it is being woken already.
        let _ = self.wake.try_send(());
    }

    /// True while rows and labels wait for the process before this one.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// What a label hears that has waited long enough.
    pub(super) fn patience_is_over() -> StorageError {
        StorageError::new("the gateway is being upgraded, and the process before this one still holds the ledger")
    }
}

/// Shows the ledger as it was until it is free; false when the recorder is to stop.
fn wait(before: &Ledger, queues: &Queues, is_free: &Receiver<()>, stopping: &AtomicBool) -> bool {
    let core = Core::default();
    loop {
        select! {
            recv(is_free) -> word => return word.is_ok(),
            recv(queues.looks) -> look => match look {
                Ok(look) => look(&core, &before.reader()),
                Err(_) => return false,
            },
            recv(queues.woken) -> _ => if stopping.load(Ordering::Acquire) {
                return false;
            },
        }
    }
}
