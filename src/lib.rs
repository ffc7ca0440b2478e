//! dethrone, a champion–challenger inference gateway: this page is the map.
//!
//! A client asks; the champion answers; beside the reply the row is offered to whoever wants to learn from it. Data
//! goes one way:
//!
//! ```text
//!  request ─ http ─ decode ─ champion ─ reply
//!                               │ one non-blocking offer
//!                            mirror ─► recorder ─► ledger (SQLite)
//!                                       │   ▲  ▲
//!                          rows to      │   │  └── labels (http/feedback)
//!                          challengers  ▼   │ outcomes
//!                                     arena ─ runner processes
//!                            recorder ─ judge ─► decision ─► control ─► champion slot
//!     models directory ─ intake ─ admission ─► facts ─────────┘
//! ```
//!
//! # Where things are
//!
//! | module | what it is | stays away from |
//! |---|---|---|
//! | [`cli`] | the command line: one module per command | the work itself |
//! | [`config`] | settings, all faults of a file reported together | using them |
//! | [`auth`] | API keys: who may do what, and how often | which route needs what |
//! | [`gateway`] | the parts joined; what the routes ask of them | bytes, roles, disk |
//! | [`http`], [`protocol`] | listeners, limits, routes, wire forms | models, statistics, disk |
//! | [`tls`] | certificates and keys of the listeners, read again when they change | sockets |
//! | [`oip`] | the Open Inference Protocol without its transport: tensors in, what a model takes and gives, tensors out | bodies, sockets |
//! | [`grpc`] | the same protocol over gRPC, on the listeners of [`http`] | what a request means (`oip`) |
//! | [`decode`] | bytes to typed rows, checked against the interface | sockets |
//! | [`batch`], [`score`], [`span`], [`id`] | rows; scores and outcomes; spans and the judge's clock; prediction ids | each other |
//! | [`model`] | a version as a file and as a session: `onnx` (scan), `session` (the only file naming ONNX Runtime), `layout` (rows in), `head` (scores out), `interface` (what clients send, whoever answers) | policy |
//! | [`champion`], [`served`] | the slot, and a model as requests see it | building, warming, logging |
//! | [`mirror`] | the one offer beside the reply | waiting |
//! | [`consent`] | the entities that a model's list keeps out of record, shadow and evidence | what was recorded before |
//! | [`recorder`] | one thread: writes, offers rows to challengers, joins labels, folds pairs | the request's path |
//! | [`ledger`] | tables and statements | meaning |
//! | [`export`] | recorded rows as Parquet files | writing to the ledger |
//! | [`history`] | the versions as the ledger knows them: made of and from what, when they answered, how two differ | judging |
//! | [`judge`] | a pure fold: pairs and events in, decisions and verdicts out | clocks, files, threads |
//! | [`arena`] | a queue and a runner process per challenger | the gateway's own memory |
//! | [`container`] | what the container lets this process have, and whether it is being slowed | what follows from it |
//! | [`interference`] | what shadow work costs the answers, and how much of it may be | which rows are shadowed |
//! | [`intake`], [`admission`] | from directory to content store; from bytes to facts, in a child process | roles |
//! | [`control`] | one thread: roles of versions, promotions, people's orders | deciding |
//! | [`priority`] | threads that give way to requests | which ones do |
//! | [`webhook`] | tells somebody else what happened, from the ledger | waiting for it |
//! | [`shared`] | what several gateways will share, as contracts: register, log, blobs; the embedded ones are `ledger` and `intake` | the network, yet |
//! | [`shard`] | counters without contention | what is counted |
//! | [`monitor`] | what comes in, against what came before: quality, drift, alarms; one thread that reads the ledger | the request's path, the judge's evidence |
//! | [`report`] | a stretch of the record for people: one page, the same as JSON, rows for an audit | writing, judging |
//! | [`retrain`] | when it is time to retrain: labelled rows leave, a command is run | the request's path, what the command makes |
//! | [`trace`] | spans and slow requests, for who asks for them | waiting for a collector |
//! | [`metrics`] | every metric's name, labels and edges; a scrape in three formats | when to count |
//! | [`demo`], [`client`] | the shipped real stream, replayed against a real gateway | the gateway's insides |
//!
//! # What always holds
//!
//! - One response, one version: it is computed, named and, where need be, rescued by its predecessor from one load of
//!   the model's slot ([`champion`]).
//! - A swap prepares everything that can fail, records it durably, then stores one pointer, which cannot fail
//!   (`control::promote`). What clients send does not change ([`model::interface`]).
//! - Nothing of the shadow side runs on the request's path: the offer is one bounded, lock-free push; when it is full
//!   the row is dropped and counted ([`mirror`]). Recording takes its share of the processors and no more: when requests
//!   want them all, it sheds first (`recorder::pace`).
//! - Every row that is offered to a challenger gets exactly one outcome, if only `shed`; so folding never waits for ever
//!   ([`arena`]).
//! - A label is acknowledged after it and its row are on disk; a promotion is on disk before it is visible
//!   ([`recorder`]).
//! - The judge sees no clock and no randomness: the same pairs and events give the same verdicts, bit for bit ([`judge`]).
//! - A model file is loaded in a child process first; challengers never run anywhere else ([`admission`], [`arena`]), and
//!   a champion whose operators may bring a process down runs in processes of its own ([`champion`]).
//! - A process that takes over answers before the one before it has ended, writes nothing until then, and issues no id that
//!   the other one issues (`gateway::hand_over`, `recorder::held`).
//! - The gateway opens no connection but the webhook's and the collector's of traces, where the settings name them; ONNX Runtime's telemetry is off before the library loads
//!   ([`model::runtime`]).
//!
//! # Threads
//!
//! Async workers serve requests and run fast models in place; a slow version has threads of its own. `recorder` owns the ledger and the judges. `control` owns
//! roles and slots; a champion that runs in processes has a thread that keeps a spare. `admission` examines files one at a time. `spawner` starts child processes (they die with the thread
//! that started them, so it must be one that lives). Each challenger has a driver thread and a process; `interference` decides when they may work. `retrain`
//! looks whether it is time, `retrain-work` exports and holds the command's process. Control may
//! call the recorder and wait; the recorder never waits for anybody: decisions that find no room stay with it.

pub mod admission;
pub mod arena;
pub mod auth;
pub mod backtest;
pub mod batch;
pub mod champion;
pub mod cli;
pub mod client;
pub mod config;
pub mod consent;
pub mod container;
pub mod control;
pub mod decode;
pub mod demo;
pub mod error;
pub mod export;
pub mod expr;
pub mod gateway;
pub mod grpc;
pub mod history;
pub mod http;
pub mod id;
pub mod intake;
pub mod interference;
pub mod judge;
pub mod ledger;
pub mod metrics;
pub mod mirror;
pub mod model;
pub mod monitor;
pub mod oip;
pub mod priority;
pub mod protocol;
pub mod recorder;
pub mod replay;
pub mod report;
pub mod retrain;
pub mod score;
pub mod served;
pub mod shard;
pub mod shared;
pub mod simulate;
pub mod span;
pub mod time;
pub mod tls;
pub mod trace;
pub mod webhook;
