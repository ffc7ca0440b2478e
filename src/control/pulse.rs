//! Whether the threads that control needs are there.
//!
//! A thread that ends by a fault closes its channel, and a closed channel answers at once for ever: it is listened to
//! no more, and the loss is kept for readiness to show.

use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, RecvError, never};

/// The first loss, if there is one; clone it.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<OnceLock<&'static str>>);

impl Pulse {
    /// True while control and everybody it hears from runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.lost().is_none()
    }

    /// The thread that is gone.
    #[must_use]
    pub fn lost(&self) -> Option<&'static str> {
        self.0.get().copied()
    }

    fn lose(&self, thread: &'static str) {
        if self.0.set(thread).is_ok() {
            tracing::error!("the {thread} thread is gone: answers go on, roles do not change any more; restart");
        }
    }

    /// What came over a channel; where nothing ever will, the channel is left alone from now on.
    pub(super) fn heard<T>(
        &self,
        channel: &mut Receiver<T>,
        got: Result<T, RecvError>,
        thread: &'static str,
    ) -> Option<T> {
        got.inspect_err(|_| {
            *channel = never();
            self.lose(thread);
        })
        .ok()
    }
}

/// Held by the control thread itself.
#[derive(Debug)]
pub(super) struct Beat(pub Pulse);

impl Drop for Beat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.lose("control");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;

    #[test]
    fn a_closed_channel_is_heard_once_and_named() {
        let pulse = Pulse::default();
        let (sender, mut receiver) = bounded(1);
        sender.send(7).unwrap();
        let got = receiver.recv();
        assert_eq!(pulse.heard(&mut receiver, got, "recorder"), Some(7));
        assert!(pulse.is_alive());
        drop(sender);
        let got = receiver.recv();
        assert_eq!(pulse.heard(&mut receiver, got, "recorder"), None);
        assert_eq!(pulse.lost(), Some("recorder"));
        let again = receiver.try_recv();
        assert_eq!(again, Err(crossbeam_channel::TryRecvError::Empty), "it would spin");
    }

    #[test]
    fn a_control_thread_that_panics_is_missed() {
        let pulse = Pulse::default();
        let beat = Beat(pulse.clone());
        let ended = std::thread::spawn(move || {
            let _beat = beat;
            panic!("on purpose");
        });
        assert!(ended.join().is_err());
        assert_eq!(pulse.lost(), Some("control"));
    }
}
