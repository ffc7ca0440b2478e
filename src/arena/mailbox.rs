//! One frame each way in memory that gateway and runner share, and a word for each to sleep at.
//!
//! The quicker way for small frames of a runner that somebody waits for. One exchange as a request makes it (each side
//! asleep before, 512 bytes, a limit to the wait), median on a virtual machine of two processors: 38 µs over a socket,
//! 25 µs here. Whoever sleeps says so, so that a word to somebody who is awake costs no system call.
//!
//! Always holds: what the other side writes, and when, changes nothing but the bytes that are handed out: its numbers are
//! read once and checked, its bytes are copied before anybody looks at them, and the memory can be neither cut off nor
//! grown. A side that is never woken waits no longer than it wanted to.
//! Leaves to others: frames that are too large, and whether the other side still lives (`channel`: the socket tells both).
#![expect(
    unsafe_code,
    reason = "mapping a file is a call to the system; what is mapped is atomics alone"
)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, Timespec};
use rustix::thread::futex;

/// Bytes of the largest frame that goes this way.
pub(super) const CAPACITY: usize = 32 << 10;
const WORD: usize = size_of::<u64>();
/// In place of a length: the frame comes over the socket.
const ELSEWHERE: u32 = u32::MAX;

/// One direction. Every value of every field is a possible one, and both processes may write to all of them at any time.
#[repr(C, align(128))]
struct Tray {
    /// Counts the frames, and is what the receiver sleeps at.
    number: AtomicU32,
    length: AtomicU32,
    /// The receiver is about to sleep, or does.
    sleeps: AtomicU32,
    words: [AtomicU64; CAPACITY / WORD],
}

#[repr(C)]
struct Sheet {
    questions: Tray,
    answers: Tray,
}

/// Where a frame was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nowhere yet.
    Nothing,
    /// It was copied.
    Here,
    /// It comes over the socket.
    Elsewhere,
}

/// What the other side wrote is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nonsense {
    /// A frame beyond the next one.
    Number,
    /// So many bytes.
    Length(usize),
}

/// One side's hold on the shared memory.
#[derive(Debug)]
pub(super) struct Mailbox {
    sheet: NonNull<Sheet>,
    is_gateways: bool,
    /// Number of the last frame that was posted from here.
    posted: u32,
    /// Number of the last frame that was taken here.
    taken: u32,
}

// SAFETY: the memory is not bound to a thread, and all that is in it is atomic.
unsafe impl Send for Mailbox {}

impl Mailbox {
    /// The gateway's side, and the descriptor for the runner.
    ///
    /// # Errors
    /// No descriptors, or no memory.
    pub(super) fn create() -> io::Result<(Self, OwnedFd)> {
        let file = rustix::fs::memfd_create("dethrone-mailbox", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&file, size_of::<Sheet>() as u64)?;
        // A runner that could shorten it would have us killed for a look at it.
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self::map(&file, true)?, file))
    }

    /// The runner's side.
    ///
    /// # Errors
    /// What came is no such memory.
    pub(super) fn open(file: &OwnedFd) -> io::Result<Self> {
        if usize::try_from(rustix::fs::fstat(file)?.st_size).ok() != Some(size_of::<Sheet>()) {
            return Err(io::Error::other("it is of another size"));
        }
        Self::map(file, false)
    }

    /// `file` is as long as a sheet.
    fn map(file: &OwnedFd, is_gateways: bool) -> io::Result<Self> {
        // SAFETY: a new mapping of an open file, at an address that the system chooses.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<Sheet>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            sheet: NonNull::new(start.cast()).ok_or_else(|| io::Error::other("a mapping at no address"))?,
            is_gateways,
            posted: 0,
            taken: 0,
        })
    }

    pub(super) fn is_gateways(&self) -> bool {
        self.is_gateways
    }

    /// Where this side posts, and where it takes.
    fn trays(&self) -> (&Tray, &Tray) {
        // SAFETY: a page begins at a multiple of any alignment here, a whole sheet is mapped there until this is dropped,
        // and its fields are atomic and take any bits.
        let Sheet { questions, answers } = unsafe { self.sheet.as_ref() };
        match self.is_gateways {
            true => (questions, answers),
            false => (answers, questions),
        }
    }

    /// Lays a frame down and wakes who waits for it. False: it does not fit, and the other side looks at the socket now.
    pub(super) fn post(&mut self, frame: &[u8]) -> bool {
        let Some(length) = u32::try_from(frame.len()).ok().filter(|_| frame.len() <= CAPACITY) else {
            self.announce();
            return false;
        };
        let (tray, _) = self.trays();
        for (word, bytes) in tray.words.iter().zip(frame.chunks(WORD)) {
            let mut whole = [0; WORD];
            // The last one may be shorter.
            whole.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            word.store(u64::from_ne_bytes(whole), Ordering::Relaxed);
        }
        self.tell(length);
        true
    }

    /// Has the other side look at the socket for the next frame.
    pub(super) fn announce(&mut self) {
        self.tell(ELSEWHERE);
    }

    fn tell(&mut self, length: u32) {
        self.posted = self.posted.wrapping_add(1);
        let (tray, _) = self.trays();
        tray.length.store(length, Ordering::Relaxed);
        // Either the receiver sees the number, or this sees that it sleeps.
        tray.number.store(self.posted, Ordering::SeqCst);
        if tray.sleeps.load(Ordering::SeqCst) != 0 {
            // Cannot fail: the word is mapped.
            let _ = futex::wake(&tray.number, futex::Flags::empty(), 1);
        }
    }

    /// Copies the next frame, if it is there, into `frame`.
    pub(super) fn take(&mut self, frame: &mut Vec<u8>) -> Result<Found, Nonsense> {
        let next = self.taken.wrapping_add(1);
        let (_, tray) = self.trays();
        let number = tray.number.load(Ordering::Acquire);
        if number == self.taken {
            return Ok(Found::Nothing);
        }
        if number != next {
            return Err(Nonsense::Number);
        }
        // Once: it may be another one the next time.
        let length = tray.length.load(Ordering::Relaxed);
        let found = match length as usize {
            _ if length == ELSEWHERE => Found::Elsewhere,
            length if length > CAPACITY => return Err(Nonsense::Length(length)),
            length => {
                frame.clear();
                frame.reserve(length.next_multiple_of(WORD));
                for word in tray.words.iter().take(length.div_ceil(WORD)) {
                    frame.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
                }
                frame.truncate(length);
                Found::Here
            }
        };
        self.taken = next;
        Ok(found)
    }

    /// Sleeps until something is posted, and no longer than this (`None`: for ever); it may wake for no reason.
    pub(super) fn sleep(&self, at_most: Option<Duration>) {
        let (_, tray) = self.trays();
        let timeout = at_most.and_then(|time| Timespec::try_from(time).ok());
        tray.sleeps.store(1, Ordering::SeqCst);
        // The kernel looks at the number once more. Whatever woke this, the caller looks for itself.
        let _ = futex::wait(&tray.number, futex::Flags::empty(), self.taken, timeout.as_ref());
        tray.sleeps.store(0, Ordering::Relaxed);
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and whoever borrowed from it is gone.
        let _ = unsafe { libc::munmap(self.sheet.as_ptr().cast(), size_of::<Sheet>()) };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn pair() -> (Mailbox, Mailbox, OwnedFd) {
        let (ours, file) = Mailbox::create().unwrap();
        let theirs = Mailbox::open(&file).unwrap();
        (ours, theirs, file)
    }

    #[test]
    fn frames_of_every_length_arrive_as_they_were_posted_each_once() {
        let (mut ours, mut theirs, _) = pair();
        let mut got = vec![7; 3];
        assert_eq!(theirs.take(&mut got), Ok(Found::Nothing));
        for length in (0..40).chain([511, 512, CAPACITY - 1, CAPACITY]) {
            let frame: Vec<u8> = (0_u8..251).cycle().take(length).collect();
            assert!(ours.post(&frame));
            assert_eq!(theirs.take(&mut got), Ok(Found::Here));
            assert_eq!(got, frame);
            assert_eq!(theirs.take(&mut got), Ok(Found::Nothing));
            // And back, where nothing of it is seen.
            assert_eq!(ours.take(&mut got), Ok(Found::Nothing));
            assert!(theirs.post(&frame));
            assert_eq!(ours.take(&mut got), Ok(Found::Here));
            assert_eq!(got, frame);
        }
        assert!(!ours.post(&vec![0; CAPACITY + 1]));
        assert_eq!(theirs.take(&mut got), Ok(Found::Elsewhere));
        assert_eq!(theirs.take(&mut got), Ok(Found::Nothing));
    }

    #[test]
    fn numbers_go_on_beyond_the_largest_one() {
        let (mut ours, mut theirs, _) = pair();
        (ours.posted, theirs.taken) = (u32::MAX - 1, u32::MAX - 1);
        theirs.trays().1.number.store(u32::MAX - 1, Ordering::Relaxed);
        let mut got = Vec::new();
        for byte in 0..4 {
            assert!(ours.post(&[byte]));
            assert_eq!(theirs.take(&mut got), Ok(Found::Here));
            assert_eq!(got, [byte]);
        }
    }

    #[test]
    fn a_length_that_cannot_be_and_a_frame_beyond_the_next_are_nonsense() {
        for length in [(32 << 10) + 1, 1 << 31, u32::MAX - 1] {
            let (mut ours, mut theirs, _) = pair();
            theirs.post(b"answer");
            theirs.trays().0.length.store(length, Ordering::Relaxed);
            let mut got = Vec::new();
            assert_eq!(ours.take(&mut got), Err(Nonsense::Length(length as usize)));
            assert_eq!(got.capacity(), 0, "nothing was made ready for it");
        }
        let (mut ours, mut theirs, _) = pair();
        theirs.post(b"answer");
        theirs.post(b"another");
        assert_eq!(ours.take(&mut Vec::new()), Err(Nonsense::Number));
        theirs.trays().0.number.store(u32::MAX, Ordering::Relaxed);
        assert_eq!(ours.take(&mut Vec::new()), Err(Nonsense::Number));
    }

    #[test]
    fn whoever_is_never_woken_or_woken_for_nothing_waits_no_longer_than_it_wanted_to() {
        let (ours, theirs, _) = pair();
        let started = Instant::now();
        ours.sleep(Some(Duration::from_millis(5)));
        assert!(started.elapsed() >= Duration::from_millis(5));
        std::thread::scope(|scope| {
            let waits = scope.spawn(move || ours.sleep(Some(Duration::from_secs(60))));
            while !waits.is_finished() {
                // Nothing is posted: the other side only says so.
                let _ = futex::wake(&theirs.trays().0.number, futex::Flags::empty(), 1);
                std::thread::yield_now();
            }
        });
        // What was posted meanwhile is not slept through.
        let (ours, mut theirs, _) = pair();
        theirs.post(b"answer");
        ours.sleep(None);
    }

    #[test]
    fn bytes_that_change_while_they_are_copied_change_nothing_but_the_copy() {
        let (mut ours, mut theirs, _) = pair();
        let frame = vec![1; CAPACITY];
        let ends = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (tray, ends) = (theirs.sheet.as_ptr() as usize, &ends);
            let _writes = scope.spawn(move || {
                // SAFETY: the memory outlives the scope, and its fields are atomic.
                let sheet = unsafe { &*(tray as *const Sheet) };
                while !ends.load(Ordering::Relaxed) {
                    for word in &sheet.answers.words {
                        word.fetch_add(1, Ordering::Relaxed);
                    }
                    for length in [0, 5, 32 << 10, u32::MAX - 1] {
                        sheet.answers.length.store(length, Ordering::Relaxed);
                    }
                }
            });
            let mut got = Vec::new();
            for _ in 0..2_000 {
                theirs.post(&frame);
                match ours.take(&mut got) {
                    Ok(Found::Here) => assert!([0, 5, CAPACITY].contains(&got.len())),
                    Ok(found) => panic!("{found:?}"),
                    // It is not taken then; whoever met nonsense looks no further.
                    Err(Nonsense::Length(_)) => ours.taken = ours.taken.wrapping_add(1),
                    Err(nonsense) => panic!("{nonsense:?}"),
                }
            }
            ends.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn the_memory_can_be_neither_cut_off_nor_grown_and_another_size_is_not_opened() {
        let (_ours, _theirs, file) = pair();
        for length in [0, 1, 1 << 20] {
            assert!(rustix::fs::ftruncate(&file, length).is_err());
        }
        assert!(rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE).is_err());
        let other = rustix::fs::memfd_create("other", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&other, 4_096).unwrap();
        assert!(Mailbox::open(&other).is_err());
    }
}
