//! Files that are followed while they are in use: one thread looks at their bytes once a second, and at once when told.
//!
//! Bytes and not times: a volume of Kubernetes changes by a link, a backup keeps times. What has changed is taken on when
//! it has stood still between two looks, so that a file that is written in place, or a pair of which one half is there, is
//! waited for.
//!
//! Always holds: what cannot be taken on changes nothing, and is said once; no byte of a file is kept or said.

use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use sha2::{Digest as _, Sha256};

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(1);

/// What takes files on: how it went, in a few words.
type Take = Box<dyn FnMut() -> Result<String, String> + Send>;

/// Files that belong together.
pub(super) struct Followed {
    what: &'static str,
    files: Vec<PathBuf>,
    take: Take,
    /// As they were last taken on, or refused.
    seen: Option<[u8; 32]>,
    /// As they are since the last look, where that is something else.
    pending: Option<[u8; 32]>,
}

impl Followed {
    /// Files as they are now in force.
    pub(super) fn new(
        what: &'static str,
        files: Vec<PathBuf>,
        take: impl FnMut() -> Result<String, String> + Send + 'static,
    ) -> Self {
        let seen = Some(digest(&files));
        Self {
            what,
            files,
            take: Box::new(take),
            seen,
            pending: None,
        }
    }

    /// Looks once; `now`: whoever asks says that they are whole.
    fn look(&mut self, now: bool) {
        let found = digest(&self.files);
        if self.seen == Some(found) {
            self.pending = None;
            return;
        }
        if !now && self.pending != Some(found) {
            self.pending = Some(found);
            return;
        }
        let what = self.what;
        match (self.take)() {
            Ok(said) => tracing::info!("{what}: the files have changed and were taken on: {said}"),
            Err(why) => {
                tracing::error!("{what}: the files have changed and cannot be used, what is in force stays: {why}")
            }
        }
        (self.seen, self.pending) = (Some(found), None);
    }
}

/// One of all files; a file that cannot be read is told from an empty one.
fn digest(files: &[PathBuf]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for file in files {
        match crate::config::bytes_of(file) {
            Ok(Some(bytes)) => {
                hash.update([1]);
                hash.update(Sha256::digest(bytes));
            }
            Ok(None) | Err(_) => hash.update([0]),
        }
    }
    hash.finalize().into()
}

/// The thread. It ends when this goes; nobody waits for it, since a file may hang.
#[derive(Debug)]
pub(super) struct Follower {
    tell: Option<Sender<()>>,
}

impl Follower {
    /// Starts it, where there is something to follow.
    ///
    /// # Errors
    /// No thread can be had.
    pub(super) fn start(all: Vec<Followed>) -> std::io::Result<Self> {
        if all.is_empty() {
            return Ok(Self { tell: None });
        }
        let (tell, told) = bounded(1);
        std::thread::Builder::new().name("files".into()).spawn(move || {
            crate::priority::give_way();
            follow(all, &told);
        })?;
        Ok(Self { tell: Some(tell) })
    }

    /// Looks at once, and takes the files as they are.
    pub(super) fn look(&self) {
        if let Some(tell) = &self.tell {
            // Full: it is about to look.
            let _ = tell.try_send(());
        }
    }
}

fn follow(mut all: Vec<Followed>, told: &Receiver<()>) {
    loop {
        let now = match told.recv_timeout(PERIOD) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        all.iter_mut().for_each(|files| files.look(now));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn files_are_taken_on_once_they_stand_still_and_at_once_when_told() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&a, "1").unwrap();
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        let mut files = Followed::new("test", vec![a.clone(), b.clone()], move || {
            count.fetch_add(1, Ordering::Relaxed);
            Err("refused".into())
        });
        let mut look = |now| {
            files.look(now);
            taken.load(Ordering::Relaxed)
        };
        assert_eq!((look(false), look(true)), (0, 0), "nothing has changed");
        std::fs::write(&a, "").unwrap();
        assert_eq!(look(false), 0, "it may be half written");
        std::fs::write(&a, "2").unwrap();
        assert_eq!(
            (look(false), look(false), look(false)),
            (0, 1, 1),
            "once, though it was refused"
        );
        std::fs::write(&b, "").unwrap();
        assert_eq!((look(true), look(true)), (2, 2));
        std::fs::remove_file(&b).unwrap();
        std::fs::remove_file(&a).unwrap();
        assert_eq!((look(false), look(false)), (2, 3));
    }
}
