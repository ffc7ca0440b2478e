//! The `dethrone` binary.

fn main() -> std::process::ExitCode {
    dethrone::model::runtime::silence_telemetry();
    dethrone::cli::main()
}
