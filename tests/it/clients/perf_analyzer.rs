//! NVIDIA's load generator. Its wheel holds a program for Linux on x86-64 and leaves two libraries to the system: one of
//! them comes from the package index, the other is five functions, which are compiled here.

#![cfg(target_arch = "x86_64")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::environment::environment;
use super::scripts;

/// The program, and where its libraries lie.
fn program() -> (PathBuf, std::ffi::OsString) {
    let place = environment("perf_analyzer");
    let libraries = [place.join("nvidia/cuda_runtime/lib"), place.clone()];
    let lock = File::create(place.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    let library = place.join("libb64.so.0d");
    if !library.is_file() {
        compile(&scripts().join("base64.c"), &library);
    }
    (
        place.join("bin/perf_analyzer"),
        std::env::join_paths(libraries).unwrap(),
    )
}

fn compile(source: &Path, library: &Path) {
    let part = library.with_extension("part");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wl,-soname,libb64.so.0d", "-o"])
        .args([&part, source])
        .output()
        .unwrap_or_else(|error| panic!("the build needs a C compiler, and so does this test: cc: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(part, library).unwrap();
}

#[test]
fn nvidias_load_generator_works_unchanged_and_shows_our_queue_and_compute_times() {
    let (program, libraries) = program();
    let more = [
        "--program",
        program.to_str().unwrap(),
        "--libraries",
        libraries.to_str().unwrap(),
    ];
    super::passes("perf_analyzer.py", &["tritonclient"], &more);
}
