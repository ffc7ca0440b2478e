//! The `dethrone` binary.

fn main() -> std::process::ExitCode {
    dethrone::cli::main()
}
