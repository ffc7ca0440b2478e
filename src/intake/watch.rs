//! Says when to look at the models directory again.
//!
//! File events only hint: the event of a changed volume may name nothing that changed, some file systems give none,
//! and a full kernel queue loses some. So any event means "look at that model", and a slow poll means "look at all".
//! Always holds: pending hints take bounded memory (many collapse into "all"); a root that vanishes, comes back or is
//! a symlink that moves is watched again; a failing watch leaves the poll.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{Event, RecursiveMode, Watcher};

/// Pending models or renames beyond this collapse into "all".
const MAX_PENDING: usize = 1_024;

/// What to look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// Everything.
    pub all: bool,
    /// Models by name, where not everything.
    pub models: BTreeSet<String>,
    /// Paths to which something was renamed: whole at once.
    pub renamed: Vec<PathBuf>,
}

impl Hints {
    /// True when there is nothing to look at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.all && self.models.is_empty() && self.renamed.is_empty()
    }

    fn add(&mut self, root: &Path, event: &Event) {
        if event.need_rescan() || event.paths.is_empty() {
            self.all = true;
        }
        for path in &event.paths {
            let inside = path.strip_prefix(root).ok().and_then(|inside| inside.iter().next());
            match inside.map(|name| name.to_string_lossy()) {
                // A dot name in the root is how a whole volume is exchanged.
                Some(name) if !name.starts_with('.') => {
                    self.models.insert(name.into_owned());
                }
                _ => self.all = true,
            }
        }
        if let (EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both)), Some(to)) =
            (event.kind, event.paths.last())
        {
            self.renamed.push(to.clone());
        }
        if self.models.len() > MAX_PENDING || self.renamed.len() > MAX_PENDING {
            self.all = true;
            self.renamed.truncate(MAX_PENDING);
        }
        if self.all {
            self.models.clear();
        }
    }
}

/// What the watcher's thread, the kernel's events and the reader share.
#[derive(Debug)]
struct Shared {
    pending: Mutex<Hints>,
    wake: Sender<()>,
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Hints> {
        // Hints are whole after every statement: a panic elsewhere leaves nothing half-done.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Hints)) {
        change(&mut self.pending());
        // Full means that the reader is being woken already; closed, that it has gone.
        let _ = self.wake.try_send(());
    }
}

/// A watch over the models directory; ends when dropped.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    woken: Receiver<()>,
    /// Dropped to end the thread.
    _alive: Sender<()>,
}

impl Watch {
    /// Starts to watch. The first hint is "all"; `poll` is the time after which everything is looked at anyway.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(root: PathBuf, poll: Duration) -> std::io::Result<Self> {
        let (wake, woken) = bounded(1);
        let (alive, ended) = bounded(0);
        let shared = Arc::new(Shared {
            pending: Mutex::new(Hints::default()),
            wake,
        });
        let keeper = Keeper {
            root,
            poll,
            shared: Arc::clone(&shared),
            ended,
        };
        std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || keeper.run())?;
        Ok(Self {
            shared,
            woken,
            _alive: alive,
        })
    }

    /// Waits until there is something to look at, or for `timeout`; takes what there is.
    pub fn wait(&self, timeout: Duration) -> Hints {
        let _ = self.woken.recv_timeout(timeout);
        std::mem::take(&mut *self.shared.pending())
    }

    /// Fires when there is something to take, for a reader that waits for other things too.
    #[must_use]
    pub fn woken(&self) -> &Receiver<()> {
        &self.woken
    }

    /// Takes what there is to look at.
    #[must_use]
    pub fn take(&self) -> Hints {
        std::mem::take(&mut *self.shared.pending())
    }
}

/// The thread that polls and keeps the watch on the right directory.
struct Keeper {
    root: PathBuf,
    poll: Duration,
    shared: Arc<Shared>,
    ended: Receiver<()>,
}

/// Which directory the root is at the moment.
type Identity = Option<(PathBuf, u64, u64)>;

impl Keeper {
    fn run(self) {
        let (lost, root_lost) = bounded(1);
        let mut identity = None;
        let mut watcher = None;
        loop {
            let now = self.identity();
            if now != identity || watcher.is_none() {
                drop(watcher.take());
                watcher = now.is_some().then(|| self.watch(lost.clone())).flatten();
                identity = now;
            }
            // Only after the watch stands: what came before it is found by this look.
            self.shared.note(|hints| {
                hints.all = true;
                hints.models.clear();
            });
            crossbeam_channel::select! {
                recv(self.ended) -> _ => return,
                recv(root_lost) -> _ => {}
                default(self.poll) => {}
            }
        }
    }

    fn identity(&self) -> Identity {
        let real = fs::canonicalize(&self.root).ok()?;
        let about = fs::metadata(&real).ok()?;
        Some((real, about.dev(), about.ino()))
    }

    fn watch(&self, lost: Sender<()>) -> Option<notify::RecommendedWatcher> {
        let (shared, root) = (Arc::clone(&self.shared), self.root.clone());
        let handler = move |event: notify::Result<Event>| match event {
            Ok(event) if is_own_reading(event.kind) => {}
            Ok(event) => {
                if matches!(event.kind, EventKind::Remove(_)) && event.paths.contains(&root) {
                    // Full means that the thread looks already.
                    let _ = lost.try_send(());
                }
                shared.note(|hints| hints.add(&root, &event));
            }
            Err(error) => {
                tracing::warn!(%error, "a file event was lost: everything is looked at");
                shared.note(|hints| hints.all = true);
            }
        };
        let started = notify::recommended_watcher(handler).and_then(|mut watcher| {
            watcher.watch(&self.root, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        started
            .inspect_err(|error| {
                tracing::warn!(%error, root = %self.root.display(), "no file events: the directory is only polled");
            })
            .ok()
    }
}

/// Opening and reading say nothing new, and the look itself does both.
fn is_own_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}
