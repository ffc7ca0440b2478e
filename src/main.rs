//! The `dethrone` binary.

use std::process::ExitCode;

#[path = "cli/runtime_probe.rs"]
mod runtime_probe;

fn main() -> ExitCode {
    dethrone::model::runtime::silence_telemetry();
    if std::env::args_os().nth(1).is_some_and(|first| first == "runner") {
        return dethrone::arena::runner::main(std::env::args_os().skip(2));
    }
    let args: Vec<String> = std::env::args().collect();
    if let [_, command, file] = args.as_slice()
        && command == "runtime-probe"
    {
        match runtime_probe::run(std::path::Path::new(file)) {
            Ok(facts) => println!("{facts}"),
            Err(why) => {
                eprintln!("{why}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
