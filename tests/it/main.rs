//! The integration tests: one binary, so that ONNX Runtime is linked once.
// `cfg(test)` holds always here; it tells clippy that the helpers of the tests are tests too.

#[cfg(test)]
mod acts;
#[cfg(test)]
mod approvals;
#[cfg(test)]
mod arena;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod check;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod clients;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod config;
#[cfg(test)]
mod config_tree;
#[cfg(test)]
mod consent;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod execution;
#[cfg(test)]
mod export;
#[cfg(test)]
mod exports;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod feedback;
#[cfg(test)]
mod feedback_corpus;
#[cfg(test)]
mod feeding;
#[cfg(test)]
mod framing;
#[cfg(test)]
mod gone;
#[cfg(test)]
mod grpc;
#[cfg(test)]
mod guardrails;
#[cfg(test)]
mod hot_swap;
#[cfg(test)]
mod ids;
#[cfg(test)]
mod intake;
#[cfg(test)]
mod judge_vectors;
#[cfg(test)]
mod judged_exports;
#[cfg(test)]
mod keys;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod label_stream;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod lineage;
#[cfg(test)]
mod listener;
#[cfg(test)]
mod losses;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod monitor;
#[cfg(test)]
mod names;
#[cfg(test)]
mod oip;
#[cfg(test)]
mod openapi;
#[cfg(test)]
mod overload;
#[cfg(test)]
mod own_settings;
#[cfg(test)]
mod paused;
#[cfg(test)]
mod person;
#[cfg(test)]
mod predict;
#[cfg(test)]
mod principals;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod promotion;
#[cfg(test)]
mod proto;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod quota;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod report;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod retrain;
#[cfg(test)]
mod served_exports;
#[cfg(test)]
mod shadowing;
#[cfg(test)]
mod signals;
#[cfg(test)]
mod slow;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod stand_in;
#[cfg(test)]
mod support;
#[cfg(test)]
mod timeouts;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod upgrade;
#[cfg(test)]
mod watching;
#[cfg(test)]
mod webhook;
#[cfg(test)]
mod wire;
