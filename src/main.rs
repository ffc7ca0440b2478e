//! The `dethrone` binary.

#[path = "cli/runtime_probe.rs"]
mod runtime_probe;

fn main() {
    dethrone::model::runtime::silence_telemetry();
    let args: Vec<String> = std::env::args().collect();
    if let [_, command, file] = args.as_slice()
        && command == "runtime-probe"
    {
        match runtime_probe::run(std::path::Path::new(file)) {
            Ok(facts) => println!("{facts}"),
            Err(why) => {
                eprintln!("{why}");
                std::process::exit(1);
            }
        }
    }
}
