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
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{Event, RecursiveMode, Watcher};

/// Pending models or renames beyond this collapse into "all".
const MAX_PENDING: usize = 1_024;
/// How often a root that has vanished is looked for.
const ROOT_AWAY: Duration = Duration::from_millis(250);
/// How often the root is asked whether it is still the one that is watched: of its loss an event can be missed.
const ROOT_CHECK: Duration = Duration::from_secs(1);

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

    /// Adds an event below `root`; `given` is the root's name before it was made absolute, by which the reader
    /// names its files.
    fn add(&mut self, root: &Path, given: &Path, event: &Event) {
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
            self.renamed.push(
                to.strip_prefix(root)
                    .map_or_else(|_| to.clone(), |inside| given.join(inside)),
            );
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
        std::thread::Builder::new().name("watch".into()).spawn(move || {
            crate::priority::give_way();
            keeper.run();
        })?;
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

/// Which directory the root is at the moment. One that was made anew may have the old one's number, and not its birth.
type Identity = Option<(PathBuf, u64, u64, Option<SystemTime>)>;

impl Keeper {
    fn run(self) {
        let (lost, root_lost) = bounded(1);
        let mut known: Option<Identity> = None;
        let mut watcher = None;
        let mut due = Instant::now();
        loop {
            let now = self.identity();
            let is_news = known.as_ref() != Some(&now);
            if is_news || watcher.is_none() {
                drop(watcher.take());
                watcher = now.is_some().then(|| self.watch(lost.clone(), is_news)).flatten();
            }
            // Only after the watch stands: what came before it is found by this look. A root that stays away is
            // told once.
            if is_news || (now.is_some() && Instant::now() >= due) {
                due = Instant::now() + self.poll;
                self.shared.note(|hints| {
                    hints.all = true;
                    hints.models.clear();
                });
            }
            let pause = self.poll.min(if now.is_some() { ROOT_CHECK } else { ROOT_AWAY });
            known = Some(now);
            crossbeam_channel::select! {
                recv(self.ended) -> _ => return,
                recv(root_lost) -> _ => known = None,
                default(pause) => {}
            }
        }
    }

    fn identity(&self) -> Identity {
        let real = fs::canonicalize(&self.root).ok()?;
        let about = fs::metadata(&real).ok()?;
        Some((real, about.dev(), about.ino(), about.created().ok()))
    }

    /// Watches the root; a failure is logged when it `is_news`, not at every poll.
    fn watch(&self, lost: Sender<()>, is_news: bool) -> Option<notify::RecommendedWatcher> {
        let (shared, given) = (Arc::clone(&self.shared), self.root.clone());
        let root = std::path::absolute(&self.root).ok()?;
        let watched = root.clone();
        let handler = move |event: notify::Result<Event>| match event {
            Ok(event) if is_own_reading(event.kind) => {}
            Ok(event) => {
                if matches!(event.kind, EventKind::Remove(_)) && event.paths.contains(&root) {
                    // Full means that the thread looks already.
                    let _ = lost.try_send(());
                }
                shared.note(|hints| hints.add(&root, &given, &event));
            }
            Err(error) => {
                tracing::warn!(%error, "a file event was lost: everything is looked at");
                shared.note(|hints| hints.all = true);
            }
        };
        let started = notify::recommended_watcher(handler).and_then(|mut watcher| {
            watcher.watch(&watched, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        started
            .inspect_err(|error| {
                if is_news {
                    let root = self.root.display();
                    tracing::warn!(%error, %root, "no file events: the directory is only polled");
                }
            })
            .ok()
    }
}

/// Opening and reading say nothing new, and the look itself does both.
fn is_own_reading(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(path: &str) -> Event {
        Event::new(EventKind::Modify(ModifyKind::Name(RenameMode::To))).add_path(path.into())
    }

    #[test]
    fn pending_hints_collapse_into_one_look_at_everything() {
        let (root, mut hints) = (Path::new("/models"), Hints::default());
        for i in 0..=MAX_PENDING {
            assert!(!hints.all);
            hints.add(root, root, &event(&format!("/models/m{i}/e.onnx")));
        }
        assert!(hints.all && hints.models.is_empty() && hints.renamed.len() == MAX_PENDING);
        hints.add(root, root, &event("/models/m1/e.onnx"));
        assert!(hints.models.is_empty() && hints.renamed.len() == MAX_PENDING);
    }

    #[test]
    fn events_without_a_model_are_about_everything() {
        let root = Path::new("/models");
        for path in ["/models", "/models/..data", "/elsewhere"] {
            let mut hints = Hints::default();
            hints.add(root, root, &event(path));
            assert!(hints.all, "{path}");
        }
        let mut hints = Hints::default();
        hints.add(root, Path::new("models"), &event("/models/m/..data"));
        assert!(!hints.all && hints.models.contains("m"));
        assert_eq!(hints.renamed, [Path::new("models/m/..data")]);
    }
}
