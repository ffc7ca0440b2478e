//! Told, not asked: a webhook for what happens to models.
//!
//! A promotion, a rollback, a person's order, a recommendation, a refused or quarantined file, the ledger's failure,
//! labels that have fallen silent and rows that have left to be learned from are each posted as one JSON object, in the form of the Standard Webhooks specification
//! (`webhook-id`, `webhook-timestamp`, `webhook-signature`).
//!
//! Always holds: nothing waits for it. The thread reads the ledger as any other program would, so that there is no queue to
//! overflow: what has not been told stands in the ledger, and how far it has been told in `state/webhook.json`. Each event
//! is delivered at least once, across restarts, always under the same `webhook-id`, in order; one that the other side
//! refuses for good, or has not taken for a day, is given up, logged and counted. No other address is ever contacted:
//! redirects are not followed, proxies of the environment are not used. Leaves to others: what is decided, and when.

mod news;
mod send;
mod told;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

pub use news::{Event, Kind};
pub use send::Hook;

use crate::control::Models;
use crate::ledger::{Ledger, LedgerError};
use crate::metrics::{Delivery, WebhookMetrics};
use crate::recorder::Recorder;
use news::{Flow, Step};
use send::Sent;
use told::Told;

/// Between two looks at the ledger.
const PERIOD: Duration = Duration::from_secs(1);
/// Who has not looked for so long was away: stopped, or with its machine.
const AWAY: Duration = Duration::from_secs(3);
/// Rows may be seen a moment before the labels that came with them: who was away calls nobody silent before that is over.
const CATCH_UP: Duration = Duration::from_secs(60);
/// The longest wait before an event is sent once more.
const PATIENCE: Duration = Duration::from_secs(60);
/// An event that could not be delivered for so long is given up.
const GIVE_UP: Duration = Duration::from_secs(24 * 3600);

/// A running webhook. Dropping it ends the thread, after the call that is under way; nobody waits for that: an event that
/// was taken and is not noted yet is told once more after the next start, under the same id.
#[derive(Debug)]
pub struct Webhook {
    _stop: Sender<()>,
}

impl Webhook {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(
        hook: Hook,
        state: &Path,
        models: Models,
        recorder: Recorder,
        metrics: WebhookMetrics,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let teller = Teller {
            hook,
            state: state.to_path_buf(),
            models,
            recorder,
            metrics,
            stopped,
        };
        std::thread::Builder::new().name("webhook".into()).spawn(move || {
            crate::priority::give_way();
            teller.run();
        })?;
        Ok(Self { _stop: stop })
    }
}

struct Teller {
    hook: Hook,
    state: PathBuf,
    models: Models,
    recorder: Recorder,
    metrics: WebhookMetrics,
    stopped: Receiver<()>,
}

/// Since when somebody has looked without a break.
#[derive(Debug, Default)]
struct Presence {
    /// Unix milliseconds of the last look.
    looked: i64,
    /// Of the first look after the last break.
    back: i64,
}

impl Presence {
    /// A look, now: after how many milliseconds labels count as silent; never, where that was not watched for long enough.
    fn silence(&mut self, now: i64, silence: Duration) -> i64 {
        let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        // A clock that was set back tells as little as one that was not looked at.
        if !(0..=ms(AWAY)).contains(&now.saturating_sub(self.looked)) {
            self.back = now;
        }
        self.looked = now;
        match now.saturating_sub(self.back) >= ms(silence.min(CATCH_UP)) {
            true => ms(silence),
            false => i64::MAX,
        }
    }
}

/// The gateway is stopping.
struct Stopping;

impl Teller {
    fn run(&self) {
        let path = self.state.join("webhook.json");
        let mut told = Told::read(&path);
        let (mut complained, mut presence) = (String::new(), Presence::default());
        loop {
            match self.look(&path, &mut told, &mut presence) {
                Ok(Err(Stopping)) => return,
                Ok(Ok(())) => complained.clear(),
                // The disk may be away for a while; the log says it once.
                Err(error) if error.to_string() != complained => {
                    complained = error.to_string();
                    tracing::warn!(%error, "the webhook does not see or keep all that happened");
                }
                Err(_) => {}
            }
            if self.wait(PERIOD).is_err() {
                return;
            }
        }
    }

    fn wait(&self, time: Duration) -> Result<(), Stopping> {
        match self.stopped.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            _ => Err(Stopping),
        }
    }

    /// One look: everything new, told in order. That the ledger has failed is told first: it may not be readable, and
    /// what was told may not be kept. The memory of this process keeps it then.
    fn look(
        &self,
        path: &Path,
        told: &mut Option<Told>,
        presence: &mut Presence,
    ) -> Result<Result<(), Stopping>, LedgerError> {
        let now = crate::time::now_ms();
        let silence = presence.silence(now, self.hook.silence);
        if let Some(told) = told
            && let Some(step) = news::of_fault(told, self.recorder.fault(), now)
        {
            match self.step(told, step) {
                // On a full disk it cannot be.
                Ok(()) => drop(told.write(path)),
                Err(stopping) => return Ok(Err(stopping)),
            }
        }
        let Some(told) = told else {
            // What happened before somebody asked to be told is history.
            let known = news::present(&Ledger::open_to_read(&self.state)?.reader())?;
            return told.insert(known).write(path).map(Ok);
        };
        let mut kept = Ok(());
        for step in self.read(told, (now, silence))? {
            if let Err(stopping) = self.step(told, step) {
                return Ok(Err(stopping));
            }
            kept = told.write(path);
        }
        kept.map(Ok)
    }

    fn step(&self, told: &mut Told, (event, mark): Step) -> Result<(), Stopping> {
        if let Some(event) = event.filter(|event| self.hook.wants(event.kind)) {
            self.deliver(&event)?;
        }
        told.mark(mark);
        Ok(())
    }

    /// What has not been told. The ledger is closed again before anything is sent: an open reader keeps its log from
    /// beginning anew.
    fn read(&self, told: &Told, (now, silence): (i64, i64)) -> Result<Vec<Step>, LedgerError> {
        let ledger = Ledger::open_to_read(&self.state)?;
        let reader = ledger.reader();
        let mut steps = news::since(&reader, told, now)?;
        for served in self.models.load().values() {
            let flow = Flow {
                model: served.no.0,
                name: served.name.clone(),
                labels: served.metrics.labels_taken(),
                row: reader.last_row(served.no)?,
            };
            steps.extend(news::of_labels(told, &flow, (now, silence)));
        }
        Ok(steps)
    }

    fn deliver(&self, event: &Event) -> Result<(), Stopping> {
        let begun = Instant::now();
        let mut pause = PERIOD;
        loop {
            let why = match self.hook.send(event) {
                Sent::Taken => {
                    self.metrics.delivered(Delivery::Taken);
                    return Ok(());
                }
                Sent::Refused(why) => {
                    self.metrics.delivered(Delivery::Refused);
                    tracing::error!(id = event.id, why, "the webhook refuses an event: it is given up");
                    return Ok(());
                }
                Sent::Failed(why) => why,
            };
            self.metrics.delivered(Delivery::Failed);
            if begun.elapsed() > GIVE_UP {
                tracing::error!(
                    id = event.id,
                    why,
                    "the webhook has not taken an event for a day: it is given up"
                );
                return Ok(());
            }
            tracing::warn!(
                id = event.id,
                why,
                "the webhook has not taken an event: it is sent again"
            );
            self.wait(pause)?;
            pause = (pause * 2).min(PATIENCE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_away_calls_nobody_silent_before_what_came_meanwhile_can_have_been_seen() {
        let (day, minute) = (Duration::from_secs(86_400), 60_000);
        let mut presence = Presence::default();
        let mut at = |now: i64| presence.silence(now, day) == 86_400_000;
        let start = 1_700_000_000_000;
        // From the start on it looks once a second.
        assert!((0..minute).step_by(1_000).all(|ms| !at(start + ms)));
        assert!(at(start + minute) && at(start + minute + 1_000));
        // Its machine slept, or it was stopped; then somebody set the clock back.
        for begun in [start + 10 * minute, start - 10 * minute] {
            assert!(!at(begun) && !at(begun + 1_000));
            assert!((1_000..minute).step_by(1_000).all(|ms| !at(begun + ms)));
            assert!(at(begun + minute));
        }
        let mut quick = Presence::default();
        let second = Duration::from_secs(1);
        assert_eq!(quick.silence(start, second), i64::MAX);
        assert_eq!(
            quick.silence(start + 1_000, second),
            1_000,
            "no longer than the silence itself"
        );
    }
}
