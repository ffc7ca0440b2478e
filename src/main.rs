//! The `dethrone` binary.

/// Fast for many small blocks from many threads, which is what requests are; ONNX Runtime's and SQLite's come from it too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    dethrone::model::runtime::silence_telemetry();
    dethrone::cli::main()
}
