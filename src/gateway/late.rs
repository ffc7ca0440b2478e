//! What starts once the state directory is this process's own: whoever tells and watches, and the way to be taken over.
//!
//! Always holds: nothing here runs beside another process's. Where the directory is still another's, it is waited for, and
//! then the recorder, control and all of these go on in this order.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Gateway;
use super::hand_over::HandOver;
use super::parts::StartError;
use crate::config::ServerConfig;
use crate::control;
use crate::id::time_of;
use crate::ledger::{LedgerError, StateLock};
use crate::metrics::Metrics;
use crate::monitor::follow::{self, Board, Monitor};
use crate::recorder::{Held, Recorder};
use crate::retrain::{self, Retrain};
use crate::time;
use crate::webhook::{Hook, Webhook};

/// After so long it is said that the process before this one has not ended.
const LONG: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) webhook: Option<Webhook>,
    pub(super) monitor: Monitor,
    pub(super) retrain: Retrain,
    /// `None` where there can be no socket in the state directory.
    pub(super) hand_over: Option<HandOver>,
    pub(super) lock: StateLock,
}

/// What they are started from.
#[derive(Debug)]
pub(super) struct Latecomers {
    pub(super) config: Arc<ServerConfig>,
    pub(super) models: control::Models,
    pub(super) recorder: Recorder,
    pub(super) metrics: Arc<Metrics>,
    pub(super) board: Board,
    pub(super) retraining: retrain::Shown,
    /// Orders to retrain.
    pub(super) orders: Receiver<retrain::Request>,
    pub(super) acts: Sender<control::Request>,
    pub(super) gateway: Arc<Gateway>,
    /// Copies of the listening sockets.
    pub(super) sockets: Vec<(&'static str, OwnedFd)>,
    pub(super) handed: watch::Sender<bool>,
}

impl Latecomers {
    /// The state directory is ours. To be called within the async runtime.
    ///
    /// # Errors
    /// No thread can be had.
    pub(super) fn start(self, lock: StateLock) -> Result<Late, StartError> {
        let thread = |what: &str| {
            let what = format!("the {what}'s thread");
            move |source| StartError::Io { what, source }
        };
        let hook = |hook: &Hook| {
            let (models, recorder) = (Arc::clone(&self.models), self.recorder.clone());
            let metrics = self.metrics.webhook();
            Webhook::start(hook.clone(), &self.config.state, models, recorder, metrics)
        };
        let webhook = self.config.webhook.as_ref().map(hook).transpose();
        let parts = retrain::Parts {
            config: Arc::clone(&self.config),
            models: Arc::clone(&self.models),
            recorder: self.recorder.clone(),
            board: Arc::clone(&self.board),
            shown: self.retraining,
        };
        let retrain = Retrain::start(parts, self.orders);
        let monitor = Monitor::start(follow::Parts {
            config: Arc::clone(&self.config),
            models: self.models,
            recorder: self.recorder,
            board: self.board,
            acts: self.acts,
        });
        let hand_over = HandOver::start(&self.config.state, self.gateway, self.sockets, self.handed);
        if let Err(error) = &hand_over {
            tracing::warn!(%error, "no other process can take over from this one: restart to upgrade");
        }
        Ok(Late {
            webhook: webhook.map_err(thread("webhook"))?,
            monitor: monitor.map_err(thread("monitor"))?,
            retrain: retrain.map_err(thread("retraining"))?,
            hand_over: hand_over.ok(),
            lock,
        })
    }
}

/// Recorder and control of a process that takes over, until the state directory is free.
#[derive(Debug)]
pub(super) struct Release {
    pub(super) held: Held,
    pub(super) control: Sender<()>,
}

/// The wait for the process before this one.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) task: JoinHandle<Result<Late, StartError>>,
    cancelled: Arc<AtomicBool>,
}

impl Waiting {
    /// Waits for the state directory, then lets everything go on.
    pub(super) fn start(latecomers: Latecomers, release: Release) -> Self {
        let cancelled: Arc<AtomicBool> = Arc::default();
        let is_cancelled = Arc::clone(&cancelled);
        let task = tokio::task::spawn_blocking(move || {
            let lock = lock(&latecomers.config, &is_cancelled)?;
            release.held.open()?;
            let last = latecomers.recorder.look_blocking(|_, reader| reader.last_id())?;
            latecomers.gateway.ids.raise(last + 1);
            time::not_before(time_of(last));
            // It is gone when the gateway stops.
            let _ = release.control.send(());
            let late = latecomers.start(lock)?;
            tracing::info!("the process before this one has ended: what has waited is written");
            Ok(late)
        });
        Self { task, cancelled }
    }

    /// It is not waited for any longer.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }
}

fn lock(config: &ServerConfig, is_cancelled: &AtomicBool) -> Result<StateLock, StartError> {
    let started = Instant::now();
    let mut said = false;
    loop {
        match StateLock::take(&config.state) {
            Err(LedgerError::Locked(_)) if !is_cancelled.load(Ordering::Acquire) => {}
            taken => return Ok(taken?),
        }
        if !said && started.elapsed() >= LONG {
            said = true;
            tracing::error!(
                "the process before this one does not end: rows and labels wait, and are dropped beyond a bound"
            );
        }
    }
}
