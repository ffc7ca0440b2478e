//! The `dethrone` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "runner") {
        return dethrone::arena::runner::main(args);
    }
    ExitCode::SUCCESS
}
