//! The command's process: started with what it may have, watched, and ended with all that it started.
//!
//! Always holds: no shell; standard input is empty; the environment is a short list; the process leads a group of its own,
//! runs at idle priority for processor and disk, is the first to go when memory is short, and dies with the thread that
//! started it. All of its output is read, as much of it as the log has room for is kept (the beginning and the end), so that
//! a command that floods fills neither disk nor memory. Whatever of it leaves its group is found by its mark.
#![expect(
    unsafe_code,
    reason = "priorities and the bond to the parent are set between fork and exec, which has no safe interface"
)]

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// The variable that marks all processes of a retraining.
const MARK: &str = "DETHRONE_RETRAIN_UID";
/// What a command keeps of the gateway's environment.
const KEPT: [&str; 7] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER"];
/// Between two looks at it.
const TICK: Duration = Duration::from_millis(25);
/// Output that is read in one look: a flood is slowed by that.
const READ: usize = 1 << 20;
/// Output that is kept: the first bytes, and the last.
const HEAD: u64 = 512 << 10;
const TAIL: usize = 128 << 10;
/// From asking it to end until it is ended.
const GRACE: Duration = Duration::from_secs(5);
/// The same when the gateway ends.
const GRACE_AT_STOP: Duration = Duration::from_secs(1);
/// What cannot be killed, because it waits for a disk, is left alone after so long.
const LEFT: Duration = Duration::from_secs(60);

/// What is to be run.
#[derive(Debug)]
pub(super) struct Task<'a> {
    /// Program and arguments.
    pub(super) argv: &'a [String],
    /// Where it is run; a program with a slash in its name is looked up from here.
    pub(super) directory: &'a Path,
    /// More variables.
    pub(super) env: Vec<(&'static str, OsString)>,
    /// Marks it.
    pub(super) uid: &'a str,
    /// What it says goes here.
    pub(super) log: &'a Path,
    /// Longest time.
    pub(super) timeout: Duration,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself.
    Exit(ExitStatus),
    /// It took too long.
    TimedOut,
    /// The gateway ends.
    Stopped,
}

/// Runs it to its end.
///
/// # Errors
/// It cannot be started, or watched.
pub(super) fn run(task: &Task<'_>, stop: &Receiver<()>) -> io::Result<Ended> {
    let mut log = Log::new(task.log)?;
    let (mut reader, writer) = io::pipe()?;
    let flags = rustix::fs::fcntl_getfl(&reader)?;
    rustix::fs::fcntl_setfl(&reader, flags | rustix::fs::OFlags::NONBLOCK)?;
    let mut child = start(task, writer)?;
    let pid = child.id();
    // First to go when memory is short; may not be allowed.
    let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "1000");
    let ended = watch(&child, &mut reader, &mut log, (task.timeout, stop));
    let left = ended.as_ref().is_ok_and(Option::is_none);
    if !left {
        // Before it is reaped: until then nobody else can have its number.
        signal(pid, Signal::KILL);
    }
    end_marked(task.uid);
    let status = if left { None } else { Some(child.wait()?) };
    log.take(&mut reader);
    log.finish();
    Ok(match (ended?, status) {
        (Some(Why::Itself), Some(status)) => Ended::Exit(status),
        (Some(Why::Stop), _) => Ended::Stopped,
        _ => Ended::TimedOut,
    })
}

/// Why it ended.
#[derive(Clone, Copy)]
enum Why {
    Itself,
    Time,
    Stop,
}

/// Waits for its end and sees to it; `None`: it cannot be ended.
fn watch(
    child: &Child,
    reader: &mut PipeReader,
    log: &mut Log,
    (timeout, stop): (Duration, &Receiver<()>),
) -> io::Result<Option<Why>> {
    let pid = child.id();
    let started = Instant::now();
    let mut asked: Option<(Why, Instant)> = None;
    loop {
        log.take(reader);
        if has_ended(pid)? {
            return Ok(Some(asked.map_or(Why::Itself, |(why, _)| why)));
        }
        let is_stopping = match stop.recv_timeout(TICK) {
            Err(RecvTimeoutError::Timeout) => false,
            _ => {
                // A closed channel does not wait.
                std::thread::park_timeout(TICK);
                true
            }
        };
        let grace = if is_stopping { GRACE_AT_STOP } else { GRACE };
        match asked {
            None if is_stopping || started.elapsed() >= timeout => {
                let why = if is_stopping { Why::Stop } else { Why::Time };
                asked = Some((why, Instant::now()));
                signal(pid, Signal::TERM);
            }
            Some((_, since)) if since.elapsed() >= grace => {
                signal(pid, Signal::KILL);
                if since.elapsed() >= grace + if is_stopping { GRACE_AT_STOP } else { LEFT } {
                    return Ok(None);
                }
            }
            _ => {}
        }
    }
}

fn start(task: &Task<'_>, writer: io::PipeWriter) -> io::Result<Child> {
    let (program, arguments) = task
        .argv
        .split_first()
        .ok_or_else(|| io::Error::other("the command is empty"))?;
    let path = Path::new(program);
    let program: PathBuf = if program.contains('/') {
        task.directory.join(path)
    } else {
        path.to_owned()
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(task.directory)
        .env_clear()
        .envs(KEPT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))))
        .envs(task.env.iter().map(|(name, value)| (name, value)))
        .env(MARK, task.uid)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    give_way(&mut command);
    command.spawn()
}

/// Between fork and exec: as low as it goes, and bound to this thread.
fn give_way(command: &mut Command) {
    let parent = std::process::id();
    let set = move || {
        let param = libc::sched_param { sched_priority: 0 };
        // SAFETY: system calls that take numbers, and one that reads a local which lives across it; all may be made between
        // fork and exec. Where one is refused the command runs without.
        let now = unsafe {
            libc::setpriority(libc::PRIO_PROCESS, 0, 19);
            #[cfg(target_os = "linux")]
            {
                libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const param);
                // IOPRIO_WHO_PROCESS, and the class IOPRIO_CLASS_IDLE.
                libc::syscall(libc::SYS_ioprio_set, 1, 0, 3 << 13);
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            }
            libc::getppid()
        };
        let _ = param;
        // The parent may have ended before the kernel was told.
        if u32::try_from(now) != Ok(parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls only; it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(set);
    }
}

fn pid_of(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

fn signal(group: u32, signal: Signal) {
    if let Some(pid) = pid_of(group) {
        // Nobody may be left in it.
        let _ = kill_process_group(pid, signal);
    }
}

/// True when it is dead; it is reaped later.
fn has_ended(pid: u32) -> io::Result<bool> {
    let Some(pid) = pid_of(pid) else { return Ok(true) };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    match waitid(WaitId::Pid(pid), options) {
        Ok(status) => Ok(status.is_some()),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Ends every process that carries the mark of this retraining: of one whose gateway was killed, or that left its group.
pub(super) fn end_marked(uid: &str) {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
        let mark = format!("{MARK}={uid}");
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
            let Some(pid) = number.filter(|pid| pid.as_raw_nonzero().get().cast_unsigned() != std::process::id())
            else {
                continue;
            };
            // What is held cannot be another process by the time it is ended.
            let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else {
                continue;
            };
            if has_mark(&entry.path().join("environ"), mark.as_bytes()) {
                let _ = pidfd_send_signal(held, Signal::KILL);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = uid;
}

#[cfg(target_os = "linux")]
fn has_mark(path: &Path, mark: &[u8]) -> bool {
    let Ok(file) = File::open(path) else { return false };
    let mut environment = Vec::new();
    // Longer than any that the kernel takes at once by default.
    let read = file.take(4 << 20).read_to_end(&mut environment);
    read.is_ok() && environment.split(|byte| *byte == 0).any(|one| one == mark)
}

/// The end of a command in words, and its exit code.
pub(super) fn told(status: ExitStatus) -> (Option<i64>, String) {
    match (status.code(), status.signal()) {
        (Some(0), _) => (Some(0), "the command has succeeded".into()),
        (Some(code), _) => (
            Some(code.into()),
            format!("the command has failed with exit code {code}"),
        ),
        (None, Some(signal)) => (
            Some(-i64::from(signal)),
            format!("the command was ended by signal {signal}"),
        ),
        (None, None) => (None, "it is not known how the command ended".into()),
    }
}

/// What a command says: the beginning in a file, the end in memory until it is over.
struct Log {
    file: File,
    head: u64,
    tail: VecDeque<u8>,
    left_out: u64,
    buffer: Vec<u8>,
}

impl Log {
    fn new(path: &Path) -> io::Result<Self> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        Ok(Self {
            file,
            head: 0,
            tail: VecDeque::new(),
            left_out: 0,
            buffer: vec![0; 64 << 10],
        })
    }

    /// Reads what is there, at most so much at once.
    fn take(&mut self, reader: &mut PipeReader) {
        let mut read = 0;
        while read < READ {
            let mut buffer = std::mem::take(&mut self.buffer);
            let count = reader.read(&mut buffer).unwrap_or(0);
            self.keep(buffer.get(..count).unwrap_or_default());
            self.buffer = buffer;
            if count == 0 {
                return;
            }
            read += count;
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = usize::try_from(HEAD.saturating_sub(self.head)).unwrap_or(usize::MAX);
        let (head, tail) = bytes.split_at(room.min(bytes.len()));
        if !head.is_empty() {
            self.head += head.len() as u64;
            // A full disk loses words, not the command.
            let _ = self.file.write_all(head);
        }
        // Of more than fits only the end is looked at.
        let skipped = tail.len().saturating_sub(TAIL);
        self.left_out += skipped as u64;
        self.tail.extend(tail.get(skipped..).unwrap_or_default());
        let over = self.tail.len().saturating_sub(TAIL);
        self.left_out += over as u64;
        self.tail.drain(..over);
    }

    fn finish(mut self) {
        if self.left_out > 0 {
            let _ = writeln!(self.file, "\n… {} bytes are left out …", self.left_out);
        }
        let (a, b) = self.tail.as_slices();
        let _ = self.file.write_all(a).and_then(|()| self.file.write_all(b));
    }
}

/// Puts values in place of `{names}`; other braces stay.
pub(super) fn filled(word: &str, values: &[(&str, &OsStr)]) -> String {
    let mut out = String::new();
    let mut rest = word;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let found = values.iter().find_map(|(name, value)| {
            let after = from.strip_prefix('{')?.strip_prefix(name)?.strip_prefix('}')?;
            Some((value, after))
        });
        match found {
            Some((value, after)) => {
                out.push_str(&value.to_string_lossy());
                rest = after;
            }
            None => {
                out.push('{');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    /// `uid` is the test's own: what carries it is ended when it is over.
    fn script(directory: &Path, uid: &str, text: &str, timeout: Duration) -> (io::Result<Ended>, String) {
        let (_go_on, stop) = bounded(0);
        let log = directory.join("it.log");
        let argv = ["sh", "-c", text, "name", "a b"].map(str::to_owned);
        let task = Task {
            argv: &argv,
            directory,
            env: vec![("DETHRONE_RETRAIN_PATH", "/with blanks".into())],
            uid,
            log: &log,
            timeout,
        };
        let ended = run(&task, &stop);
        (ended, std::fs::read_to_string(&log).unwrap_or_default())
    }

    const LONG: Duration = Duration::from_secs(120);

    fn code(ended: io::Result<Ended>) -> Option<i64> {
        match ended.unwrap() {
            Ended::Exit(status) => told(status).0,
            Ended::TimedOut | Ended::Stopped => None,
        }
    }

    #[test]
    fn a_command_has_its_words_and_a_short_environment_and_stands_last() {
        let dir = tempfile::tempdir().unwrap();
        let text = "echo \"$1|$DETHRONE_RETRAIN_PATH\"; env | cut -d= -f1 | sort | tr '\\n' ' '; cat; echo; \
                    cut -d' ' -f19,41 /proc/self/stat; echo wrong >&2; exit 3";
        let (ended, said) = script(dir.path(), "words", text, LONG);
        assert_eq!(code(ended), Some(3), "{said}");
        assert!(
            said.starts_with("a b|/with blanks\n") && said.ends_with("wrong\n"),
            "{said}"
        );
        // CARGO, SECRETS and whatever else this process has are not there.
        let names: Vec<&str> = said.lines().nth(1).unwrap().split(' ').collect();
        let known = [
            &KEPT[..],
            &[MARK, "DETHRONE_RETRAIN_PATH", "PWD", "OLDPWD", "SHLVL", "_", ""],
        ]
        .concat();
        assert!(names.iter().all(|name| known.contains(name)), "{names:?}");
        // Nice, and SCHED_IDLE.
        assert!(said.contains("\n19 5\n"), "{said}");
    }

    #[test]
    fn one_that_never_ends_is_ended_with_all_that_it_started_and_that_left_its_group() {
        let dir = tempfile::tempdir().unwrap();
        // Deaf to SIGTERM; a child in the group, one outside of it.
        let text = "trap '' TERM; sleep 600 & setsid sleep 600 & while :; do sleep 1; done";
        let (ended, said) = script(dir.path(), "endless", text, Duration::from_secs(1));
        assert_eq!(ended.unwrap(), Ended::TimedOut, "{said}");
        let marked = || {
            let processes = std::fs::read_dir("/proc").unwrap().flatten();
            let is_marked =
                |entry: &std::fs::DirEntry| has_mark(&entry.path().join("environ"), b"DETHRONE_RETRAIN_UID=endless");
            processes.filter(is_marked).count()
        };
        let end = Instant::now() + LONG;
        while marked() > 0 {
            assert!(Instant::now() < end, "something lives on");
            std::thread::park_timeout(TICK);
        }
    }

    #[test]
    fn a_flood_is_read_and_its_beginning_and_its_end_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let text = "echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo last";
        let (ended, said) = script(dir.path(), "flood", text, LONG);
        assert_eq!(code(ended), Some(0));
        assert!(
            said.starts_with("first\nx") && said.ends_with("xlast\n"),
            "{} bytes",
            said.len()
        );
        assert!(said.len() as u64 <= HEAD + TAIL as u64 + 100 && said.contains("bytes are left out"));
    }

    #[test]
    fn what_cannot_be_started_says_so_and_a_stop_ends_what_runs() {
        let dir = tempfile::tempdir().unwrap();
        let (log, argv) = (dir.path().join("log"), ["./no such program".to_owned()]);
        let task = |argv| Task {
            argv,
            directory: dir.path(),
            env: Vec::new(),
            uid: "nothing",
            log: &log,
            timeout: LONG,
        };
        let (go_on, stop) = bounded(0);
        assert_eq!(run(&task(&argv), &stop).unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(go_on);
        let argv = ["sleep".to_owned(), "600".to_owned()];
        assert_eq!(run(&task(&argv), &stop).unwrap(), Ended::Stopped);
    }

    #[test]
    fn names_in_braces_are_replaced_and_others_stay() {
        let values = [("path", OsStr::new("/a b")), ("rows", OsStr::new("7"))];
        assert_eq!(filled("--in={path}:{rows}{x}{", &values), "--in=/a b:7{x}{");
        assert_eq!(filled("", &values), "");
    }
}
