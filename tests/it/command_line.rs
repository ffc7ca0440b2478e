//! What the program itself does for people: watching, load, manual, completions, settings.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Site, gateway};

fn dethrone(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dethrone"));
    command.args(args);
    command
}

fn out(command: &mut Command) -> (Option<i32>, String, String) {
    let done = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

#[test]
fn watching_prints_the_table_again_and_again_without_colours_in_a_pipe() {
    let gateway = gateway();
    let admin = gateway.admin.to_string();
    let mut command = dethrone(&[
        "status", "--watch", "--every", "100ms", "--model", "elec2", "--admin", &admin,
    ]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut heads = 0;
    for line in lines {
        assert!(!line.contains('\u{1b}'), "{line:?}");
        heads += u32::from(line.starts_with("elec2: champion e01_logreg"));
        if heads == 3 {
            break;
        }
    }
    assert_eq!(heads, 3);
    child.kill().unwrap();
    child.wait().unwrap();
    // A pair of terminals would need one: colours are asked for instead.
    let (code, plain, _) = out(dethrone(&["status", "--model", "elec2", "--admin", &admin]).env("CLICOLOR_FORCE", "1"));
    assert_eq!(code, Some(0));
    assert!(plain.contains("\u{1b}[1melec2: champion"), "{plain:?}");
    let forced = [("CLICOLOR_FORCE", "0"), ("NO_COLOR", "1")];
    let (_, plain, _) = out(dethrone(&["status", "--model", "elec2", "--admin", &admin]).envs(forced));
    assert!(
        !plain.contains('\u{1b}') && plain.starts_with("elec2: champion"),
        "{plain:?}"
    );
}

#[test]
fn bench_asks_features_and_tensors_prints_quantiles_and_leaves_no_row_behind() {
    let gateway = gateway();
    let to = gateway.data.to_string();
    for model in ["elec2", "plain"] {
        let args = [
            "bench",
            "--to",
            &to,
            "--model",
            model,
            "--time",
            "300ms",
            "--connections",
            "2",
            "--rows",
            "3",
            "--json",
        ];
        let (code, line, error) = out(&mut dethrone(&args));
        assert_eq!(code, Some(0), "{error}");
        let line: Value = serde_json::from_str(&line).unwrap();
        assert!(line["requests"].as_u64().unwrap() > 0 && line["failed"] == 0, "{line}");
        let us = |name: &str| line["latency_us"][name].as_u64().unwrap();
        assert!(
            us("p50") > 0 && us("p50") <= us("p99") && us("p99") <= us("max"),
            "{line}"
        );
    }
    // Open loop: so many and no more.
    let args = [
        "bench", "--to", &to, "--model", "plain", "--time", "1s", "--rate", "40", "--json",
    ];
    let (code, line, error) = out(&mut dethrone(&args));
    assert_eq!(code, Some(0), "{error}");
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["requests"], 40, "{line}");
    assert_eq!(gateway.view("elec2")["rows"]["recorded"], 0);
    // What the gateway does not take is said once, in its words.
    let (code, _, error) = out(&mut dethrone(&[
        "bench", "--to", &to, "--model", "nobody", "--time", "300ms",
    ]));
    assert!(code == Some(1) && error.contains("nobody"), "{code:?} {error}");
    let (code, _, error) = out(&mut dethrone(&["bench", "--to", &to, "--time", "300ms"]));
    assert!(
        code == Some(64) && error.contains("add --model with one of elec2, plain"),
        "{code:?} {error}"
    );
}

#[test]
fn shells_and_man_know_every_command() {
    let commands = ["serve", "status", "promote", "check", "export", "bench", "rotate-key"];
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, text, _) = out(&mut dethrone(&["completions", shell]));
        assert_eq!(code, Some(0));
        for command in commands {
            assert!(text.contains(command), "{shell}: {command}");
        }
    }
    // Bash itself finds no fault.
    let (_, text, _) = out(&mut dethrone(&["completions", "bash"]));
    let dir = TempDir::new().unwrap();
    let script = dir.path().join("dethrone.bash");
    std::fs::write(&script, text).unwrap();
    let checked = format!(
        "source {} && COMP_WORDS=(dethrone pro) COMP_CWORD=1 && _dethrone dethrone pro dethrone && echo ${{COMPREPLY[@]}}",
        script.display()
    );
    let (code, said, error) = out(Command::new("bash").args(["-c", &checked]));
    assert_eq!((code, said.trim()), (Some(0), "promote"), "{error}");

    let pages = dir.path().join("man/man1");
    let (code, _, error) = out(dethrone(&["man", "--out"]).arg(&pages));
    assert_eq!(code, Some(0), "{error}");
    let page = |name: &str| std::fs::read_to_string(pages.join(name)).unwrap();
    assert!(page("dethrone.1").contains("Exit status:"));
    for command in commands {
        assert!(page(&format!("dethrone-{command}.1")).contains(".TH"), "{command}");
    }
    assert!(
        !pages.join("dethrone-runner.1").exists(),
        "what only the gateway calls has no page"
    );
}

#[test]
fn exit_codes_are_what_the_help_says() {
    let (code, help, _) = out(&mut dethrone(&["--help"]));
    assert!(
        code == Some(0) && help.contains("64  the command line") && help.contains("78  the settings"),
        "{help}"
    );
    assert_eq!(out(&mut dethrone(&["promise"])).0, Some(64));
    assert_eq!(
        out(dethrone(&["serve", "--workers", "0"]).current_dir(std::env::temp_dir())).0,
        Some(78)
    );
    assert_eq!(out(&mut dethrone(&["status", "--admin", "127.0.0.1:1"])).0, Some(1));
}

#[test]
fn config_shows_the_webhook_as_it_stands_in_the_file() {
    let site = Site::new("");
    let file = site.state().parent().unwrap().join("hook.toml");
    let webhook =
        "[webhook]\nurl = \"https://hooks.example.com/a\"\nevents = [\"promotion\", \"rollback\"]\ntimeout = \"7s\"\n";
    std::fs::write(&file, webhook).unwrap();
    let (code, text, error) = out(dethrone(&["config", "--config"]).arg(&file));
    assert_eq!(code, Some(0), "{error}");
    for line in [
        "[webhook]\n",
        "url = \"https://hooks.example.com/a\"  # file, line 2\n",
        "# secret_file is not set\n",
        "events = [\"promotion\",\"rollback\"]  # file, line 3\n",
        "timeout = \"7s\"  # file, line 4\n",
        "label_silence = \"1d\"  # default\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    // What is printed gives the same settings again.
    let again = file.with_file_name("again.toml");
    std::fs::write(&again, &text).unwrap();
    let (code, json, error) = out(dethrone(&["config", "--json", "--config"]).arg(&again));
    assert_eq!(code, Some(0), "{error}");
    let json: Value = serde_json::from_str(&json).unwrap();
    let all = json["settings"].as_array().unwrap();
    let url = all.iter().find(|setting| setting["key"] == "webhook.url").unwrap();
    assert_eq!(url["value"], "https://hooks.example.com/a");
}
