//! One run in a process: where it takes place, and what becomes of it when the process dies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pool::{Pool, Seat, Shared};
use crate::arena::RunnerFault;
use crate::arena::client::Pending;
use crate::champion::answer::rows::Run;
use crate::model::session::RunError;
use crate::model::tensor::{Tensor, raw};

/// A row that ended so many processes is refused.
const STRIKES: usize = 2;
/// A row that meets so many processes that were dead before they got it is given up.
const ATTEMPTS: usize = 4;
/// Whoever says nothing of a deadline waits no longer than this for a process.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A thread that serves requests waits so long for an answer; then a thread of the version's own goes on.
const GLANCE: Duration = Duration::from_millis(2);
/// What is larger is not sent from there: it may not fit into the socket at once.
const SMALL: usize = 64 << 10;

/// A run that was begun on a thread that serves requests and could not be ended there.
#[derive(Debug)]
pub(in crate::champion) struct Resume {
    seat: Seat,
    /// What was asked, unless the process was found dead or at fault at once.
    asked: Result<Pending, RunnerFault>,
}

/// A thread's way to the processes.
#[derive(Debug)]
pub(in crate::champion) struct Worker {
    shared: Arc<Shared>,
    /// Nobody waits for a process longer than this.
    until: Option<Instant>,
    resume: Option<Box<Resume>>,
    ended_one: bool,
}

impl Worker {
    pub(in crate::champion) fn new(pool: &Pool) -> Self {
        Self {
            shared: Arc::clone(pool.shared()),
            until: None,
            resume: None,
            ended_one: false,
        }
    }

    /// The answer, or the fault that the process died of and whether this run may have been its death.
    fn attempt(
        &self,
        seat: &mut Seat,
        asked: Result<Pending, RunnerFault>,
    ) -> Result<Result<Vec<Tensor>, String>, (RunnerFault, bool)> {
        // Else it was dead before the question reached it, or its answer was none.
        let pending = match asked {
            Ok(pending) => pending,
            Err(RunnerFault::Model(why)) => return Ok(Err(why)),
            Err(fault) => {
                let is_blamed = matches!(fault, RunnerFault::Protocol(_));
                return Err((fault, is_blamed));
            }
        };
        let Some(runner) = seat.runner() else {
            return Err((RunnerFault::Down("it has ended".into()), false));
        };
        match runner.finish(pending) {
            Ok(outputs) => {
                seat.has_answered();
                Ok(Ok(outputs))
            }
            Err(RunnerFault::Model(why)) => {
                seat.has_answered();
                Ok(Err(why))
            }
            Err(fault) => {
                let is_blamed = !matches!(fault, RunnerFault::Starved | RunnerFault::Down(_));
                Err((fault, is_blamed))
            }
        }
    }
}

fn none() -> RunError {
    RunError("the processes that run it have ended, and no other was there in time: try again".into())
}

impl Run for Worker {
    fn run(&mut self, inputs: &[Tensor], outputs: &[usize], rows: usize) -> Result<Vec<Tensor>, RunError> {
        let until = self.until.unwrap_or_else(|| Instant::now() + LONGEST_WAIT);
        let Resume { mut seat, mut asked } = match self.resume.take() {
            Some(resume) => *resume,
            None => {
                let mut seat = Shared::take(&self.shared, until).ok_or_else(none)?;
                let asked = seat.ask(inputs, outputs, rows);
                Resume { seat, asked }
            }
        };
        let mut strikes = 0;
        for _ in 0..ATTEMPTS {
            let (fault, is_blamed) = match self.attempt(&mut seat, asked) {
                Ok(answer) => return answer.map_err(RunError),
                Err(fault) => fault,
            };
            strikes += usize::from(is_blamed);
            self.ended_one |= is_blamed;
            let gives_up = matches!(fault, RunnerFault::Starved) || is_blamed && rows > 1;
            if gives_up || strikes == STRIKES {
                if strikes == STRIKES {
                    self.shared.killers.remember(inputs);
                }
                // For others.
                drop(seat.replace(&fault, Instant::now()));
                return Err(RunError(match strikes {
                    STRIKES => format!("it ended two processes that ran it ({fault}) and is not run again for a while"),
                    _ => format!("the process that ran it has ended: {fault}"),
                }));
            }
            seat = seat.replace(&fault, until).ok_or_else(none)?;
            asked = seat.ask(inputs, outputs, rows);
        }
        Err(none())
    }

    fn begin(&mut self, until: Option<Instant>, resume: Option<Box<Resume>>) {
        (self.until, self.resume, self.ended_one) = (until, resume, false);
    }

    fn ended_one(&self) -> bool {
        self.ended_one
    }

    fn is_wary(&self) -> bool {
        self.shared.killers.any()
    }

    fn refuses(&self, row: &[Tensor]) -> bool {
        self.shared.killers.know(row)
    }
}

/// A thread that serves requests runs a quick version in place, as it would a session, and hands over what takes longer.
#[derive(Debug)]
pub(in crate::champion) struct Quick {
    shared: Arc<Shared>,
    seat: Option<Seat>,
    /// One run is all: what was begun must be the first that whoever goes on will ask for.
    ran: bool,
    trouble: Option<Box<Resume>>,
}

impl Quick {
    /// `None` where all processes are busy.
    pub(in crate::champion) fn new(pool: &Pool) -> Option<Self> {
        let shared = pool.shared();
        Some(Self {
            seat: Some(Shared::try_take(shared)?),
            shared: Arc::clone(shared),
            ran: false,
            trouble: None,
        })
    }

    /// False when the run must be handed over, with what was begun of it.
    pub(in crate::champion) fn is_done(&self) -> bool {
        self.seat.is_some()
    }

    pub(in crate::champion) fn into_rest(self) -> Option<Box<Resume>> {
        self.trouble
    }
}

impl Run for Quick {
    fn run(&mut self, inputs: &[Tensor], outputs: &[usize], rows: usize) -> Result<Vec<Tensor>, RunError> {
        let elsewhere = || RunError(String::new());
        let mut seat = self.seat.take().ok_or_else(elsewhere)?;
        if self.ran || inputs.iter().map(|input| raw::len(input.data())).sum::<usize>() > SMALL {
            return Err(elsewhere());
        }
        self.ran = true;
        let asked = seat.ask(inputs, outputs, rows);
        if let (Ok(pending), Some(runner)) = (&asked, seat.runner()) {
            match runner.glance(pending, GLANCE) {
                Some(Ok(results)) => {
                    seat.has_answered();
                    self.seat = Some(seat);
                    return Ok(results);
                }
                Some(Err(RunnerFault::Model(why))) => {
                    seat.has_answered();
                    self.seat = Some(seat);
                    return Err(RunError(why));
                }
                Some(Err(fault)) => {
                    let asked = Err(fault);
                    self.trouble = Some(Box::new(Resume { seat, asked }));
                    return Err(elsewhere());
                }
                None => {}
            }
        }
        self.trouble = Some(Box::new(Resume { seat, asked }));
        Err(elsewhere())
    }

    fn is_wary(&self) -> bool {
        self.shared.killers.any()
    }

    fn refuses(&self, row: &[Tensor]) -> bool {
        self.shared.killers.know(row)
    }
}
