//! The monitor: its statistics against reference vectors, its alarm in simulation, and all of it in service.

mod outcomes;
mod service;
mod simulation;
mod stream;
mod vectors;
