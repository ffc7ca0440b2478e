//! Crews whose sessions are stand-ins: what they were given is written down, and they wait for a word where a test
//! wants others to arrive meanwhile.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::champion::answer::Answer;
use crate::decode::Wanted;
use crate::model::head::{Head, HeadSettings};
use crate::model::layout::Layout;
use crate::model::onnx::Scan;
use crate::model::session::RunError;
use crate::model::signature::{Signature, TensorSpec};
use crate::model::tensor::{Data, Datatype, Tensor};
use crate::score::{Score, Task as Purpose, VersionNo};

/// Of a version so slow that no more than four requests wait for it.
const SLOW: Pace = Pace {
    median: Duration::from_secs(9),
    slow: Duration::from_secs(9),
    row: Duration::ZERO,
};
/// Makes the run of its row fail.
const GUILTY: f32 = -1.0;
/// Makes the score of its row no number.
const NOT_A_NUMBER: f32 = -2.0;

fn spec(name: &str, width: i64) -> TensorSpec {
    TensorSpec {
        name: name.into(),
        datatype: Datatype::Fp32,
        shape: vec![-1, width],
    }
}

fn tensor(rows: usize, width: usize, values: Vec<f32>) -> Tensor {
    Tensor::new(vec![rows, width], Data::Fp32(values)).unwrap()
}

/// `x [n, 2] → y [n, 1], z [n, 3]`.
fn version() -> Arc<VersionInfo> {
    let signature = Signature {
        inputs: vec![spec("x", 2)],
        outputs: vec![spec("y", 1), spec("z", 3)],
        ..Signature::default()
    };
    let probe = [tensor(2, 1, vec![0.5; 2]), tensor(2, 3, vec![0.5; 6])];
    let settings = HeadSettings {
        task: Some(Purpose::Regression),
        score_output: Some("y".into()),
        ..HeadSettings::default()
    };
    Arc::new(VersionInfo {
        no: VersionNo(1),
        name: "v".into(),
        digest: String::new(),
        layout: Layout::bind_tensors(&signature, &signature).unwrap(),
        head: Head::find(&signature, &Scan::default(), &probe, 2, &settings).unwrap(),
        batched: true,
        outputs: signature.output_names(),
        counters: Arc::default(),
        faults: Arc::default(),
        signature,
    })
}

/// What `y` and `z` are of a row.
fn right(row: &[f32]) -> (f32, [f32; 3]) {
    let y = if row[0] == NOT_A_NUMBER {
        f32::NAN
    } else {
        row[0] * 0.37 + row[1]
    };
    (y, [row[0], row[1] * 3.1, row[0] / 7.0])
}

/// Rows of each run.
type Seen = Arc<Mutex<Vec<usize>>>;

struct StandIn {
    seen: Seen,
    /// Tells that a run has begun, and waits for leave to go on.
    held: Option<(SyncSender<()>, Receiver<()>)>,
}

impl Run for StandIn {
    fn run(&mut self, inputs: &[Tensor], outputs: &[usize], _rows: usize) -> Result<Vec<Tensor>, RunError> {
        let Data::Fp32(x) = inputs[0].data() else { panic!() };
        let rows = x.len() / 2;
        self.seen.lock().unwrap().push(rows);
        if let Some((begun, leave)) = &self.held {
            let _ = begun.try_send(());
            let _ = leave.recv();
        }
        if x.iter().step_by(2).any(|&first| first == GUILTY) {
            return Err(RunError("a guilty row".into()));
        }
        let answers: Vec<_> = x.chunks(2).map(right).collect();
        let output = |&number: &usize| match number {
            0 => tensor(rows, 1, answers.iter().map(|(y, _)| *y).collect()),
            _ => tensor(rows, 3, answers.iter().flat_map(|(_, z)| *z).collect()),
        };
        Ok(outputs.iter().map(output).collect())
    }
}

/// A crew of one that can be held in a run.
struct Held {
    crew: Arc<Crew>,
    seen: Seen,
    begun: Receiver<()>,
    leave: SyncSender<()>,
}

fn held(max_batch: usize) -> Held {
    let seen = Seen::default();
    let ((tell, begun), (leave, wait)) = (sync_channel(1), sync_channel(1));
    let run = StandIn {
        seen: Arc::clone(&seen),
        held: Some((tell, wait)),
    };
    Held {
        crew: Arc::new(Crew::start("v", [run], max_batch, SLOW).unwrap()),
        seen,
        begun,
        leave,
    }
}

fn task(info: &Arc<VersionInfo>, x: &[f32], wanted: &Wanted) -> Task {
    let rows = x.len() / 2;
    let batch = Batch::Tensors {
        inputs: vec![tensor(rows, 2, x.to_vec())],
        rows,
    };
    Task {
        info: Arc::clone(info),
        batch: Arc::new(batch),
        which: Which::All,
        outputs: Outputs::of(info, wanted).unwrap(),
        deadline: None,
        patience: None,
        resume: None,
    }
}

/// Puts a request into the queue, without waiting for its answer.
fn put(crew: &Crew, task: Task) -> oneshot::Receiver<Begun> {
    let (reply, answer) = oneshot::channel();
    let job = Job {
        shares: true,
        asked: Instant::now(),
        _promise: None,
        task,
        reply,
    };
    assert!(crew.queue.push(job, crew.places(None)).is_ok());
    answer
}

fn answer(begun: oneshot::Receiver<Begun>) -> Result<Answer, Error> {
    begun.blocking_recv().unwrap().into_answer()
}

fn scores(answer: &Answer) -> Vec<f64> {
    let score = |row: &crate::champion::RowAnswer| match row.score {
        Some(Score::Value(x)) => x,
        ref other => panic!("{other:?}"),
    };
    answer.rows.iter().map(score).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests_that_share_a_run_get_exactly_what_each_would_get_alone(
        requests in proptest::collection::vec((proptest::collection::vec((0.0..9.0_f32, -9.0..9.0_f32), 1..6), 0..3_u8), 1..20),
        max_batch in 1..30_usize,
    ) {
        let info = version();
        let Held { crew, begun, leave, .. } = held(max_batch);
        let first = put(&crew, task(&info, &[0.0, 0.0], &Wanted::None));
        begun.recv().unwrap();
        let asked: Vec<_> = requests.iter().map(|(rows, wanted)| {
            let x: Vec<f32> = rows.iter().flat_map(|(a, b)| [*a, *b]).collect();
            let wanted = match wanted {
                0 => Wanted::None,
                1 => Wanted::All,
                _ => Wanted::Names(vec!["z".into()]),
            };
            let (reply, answer) = oneshot::channel();
            let job = Job { shares: true, asked: Instant::now(), _promise: None, task: task(&info, &x, &wanted), reply };
            crew.queue.push(job, crew.places(None)).ok().map(|_| (x, wanted, answer))
        }).collect();
        drop((leave, begun));
        answer(first).unwrap();
        for (x, wanted, begun) in asked.into_iter().flatten() {
            let mut alone = StandIn { seen: Seen::default(), held: None };
            let alone = task(&info, &x, &wanted).answer(&mut alone).into_answer().unwrap();
            let shared = answer(begun).unwrap();
            prop_assert_eq!(scores(&shared), scores(&alone));
            prop_assert_eq!(&shared.outputs, &alone.outputs);
            for (row, score) in x.chunks(2).zip(scores(&alone)) {
                prop_assert_eq!(score.to_bits(), f64::from(right(row).0).to_bits());
            }
        }
    }
}

#[test]
fn what_waits_while_a_run_goes_on_shares_the_next_one_and_no_more_than_fits() {
    let info = version();
    let Held {
        crew,
        seen,
        begun,
        leave,
    } = held(3);
    let first = put(&crew, task(&info, &[1.0, 1.0], &Wanted::None));
    begun.recv().unwrap();
    let others: Vec<_> = [1, 1, 2]
        .map(|rows| put(&crew, task(&info, &vec![0.5; 2 * rows], &Wanted::None)))
        .into();
    drop((leave, begun));
    assert!([first].into_iter().chain(others).all(|begun| answer(begun).is_ok()));
    assert_eq!(*seen.lock().unwrap(), [1, 2, 2]);
}

#[test]
fn of_a_shared_run_that_fails_only_the_guilty_request_fails() {
    for (guilty, why) in [(GUILTY, "a guilty row"), (NOT_A_NUMBER, "row 0")] {
        let info = version();
        let Held { crew, begun, leave, .. } = held(64);
        let first = put(&crew, task(&info, &[1.0, 1.0], &Wanted::None));
        begun.recv().unwrap();
        let good = put(&crew, task(&info, &[2.0, 1.0], &Wanted::None));
        let bad = put(&crew, task(&info, &[guilty, 1.0, 3.0, 1.0], &Wanted::None));
        let last = put(&crew, task(&info, &[4.0, 1.0], &Wanted::None));
        drop((leave, begun));
        answer(first).unwrap();
        assert_eq!(scores(&answer(good).unwrap()), [f64::from(right(&[2.0, 1.0]).0)]);
        assert_eq!(scores(&answer(last).unwrap()), [f64::from(right(&[4.0, 1.0]).0)]);
        let bad = bad.blocking_recv().unwrap();
        assert_eq!(bad.missing(), 1, "its other row is answered");
        let error = bad.into_answer().unwrap_err();
        assert!(
            error.kind == Kind::NoAnswer && error.to_string().contains(why),
            "{error}"
        );
    }
}

#[test]
fn what_nobody_waits_for_any_more_never_runs() {
    let info = version();
    let Held {
        crew,
        seen,
        begun,
        leave,
    } = held(1);
    let first = put(&crew, task(&info, &[1.0, 1.0], &Wanted::None));
    begun.recv().unwrap();
    let late = Task {
        deadline: Some(tokio::time::Instant::now()),
        ..task(&info, &[0.5; 2 * 5], &Wanted::None)
    };
    let late = put(&crew, late);
    drop(put(&crew, task(&info, &[0.5; 2 * 6], &Wanted::None)));
    let last = put(&crew, task(&info, &[0.5; 2 * 7], &Wanted::None));
    drop((leave, begun));
    assert!(answer(first).is_ok() && answer(last).is_ok());
    assert!(late.blocking_recv().is_err());
    assert_eq!(*seen.lock().unwrap(), [1, 7]);
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_is_504_and_a_full_queue_429_at_once() {
    let info = version();
    let Held { crew, begun, leave, .. } = held(1);
    let mut asked = tokio::task::JoinSet::new();
    let ask = |x: f32| {
        let (crew, task) = (Arc::clone(&crew), task(&info, &[x, 1.0], &Wanted::None));
        async move { crew.ask(task).await }
    };
    asked.spawn(ask(0.0));
    tokio::task::spawn_blocking(move || begun.recv().map(|()| begun))
        .await
        .unwrap()
        .unwrap();
    let places = 4;
    for _ in 0..places {
        asked.spawn(ask(1.0));
    }
    while crew.queue.waiting() < places {
        tokio::task::yield_now().await;
    }
    let refused = ask(9.0).await.unwrap_err();
    assert_eq!((refused.kind, refused.retry_after), (Kind::Overloaded, Some(30)));
    drop(leave);
    while let Some(answered) = asked.join_next().await {
        answered.unwrap().unwrap().into_answer().unwrap();
    }
    let late = Task {
        deadline: Some(tokio::time::Instant::now()),
        ..task(&info, &[1.0, 1.0], &Wanted::None)
    };
    assert_eq!(crew.ask(late).await.unwrap_err().kind, Kind::Deadline);
}

#[test]
fn requests_without_rows_take_places_too() {
    let info = version();
    let Held { crew, begun, leave, .. } = held(1);
    let _first = put(&crew, task(&info, &[1.0, 1.0], &Wanted::None));
    begun.recv().unwrap();
    let _waiting: Vec<_> = (0..4).map(|_| put(&crew, task(&info, &[], &Wanted::None))).collect();
    let (reply, _answer) = oneshot::channel();
    let job = Job {
        shares: true,
        asked: Instant::now(),
        _promise: None,
        task: task(&info, &[], &Wanted::None),
        reply,
    };
    assert!(crew.queue.push(job, crew.places(None)).is_err());
    drop(leave);
}

#[test]
fn a_thread_that_waits_runs_the_first_request_without_another_to_join_it() {
    let info = version();
    let seen = Seen::default();
    let run = StandIn {
        seen: Arc::clone(&seen),
        held: None,
    };
    let crew = Crew::start("v", [run], 64, SLOW).unwrap();
    // Were anything held back for more to come, these would never be answered: each comes when the one before is.
    for _ in 0..100 {
        assert!(answer(put(&crew, task(&info, &[1.0, 1.0], &Wanted::None))).is_ok());
    }
    assert_eq!(*seen.lock().unwrap(), [1; 100]);
}

#[test]
fn a_run_that_panics_costs_its_own_clients_and_the_thread_goes_on() {
    struct Panics(bool);
    impl Run for Panics {
        fn run(&mut self, _: &[Tensor], _: &[usize], _: usize) -> Result<Vec<Tensor>, RunError> {
            assert!(std::mem::replace(&mut self.0, true), "once");
            Ok(vec![tensor(1, 1, vec![0.5])])
        }
    }
    let info = version();
    let crew = Crew::start("v", [Panics(false)], 1, SLOW).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let ask = || runtime.block_on(crew.ask(task(&info, &[1.0, 1.0], &Wanted::None)));
    assert_eq!(ask().unwrap_err().kind, Kind::NoAnswer);
    assert!(ask().unwrap().into_answer().unwrap().compute < Duration::MAX);
}

#[test]
fn as_many_may_wait_as_are_answered_in_time_by_what_requests_take_lately() {
    assert_eq!(held(1).crew.places(None).0, 4, "of the slowest");
    let (median, row) = (Duration::from_millis(100), Duration::from_millis(10));
    let pace = Pace {
        median,
        slow: median,
        row,
    };
    let crew = Crew::start(
        "v",
        [StandIn {
            seen: Seen::default(),
            held: None,
        }],
        1,
        pace,
    )
    .unwrap();
    let lately = |time: Duration, requests: usize| (0..500).for_each(|_| crew.service.took(time, requests, requests));
    lately(Duration::from_millis(100), 1);
    assert!((9..=10).contains(&crew.places(None).0), "{:?}", crew.places(None));
    assert_eq!(
        crew.places(Some(Duration::from_millis(450))).0,
        2,
        "three quarters of it, and its own run"
    );
    assert_eq!(
        crew.places(Some(Duration::ZERO)).0,
        1,
        "whether it is late is seen when its turn comes"
    );
    lately(Duration::from_millis(100), 10);
    assert!(
        (98..=101).contains(&crew.places(None).0),
        "shared runs: {:?}",
        crew.places(None)
    );
    lately(Duration::ZERO, 1);
    assert_eq!(crew.places(None).0, 256, "of the quickest");
}

#[tokio::test]
async fn a_request_that_would_wait_past_its_deadline_is_refused_at_once_and_who_finds_a_crowd_says_so() {
    let info = version();
    let Held { crew, begun, leave, .. } = held(1);
    let ask = |deadline: Option<Duration>| {
        let deadline = deadline.map(|left| tokio::time::Instant::now() + left);
        let (crew, task) = (Arc::clone(&crew), task(&info, &[1.0, 1.0], &Wanted::None));
        async move { crew.ask(Task { deadline, ..task }).await }
    };
    let mut asked = tokio::task::JoinSet::new();
    asked.spawn(ask(None));
    tokio::task::spawn_blocking(move || begun.recv().map(|()| begun))
        .await
        .unwrap()
        .unwrap();
    asked.spawn(ask(None));
    while crew.queue.waiting() < 1 {
        tokio::task::yield_now().await;
    }
    // A run takes nine seconds: with one before it, it would be late.
    let refused = ask(Some(Duration::from_secs(13))).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Overloaded);
    for waiting in 2..=3 {
        asked.spawn(ask(None));
        while crew.queue.waiting() < waiting {
            tokio::task::yield_now().await;
        }
    }
    drop(leave);
    let mut crowded = 0;
    while let Some(answered) = asked.join_next().await {
        crowded += usize::from(answered.unwrap().unwrap().crowded);
    }
    assert_eq!(crowded, 1, "who was the third of four to wait");
}

#[tokio::test]
async fn whoever_was_let_in_and_comes_late_all_the_same_makes_others_be_let_in_with_more_care() {
    let info = version();
    let quick = Pace {
        median: Duration::from_micros(1),
        ..SLOW
    };
    let ((tell, begun), (leave, wait)) = (sync_channel(1), sync_channel::<()>(1));
    let run = StandIn {
        seen: Seen::default(),
        held: Some((tell, wait)),
    };
    let crew = Arc::new(Crew::start("v", [run], 1, quick).unwrap());
    let before = crew.service.plan(Duration::from_secs(1));
    let end = tokio::time::Instant::now() + Duration::from_millis(20);
    let late = Task {
        deadline: Some(end),
        ..task(&info, &[1.0, 1.0], &Wanted::None)
    };
    let mut asked = tokio::task::JoinSet::new();
    asked.spawn({
        let crew = Arc::clone(&crew);
        async move { crew.ask(late).await.map(drop) }
    });
    // It is run in time, and held beyond its deadline.
    let begun = tokio::task::spawn_blocking(move || begun.recv().map(|()| begun))
        .await
        .unwrap();
    tokio::time::sleep_until(end).await;
    drop(leave);
    asked.join_next().await.unwrap().unwrap().unwrap();
    // What its run has taken is noted after its answer is given.
    let less = async {
        while crew.service.plan(Duration::from_secs(1)) >= before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), less).await.unwrap();
    drop(begun);
}
