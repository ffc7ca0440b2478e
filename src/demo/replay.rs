//! Sends the stream through the gateway in order, several requests in flight, labels after them, models between them.
//!
//! Always holds: rows leave in order; no row leaves that could close an earlier one whose label is not on disk yet;
//! a model's file appears at its row and is judged before the next row leaves.
//! Leaves to others: what the answers were worth (`score`, `report`).

mod wire;

use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use tokio::task::JoinSet;

use super::labels::Labels;
use super::schedule::{Due, Schedule};
use super::screen::Screen;
use super::stream::Stream;
use super::watch::Watch;
use crate::client::{Answer, Client};
use wire::{FeedbackBody, Label, PredictBody, feedback_problems, json, read_prediction};

/// Labels per feedback request: one write to disk is shared by all of them.
const LABELS_PER_POST: Range<usize> = 8..32;
/// Feedback requests in flight.
const POSTS: usize = 4;
/// Rows between two looks at the admin API: half a day, so that a decision waits no longer for its swap.
const LOOK_EVERY: usize = 24;
/// So many failures mean that nothing works any more.
const GIVE_UP: usize = 200;

/// What to replay, where, and how.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The stream.
    pub stream: &'a Stream,
    /// Rows to send.
    pub rows: Range<usize>,
    /// Address of the data listener.
    pub data: String,
    /// The served directory of the model.
    pub directory: PathBuf,
    /// Prediction requests in flight.
    pub connections: usize,
    /// The model's `label.maturity`, when it is in rows.
    pub maturity: Option<usize>,
}

/// What one row was answered with.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The version that answered.
    pub version: String,
    /// Probability of the positive class.
    pub score: f64,
    /// From sending the request to having the whole answer.
    pub seconds: f64,
    id: String,
}

/// Things that went wrong: how many, and the first few in words.
#[derive(Debug, Default)]
pub struct Problems {
    /// How many.
    pub count: usize,
    /// The first few.
    pub first: Vec<String>,
}

impl Problems {
    /// One more.
    pub fn add(&mut self, text: String) {
        self.count += 1;
        if self.first.len() < 5 {
            self.first.push(text);
        }
    }
}

/// What came of the replay.
#[derive(Debug)]
pub struct Replayed {
    /// An answer per row, `None` where the request failed.
    pub answers: Vec<Option<Answered>>,
    /// Failed requests.
    pub errors: Problems,
    /// Labels that were neither accepted nor a repetition.
    pub feedback: Problems,
    /// Files that were not treated as they should be.
    pub files: Problems,
    /// Files that were refused.
    pub rejected: usize,
    /// From the first request to the last label.
    pub seconds: f64,
}

/// A request that came back, with its connection.
enum Landed {
    Row(Client, usize, Result<Answer, String>, f64),
    Labels(Client, Range<usize>, Result<Answer, String>),
}

/// A replay under way. Everything in flight is a task; all that is known lives here.
struct Replay<'a> {
    plan: &'a Plan<'a>,
    watch: &'a mut Watch,
    screen: &'a mut Screen,
    schedule: Schedule,
    flights: JoinSet<Landed>,
    idle: Vec<Client>,
    idle_posts: Vec<Client>,
    next: usize,
    looked_at: usize,
    labels: Labels,
    done: Replayed,
}

/// Replays to the end of the plan's rows and labels.
///
/// # Errors
/// The gateway cannot be watched any more, or nearly nothing works. Single failures are counted, not returned.
pub async fn replay(plan: &Plan<'_>, watch: &mut Watch, screen: &mut Screen) -> Result<Replayed, String> {
    let start = plan.rows.start;
    let mut replay = Replay {
        schedule: Schedule::of(plan.stream, &plan.rows),
        flights: JoinSet::new(),
        idle: (0..plan.connections).map(|_| Client::new(plan.data.clone())).collect(),
        idle_posts: (0..POSTS).map(|_| Client::new(plan.data.clone())).collect(),
        next: start,
        looked_at: start,
        labels: Labels::new(plan.rows.clone(), plan.stream.manifest.label_delay_rows),
        done: Replayed {
            answers: vec![None; plan.rows.len()],
            errors: Problems::default(),
            feedback: Problems::default(),
            files: Problems::default(),
            rejected: 0,
            seconds: 0.0,
        },
        plan,
        watch,
        screen,
    };
    let began = Instant::now();
    while !replay.labels.is_done() {
        replay.step().await?;
    }
    replay.done.seconds = began.elapsed().as_secs_f64();
    replay.finish().await?;
    Ok(replay.done)
}

impl Replay<'_> {
    async fn step(&mut self) -> Result<(), String> {
        while let Some(due) = self.schedule.due(self.next) {
            self.drop_file(&due).await?;
        }
        if self.next >= self.looked_at + LOOK_EVERY {
            self.looked_at = self.next;
            self.look().await?;
        }
        while self.may_send() {
            self.send_row()?;
        }
        while !self.idle_posts.is_empty()
            && let Some(batch) = self.labels.take(LABELS_PER_POST.start, LABELS_PER_POST.end)
        {
            self.send_labels(batch)?;
        }
        match self.flights.join_next().await {
            Some(Ok(landed)) => self.land(landed),
            Some(Err(e)) => return Err(format!("a request was lost: {e}")),
            None if self.labels.is_done() => {}
            None => return Err("the replay stands still; label.maturity leaves no room for labels in flight".into()),
        }
        if self.done.errors.count + self.done.feedback.count > GIVE_UP {
            let words = [self.done.errors.first.clone(), self.done.feedback.first.clone()].concat();
            return Err(format!("too many requests failed:\n{}", words.join("\n")));
        }
        Ok(())
    }

    /// Row r closes once a row above r + maturity is recorded, so a row waits for the labels that it could shut out.
    fn may_send(&self) -> bool {
        let soon = self.looked_at + LOOK_EVERY;
        let free = !self.idle.is_empty() && self.next < self.plan.rows.end && self.next < soon;
        let open = self.labels.oldest_open();
        let in_time = |maturity: usize| self.next + self.plan.connections < open + maturity;
        free && self.schedule.next_row() > self.next && self.plan.maturity.is_none_or(in_time)
    }

    fn send_row(&mut self) -> Result<(), String> {
        let Some(mut client) = self.idle.pop() else {
            return Ok(());
        };
        let row = self.next;
        self.next += 1;
        let body = json(&PredictBody {
            model: &self.plan.stream.manifest.stream,
            instances: [self.plan.stream.instance(row)],
        })?;
        self.flights.spawn(async move {
            let began = Instant::now();
            let answer = client.post("/predict", body).await.map_err(|e| e.to_string());
            Landed::Row(client, row, answer, began.elapsed().as_secs_f64())
        });
        Ok(())
    }

    fn send_labels(&mut self, batch: Range<usize>) -> Result<(), String> {
        let labels = self.plan.stream.labels();
        let known = batch.clone().filter_map(|row| {
            let answered = self.done.answers.get(row - self.plan.rows.start)?.as_ref()?;
            let label = u8::from(*labels.get(row)?);
            Some(Label {
                id: &answered.id,
                label,
            })
        });
        let labels: Vec<Label<'_>> = known.collect();
        if labels.is_empty() {
            self.labels.acknowledge(&batch);
            return Ok(());
        }
        let body = json(&FeedbackBody {
            model: &self.plan.stream.manifest.stream,
            labels,
        })?;
        let Some(mut client) = self.idle_posts.pop() else {
            return Err("no connection is left for labels".into());
        };
        self.flights.spawn(async move {
            let answer = client.post("/feedback", body).await.map_err(|e| e.to_string());
            Landed::Labels(client, batch, answer)
        });
        Ok(())
    }

    fn land(&mut self, landed: Landed) {
        match landed {
            Landed::Row(client, row, answer, seconds) => {
                self.idle.push(client);
                match answer.and_then(|a| read_prediction(&a)) {
                    Ok((version, prediction)) => {
                        let answered = Answered {
                            version,
                            score: prediction.score,
                            seconds,
                            id: prediction.id,
                        };
                        if let Some(slot) = self.done.answers.get_mut(row - self.plan.rows.start) {
                            *slot = Some(answered);
                        }
                    }
                    Err(e) => self.done.errors.add(format!("row {row}: {e}")),
                }
                self.labels.answer(row);
                self.screen.answered(row + 1 - self.plan.rows.start);
            }
            Landed::Labels(client, batch, answer) => {
                self.idle_posts.push(client);
                for problem in feedback_problems(answer) {
                    self.done.feedback.add(format!("labels of rows {batch:?}: {problem}"));
                }
                self.labels.acknowledge(&batch);
            }
        }
    }

    /// Shows what is new, and waits for shadows that lag so far that verdicts would come late.
    async fn look(&mut self) -> Result<(), String> {
        let mut events = self.watch.look().await?;
        if let Some(maturity) = self.plan.maturity {
            events.extend(self.watch.wait_for_shadows(maturity as u64 / 2).await?);
        }
        for event in events {
            self.screen.event(self.next, &event);
        }
        self.screen.standings(self.next, &self.watch.status);
        Ok(())
    }

    /// Drops a file into the served directory. A model is waited for, a file to be refused is not.
    async fn drop_file(&mut self, due: &Due) -> Result<(), String> {
        due.put_into(&self.plan.directory)?;
        if due.refuse {
            return Ok(());
        }
        let events = self.watch.wait_for(&due.version).await?;
        for event in events {
            self.screen.event(self.next, &event);
        }
        if self.watch.settled(&due.version).is_some_and(|v| v.role == "rejected") {
            self.done.files.add(format!("{} was refused", due.version));
        }
        Ok(())
    }

    /// After the last label: the shadows catch up, and every bad file must have been refused by name.
    async fn finish(&mut self) -> Result<(), String> {
        let mut events = Vec::new();
        for version in self.schedule.refused_so_far() {
            events.extend(self.watch.wait_for(&version).await?);
            match self.watch.settled(&version).map(|v| v.role.as_str()) {
                Some("rejected") => self.done.rejected += 1,
                role => self.done.files.add(format!(
                    "{version} was not refused but is {}",
                    role.unwrap_or("unknown")
                )),
            }
        }
        events.extend(self.watch.look().await?);
        events.extend(self.watch.wait_for_shadows(0).await?);
        events.extend(self.watch.decisions().await?);
        for event in events {
            self.screen.event(self.next, &event);
        }
        Ok(())
    }
}
