//! The thread that draws the quiet stretches, and what it shows.
//!
//! Always holds: while nothing is shadowed, or nobody asks, no stretch is drawn and nothing is held. A stretch whose runs do
//! not end soon is given up. The gate is open, with a full share, when the thread has ended.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::Serialize;

use super::controller::{Controller, Cycle, Step};
use super::gate::Gate;
use super::tail::{Arm, Counted, Tail};
use crate::simulate::random::Random;

/// How long stretches are.
#[derive(Debug, Clone, Copy)]
struct Pace {
    quiet: Duration,
    /// The rest before it at least, and what chance adds to it at most.
    rest: (Duration, Duration),
}

/// While it is not known what the challengers cost: after one has come, and after each change of the share.
const QUICK: Pace = Pace {
    quiet: Duration::from_millis(100),
    rest: (Duration::from_millis(400), Duration::from_millis(800)),
};
/// Afterwards.
const CALM: Pace = Pace {
    quiet: Duration::from_millis(200),
    rest: (Duration::from_secs(2), Duration::from_secs(4)),
};
/// Runs that are under way have so long to end.
const ENDING: Duration = Duration::from_secs(1);
/// How often it is looked whether they have.
const LOOK: Duration = Duration::from_millis(5);
/// Answers that had begun before the runs ended have so long to be gone, or a 99th percentile of them.
const SETTLING: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// What is known of the interference.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct View {
    /// How many times as long the champion's 99th percentile may be; `null`: nothing is measured.
    pub budget: Option<f64>,
    /// How many times as long it is; `null` until enough is known.
    pub ratio: Option<f64>,
    /// The share of the processors' time that shadow work may take, of 1.
    pub duty: f64,
    /// How often it was cut.
    pub cuts: u64,
    /// Quiet stretches since the start.
    pub quiet_stretches: u64,
}

impl View {
    /// What to tell people, where shadow work is slowed.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let budget = self.budget.filter(|_| self.duty < 1.0)?;
        let ratio = self
            .ratio
            .map_or_else(|| "more than".into(), |ratio| format!("{ratio:.2}"));
        Some(format!(
            "shadows are slowed to {:.1} % of the processors' time: the 99th percentile of answers is {ratio} times that \
             without them, {budget} is allowed (shadow.budget)",
            self.duty * 100.0
        ))
    }
}

/// What is shown, replaced as a whole.
pub type Board = Arc<ArcSwap<View>>;

/// The running thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Interference {
    alive: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Interference {
    /// Watches `tail` and rules `gate`, so that the one stays within `budget` times; `None`: nothing is measured or
    /// slowed. `seed` draws the stretches.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(
        budget: Option<f64>,
        (tail, gate): (Arc<Tail>, Arc<Gate>),
        seed: u64,
    ) -> std::io::Result<(Self, Board)> {
        Self::start_at((QUICK, CALM), budget, (tail, gate), seed)
    }

    fn start_at(
        paces: (Pace, Pace),
        budget: Option<f64>,
        (tail, gate): (Arc<Tail>, Arc<Gate>),
        seed: u64,
    ) -> std::io::Result<(Self, Board)> {
        let view = View {
            budget,
            duty: 1.0,
            ..View::default()
        };
        let board: Board = Arc::new(ArcSwap::from_pointee(view.clone()));
        let Some(limit) = budget else {
            let nothing = Self {
                alive: None,
                thread: None,
            };
            return Ok((nothing, board));
        };
        let (alive, stop) = bounded(0);
        let mut watch = Watch {
            paces,
            members: 0,
            controller: Controller::new(limit, gate.processors()),
            random: Random::new(seed, 0, 0),
            tail,
            gate,
            stop,
            board: Arc::clone(&board),
            view,
        };
        let thread = std::thread::Builder::new().name("interference".into()).spawn(move || {
            // None: stopped.
            while watch.cycle().is_some() {}
            watch.let_go();
        })?;
        let running = Self {
            alive: Some(alive),
            thread: Some(thread),
        };
        Ok((running, board))
    }
}

impl Drop for Interference {
    fn drop(&mut self) {
        self.alive = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has already been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

struct Watch {
    /// While little is known, and afterwards.
    paces: (Pace, Pace),
    /// Challengers at the last look.
    members: usize,
    tail: Arc<Tail>,
    gate: Arc<Gate>,
    controller: Controller,
    random: Random,
    stop: Receiver<()>,
    board: Board,
    view: View,
}

impl Watch {
    /// The rest, and the quiet stretch after it; `None` when it is time to end.
    fn cycle(&mut self) -> Option<()> {
        let (rest_before, quiet_before) = (self.tail.counted(Arm::Rest), self.tail.counted(Arm::Quiet));
        let members = self.gate.members();
        if members > self.members {
            self.controller.begin_anew();
        }
        self.members = members;
        let (quick, calm) = self.paces;
        let pace = if self.controller.is_settled() { calm } else { quick };
        if members == 0 {
            self.tail.count_as(Arm::None);
            if self.controller.share() < 1.0 || self.controller.ratio().is_some() {
                self.controller.forget();
                self.show();
            }
            return self.wait(calm.rest.0);
        }
        self.tail.count_as(Arm::Rest);
        let (least, more) = pace.rest;
        let rest = least + more.mul_f64(self.random.uniform());
        self.wait(rest)?;
        let rest = self.tail.counted(Arm::Rest).since(&rest_before);
        if rest.total() == 0 || !self.quiet(&rest, pace)? {
            return Some(());
        }
        // Answers of this moment have been added to neither: they are of a time in between.
        let cycle = Cycle {
            quiet: self.tail.counted(Arm::Quiet).since(&quiet_before),
            rest,
        };
        self.judge(cycle);
        Some(())
    }

    /// A stretch without shadow work; false where there was none.
    fn quiet(&self, rest: &Counted, pace: Pace) -> Option<bool> {
        self.gate.hold(true);
        self.tail.count_as(Arm::None);
        let done = self.held(rest, pace);
        self.tail.count_as(Arm::None);
        self.gate.hold(false);
        done
    }

    fn held(&self, rest: &Counted, pace: Pace) -> Option<bool> {
        let mut waited = Duration::ZERO;
        while self.gate.running() > 0 {
            if waited >= ENDING {
                return Some(false);
            }
            self.wait(LOOK)?;
            waited += LOOK;
        }
        let (least, most) = SETTLING;
        let tail = Duration::from_secs_f64(rest.quantile(0.99).unwrap_or(0.0) / 1e9);
        self.wait(tail.clamp(least, most))?;
        self.tail.count_as(Arm::Quiet);
        self.wait(pace.quiet)?;
        Some(true)
    }

    fn judge(&mut self, cycle: Cycle) {
        self.view.quiet_stretches += 1;
        let step = self.controller.take(cycle);
        self.gate.set_share(self.controller.share());
        self.show();
        let (share, ratio) = (self.controller.share(), self.controller.ratio());
        match step {
            Step::None => {}
            Step::Cut => tracing::warn!(
                share,
                ratio,
                budget = self.view.budget,
                "answers take longer while challengers run: shadow work is slowed to this share of the processors' time"
            ),
            Step::Raised => tracing::info!(
                share,
                ratio,
                "shadow work gets a larger share of the processors' time again"
            ),
        }
    }

    fn show(&mut self) {
        self.view.ratio = self.controller.ratio();
        self.view.duty = self.controller.share();
        self.view.cuts = self.controller.cuts();
        self.board.store(Arc::new(self.view.clone()));
        self.gate.set_share(self.view.duty);
    }

    fn let_go(&self) {
        self.tail.count_as(Arm::None);
        self.gate.hold(false);
        self.gate.set_share(1.0);
    }

    /// `None` when it is time to end.
    fn wait(&self, time: Duration) -> Option<()> {
        match self.stop.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Some(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_why_shadows_are_slow_and_only_then() {
        let mut view = View {
            budget: Some(1.05),
            ratio: Some(1.4),
            duty: 1.0,
            ..View::default()
        };
        assert_eq!(view.sentence(), None);
        view.duty = 0.125;
        let said = view.sentence().unwrap();
        for part in ["12.5 %", "1.40 times", "1.05 is allowed", "shadow.budget"] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn a_stretch_is_quiet_once_no_run_is_under_way_and_ends_with_the_gate_open() {
        let (tail, gate) = (Arc::new(Tail::default()), Arc::new(Gate::new(2)));
        let ms = Duration::from_millis;
        let pace = Pace {
            quiet: ms(20),
            rest: (ms(20), ms(20)),
        };
        let both = (Arc::clone(&tail), Arc::clone(&gate));
        let (running, board) = Interference::start_at((pace, pace), Some(1.05), both, 1).unwrap();
        let member = gate.join();
        let until = |what: &dyn Fn() -> bool| {
            while !what() {
                tail.record(Duration::from_micros(100));
                std::thread::yield_now();
            }
        };
        // A run holds the quiet stretch up, or off.
        until(&|| gate.enter().is_none());
        until(&|| gate.enter().is_some());
        until(&|| board.load().quiet_stretches > 0);
        assert!(tail.counted(Arm::Quiet).total() > 0 && tail.counted(Arm::Rest).total() > 0);
        drop(member);
        drop(running);
        assert!(gate.enter().is_some() && !gate.is_slowed());
        let before = tail.counted(Arm::Rest).total();
        tail.record(Duration::from_micros(100));
        assert_eq!(tail.counted(Arm::Rest).total(), before, "nobody counts any more");
    }
}
