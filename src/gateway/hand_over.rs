//! An upgrade without a failed request: a new process takes the listening sockets of the running one over.
//!
//! The running one listens on `hand-over.sock` in the state directory, for its own user alone. The new one says hello, reads
//! the ledger, loads and warms the champions, and only then asks for the sockets; once it answers on them it says so, and the
//! other one stops as at SIGTERM. Until it has written everything and let the state directory go, rows and labels of the new
//! one wait (`recorder::held`), and the old one takes no labels: it does not know what the new one has answered.
//!
//! Always holds: until the new process says that it answers, its end changes nothing. Both never issue one id
//! ([`IdGenerator::share`](crate::id::IdGenerator::share)). One process may take over at a time.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::Gateway;
use crate::arena::channel::{Channel, ChannelError};
use crate::id::Lane;

/// What both sides speak; another number is refused.
const PROTOCOL: u32 = 1;
/// Frames are a few names.
const LONGEST_FRAME: usize = 64 << 10;
/// An answer comes at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// Loading and warming may take this long.
const LOADING: Duration = Duration::from_secs(3_600);
/// The process that is asked may have taken over itself just now.
const STARTING: Duration = Duration::from_secs(5);
/// How often a waiting session looks whether the gateway stops, and a new process for the socket.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
enum Ask {
    /// Who is there?
    Who,
    /// May I take over?
    Hello { protocol: u32, version: String },
    /// The champions are loaded: which sockets are there, and which ids are mine?
    Take,
    /// One of them.
    Listener { name: String },
    /// Requests are answered here.
    Serving,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
enum Answer {
    Here {
        protocol: u32,
        version: String,
        pid: u32,
    },
    Refused {
        why: String,
    },
    Share {
        lane: Lane,
        floor: i64,
        listeners: Vec<String>,
    },
    /// With the socket.
    Listener,
    Goodbye,
}

fn here() -> Answer {
    Answer::Here {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
    }
}

/// A path to the socket that is short enough for the system wherever the directory lies; valid while the file is open.
fn path(state: &Path) -> io::Result<(File, String)> {
    let directory = File::open(state)?;
    let path = format!("/proc/self/fd/{}/hand-over.sock", directory.as_raw_fd());
    Ok((directory, path))
}

fn is_own_user(stream: &UnixStream) -> bool {
    rustix::net::sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}

fn send(channel: &mut Channel, message: &impl Serialize, socket: Option<&OwnedFd>) -> Result<(), ChannelError> {
    let text = serde_json::to_vec(message).map_err(|error| ChannelError::Io(error.to_string()))?;
    let encode = |out: &mut Vec<u8>| out.extend_from_slice(&text);
    channel.send_with(encode, socket.map(AsFd::as_fd), &mut within(PATIENCE))
}

/// Waits so long, and no longer.
fn within(patience: Duration) -> impl FnMut() -> Option<Duration> {
    let end = Instant::now() + patience;
    move || Some(end.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
}

/// The running process, as one that wants to take over sees it.
#[derive(Debug)]
pub(super) struct Predecessor {
    channel: Channel,
    /// Its process id and version.
    pub(super) about: (u32, String),
}

/// What it hands over.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) lane: Lane,
    pub(super) floor: i64,
    pub(super) listeners: Vec<(String, TcpListener)>,
}

impl Predecessor {
    /// The process that serves this state directory, when it lets itself be taken over.
    ///
    /// # Errors
    /// None runs here, or it refuses: a sentence.
    pub(super) fn find(state: &Path) -> Result<Self, String> {
        let end = Instant::now() + STARTING;
        let stream = loop {
            match path(state).and_then(|(_directory, path)| UnixStream::connect(path)) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() >= end => {
                    return Err(format!(
                        "no process that can be taken over serves {} ({error}): one of an older version is to be stopped, \
                         and then start this one without --take-over",
                        state.display()
                    ));
                }
                Err(_) => std::thread::sleep(LOOK),
            }
        };
        if !is_own_user(&stream) {
            return Err(
                "the process that serves this state directory runs as another user: upgrade as that user".into(),
            );
        }
        let mut before = Self {
            channel: Channel::taking_descriptors(stream),
            about: (0, String::new()),
        };
        let hello = Ask::Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
        };
        match before.ask(&hello)? {
            Answer::Here { pid, version, .. } => before.about = (pid, version),
            other => return Err(unexpected(&other)),
        }
        Ok(before)
    }

    /// Its sockets, and the ids that it leaves. It goes on until [`Predecessor::relieve`].
    ///
    /// # Errors
    /// It is gone, or refuses.
    pub(super) fn take(&mut self) -> Result<Handed, String> {
        let (lane, floor, names) = match self.ask(&Ask::Take)? {
            Answer::Share { lane, floor, listeners } => (lane, floor, listeners),
            other => return Err(unexpected(&other)),
        };
        let mut listeners = Vec::new();
        for name in names {
            match self.ask(&Ask::Listener { name: name.clone() })? {
                Answer::Listener => {}
                other => return Err(unexpected(&other)),
            }
            let socket = self.channel.descriptor().ok_or("a socket did not arrive")?;
            listeners.push((name, TcpListener::from(socket)));
        }
        Ok(Handed { lane, floor, listeners })
    }

    /// Requests are answered here: the other process stops.
    ///
    /// # Errors
    /// It is gone, which is as good.
    pub(super) fn relieve(mut self) -> Result<(), String> {
        self.ask(&Ask::Serving).map(drop)
    }

    fn ask(&mut self, ask: &Ask) -> Result<Answer, String> {
        let gone = |error: ChannelError| format!("the running process cannot be taken over: {error}");
        send(&mut self.channel, ask, None).map_err(gone)?;
        let frame = self.channel.resume(&mut within(PATIENCE)).map_err(gone)?;
        match serde_json::from_slice(frame) {
            Ok(Answer::Refused { why }) => Err(format!("the running process refuses to be taken over: {why}")),
            Ok(answer) => Ok(answer),
            Err(error) => Err(format!(
                "the running process speaks another language ({error}): stop it instead"
            )),
        }
    }
}

fn unexpected(answer: &Answer) -> String {
    format!("the running process answered out of turn ({answer:?}): stop it instead")
}

/// Process id and version of the process that serves this state directory and can be taken over, if there is one.
#[must_use]
pub fn who(state: &Path) -> Option<(u32, String)> {
    let (_directory, path) = path(state).ok()?;
    let stream = UnixStream::connect(path).ok().filter(is_own_user)?;
    let mut channel = Channel::with_limit(stream, LONGEST_FRAME);
    send(&mut channel, &Ask::Who, None).ok()?;
    let frame = channel.resume(&mut within(PATIENCE)).ok()?;
    match serde_json::from_slice(frame) {
        Ok(Answer::Here { pid, version, .. }) => Some((pid, version)),
        _ => None,
    }
}

/// The running side. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct HandOver {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    gateway: Arc<Gateway>,
    /// Copies of the listening sockets; none when the gateway stops.
    sockets: Mutex<Vec<(&'static str, OwnedFd)>>,
    stopping: AtomicBool,
    state: PathBuf,
    handed: watch::Sender<bool>,
}

impl HandOver {
    /// Listens for a process that wants to take over; `handed` becomes true when one answers requests.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub(super) fn start(
        state: &Path,
        gateway: Arc<Gateway>,
        sockets: Vec<(&'static str, OwnedFd)>,
        handed: watch::Sender<bool>,
    ) -> io::Result<Self> {
        let (_directory, path) = path(state)?;
        // Of a process that has ended: the directory is ours.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(listener)?;
        let shared = Arc::new(Shared {
            gateway,
            sockets: Mutex::new(sockets),
            stopping: AtomicBool::new(false),
            state: state.to_path_buf(),
            handed,
        });
        let own = Arc::clone(&shared);
        // It is aborted with this value.
        let task = TaskTracker::new().spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(LOOK).await;
                    continue;
                };
                let shared = Arc::clone(&own);
                // It waits for minutes while the other process loads, and looks meanwhile whether this one stops.
                drop(tokio::task::spawn_blocking(move || {
                    if let Ok(stream) = stream.into_std()
                        && stream.set_nonblocking(false).is_ok()
                        && is_own_user(&stream)
                    {
                        shared.session(Channel::with_limit(stream, LONGEST_FRAME));
                    }
                }));
            }
        });
        Ok(Self { shared, task })
    }

    /// Nobody takes over any more, and no copy of a listening socket is left here.
    pub(super) fn close(&self) {
        if self.shared.stopping.swap(true, Ordering::AcqRel) {
            return;
        }
        // The directory is still ours: it is no other process's socket.
        let _ = std::fs::remove_file(self.shared.state.join("hand-over.sock"));
        self.shared.sockets().clear();
        self.task.abort();
    }
}

impl Drop for HandOver {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn sockets(&self) -> std::sync::MutexGuard<'_, Vec<(&'static str, OwnedFd)>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self, mut channel: Channel) {
        let Some(version) = self.greeted(&mut channel) else {
            return;
        };
        let done = self.hand_over(&mut channel);
        if done.is_err() {
            self.gateway.is_shared.store(false, Ordering::Release);
        }
        self.gateway.has_successor.store(false, Ordering::Release);
        match done {
            Ok(()) => {
                tracing::info!(version, "another process answers on the listeners now");
                self.handed.send_replace(true);
            }
            Err(error) => {
                tracing::warn!(version, %error, "another process wanted to take over and did not: this one goes on");
            }
        }
    }

    /// The version of the process that may go on; `None`: it only asked, or was refused.
    fn greeted(&self, channel: &mut Channel) -> Option<String> {
        let (answer, version) = match self.heard(channel, PATIENCE).ok()? {
            Ask::Who => (here(), None),
            Ask::Hello { protocol, version } if protocol == PROTOCOL => {
                match self.gateway.has_successor.swap(true, Ordering::AcqRel) {
                    false => (here(), Some(version)),
                    true => (
                        refused("another process is taking over already: wait for it".into()),
                        None,
                    ),
                }
            }
            Ask::Hello { protocol, version } => {
                let own = env!("CARGO_PKG_VERSION");
                let why = format!(
                    "version {own} hands over by protocol {PROTOCOL}, version {version} takes over by protocol {protocol}: \
                     stop this one and start that one"
                );
                (refused(why), None)
            }
            _ => (refused("say hello first".into()), None),
        };
        let sent = send(channel, &answer, None);
        if sent.is_err() && version.is_some() {
            self.gateway.has_successor.store(false, Ordering::Release);
        }
        sent.ok().and(version)
    }

    /// From hello to the word that requests are answered elsewhere.
    fn hand_over(&self, channel: &mut Channel) -> Result<(), ChannelError> {
        loop {
            let (answer, socket) = match self.heard(channel, LOADING)? {
                Ask::Take => {
                    // Before it can answer: a label for what it answers must not be called unknown here.
                    self.gateway.is_shared.store(true, Ordering::Release);
                    let (lane, floor) = self.gateway.ids.share();
                    let listeners = self.sockets().iter().map(|(name, _)| (*name).to_owned()).collect();
                    (Answer::Share { lane, floor, listeners }, None)
                }
                Ask::Listener { name } => {
                    let sockets = self.sockets();
                    let socket = sockets.iter().find(|(of, _)| *of == name);
                    match socket.and_then(|(_, socket)| socket.try_clone().ok()) {
                        Some(socket) => (Answer::Listener, Some(socket)),
                        None => (refused(format!("there is no socket '{name}'")), None),
                    }
                }
                Ask::Serving => {
                    // Heard or not: the other one answers.
                    let _ = send(channel, &Answer::Goodbye, None);
                    return Ok(());
                }
                Ask::Who | Ask::Hello { .. } => (refused("that was said".into()), None),
            };
            send(channel, &answer, socket.as_ref())?;
        }
    }

    fn heard(&self, channel: &mut Channel, patience: Duration) -> Result<Ask, ChannelError> {
        let mut patience = within(patience);
        let mut wait = || {
            let is_over = self.stopping.load(Ordering::Acquire);
            patience().filter(|_| !is_over).map(|left| left.min(LOOK))
        };
        let frame = channel.receive(&mut wait)?;
        serde_json::from_slice(frame).map_err(|error| ChannelError::Io(error.to_string()))
    }
}

fn refused(why: String) -> Answer {
    Answer::Refused { why }
}
